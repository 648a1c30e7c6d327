"""One connection to a replica: the request goes out, the answer is checked, nothing of it outlives the exchange."""

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, cast

from router.core.router_errors import BadRequest, ReplicaFailed, RouterError
from router.proxy.chunked import ChunkedBody
from router.proxy.head import ResponseHead, has_stray_octets, parse_response
from router.proxy.partial_head import PartialResponseHead, response_fault
from router.socket_write import write_at_once

if TYPE_CHECKING:
    from router.proxy.exchange import Exchange
    from router.proxy.upstream_pool import UpstreamPool

REMEMBERED_HEAD_BYTES = 4096
MAX_ANSWER_LINES = 1000
MAX_INTERIM_ANSWERS = 1000
"""1xx answers to one request: three a second for the longest time that a request may take."""
FINISH_S = 2.0
"""How long a replica may take for the last bytes of a tunnel."""
_TCP_INFO_BYTES_ACKED = 120
"""Offset of tcpi_bytes_acked in struct tcp_info (Linux 4.1, include/uapi/linux/tcp.h)."""
_UNKNOWN = 1 << 62


class UpstreamConnection(asyncio.Protocol):
    """Serves one exchange at a time; `exchange` is None while it is idle in the pool."""

    __slots__ = (
        "_beginning",
        "_buffer",
        "_decoder",
        "_fd",
        "_in_body",
        "_interim",
        "_last",
        "_pool",
        "_remaining",
        "_sent",
        "_sent_before",
        "_sock",
        "_tunnel",
        "_until_close",
        "closed",
        "exchange",
        "idle_since",
        "replica_id",
        "transport",
    )

    def __init__(self, pool: "UpstreamPool", replica_id: str) -> None:
        self._pool = pool
        self.replica_id = replica_id
        self.exchange: Exchange | None = None
        self.closed = False
        self.idle_since = 0.0
        self._sent = 0
        """Bytes written since the connection began."""
        self._sent_before = 0
        """The same, when the exchange that it serves began."""
        self._buffer: bytes | bytearray = b""
        """What has come and not been used; a bytearray where it has come, or is used, in pieces."""
        self._beginning: PartialResponseHead | None = None
        """The head that is not whole, in the same buffer."""
        self._interim = 0
        self._last: ResponseHead | None = None
        self._in_body = False
        self._remaining = 0
        self._decoder: ChunkedBody | None = None
        self._until_close = False
        self._tunnel = False

    # ---- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: connected."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=self._pool.settings.buffer_bytes)
        self._sock: socket.socket | None = transport.get_extra_info("socket")
        self._fd = self._sock.fileno() if self._sock is not None else -1

    def data_received(self, data: bytes) -> None:
        """asyncio: the replica sent something."""
        exchange = self.exchange
        if exchange is None:
            # Bytes that nobody asked for must never become the answer to the next request.
            self.close()
            return
        if not self._in_body:
            last = self._last
            # Most answers repeat the head of the answer before (but for its Date, once a second).
            if (
                last is not None
                and not self._buffer
                and data.startswith(last.raw)
                and len(data) - last.size == last.content_length
                and not last.chunked
                and not last.until_close
            ):
                exchange.answer_whole(last, data[last.size :])
                return
            beginning = self._beginning
            if beginning is None:
                self._buffer = data
                self._read_heads()
            elif not beginning.extend(data):
                self._read_heads()
        else:
            self._read_body(data)

    def eof_received(self) -> bool:
        """asyncio: the replica has closed its side."""
        exchange = self.exchange
        if exchange is not None:
            if self._in_body and (self._until_close or self._tunnel):
                self.closed = True
                exchange.answer_data(b"", True)
            else:
                self._lost(exchange, clean=True)
        self.close()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is gone."""
        self.closed = True
        self._pool.remove(self)
        if self.exchange is not None:
            self._lost(self.exchange, clean=isinstance(exc, BrokenPipeError))

    def pause_writing(self) -> None:
        """asyncio: the replica reads more slowly than the client sends."""
        if self.exchange is not None:
            self.exchange.client.hold_reading("replica", True)

    def resume_writing(self) -> None:
        """asyncio: the replica has caught up."""
        if self.exchange is not None:
            self.exchange.client.hold_reading("replica", False)

    # ---- used by the exchange

    def begin(self, exchange: "Exchange", data: bytes, at_once: bool) -> None:
        """Send a request's head, with what is there of its body; `at_once`: the replica stands idle until it comes."""
        self.exchange = exchange
        self._sent_before = self._sent
        self._in_body = False
        self._interim = 0
        if at_once:
            rest = write_at_once(self.transport, self._fd, data)
            self._sent += len(data) - len(rest)
            data = rest
        if data:
            self.write(data)

    def write(self, data: bytes) -> None:
        """Send more of the request."""
        self._sent += len(data)
        self.transport.write(data)

    def detach(self, reusable: bool, now: float) -> None:
        """The exchange has ended; the connection goes back to the pool, or away."""
        self.exchange = None
        self._in_body = False
        self._decoder = None
        if reusable and not self.closed and not self._buffer:
            self._pool.keep(self, now)
        else:
            self.close()

    def finish(self) -> None:
        """The client has ended a tunnel: what it sent last still goes out, if the replica takes it."""
        self.exchange = None
        self.closed = True
        if self.transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(FINISH_S, self.transport.abort)
        self.transport.close()

    def abort(self) -> None:
        """The exchange is given up: break the connection, so that the replica can notice."""
        self.exchange = None
        self.closed = True
        self.transport.abort()

    def close(self) -> None:
        """Close an idle connection."""
        if not self.closed:
            self.closed = True
            self.transport.close()

    # ---- reading

    def _read_heads(self) -> None:
        exchange = self.exchange
        try:
            while self.exchange is exchange and exchange is not None and not self._in_body and self._buffer:
                size = self._buffer.find(b"\r\n\r\n") + 4 if self._beginning is None else 0
                if not 4 <= size <= self._pool.settings.max_response_head_bytes:
                    size = self._begun_head()
                    if not size:
                        return
                buffer = self._buffer
                if isinstance(buffer, bytes):
                    raw, self._buffer = buffer[:size], buffer[size:]
                else:
                    raw = bytes(buffer[:size])
                    del buffer[:size]
                self._take_head(exchange, raw)
        except ReplicaFailed as error:
            if exchange is not None:
                exchange.fail(error)
        except RouterError as error:
            if exchange is not None:
                exchange.give_up(error)

    def _begun_head(self) -> int:
        """Size of a head that has come in pieces, or is too large; 0 while it is not whole."""
        if self._beginning is None:
            self._beginning = PartialResponseHead(self._buffer, self._pool.settings)
            self._buffer = self._beginning.buffer
        size = self._beginning.find_end()
        if size:
            self._beginning = None
        return size

    def _take_head(self, exchange: "Exchange", raw: bytes) -> None:
        if raw.count(b"\r\n") > MAX_ANSWER_LINES:
            fault = response_fault(raw, not has_stray_octets(raw), too_large=True)
            assert fault is not None
            raise fault
        last = self._last
        if last is None:
            head = parse_response(raw)
        else:
            head = last if last.raw == raw else last.varied(raw) or parse_response(raw)
        if head.status == 101:
            self._tunnel = exchange.switch_protocols(head)
            if not self._tunnel:
                raise ReplicaFailed("The replica switched protocols unasked.")
            self._in_body = True
            rest, self._buffer = bytes(self._buffer), b""
            if rest:
                exchange.client.write_through(rest)
        elif head.status < 200:
            self._interim += 1
            if self._interim > MAX_INTERIM_ANSWERS:
                raise ReplicaFailed("The replica sends interim answers without end.")
            if isinstance(self._buffer, bytes):
                self._buffer = bytearray(self._buffer)  # many may follow: cutting them off must not copy the rest
            if head.status != 100:
                exchange.answer_interim(head)
        else:
            if head.size <= REMEMBERED_HEAD_BYTES:
                self._last = head
            self._answer(exchange, head)

    def _answer(self, exchange: "Exchange", head: ResponseHead) -> None:
        self._in_body = True
        self._remaining = head.content_length
        self._decoder = ChunkedBody() if head.chunked else None
        self._until_close = head.until_close
        rest, self._buffer = bytes(self._buffer), b""
        if not head.chunked and not head.until_close and len(rest) >= head.content_length:
            self._buffer = rest[head.content_length :]  # bytes too many: the connection will not be reused
            exchange.answer_whole(head, rest[: head.content_length])
            return
        exchange.answer_head(head)
        if rest and self.exchange is exchange:
            self._read_body(rest)

    def _read_body(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            return
        if self._tunnel:
            exchange.client.write_through(data)
        elif self._decoder is not None:
            try:
                used = self._decoder.feed(data)
            except BadRequest:
                exchange.fail(ReplicaFailed("The chunked answer of the replica is malformed."))
                return
            self._buffer = data[used:]
            exchange.answer_data(self._decoder.pop_data(), self._decoder.complete)
        elif self._until_close:
            exchange.answer_data(data, False)
        else:
            piece = data[: self._remaining]
            self._buffer = data[self._remaining :]
            self._remaining -= len(piece)
            exchange.answer_data(piece, not self._remaining)

    def _lost(self, exchange: "Exchange", clean: bool) -> None:
        unanswered = not self._in_body and not self._buffer
        never_begun = unanswered and clean and self._bytes_acked() <= self._sent_before
        self.exchange = None
        self.closed = True
        exchange.upstream_lost(never_begun)

    def _bytes_acked(self) -> int:
        """Bytes that the replica's TCP has acknowledged since the connection began; _UNKNOWN where Linux does not say.

        A replica that closed a connection just before a request reached it has sent FIN and acknowledged nothing
        of the request: it cannot have begun it. Every other loss may have happened after it began.
        """
        if self._sock is None:
            return _UNKNOWN
        try:
            info = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
        except OSError:
            return _UNKNOWN
        if len(info) < _TCP_INFO_BYTES_ACKED + 8:
            return _UNKNOWN
        (acked,) = struct.unpack_from("=Q", info, _TCP_INFO_BYTES_ACKED)
        return int(acked) - 1  # the handshake's SYN counts as one
