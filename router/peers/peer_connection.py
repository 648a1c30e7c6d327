"""One connection to a peer: messages to bytes and back, in a session that breaks on any irregularity."""

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

from cluster.framing import FrameReader, LinkError
from router.core.slot_messages import Declare, PeerMessage
from router.peers.frames import MAX_FRAME_BYTES, MAX_GREETING_BYTES, Frame, decode, encode
from router.peers.session import Answered, Broken, Delivered, Opened, Session
from router.socket_write import write_at_once

HANDSHAKE_S = 2.0
"""Limit from connecting to an open session, at both ends."""
MAX_UNSENT_BYTES = 8 * 1024 * 1024
"""Limit of buffered bytes, exceeded by one tick's messages at most; above, the session of a slow reader is broken."""
_FEW = 64
"""Number of messages other than Declare that always fit in a frame."""


class ConnectionOwner(Protocol):
    """Owner of connections. Its methods may break off any of them."""

    on_message: Callable[[str, PeerMessage], None]
    """Called with the peer's name and each message."""
    connections: set["PeerConnection"]
    """Connections with a transport."""

    def admit(self, connection: "PeerConnection", peer: str) -> bool:
        """True if the peer is admitted; if not, the connection is broken off. `peer`: name claimed or proven."""

    def opened(self, connection: "PeerConnection") -> None:
        """Called once the session is open."""

    def ended(self, connection: "PeerConnection", reason: str, level: int) -> None:
        """Called once at the end of each connection, even if it never opened.

        `connection`: the ended one. `reason`: for the log. `level`: level of `logging`.
        """


class PeerConnection(asyncio.Protocol):
    """Protocol of a connected socket, at either end."""

    def __init__(self, owner: ConnectionOwner, session: Session, incoming: bool) -> None:
        """`owner`: called on events. `session`: new session of this end. `incoming`: True if accepted."""
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader(decode, MAX_GREETING_BYTES)
        self._transport: asyncio.Transport | None = None
        self._fd = -1
        self._outgoing: list[PeerMessage] = []
        self._handshake_timer: asyncio.TimerHandle | None = None
        self.session = session
        self.incoming = incoming
        self.certificate: Mapping[str, Any] | None = None
        """Verified certificate of the peer, empty if it sent none; None on a Unix socket."""
        self.opened_at: float | None = None
        """Loop time at which the session opened; None if it did not."""
        self.live = True
        self.handshake_done = asyncio.Event()
        """Set once the session is open or has failed."""
        self.closed = asyncio.Event()
        """Set once the transport is closed."""

    @property
    def peer(self) -> str:
        """Name of the peer, for the log."""
        return self.session.peer or "an unknown peer"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._owner.connections.add(self)
        sock = transport.get_extra_info("socket")
        if sock.family == socket.AF_UNIX:
            self._fd = sock.fileno()
        else:
            self.certificate = transport.get_extra_info("peercert") or {}
        self._handshake_timer = self._loop.call_later(
            HANDSHAKE_S, self.break_off, f"no session within {HANDSHAKE_S:g} s"
        )
        if not self.incoming and self._owner.admit(self, self.session.peer):
            self._write(self.session.greet())

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                self._receive(frame)
        except LinkError as error:
            self.break_off(str(error), logging.WARNING)

    def _receive(self, frame: Frame) -> None:
        step = self.session.receive(frame)
        if isinstance(step, Delivered):
            self._deliver(step.messages)
        elif isinstance(step, Answered):
            if self._owner.admit(self, step.peer):
                self._write(step.hello)
        elif isinstance(step, Opened):
            self._open(step)
        elif isinstance(step, Broken):
            self.break_off(step.reason, logging.WARNING)

    def _open(self, step: Opened) -> None:
        assert self._handshake_timer is not None
        self._handshake_timer.cancel()
        self._reader.max_bytes = MAX_FRAME_BYTES
        self.opened_at = self._loop.time()
        self.handshake_done.set()
        if step.confirm is not None:
            self._write(step.confirm)
        self._owner.opened(self)
        self._deliver(step.messages)

    def _deliver(self, messages: tuple[PeerMessage, ...]) -> None:
        on_message, peer = self._owner.on_message, self.session.peer
        for message in messages:
            if not self.live:
                return  # broken off by a previous message
            on_message(peer, message)

    def enqueue(self, message: PeerMessage) -> bool:
        """Keep a message for the next flush; True if it is the first."""
        self._outgoing.append(message)
        return len(self._outgoing) == 1

    def flush_now(self) -> bool:
        """Send enqueued messages at once if the socket buffer is free; otherwise False, and `flush` sends them."""
        assert self._transport is not None
        outgoing = self._outgoing
        if not self.live or len(outgoing) > _FEW or self._fd < 0 or self._transport.get_write_buffer_size():
            return False
        if any(type(message) is Declare for message in outgoing):
            return False
        frame = encode(self.session.pack(tuple(outgoing)))
        outgoing.clear()
        rest = write_at_once(self._transport, self._fd, frame)
        if rest:
            self._transport.write(rest)
        return True

    def flush(self) -> None:
        """Send enqueued messages as one frame."""
        if not self.live or not self._outgoing:
            return
        assert self._transport is not None
        if self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self.break_off("the peer does not read", logging.WARNING)
            return
        batch = self.session.pack(tuple(self._outgoing))
        self._outgoing.clear()
        try:
            self._write(batch)
        except LinkError as error:
            self.break_off(str(error), logging.WARNING)

    def _write(self, frame: Frame) -> None:
        assert self._transport is not None
        self._transport.write(encode(frame))

    def break_off(self, reason: str, level: int = logging.INFO) -> None:
        """Close the connection now, dropping unsent messages; no effect if closed. `level`: level of `logging`."""
        if self.live:
            self.live = False
            self.session.break_off(reason)
            self._outgoing.clear()
            if self._handshake_timer is not None:
                self._handshake_timer.cancel()
            self.handshake_done.set()
            self._owner.ended(self, reason, level)
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.break_off(str(exc) if exc else "closed by the peer")
        self._owner.connections.discard(self)
        self.closed.set()
