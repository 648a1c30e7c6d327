"""A client connection below HTTP: transport, phases, backpressure, hand-off, lingering close."""

import asyncio
import itertools
import math
import socket
import struct
from enum import StrEnum
from typing import TYPE_CHECKING

from router.proxy.client_writer import ClientWriter
from router.proxy.lingering import LINGER_S, Lingering
from router.proxy.streams import ReadHold
from router.proxy.tcp_socket import is_reset

if TYPE_CHECKING:
    from router.proxy.gateway import Gateway
    from router.proxy.request_plan import Planner


FIRST_PROBE_S, LAST_PROBE_S = 0.002, 0.5
"""Times after a client's FIN at which a reset is looked for; later `notice_departures` does."""


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


SERVING, TUNNEL, LINGERING = ConnectionPhase.SERVING, ConnectionPhase.TUNNEL, ConnectionPhase.LINGERING
_CLOSING, _FLUSHING = ConnectionPhase.CLOSING, ConnectionPhase.FLUSHING
_ROWS = {
    # phase:    (SWITCH, LINGER, CLOSE, OVERDUE)
    SERVING: (TUNNEL, LINGERING, _CLOSING, _FLUSHING),
    TUNNEL: (TUNNEL, LINGERING, _CLOSING, _FLUSHING),
    LINGERING: (LINGERING, LINGERING, _CLOSING, _FLUSHING),
    _CLOSING: (_CLOSING, _CLOSING, _CLOSING, _FLUSHING),
    _FLUSHING: (_FLUSHING, _FLUSHING, _FLUSHING, _FLUSHING),
}
NEXT = {
    (phase, step): following for phase, row in _ROWS.items() for step, following in zip(PhaseStep, row, strict=True)
}
assert NEXT.keys() == set(itertools.product(ConnectionPhase, PhaseStep))


class ClientConnection(ClientWriter):
    """Transport side of a client connection. `Downstream` adds HTTP/1.1."""

    __slots__ = (
        *("_buffer", "_half_closed", "_holds", "_idle_s", "_lingering", "_phase"),
        *("authorized", "planner"),
    )

    planner: "Planner"

    def __init__(self, gateway: "Gateway", authorized: bool) -> None:
        super().__init__(gateway)
        settings = gateway.settings
        self.authorized = authorized
        """True once an endpoint has admitted a request of the connection, by a valid credential if it demands one."""
        self._idle_s = settings.idle_timeout_s if authorized else settings.unauthorized_idle_timeout_s
        self._buffer: bytes | bytearray = b""
        """Received and not yet used; a bytearray if it arrived, or is used, in pieces."""
        self._half_closed = False
        """True once the client has closed its writing side behind a whole request."""
        self._holds: set[ReadHold] = set()
        self._phase = SERVING
        self._lingering: Lingering | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is closed."""
        self._batched = b""
        self._gateway.clients.remove(self)
        self._caught_up()
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.client_gone()

    def eof_received(self) -> bool:
        """asyncio: the client closed its side, or its writing side only; True to go on with a whole request."""
        return self.half_close()

    def half_close(self) -> bool:
        """Note that the client will send nothing more; False if it is of no use to go on.

        The FIN of a client that has left looks the same. A probe tells them apart within a round trip. Over TLS there
        is no half-closed connection.
        """
        self.flush_batched()
        exchange = self.exchange
        if exchange is None or not exchange.body_complete or self._phase is not SERVING:
            return False
        if self.transport.get_extra_info("ssl_object") is not None:
            return False
        if not self._half_closed:
            self._half_closed = True
            if not self.write_paused:
                exchange.probe_client()
            self._watch_departure(FIRST_PROBE_S)
        return True

    def _watch_departure(self, delay_s: float) -> None:
        """Look for a reset after the delay, and again: the loop does not report it once the client has closed."""

        def look() -> None:
            if self.exchange is None or self.transport.is_closing():
                return
            if is_reset(self.transport.get_extra_info("socket").fileno()):
                self.transport.abort()
            elif delay_s < LAST_PROBE_S:
                self._watch_departure(4 * delay_s)

        asyncio.get_running_loop().call_later(delay_s, look)

    # ---- reading

    @property
    def busy(self) -> bool:
        """True while a request is being served."""
        return self.exchange is not None

    @property
    def held(self) -> bool:
        """True while the connection is not read, so that a disconnect goes unnoticed."""
        return bool(self._holds) or self._half_closed

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
        lingering = self._lingering
        if lingering is None:
            return
        if not lingering.discard(size):
            self.transport.abort()
        elif self._phase is LINGERING:
            now = self._gateway.now()
            self.deadline = lingering.deadline(now)
            if lingering.body_read and not self.transport.can_write_eof():
                self._close(now)

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
        self.flush_batched()
        if not self._handoff.send(self.transport, self._buffer, self.authorized):
            return False
        self._release_head()
        self._buffer = b""
        return True

    # ---- the end

    def end_request(self) -> None:
        """End the request in flight, because the router stops."""
        if self.exchange is not None:
            self.exchange.router_stops()

    def exchange_broken(self) -> None:
        """Reset: a response without length or chunks (HTTP/1.0) cannot be completed, and a close would be its end."""
        self.exchange = None
        sock = self.transport.get_extra_info("socket")
        # None for a lost TLS connection just before `connection_lost`; a closing one may have no descriptor.
        if sock is not None and not self.transport.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _finish(self, linger: bool, unread_body_bytes: int = 0) -> None:
        """Close the connection, in stages if the client may still be sending.

        `linger`: it may. `unread_body_bytes`: rest of the declared body, default none.
        """
        self.flush_batched()
        self._release_head()
        self._buffer = b""
        gateway = self._gateway
        now = gateway.now()
        if unread_body_bytes and not gateway.clients.may_linger(self):
            unread_body_bytes = 0
        self._lingering = Lingering(unread_body_bytes, now)
        half_close = self.transport.can_write_eof()
        if not linger or not (half_close or unread_body_bytes):
            # TLS lingers by itself: close_notify, then it waits for that of the client.
            self._close(now, LINGER_S if linger else 0.0)
            return
        self._phase = NEXT[self._phase, PhaseStep.LINGER]
        self.deadline = self._lingering.deadline(now)
        self._resume_reading()
        if half_close:
            self.transport.write_eof()

    def _close(self, now: float, within_s: float = LINGER_S) -> None:
        """Close after everything is written. `now`: monotonic seconds. `within_s`: time for it, default LINGER_S."""
        self._phase = NEXT[self._phase, PhaseStep.CLOSE]
        self.deadline = now + within_s
        # TLS would limit the time for unsent bytes: it is closed when few are left.
        if not self.write_paused or self.transport.can_write_eof():
            self.transport.close()

    def _cut(self, now: float) -> None:
        """The time for closing is up: abort, but grant more time for unsent bytes while the client receives them."""
        if self._phase is LINGERING and not self.transport.can_write_eof():
            self._close(now)
        elif self.unsent() and (self._phase is not _FLUSHING or self._keep_slow_reader(now)):
            self._phase = NEXT[self._phase, PhaseStep.OVERDUE]
            self.deadline = now + self._gateway.settings.write_timeout_s
        else:
            self.transport.abort()
