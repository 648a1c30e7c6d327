"""One client connection: heads and bodies are cut out of the stream, one exchange is served at a time, in order."""

import asyncio
import math
import socket
import struct
from typing import TYPE_CHECKING, cast

from router.core.router_errors import Overloaded, PayloadTooLarge, RequestTimeout, RouterError
from router.proxy.answer import own_answer
from router.proxy.chunked import ChunkedBody
from router.proxy.connection_admission import ConnectionVerdict, blocks
from router.proxy.exchange import Exchange
from router.proxy.head import RequestHead, parse_request
from router.proxy.partial_head import PartialRequestHead
from router.proxy.request_plan import Planner
from router.socket_write import write_at_once

if TYPE_CHECKING:
    from router.proxy.gateway import Gateway

REMEMBERED_HEAD_BYTES = 4096
LINGER_S = 2.0
"""After a final answer to a client that may still be sending: how long its bytes are read and thrown away. Closing at
once would reset the connection and take the answer with it (RFC 9112 section 9.6)."""
LINGER_BYTES = 1_000_000


class Downstream(asyncio.Protocol):
    """A client. `exchange` is the request being served; what follows it waits in the buffer."""

    __slots__ = (
        "_beginning",
        "_buffer",
        "_decoder",
        "_discarded",
        "_flushing",
        "_gateway",
        "_held",
        "_idle_s",
        "_last",
        "_lingering",
        "_read_before",
        "_reading",
        "_remaining",
        "_tunnel",
        "authorized",
        "deadline",
        "exchange",
        "planner",
        "transport",
        "write_paused",
    )

    def __init__(self, gateway: "Gateway", read: bytes = b"", authorized: bool = False) -> None:
        """`read`: what another worker has read of the connection, and not served. `authorized`: see the attribute."""
        settings = gateway.settings
        self._gateway = gateway
        self.authorized = authorized
        """Whether an endpoint has admitted a request of the connection: by a valid credential, where it demands one."""
        self._idle_s = settings.idle_timeout_s if authorized else settings.unauthorized_idle_timeout_s
        self._read_before = read
        self.exchange: Exchange | None = None
        self.write_paused = False
        self.deadline = math.inf
        """When `check` has something to do, on the gateway's clock."""
        self._buffer: bytes | bytearray = b""
        """What has come and not been used; a bytearray where it has come, or is used, in pieces."""
        self._beginning: PartialRequestHead | None = None
        """The head that is not whole, in the same buffer."""
        self._last: RequestHead | None = None
        self._remaining = 0
        self._decoder: ChunkedBody | None = None
        self._held: set[str] = set()
        self._reading = False
        self._lingering = False
        self._flushing = False
        self._discarded = 0
        self._tunnel = False

    # ---- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: a client has connected."""
        gateway = self._gateway
        self.transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        secure = transport.get_extra_info("ssl_object") is not None
        self.planner = Planner(
            gateway.table,
            gateway.dispatcher,
            gateway.stats,
            str(peer[0] if peer else "unknown").encode(),
            b"https" if secure else b"http",
        )
        self.transport.set_write_buffer_limits(high=gateway.settings.buffer_bytes)
        self.deadline = gateway.now() + (self._idle_s if self.authorized else gateway.settings.first_byte_timeout_s)
        verdict = gateway.admit(self)
        if verdict is ConnectionVerdict.DROPPED:
            self.transport.abort()
        elif verdict is ConnectionVerdict.REFUSED:
            self._answer(Overloaded("(too many connections)"))
        elif self._read_before:
            read, self._read_before = self._read_before, b""
            self._read(read)

    def data_received(self, data: bytes) -> None:
        """asyncio: the client sent something."""
        # A whole request whose head is known needs neither buffer nor parser (30 µs saved).
        last = self._last
        if last is not None and self.exchange is None and not self._buffer and not self._lingering:
            size, length = last.repeated(data, self._gateway.settings.max_body_bytes)
            if size and len(data) - size == length and not last.chunked:
                self.deadline = math.inf
                self.exchange = exchange = Exchange(self._gateway, self, last, length)
                exchange.begin(data[size:], True)
                return
        beginning = self._beginning
        if beginning is None:
            self._read(data)
        elif not beginning.extend(data):
            self._use()

    def eof_received(self) -> bool:
        """asyncio: the client has closed its side, which is leaving (RFC 9112 section 9.6 lets a server take it so)."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is gone."""
        self._gateway.dismiss(self)
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.client_gone()

    def pause_writing(self) -> None:
        """asyncio: the client reads too slowly."""
        self.write_paused = True
        self.deadline = self._gateway.now() + self._gateway.settings.write_timeout_s
        if self.exchange is not None:
            self.exchange.hold_answer(True)

    def resume_writing(self) -> None:
        """asyncio: the client has caught up."""
        self.write_paused = False
        self.deadline = math.inf
        if self.exchange is not None:
            self.exchange.hold_answer(False)
            if self._tunnel:
                self._keep_tunnel()
        elif self._lingering or self.transport.is_closing():
            self.deadline = self._gateway.now() + LINGER_S
        else:
            self.deadline = self._gateway.now() + self._idle_s
            self._gateway.heads.release(self)
            self.hold_reading("answers", False)
            if self._buffer and not self._reading:
                self._use()

    # ---- used by the exchange and the gateway

    def write(self, data: bytes) -> None:
        """Send bytes to the client."""
        if self._gateway.handoff.active and self._gateway.handoff.can_pass(self.transport):
            # An answer that the loop keeps for the end of its turn would keep the connection from passing.
            data = write_at_once(self.transport, self.transport.get_extra_info("socket").fileno(), data)
        if data:
            self.transport.write(data)

    @property
    def busy(self) -> bool:
        """Whether a request is being served."""
        return self.exchange is not None

    def note_admission(self) -> None:
        """An endpoint has admitted a request of the connection."""
        if not self.authorized:
            self.authorized = True
            self._idle_s = self._gateway.settings.idle_timeout_s
            self._gateway.places.note_authorized(self)

    @property
    def held(self) -> bool:
        """Whether it is not being read, and so cannot be heard leaving."""
        return bool(self._held)

    def hold_reading(self, why: str, hold: bool) -> None:
        """Stop reading from the client for a reason, or drop that reason; reading goes on when none is left."""
        held = bool(self._held)
        (self._held.add if hold else self._held.discard)(why)
        if bool(self._held) != held and not self.transport.is_closing():
            if hold:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()
        if self.exchange is not None and not self.exchange.body_complete and not self.write_paused:
            settings = self._gateway.settings
            self.deadline = math.inf if self._held else self._gateway.now() + settings.body_timeout_s

    def exchange_done(self, close: bool, body_complete: bool, now: float) -> None:
        """The answer has been written whole."""
        self.exchange = None
        if close:
            self._finish(linger=not body_complete or bool(self._buffer) or self._tunnel)
            return
        if not self.authorized:
            self._gateway.places.note_idle(self)
        if self._held:
            self._held.clear()
            self.transport.resume_reading()
        if self.write_paused:
            # A client that takes no answers gets no further ones: they would fill the memory. So would its requests.
            self.hold_reading("answers", True)
            if self._buffer:
                self._gateway.charge_head(self, blocks(len(self._buffer)))
            return
        if self._gateway.handoff.active and not self._reading and self.pass_on():
            return
        self.deadline = now + self._idle_s
        if self._buffer:
            if isinstance(self._buffer, bytes):
                self._buffer = bytearray(
                    self._buffer
                )  # many requests may follow: cutting them off must not copy the rest
            if not self._reading:
                self._use()

    def exchange_broken(self) -> None:
        """An answer was begun and cannot be ended: reset, so that the client cannot take it for whole."""
        self.exchange = None
        # A plain close would be the proper end of an answer without length or chunks (HTTP/1.0).
        sock = self.transport.get_extra_info("socket")
        # None once a connection with TLS is lost, shortly before that is told; a closing one may have lost its number.
        if sock is not None and not self.transport.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def tunnel(self) -> None:
        """Protocols have been switched: bytes pass as they are, what was buffered first."""
        self._tunnel = True
        self._keep_tunnel()
        data, self._buffer = bytes(self._buffer), b""
        self.hold_reading("pipeline", False)
        if data:
            self._read(data)

    def write_through(self, data: bytes) -> None:
        """Bytes of the replica, through the tunnel."""
        self._keep_tunnel()
        self.transport.write(data)

    def _keep_tunnel(self) -> None:
        if not self.write_paused:
            self.deadline = self._gateway.now() + self._gateway.settings.tunnel_idle_s

    def unsent(self) -> int:
        """Bytes that this process still keeps for the client."""
        return self.transport.get_write_buffer_size()

    def check(self, now: float) -> None:
        """A deadline has passed: something has not arrived, or has not been taken, in time."""
        if self._lingering or self.transport.is_closing():
            self._cut(now)
        elif self.write_paused:
            self.transport.abort()
        elif self.exchange is not None:
            if self._tunnel:
                self.exchange.close_tunnel("tunnels_idle")
            elif not self.exchange.body_complete:
                self.exchange.give_up(RequestTimeout("The body did not arrive in time."))
        elif self._buffer:
            self._answer(RequestTimeout("The head did not arrive in time."))
        else:
            self._finish(linger=False)

    def leave_worker(self) -> None:
        """Give the connection to another worker, or close it, if it is idle; later, if it is being served."""
        if self.exchange is not None or self._lingering or self.pass_on():
            return
        if not self._buffer and not self._gateway.handoff.can_pass(self.transport):
            self._finish(linger=False)

    def pass_on(self) -> bool:
        """Give the connection to another worker. False: it is not idle, nobody takes it, or it cannot pass (now)."""
        if self.exchange is not None or self._lingering or self.write_paused:
            return False
        if not self._gateway.handoff.send(self.transport, self._buffer, self.authorized):
            return False
        self._end_beginning()
        self._buffer = b""
        return True

    def shed_head(self) -> None:
        """Unfinished heads take too much in all, and this is the oldest."""
        if self.write_paused:
            self.transport.abort()
        else:
            self._answer(RequestTimeout("Too many request heads are unfinished, and this one is the oldest."))

    def close_tunnel(self, counter: str) -> None:
        """End the connection, if it has switched protocols. `counter`: the one that counts the reason."""
        if self._tunnel and self.exchange is not None:
            self.exchange.close_tunnel(counter)

    # ---- reading

    def _read(self, data: bytes) -> None:
        if self._lingering:
            self._discarded += len(data)
            if self._discarded > LINGER_BYTES:
                self.transport.abort()
            return
        if self._tunnel:
            self._keep_tunnel()
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
        """Take out of the buffer what can be taken."""
        self._reading = True
        try:
            self._consume()
        except RouterError as error:
            if self.exchange is not None:
                self.exchange.give_up(error)
            else:
                self._answer(error)
        finally:
            self._reading = False

    def _consume(self) -> None:
        while self._buffer and not self._lingering and not self.transport.is_closing() and not self._tunnel:
            exchange = self.exchange
            if exchange is None:
                if self.write_paused or not self._take_head():
                    return
            elif not exchange.body_complete:
                self._take_body(exchange)
            else:
                if len(self._buffer) > self._gateway.settings.buffer_bytes:
                    self.hold_reading("pipeline", True)
                return

    def _take_head(self) -> bool:
        buffer = self._buffer
        size = 0
        if self._beginning is None and not buffer.startswith(b"\r\n"):
            size = buffer.find(b"\r\n\r\n") + 4
        if isinstance(buffer, bytes) and 4 <= size <= self._gateway.plain_head_bytes:
            raw, self._buffer = buffer[:size], buffer[size:]
        else:
            if not 4 <= size <= self._gateway.plain_head_bytes:
                size = self._begun_head()
                if not size:
                    return False
            raw = self._take_off(size)
        self.deadline = math.inf
        settings = self._gateway.settings
        head, length = self._known(raw)
        if head is None:
            head = parse_request(raw, settings)
            length = head.content_length
        if head.size <= REMEMBERED_HEAD_BYTES:
            self._last = head
        self._open(head, length)
        return True

    def _begun_head(self) -> int:
        """Size of a head that has come in pieces, or is odd; 0 while it is not whole."""
        gateway, beginning = self._gateway, self._beginning
        if beginning is None:
            beginning = self._beginning = PartialRequestHead(self._buffer, gateway.settings)
            self._buffer = beginning.buffer
            self.deadline = gateway.now() + gateway.settings.head_timeout_s
        size = beginning.find_end()
        if size:
            self._end_beginning()
        elif not beginning.buffer:
            self._last = None  # after an empty line, even a head that is known has to pass through here
        else:
            if len(beginning.buffer) > beginning.charged_bytes:
                beginning.charged_bytes = blocks(len(beginning.buffer))
                gateway.charge_head(self, beginning.charged_bytes)
            beginning.room = min(beginning.room, beginning.charged_bytes - len(beginning.buffer))
        return size

    def _end_beginning(self) -> None:
        if self._beginning is not None:
            self._beginning = None
            self._gateway.heads.release(self)

    def _take_off(self, size: int) -> bytes:
        """Take so many bytes off the buffer."""
        buffer = self._buffer
        if isinstance(buffer, bytes):
            self._buffer = buffer[size:]
            return buffer[:size]
        taken = bytes(buffer[:size])
        del buffer[:size]
        return taken

    def _known(self, raw: bytes) -> tuple[RequestHead | None, int]:
        """The head and its Content-Length, if it is the last one over again, or like it."""
        last, max_length = self._last, self._gateway.settings.max_body_bytes
        if last is None:
            return None, 0
        size, length = last.repeated(raw, max_length)
        if size:
            return last, length
        head = last.varied(raw, max_length)
        return (None, 0) if head is None else (head, head.content_length)

    def _open(self, head: RequestHead, length: int) -> None:
        self._remaining = length
        self._decoder = ChunkedBody() if head.chunked else None
        if self._gateway.answers_itself(head):
            self.write(self._gateway.own_page(head))
            self._last = None  # what repeats a remembered head becomes an exchange at once
            self._remaining = 0
            self.exchange_done(head.has_body or not head.keep_alive, not head.has_body, self._gateway.now())
            return
        exchange = self.exchange = Exchange(self._gateway, self, head, length)
        if not head.has_body:
            exchange.begin(b"", True)
        elif not head.chunked and len(self._buffer) >= length:
            exchange.begin(self._take_off(length), True)
        else:
            self.deadline = self._gateway.now() + self._gateway.settings.body_timeout_s
            exchange.begin(b"", False)

    def _take_body(self, exchange: Exchange) -> None:
        settings = self._gateway.settings
        if not self._held:
            self.deadline = self._gateway.now() + settings.body_timeout_s
        if self._decoder is not None:
            self._take_off(self._decoder.feed(self._buffer))
            if self._decoder.received > settings.max_body_bytes:
                raise PayloadTooLarge
            complete = self._decoder.complete
            piece = self._decoder.pop_data()
        else:
            piece = self._take_off(self._remaining)
            self._remaining -= len(piece)
            complete = not self._remaining
        if complete:
            self.deadline = math.inf
        if piece or complete:
            exchange.feed_body(piece, complete)

    # ---- the end

    def _answer(self, error: RouterError) -> None:
        """Answer what never became an exchange, and close: what follows cannot be trusted to be a request."""
        self._gateway.count_malformed(error)
        self.write(own_answer(error, self._gateway.id_lines(error.client_request_id, self._gateway.ids.next()), True))
        self._finish(linger=True)

    def _finish(self, linger: bool) -> None:
        self._end_beginning()
        self._buffer = b""
        self.deadline = self._gateway.now() + (LINGER_S if linger else 0.0)
        if not linger or not self.transport.can_write_eof():
            # With TLS this is lingering, too: it says that it ends, and waits for the client to say so.
            self.transport.close()
            return
        self._lingering = True
        if self._held:
            self._held.clear()
            self.transport.resume_reading()
        self.transport.write_eof()

    def _cut(self, now: float) -> None:
        """The connection has had the time that its end may take; only what has not been sent yet gets some more."""
        if self.unsent() and not self._flushing:
            self._flushing = True
            self.deadline = now + self._gateway.settings.write_timeout_s
        else:
            self.transport.abort()
