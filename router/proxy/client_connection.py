"""A client connection below HTTP: transport, phases, backpressure, hand-off, lingering close."""

import asyncio
import itertools
import math
import socket
import struct
from enum import StrEnum
from typing import TYPE_CHECKING

from router.proxy.streams import ReadHold
from router.socket_write import write_at_once

if TYPE_CHECKING:
    from router.proxy.exchange import Exchange
    from router.proxy.gateway import Gateway
    from router.proxy.request_plan import Planner

LINGER_S = 2.0
"""Lingering close: time for which input is read and discarded after a final response to a client that may still be
sending. An immediate close would reset the connection and destroy the response (RFC 9112 section 9.6)."""
LINGER_BYTES = 1_000_000


class ConnectionPhase(StrEnum):
    """Phase of a client connection."""

    SERVING = "serving"
    """HTTP/1.1."""
    TUNNEL = "tunnel"
    """Protocols were switched: bytes pass unchanged."""
    LINGERING = "lingering"
    """Half closed; input is discarded."""
    CLOSING = "closing"
    """Closed as soon as everything is written."""
    FLUSHING = "flushing"
    """As before, and the time is up: one more `write_timeout_s` for unsent bytes."""


class PhaseStep(StrEnum):
    """Event that may change the phase."""

    SWITCH = "switch"
    LINGER = "linger"
    CLOSE = "close"
    OVERDUE = "overdue"


SERVING, TUNNEL = ConnectionPhase.SERVING, ConnectionPhase.TUNNEL
_LINGERING, _CLOSING, _FLUSHING = ConnectionPhase.LINGERING, ConnectionPhase.CLOSING, ConnectionPhase.FLUSHING
_ROWS = {
    # phase:    (SWITCH, LINGER, CLOSE, OVERDUE)
    SERVING: (TUNNEL, _LINGERING, _CLOSING, _FLUSHING),
    TUNNEL: (TUNNEL, _LINGERING, _CLOSING, _FLUSHING),
    _LINGERING: (_LINGERING, _LINGERING, _CLOSING, _FLUSHING),
    _CLOSING: (_CLOSING, _CLOSING, _CLOSING, _FLUSHING),
    _FLUSHING: (_FLUSHING, _FLUSHING, _FLUSHING, _FLUSHING),
}
NEXT = {
    (phase, step): following for phase, row in _ROWS.items() for step, following in zip(PhaseStep, row, strict=True)
}
assert NEXT.keys() == set(itertools.product(ConnectionPhase, PhaseStep))


