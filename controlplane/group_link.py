"""Link with a router group in another pod: decodes frames and enforces limits.

The peer has a certificate of this installation but may be defective: its cost is bounded, and a violation of the
protocol closes the link (it reconnects).
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
"""A link without a message for this long is dead (a group reports every `cluster.link.LOAD_S`)."""
MESSAGES_PER_S = 5_000.0
"""Sustained limit: a worker reports every 200 ms, and starved versions some 20 times a second."""
BURST_MESSAGES = 20_000.0
"""Every replica of the largest installation may be drained at the same moment."""
MAX_UNREAD_BYTES = 1 << 20
"""Most unread bytes of orders, which are few and short."""
MAX_NAME_CHARACTERS = 253
"""Longest pod name; names of workers and groups are shorter."""
_READ_BYTES = 1 << 18


class GroupLink:
    """One link with a router group, from the handshake to the end of the connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, now: Callable[[], float], host: str
    ) -> None:
        """A link after its TLS handshake.

        reader, writer: the connection.
        now: clock of the event loop, seconds.
        host: remote address.
        """
        self.host = host
        self._reader = reader
        self._writer = writer
        self._now = now
        self.group = ""
        """"" until the group has identified itself."""
        self.pod = ""
        self.workers: frozenset[str] = frozenset()
        self.load: GroupLoad | None = None
        """Last reported load."""

    def send(self, message: ToGroup) -> None:
        """Queue a message; closes the link if the group does not read."""
        if self._writer.transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self.cut()
        else:
            self._writer.write(encode(message))

    def cut(self) -> None:
        """Close the connection at once; `messages` ends soon."""
        self._writer.transport.abort()

    @property
    def identity(self) -> GroupIs:
        """The identity stated by the group."""
        return GroupIs(self.group, tuple(self.workers), self.pod)

    def identify(self, identity: GroupIs) -> None:
        """Record the identity stated by the group. Raises LinkError if it is invalid."""
        if not identity.group or self.group not in ("", identity.group):
            raise LinkError(f"identity {identity.group!r} on a link of {self.group!r}")
        if len(identity.workers) > MAX_GROUP_WORKERS:
            raise LinkError(f"{len(identity.workers)} workers, at most {MAX_GROUP_WORKERS}")
        if any(len(name) > MAX_NAME_CHARACTERS for name in (identity.group, identity.pod, *identity.workers)):
            raise LinkError(f"a name of more than {MAX_NAME_CHARACTERS} characters")
        self.group, self.pod, self.workers = identity.group, identity.pod, frozenset(identity.workers)

    async def messages(self) -> AsyncGenerator[FromGroup, None]:
        """Received messages, until the peer closes. Raises LinkError, OSError; TimeoutError after SILENT_S."""
        frames = FrameReader(decode_from_group, MAX_GROUP_FRAME_BYTES)
        budget = TokenBucket(MESSAGES_PER_S, BURST_MESSAGES)
        heard_s = self._now()
        while True:
            # Until the next message, not the next byte: a peer that trickles bytes is silent too.
            async with asyncio.timeout_at(heard_s + SILENT_S):
                data = await self._reader.read(_READ_BYTES)
            if not data:
                return
            for message in frames.feed(data):
                heard_s = self._now()
                if budget.take(heard_s) > 0:
                    raise LinkError(f"more than {MESSAGES_PER_S:g} messages a second")
                yield message
