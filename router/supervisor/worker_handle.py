"""One worker process and what is said between it and its supervisor: started, told, asked, listened to, ended.

What a message means is not known here; that is the supervisor's. Nothing waits for a worker longer than it may take.
"""

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cluster.framing import FrameReader
from cluster.link import MAX_FRAME_BYTES, Collect, Metrics, Retired, ToControl, ToWorker, WorkerMetrics
from router.inflight_table import WorkerRow
from router.supervisor_messages import FromSupervisor, FromWorker, decode_for_supervisor, encode

ANSWER_S = 1.0
END_S = 5.0
"""How long a worker that has closed its link may take to end; then it is killed."""


@dataclass(slots=True, eq=False)
class WorkerHandle:
    """One process, as long as it runs."""

    name: str
    address: str
    """Where workers of this group reach it."""
    process: asyncio.subprocess.Process
    row: WorkerRow
    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter
    _metrics: WorkerMetrics | None = None
    _pending: dict[int, asyncio.Future[ToControl | None]] = field(default_factory=dict)
    _requests: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def send(self, message: FromSupervisor) -> None:
        """Tell it something."""
        self.send_frame(encode(message))

    def send_frame(self, frame: bytes) -> None:
        """Tell it what was encoded once for many."""
        self._writer.write(frame)

    async def ask(self, make: Callable[[int], ToWorker]) -> ToControl | None:
        """The answer to what `make` gives for a number; None if it does not come in time, or the worker ends."""
        request = next(self._requests)
        future: asyncio.Future[ToControl | None] = asyncio.get_running_loop().create_future()
        self._pending[request] = future
        self.send(make(request))
        try:
            async with asyncio.timeout(ANSWER_S):
                return await future
        except TimeoutError:
            return None
        finally:
            self._pending.pop(request, None)

    def answered(self, answer: Retired | Metrics) -> None:
        """Pass an answer on to whoever asked; one that comes too late changes nothing."""
        future = self._pending.get(answer.request)
        if future is not None and not future.done():
            future.set_result(answer)

    async def counts(self) -> WorkerMetrics | None:
        """What it counted; the last known where no answer comes, None if none ever came."""
        answer = await self.ask(Collect)
        if isinstance(answer, Metrics):
            self._metrics = answer.metrics
        return self._metrics

    async def heard(self) -> AsyncGenerator[FromWorker, None]:
        """What it says, until it closes its link. Raises LinkError when it does not speak our language."""
        frames = FrameReader(decode_for_supervisor, MAX_FRAME_BYTES)
        with contextlib.suppress(ConnectionError):
            while data := await self._reader.read(1 << 20):
                for message in frames.feed(data):
                    yield message

    def kill(self) -> None:
        """End it at once; one that has ended is left alone."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def may_end(self) -> None:
        """Let it end by itself, for a while."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await self.process.wait()

    def close(self) -> None:
        """Nothing is said any more; whoever waits for an answer gets none."""
        self._writer.close()
        for future in self._pending.values():
            if not future.done():
                future.set_result(None)


async def started(
    name: str,
    address: str,
    row: WorkerRow,
    command: Sequence[str],
    environment: Mapping[str, str],
    fds: Mapping[str, int],
) -> WorkerHandle:
    """A new worker process: `command` with its name, its address and a descriptor for each of `fds`. Raises OSError."""
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            passed = {**fds, "link": theirs.fileno(), "board": row.fd}
            process = await asyncio.create_subprocess_exec(
                *command,
                f"--name={name}",
                f"--address={address}",
                *(f"--{each}-fd={fd}" for each, fd in passed.items()),
                pass_fds=list(passed.values()),
                env=environment,
                start_new_session=True,  # Ctrl-C in a terminal is for the parent, which then drains the workers
                stdin=asyncio.subprocess.DEVNULL,
            )
    except BaseException:
        ours.close()
        raise
    reader, writer = await asyncio.open_connection(sock=ours)
    return WorkerHandle(name, address, process, row, reader, writer)
