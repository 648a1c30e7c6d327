"""A router group of another pod, as the leader of a cluster meets it: over a real socket, with real certificates."""

import asyncio
import ssl

from cluster.framing import FrameReader
from cluster.link import (
    MAX_GROUP_FRAME_BYTES,
    FromGroup,
    GroupIs,
    GroupLoad,
    Leads,
    Resize,
    Retire,
    Retired,
    ToGroup,
    Usage,
    decode_for_group,
    encode,
)
from cluster.trust import Trust
from serving.usage import UsageReport, VersionUsage, Work


def usage(worker: str, at_s: float = 1.0, busy: int = 0, waiting: int = 0, starved: bool = False) -> Usage:
    """A report of one worker on version iris/blue."""
    version = VersionUsage("iris", "blue", busy, 0, waiting, 0.0, {})
    return Usage(UsageReport(worker, at_s, (version,), (version.key,) if starved else ()))


class FakeGroup:
    """A scripted router group; it obeys `Resize` at once; `owned`: replicas that it retires on request."""

    def __init__(self, name: str, workers: tuple[str, ...], trust: Trust, pod: str = "") -> None:
        self.name = name
        self.workers = workers
        self.pod = pod or f"pod-{name}"
        self.owned: list[str] | None = []
        """None: it never answers."""
        self.orders: list[ToGroup] = []
        self.load = GroupLoad(len(workers), 4, True, dict.fromkeys(workers, Work(0, 1, 0, 0, 0, 0)))
        self.ended = asyncio.Event()
        self._trust = trust
        self._listening: asyncio.Task[None] | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def dial(self, port: int) -> "FakeGroup":
        """Only the connection."""
        context: ssl.SSLContext = self._trust.context(server=False)
        reader, self.writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="leader")
        self._listening = asyncio.create_task(self._listen(reader), name=f"listen as group {self.name}")
        return self

    async def join(self, port: int) -> "FakeGroup":
        """Connect and introduce itself."""
        await self.dial(port)
        return self.say(GroupIs(self.name, self.workers, self.pod)).say(self.load)

    def say(self, *messages: FromGroup) -> "FakeGroup":
        """Send."""
        return self.write(b"".join(map(encode, messages)))

    def write(self, data: bytes) -> "FakeGroup":
        """Send bytes that need be no messages."""
        assert self.writer is not None
        self.writer.write(data)
        return self

    def fence(self) -> int:
        """Of the leader that it has reached."""
        return next(each.fence for each in self.orders if isinstance(each, Leads))

    async def leave(self) -> None:
        """Close the connection."""
        if self.writer is not None:
            self.writer.transport.abort()
        if self._listening is not None:
            await self._listening

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        frames = FrameReader(decode_for_group, MAX_GROUP_FRAME_BYTES)
        try:
            while data := await reader.read(65_536):
                for message in frames.feed(data):
                    self._obey(message)
        except OSError:
            return
        finally:
            self.ended.set()
            if self.writer is not None:
                self.writer.close()

    def _obey(self, order: ToGroup) -> None:
        self.orders.append(order)
        match order:
            case Retire(request, _, count) if self.owned is not None:
                self.say(Retired(request, tuple(self.owned[:count])))
            case Resize(workers):
                self.workers = tuple(f"{self.name}-w{number}" for number in range(workers))
                work = {name: self.load.work.get(name, Work(0, 1, 0, 0, 0, 0)) for name in self.workers}
                self.load = GroupLoad(workers, self.load.cores, True, work)
                self.say(GroupIs(self.name, self.workers, self.pod), self.load)
