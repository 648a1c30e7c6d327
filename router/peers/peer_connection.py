"""One connection to a peer: bytes to messages and back, in a session that breaks rather than guesses."""

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
"""From a connection to an open session, at either end; then it is broken off."""
MAX_UNSENT_BYTES = 8 * 1024 * 1024
"""What may wait for a peer that does not read; then its session is broken. One tick's messages may come on top."""
_FEW = 64
"""So many messages that are no Declare fit in a frame, whatever is in them."""


class ConnectionOwner(Protocol):
    """What connections belong to. Its methods may break off any of them."""

    on_message: Callable[[str, PeerMessage], None]
    """A message has come from this peer."""
    connections: set["PeerConnection"]
    """Those that have a transport."""

    def admit(self, connection: "PeerConnection", peer: str) -> bool:
        """Whether to talk to who says, or proves, to be this peer; where not, the connection is broken off."""

    def opened(self, connection: "PeerConnection") -> None:
        """Messages may be sent."""

    def ended(self, connection: "PeerConnection", reason: str, level: int) -> None:
        """Nothing more will come or go; told once, also of one that never opened. `level`: of `logging`."""


class PeerConnection(asyncio.Protocol):
    """Made for a socket that is connected already, from either side."""

    def __init__(self, owner: ConnectionOwner, session: Session, incoming: bool) -> None:
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
        """Of the peer, verified (empty: it has shown none); None on a Unix socket."""
        self.opened_at: float | None = None
        """On the loop's clock; None: it never was."""
        self.live = True
        self.handshake_done = asyncio.Event()
        """The session is open, or will never be."""
        self.closed = asyncio.Event()
        """The transport has gone, too."""

    @property
    def peer(self) -> str:
        """The name of the other end, or what is known instead."""
        return self.session.peer or "a peer that has not said its name"

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
                return  # what a message before this one has led to
            on_message(peer, message)

    def enqueue(self, message: PeerMessage) -> bool:
        """Keep a message for the next flush; returns whether it is the first."""
        self._outgoing.append(message)
        return len(self._outgoing) == 1

    def flush_now(self) -> None:
        """Send what has been put without waiting for the loop, if nothing can go wrong; else `flush` does it."""
        assert self._transport is not None
        outgoing = self._outgoing
        if not self.live or len(outgoing) > _FEW or self._fd < 0 or self._transport.get_write_buffer_size():
            return
        if any(type(message) is Declare for message in outgoing):
            return
        frame = encode(self.session.pack(tuple(outgoing)))
        outgoing.clear()
        rest = write_at_once(self._transport, self._fd, frame)
        if rest:
            self._transport.write(rest)

    def flush(self) -> None:
        """Send what has been put, as one frame."""
        if not self.live or not self._outgoing:
            return
        assert self._transport is not None
        if self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self.break_off("it does not read what is sent to it", logging.WARNING)
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
        """End it now, whatever is on the way; harmless when it has ended. `level`: how loud to say so."""
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
        self.break_off(str(exc) if exc else "the other end has closed it")
        self._owner.connections.discard(self)
        self.closed.set()
