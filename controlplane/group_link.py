"""One link with a group of router workers in another pod: frames in, messages out, within bounds.

Whoever is at the other end has shown the certificate of this installation, and may be broken all the same: what it can
cost is bounded, and one that breaks the rules is cut off (it connects again).
"""

import asyncio
from collections.abc import AsyncGenerator, Callable

from cluster.framing import FrameReader, LinkError
from cluster.link import (
    MAX_GROUP_FRAME_BYTES,
    MAX_GROUP_WORKERS,
    FromGroup,
    GroupIs,
    GroupLoad,
    ToGroup,
    decode_from_group,
    encode,
)
from cluster.token_bucket import TokenBucket

SILENT_S = 3.0
"""Without a message for so long (a group says something every `cluster.link.LOAD_S`) a link is dead."""
MESSAGES_PER_S = 5_000.0
"""More for longer is a flood: a worker reports every 200 ms, and at once what starves, some 20 times a second."""
BURST_MESSAGES = 20_000.0
"""Every replica of the largest installation may be drained in the same moment."""
MAX_UNREAD_BYTES = 1 << 20
"""What a group may leave unread of its orders, which are few and short."""
MAX_NAME_CHARACTERS = 253
"""Names of pods have no more; those of workers and groups are short."""
_READ_BYTES = 1 << 18


class GroupLink:
    """From the handshake to the end of the connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, now: Callable[[], float], host: str
    ) -> None:
        """`now`: the clock of the running loop; `host`: the remote address."""
        self.host = host
        self._reader = reader
        self._writer = writer
        self._now = now
        self.group = ""
        """"" until it has said who it is."""
        self.pod = ""
        self.workers: frozenset[str] = frozenset()
        self.load: GroupLoad | None = None
        """What it told last."""

    def send(self, message: ToGroup) -> None:
        """Goes out soon. One that does not read what it is told is cut off."""
        if self._writer.transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self.cut()
        else:
            self._writer.write(encode(message))

    def cut(self) -> None:
        """End it at once; `messages` ends soon."""
        self._writer.transport.abort()

    @property
    def claims(self) -> GroupIs:
        """What it has said of itself."""
        return GroupIs(self.group, tuple(self.workers), self.pod)

    def is_named(self, said: GroupIs) -> None:
        """Take over what the group says of itself. Raises LinkError where that cannot be."""
        if not said.group or self.group not in ("", said.group):
            raise LinkError(f"it calls itself {said.group!r} on a link of {self.group!r}")
        if len(said.workers) > MAX_GROUP_WORKERS:
            raise LinkError(f"{len(said.workers)} workers, at most {MAX_GROUP_WORKERS}")
        if any(len(name) > MAX_NAME_CHARACTERS for name in (said.group, said.pod, *said.workers)):
            raise LinkError(f"a name of more than {MAX_NAME_CHARACTERS} characters")
        self.group, self.pod, self.workers = said.group, said.pod, frozenset(said.workers)

    async def messages(self) -> AsyncGenerator[FromGroup, None]:
        """What comes, until the other side closes. Raises LinkError, OSError; TimeoutError after a silence."""
        frames = FrameReader(decode_from_group, MAX_GROUP_FRAME_BYTES)
        budget = TokenBucket(MESSAGES_PER_S, BURST_MESSAGES)
        heard_s = self._now()
        while True:
            # Until the next message, not the next byte: one that comes drop by drop is silent, too.
            async with asyncio.timeout_at(heard_s + SILENT_S):
                data = await self._reader.read(_READ_BYTES)
            if not data:
                return
            for message in frames.feed(data):
                heard_s = self._now()
                if budget.take(heard_s) > 0:
                    raise LinkError(f"more than {MESSAGES_PER_S:g} messages a second")
                yield message