class ClientConnection(asyncio.Protocol):
    """Transport side of a client connection. `Downstream` adds HTTP/1.1."""

    __slots__ = (
        *("_buffer", "_discarded", "_gateway", "_handoff", "_holds", "_idle_s", "_phase"),
        *("authorized", "deadline", "exchange", "planner", "transport", "write_paused"),
    )

    transport: asyncio.Transport
    planner: "Planner"

    def __init__(self, gateway: "Gateway", authorized: bool) -> None:
        settings = gateway.settings
        self._gateway = gateway
        self._handoff = gateway.handoff
        self.authorized = authorized
        """True once an endpoint has admitted a request of the connection, by a valid credential if it demands one."""
        self._idle_s = settings.idle_timeout_s if authorized else settings.unauthorized_idle_timeout_s
        self.exchange: Exchange | None = None
        """The request being served."""
        self.write_paused = False
        self.deadline = math.inf
        """Time of the next `check`, on the gateway's clock."""
        self._buffer: bytes | bytearray = b""
        """Received and not yet used; a bytearray if it arrived, or is used, in pieces."""
        self._holds: set[ReadHold] = set()
        self._phase = SERVING
        self._discarded = 0

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is closed."""
        self._gateway.clients.remove(self)
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.client_gone()

    # ---- writing

    def write(self, data: bytes) -> None:
        """Send bytes to the client."""
        if self._handoff.active and self._handoff.can_pass(self.transport):
            # A response kept by the loop until the end of its iteration would prevent the hand-off.
            data = write_at_once(self.transport, self.transport.get_extra_info("socket").fileno(), data)
        if data:
            self.transport.write(data)

    def unsent(self) -> int:
        """Bytes not yet accepted by the socket."""
        return self.transport.get_write_buffer_size()

    def pause_writing(self) -> None:
        """asyncio: the client reads too slowly."""
        self.write_paused = True
        self.deadline = self._gateway.now() + self._gateway.settings.write_timeout_s
        if self.exchange is not None:
            self.exchange.hold_response(True)

    # ---- reading

    @property
    def busy(self) -> bool:
        """True while a request is being served."""
        return self.exchange is not None

    @property
    def held(self) -> bool:
        """True while the connection is not read, so that a disconnect goes unnoticed."""
        return bool(self._holds)

    def hold_reading(self, reason: ReadHold, hold: bool) -> None:
        """Set or clear a reason not to read; reading resumes when none is left."""
        held = bool(self._holds)
        (self._holds.add if hold else self._holds.discard)(reason)
        if bool(self._holds) != held and not self.transport.is_closing():
            if hold:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()
        if self.exchange is not None and not self.exchange.body_complete and not self.write_paused:
            settings = self._gateway.settings
            self.deadline = math.inf if self._holds else self._gateway.now() + settings.body_timeout_s

    def _resume_reading(self) -> None:
        if self._holds:
            self._holds.clear()
            self.transport.resume_reading()

    def _cut_off(self, size: int) -> bytes:
        """Remove and return the first bytes of the buffer."""
        buffer = self._buffer
        if isinstance(buffer, bytes):
            self._buffer = buffer[size:]
            return buffer[:size]
        removed = bytes(buffer[:size])
        del buffer[:size]
        return removed

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > LINGER_BYTES:
            self.transport.abort()

    def note_admission(self) -> None:
        """An endpoint has admitted a request of the connection."""
        if not self.authorized:
            self.authorized = True
            self._idle_s = self._gateway.settings.idle_timeout_s
            self._gateway.clients.admission.note_authorized(self)

    def check(self, now: float) -> None:
        """The deadline has expired. `now`: monotonic seconds."""
        raise NotImplementedError

    def shed_head(self) -> None:
        """Partial heads use too much memory, and this is the oldest one."""
        raise NotImplementedError

    def _release_head(self) -> None:
        """Drop a partial head and its charge."""
        raise NotImplementedError

    # ---- tunnel

    def write_through(self, data: bytes) -> None:
        """Send bytes of the tunnel to the client."""
        self._note_tunnel_activity()
        self.transport.write(data)

    def _note_tunnel_activity(self) -> None:
        if not self.write_paused:
            self.deadline = self._gateway.now() + self._gateway.settings.tunnel_idle_s

    def close_tunnel(self, counter: str) -> None:
        """End the connection if it is a tunnel. `counter`: counts the reason."""
        if self._phase is TUNNEL and self.exchange is not None:
            self.exchange.close_tunnel(counter)

    # ---- hand-off

    def leave_worker(self) -> None:
        """Hand off the connection if it is idle, or close it; a busy one stays until its next call."""
        if self.exchange is not None or self._phase is not SERVING or self.hand_off():
            return
        if not self._buffer and not self._handoff.can_pass(self.transport):
            self._finish(linger=False)

    def hand_off(self) -> bool:
        """Hand off the connection to another worker; False if it is busy or no worker accepts it now."""
        if self.exchange is not None or self._phase is not SERVING or self.write_paused:
            return False
        if not self._handoff.send(self.transport, self._buffer, self.authorized):
            return False
        self._release_head()
        self._buffer = b""
        return True

    # ---- the end

    def exchange_broken(self) -> None:
        """The response cannot be completed: reset, so that the client cannot take it for complete."""
        self.exchange = None
        # A plain close would be the regular end of a response without length or chunks (HTTP/1.0).
        sock = self.transport.get_extra_info("socket")
        # None for a lost TLS connection just before `connection_lost`; a closing one may have no descriptor.
        if sock is not None and not self.transport.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _finish(self, linger: bool) -> None:
        """Close the connection. `linger`: the client may still be sending."""
        self._release_head()
        self._buffer = b""
        self.deadline = self._gateway.now() + (LINGER_S if linger else 0.0)
        if not linger or not self.transport.can_write_eof():
            # TLS lingers by itself: close_notify, then it waits for that of the client.
            self._phase = NEXT[self._phase, PhaseStep.CLOSE]
            self.transport.close()
            return
        self._phase = NEXT[self._phase, PhaseStep.LINGER]
        self._resume_reading()
        self.transport.write_eof()

    def _cut(self, now: float) -> None:
        """The time for closing is up: abort, but grant more time once for unsent bytes."""
        if self.unsent() and self._phase is not ConnectionPhase.FLUSHING:
            self._phase = NEXT[self._phase, PhaseStep.OVERDUE]
            self.deadline = now + self._gateway.settings.write_timeout_s
        else:
            self.transport.abort()
