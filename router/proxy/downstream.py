"""HTTP/1.1 on a client connection: cuts heads and bodies out of the stream; one exchange at a time, in order."""

import asyncio
import math
from typing import TYPE_CHECKING, cast

from router.core.router_errors import Overloaded, PayloadTooLarge, RequestTimeout, RouterError
from router.proxy.chunked import ChunkedBody
from router.proxy.client_connection import LINGERING, NEXT, SERVING, TUNNEL, ClientConnection, PhaseStep
from router.proxy.connection_admission import ConnectionVerdict, blocks
from router.proxy.exchange import Exchange
from router.proxy.head_shapes import CACHED_HEAD_BYTES
from router.proxy.lingering import LINGER_S
from router.proxy.own_pages import LONGEST_OWN_PATH
from router.proxy.partial_head import PartialRequestHead
from router.proxy.request_head import RequestHead, note_refused_head, parse_request
from router.proxy.streams import ReadHold

if TYPE_CHECKING:
    from router.proxy.gateway import Gateway


class Downstream(ClientConnection):
    """A client. Input that follows the request being served waits in the buffer."""

    __slots__ = ("_decoder", "_last_head", "_partial", "_reading", "_remaining", "_unread")

    def __init__(self, gateway: "Gateway", unread: bytes = b"", authorized: bool = False) -> None:
        """`unread`: bytes received by the worker that handed off the connection. `authorized`: see the attribute."""
        super().__init__(gateway, authorized)
        self._unread = unread
        self._partial: PartialRequestHead | None = None
        """An incomplete head, in the same buffer."""
        self._last_head: RequestHead | None = None
        """The previous head, which often repeats; None outside the phase SERVING."""
        self._remaining = 0
        """Bytes missing of a body with Content-Length."""
        self._decoder: ChunkedBody | None = None
        self._reading = False

    # ---- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: a client has connected."""
        gateway = self._gateway
        self.transport = cast(asyncio.Transport, transport)
        self.planner = gateway.planner(self.transport)
        self.transport.set_write_buffer_limits(high=gateway.settings.buffer_bytes)
        self.deadline = gateway.now() + (self._idle_s if self.authorized else gateway.settings.first_byte_timeout_s)
        verdict = gateway.clients.admit(self)
        if verdict is ConnectionVerdict.DROPPED:
            self.transport.abort()
        elif verdict is ConnectionVerdict.REFUSED:
            self._refuse(Overloaded("(too many connections)"))
        elif self._unread:
            unread, self._unread = self._unread, b""
            self._read(unread)

    def data_received(self, data: bytes) -> None:
        """asyncio: the client sent something."""
        # A complete request with a known head needs neither buffer nor parser (30 µs saved).
        last = self._last_head
        if last is not None and self.exchange is None and not self._buffer:
            if not data.startswith(last.raw):
                last = self.planner.known(data)
            if last is not None:
                self._last_head = last
                if len(data) == last.whole_size:
                    self.deadline = math.inf
                    self.exchange = exchange = Exchange(self._gateway, self, last)
                    exchange.begin(data[last.size :], True)
                    return
        partial = self._partial
        if partial is None:
            self._read(data)
        elif not partial.extend(data):
            self._use()

    def resume_writing(self) -> None:
        """asyncio: the client has caught up."""
        self.write_paused = False
        self._caught_up()
        self.deadline = math.inf
        if self.exchange is not None:
            self.exchange.client_resumed()
            if self._phase is TUNNEL:
                self._note_tunnel_activity()
        elif self._phase is not SERVING or self.transport.is_closing():
            self.deadline = self._gateway.now() + LINGER_S
            if self._phase is not LINGERING:
                self.transport.close()
        else:
            self.deadline = self._gateway.now() + self._idle_s
            self._gateway.clients.heads.release(self)
            self.hold_reading(ReadHold.RESPONSES, False)
            if self._buffer and not self._reading:
                self._use()

    # ---- called by the exchange

    def exchange_done(self, close: bool, body_complete: bool, now: float) -> None:
        """The response is complete: close, or go on with the next request."""
        self.exchange = None
        if close:
            unread = 0 if body_complete else self._unread_body()
            self._finish(not body_complete or bool(self._buffer) or self._phase is TUNNEL, unread)
            return
        if not self.authorized:
            self._gateway.clients.admission.note_idle(self)
        if self._holds:
            self._resume_reading()
        if self.write_paused:
            # A client that does not read gets no further responses, and sends no further requests: both fill memory.
            self.hold_reading(ReadHold.RESPONSES, True)
            if self._buffer:
                self._gateway.clients.charge_head(self, blocks(len(self._buffer)))
            return
        if self._half_closed and not self._buffer:
            self._finish(False)
            return
        if self._handoff.active and not self._reading and not self._half_closed and self.hand_off():
            return
        self.deadline = now + self._idle_s
        if self._buffer:
            if isinstance(self._buffer, bytes):
                self._buffer = bytearray(self._buffer)  # many requests may follow: removing each must not copy the rest
            if not self._reading:
                self._use()

    def start_tunnel(self) -> None:
        """Protocols have been switched: pass bytes unchanged, buffered ones first."""
        self._phase = NEXT[self._phase, PhaseStep.SWITCH]
        self._last_head = None
        self._note_tunnel_activity()
        data, self._buffer = bytes(self._buffer), b""
        self.hold_reading(ReadHold.PIPELINE, False)
        if data:
            self._read(data)

    # ---- called by the registry

    def check(self, now: float) -> None:
        """The deadline has expired. `now`: monotonic seconds."""
        if self._phase not in (SERVING, TUNNEL) or self.transport.is_closing():
            self._cut(now)
        elif self.write_paused:
            if not self._keep_slow_reader(now):
                self.transport.abort()
        elif self.exchange is not None:
            if self._phase is TUNNEL:
                self.exchange.close_tunnel("tunnels_idle")
            elif not self.exchange.body_complete:
                self.exchange.abort(RequestTimeout("The body did not arrive in time."))
        elif self._buffer:
            self._refuse(RequestTimeout("The head did not arrive in time."))
        else:
            self._finish(linger=False)

    def shed_head(self) -> None:
        """Partial heads use too much memory, and this is the oldest one."""
        if self.write_paused:
            self.transport.abort()
        else:
            self._refuse(RequestTimeout("Too many request heads are unfinished, and this one is the oldest."))

    # ---- reading

    def _read(self, data: bytes) -> None:
        if self._phase is not SERVING:
            if self._phase is not TUNNEL:
                self._discard(len(data))
                return
            self._note_tunnel_activity()
            if self.exchange is not None and self.exchange.upstream is not None:
                self.exchange.upstream.write(data)
            return
        if self._buffer:
            if isinstance(self._buffer, bytes):
                self._buffer = bytearray(self._buffer)
            self._buffer += data
        else:
            self._buffer = data
        self._use()

    def _use(self) -> None:
        """Consume as much of the buffer as possible."""
        self._reading = True
        try:
            self._consume()
        except RouterError as error:
            if self.exchange is not None:
                self.exchange.abort(error)
            else:
                self._refuse(error)
        finally:
            self._reading = False
        if self._half_closed and self._phase is SERVING and not self.write_paused:
            if self.exchange is None:
                self._finish(False)
            elif not self.exchange.body_complete:
                self.flush_batched()
                self.transport.abort()  # the rest of its body cannot come

    def _consume(self) -> None:
        while self._buffer and self._phase is SERVING and not self.transport.is_closing():
            exchange = self.exchange
            if exchange is None:
                if self.write_paused or not self._read_head():
                    return
            elif not exchange.body_complete:
                self._read_body(exchange)
            else:
                if len(self._buffer) > self._gateway.settings.buffer_bytes:
                    self.hold_reading(ReadHold.PIPELINE, True)
                return

    def _read_head(self) -> bool:
        buffer = self._buffer
        size = 0
        if self._partial is None and not buffer.startswith(b"\r\n"):
            size = buffer.find(b"\r\n\r\n") + 4
        if isinstance(buffer, bytes) and 4 <= size <= self._gateway.plain_head_bytes:
            raw, self._buffer = buffer[:size], buffer[size:]
        else:
            if not 4 <= size <= self._gateway.plain_head_bytes:
                size = self._scan_partial_head()
                if not size:
                    return False
            raw = self._cut_off(size)
        self.deadline = math.inf
        head = self._last_head
        if head is None or head.raw != raw:
            head = self.planner.known(raw) or parse_request(raw, self._gateway.settings)
        if head.size <= CACHED_HEAD_BYTES:
            self._last_head = head
        self._open(head)
        return True

    def _scan_partial_head(self) -> int:
        """Size of a head that came in pieces or starts unusually; 0 while incomplete."""
        gateway, partial = self._gateway, self._partial
        if partial is None:
            partial = self._partial = PartialRequestHead(self._buffer, gateway.settings)
            self._buffer = partial.buffer
            self.deadline = gateway.now() + gateway.settings.head_timeout_s
        size = partial.find_end()
        if size:
            self._release_head()
        elif not partial.buffer:
            self._last_head = None  # after an empty line even a repeated head must be scanned
        else:
            if len(partial.buffer) > partial.charged_bytes:
                partial.charged_bytes = blocks(len(partial.buffer))
                gateway.clients.charge_head(self, partial.charged_bytes)
            partial.room = min(partial.room, partial.charged_bytes - len(partial.buffer))
        return size

    def _release_head(self) -> None:
        if self._partial is not None:
            self._partial = None
            self._gateway.clients.heads.release(self)

    def _open(self, head: RequestHead) -> None:
        """Start an exchange, or serve a page of the router."""
        self._remaining = length = head.content_length
        self._decoder = ChunkedBody() if head.chunked else None
        gateway = self._gateway
        if len(head.path) <= LONGEST_OWN_PATH and gateway.own_pages.serves(head):
            close = head.has_body or not head.keep_alive
            self.write(gateway.own_pages.response(head, close))
            self._last_head = None  # `data_received` makes an exchange of a repeated head
            self._remaining = 0
            self.exchange_done(close, not head.has_body, gateway.now())
            return
        exchange = self.exchange = Exchange(gateway, self, head)
        if not head.has_body:
            exchange.begin(b"", True)
        elif not head.chunked and len(self._buffer) >= length:
            exchange.begin(self._cut_off(length), True)
        else:
            self.deadline = gateway.now() + gateway.settings.body_timeout_s
            exchange.begin(b"", False)

    def _read_body(self, exchange: Exchange) -> None:
        settings = self._gateway.settings
        if not self._holds:
            self.deadline = self._gateway.now() + settings.body_timeout_s
        if self._decoder is not None:
            self._cut_off(self._decoder.feed(self._buffer))
            if self._decoder.received > settings.max_body_bytes:
                raise PayloadTooLarge
            complete = self._decoder.complete
            piece = self._decoder.pop_data()
        else:
            piece = self._cut_off(self._remaining)
            self._remaining -= len(piece)
            complete = not self._remaining
        if complete:
            self.deadline = math.inf
        if piece or complete:
            exchange.receive_body(piece, complete)

    # ---- the end

    def _refuse(self, error: RouterError) -> None:
        """Respond to input that never became an exchange, and close: further input may not be a request."""
        gateway = self._gateway
        if self._partial is not None:
            note_refused_head(error, self._partial.buffer)
        self.write(gateway.refusal(error))
        self._finish(True, 2 * gateway.settings.max_body_bytes if isinstance(error, PayloadTooLarge) else 0)

    def _unread_body(self) -> int:
        """Bytes that the client may still be sending of a body, as declared, or as far as the limit allows."""
        if self._decoder is not None:
            return self._gateway.settings.max_body_bytes
        return max(0, self._remaining - len(self._buffer))

    def _finish(self, linger: bool, unread_body_bytes: int = 0) -> None:
        self._last_head = None
        super()._finish(linger, unread_body_bytes)
