"""One connection to a replica: sends the request, checks the response; no state outlives the exchange."""

from typing import TYPE_CHECKING

from router.core.router_errors import BadRequest, ReplicaFailed, RouterError
from router.proxy.chunked import ChunkedBody
from router.proxy.head_parsing import has_stray_octets
from router.proxy.head_shapes import CACHED_HEAD_BYTES
from router.proxy.partial_head import PartialResponseHead, response_fault
from router.proxy.replica_connection import ReplicaConnection
from router.proxy.response_head import ResponseHead, parse_response
from router.proxy.tcp_socket import acknowledge_at_once, bytes_acknowledged, bytes_in_kernel, unread_data
from router.socket_write import write_at_once

if TYPE_CHECKING:
    from router.proxy.exchange import Exchange
    from router.proxy.upstream_pool import UpstreamPool

MAX_RESPONSE_LINES = 1000
MAX_INTERIM_RESPONSES = 1000
"""1xx responses to one request: three per second for the longest request."""
LARGE_BYTES = 65_536
"""Request of which the replica's TCP may still lack a part when the answer comes."""


class UpstreamConnection(ReplicaConnection):
    """Connection to a replica over HTTP/1.1."""

    __slots__ = (
        *("_buffer", "_decoder", "_early", "_in_body", "_interim", "_last_head", "_partial", "_remaining"),
        *("_tunnel", "_until_close"),
    )

    def __init__(self, pool: "UpstreamPool", replica_id: str) -> None:
        super().__init__(pool, replica_id)
        self._early = False
        """True if the answer began before the request was written: the replica may never read the rest."""
        self._buffer: bytes | bytearray = b""
        """Received and not yet used; a bytearray if it arrived, or is used, in pieces."""
        self._partial: PartialResponseHead | None = None
        """An incomplete head, in the same buffer."""
        self._interim = 0
        self._last_head: ResponseHead | None = None
        self._in_body = False
        self._remaining = 0
        self._decoder: ChunkedBody | None = None
        self._until_close = False
        self._tunnel = False

    @property
    def has_answered(self) -> bool:
        """True once the replica has sent anything on this connection."""
        return self._in_body or bool(self._buffer) or bool(self._interim) or self._last_head is not None

    # ---- asyncio

    def data_received(self, data: bytes) -> None:
        """asyncio: the replica sent something."""
        exchange = self.exchange
        if exchange is None:
            # Unsolicited bytes must never become the response to the next request.
            self._pool.note_leftovers(self.replica_id)
            self.close()
            return
        if not self._in_body:
            unsent = self.transport.get_write_buffer_size() + len(self._batched)
            if unsent:
                if unsent >= self._sent - self._sent_before and not self._buffer and not self._interim:
                    self._pool.note_leftovers(self.replica_id)
                    self._unsolicited(exchange)
                    return
                self._early = True
            if not self._buffer and self._read_whole(exchange, data):
                return
            partial = self._partial
            if partial is None:
                self._buffer = data
                self._read_heads()
            elif not partial.extend(data):
                self._read_heads()
        else:
            self._read_body(data)
        if self.exchange is exchange and not self._tunnel:
            acknowledge_at_once(self._sock)  # the answer comes in parts: do not delay the next one

    def eof_received(self) -> bool:
        """asyncio: the replica closed its side."""
        exchange = self.exchange
        if exchange is not None:
            if self._in_body and (self._until_close or self._tunnel):
                self.closed = True
                exchange.receive_data(b"", True)
            else:
                self._lost(exchange, clean=True)
        self.close()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is closed."""
        exchange = self.exchange
        if exchange is not None and exc is not None and not self.closed:
            # A replica that answers without reading the request resets the connection behind its answer.
            self._early = True  # not for reuse
            for data in unread_data(self._fd):
                self.data_received(data)
                if self.exchange is not exchange:
                    break
        self.closed = True
        self._pool.remove(self)
        if self.exchange is not None:
            self._lost(self.exchange, clean=isinstance(exc, BrokenPipeError))

    # ---- used by the exchange

    def begin(self, exchange: "Exchange", data: bytes, at_once: bool) -> None:
        """Start an exchange.

        `data`: head and received part of the body. `at_once`: now, the replica is idle until it arrives; else a small
        whole request is batched with others.
        """
        self.exchange = exchange
        self._sent_before = self._sent
        self._in_body = self._early = False
        self._interim = 0
        if exchange.head.meaning.to_head:
            self._last_head = None
        if at_once:
            rest = write_at_once(self.transport, self._fd, data)
            self._sent += len(data) - len(rest)
            data = rest
        elif exchange.body_complete and len(data) <= self._pool.batch.limit_bytes:
            self._batched = data
            self._sent += len(data)
            self._pool.batch.add(self)
            return
        if data:
            self.write(data)

    def detach(self, reusable: bool, now: float) -> None:
        """The exchange has ended: return the connection to the pool if reusable, else close it.

        `now`: monotonic seconds.
        """
        self.exchange = None
        self._in_body = False
        self._decoder = None
        if not reusable or self.closed or self._early:
            self.close()
        elif self._buffer:
            self._pool.note_leftovers(self.replica_id)
            self.close()
        elif self._sent - self._sent_before > LARGE_BYTES and bytes_in_kernel(self._fd):
            self.close()
        else:
            self._pool.keep(self, now)

    # ---- reading

    def _read_whole(self, exchange: "Exchange", data: bytes) -> bool:
        """Pass on a complete response with a known head; False if `data` must be read part by part."""
        head, pool = self._last_head, self._pool
        if head is None or not data.startswith(head.raw):
            if exchange.head.meaning.to_head:
                return False
            head = pool.response_shapes.find(data)
            if head is None or not head.meaning.version_minor or pool.http10:
                return False
            self._last_head = head
        if len(data) - head.size != head.content_length or head.meaning.chunked or head.meaning.until_close:
            return False
        exchange.receive_response(head, data[head.size :])
        return True

    def _read_heads(self) -> None:
        exchange = self.exchange
        try:
            while self.exchange is exchange and exchange is not None and not self._in_body and self._buffer:
                size = self._buffer.find(b"\r\n\r\n") + 4 if self._partial is None else 0
                if not 4 <= size <= self._pool.settings.max_response_head_bytes:
                    size = self._scan_partial_head()
                    if not size:
                        return
                buffer = self._buffer
                if isinstance(buffer, bytes):
                    raw, self._buffer = buffer[:size], buffer[size:]
                else:
                    raw = bytes(buffer[:size])
                    del buffer[:size]
                self._handle_head(exchange, raw)
        except ReplicaFailed as error:
            if exchange is not None:
                exchange.reject_response(error)
        except RouterError as error:
            if exchange is not None:
                exchange.abort(error)

    def _scan_partial_head(self) -> int:
        """Size of a head that came in pieces or is too large; 0 while incomplete."""
        if self._partial is None:
            self._partial = PartialResponseHead(self._buffer, self._pool.settings)
            self._buffer = self._partial.buffer
        size = self._partial.find_end()
        if size:
            self._partial = None
        return size

    def _handle_head(self, exchange: "Exchange", raw: bytes) -> None:
        if raw.count(b"\r\n") > MAX_RESPONSE_LINES:
            fault = response_fault(raw, not has_stray_octets(raw), too_large=True)
            assert fault is not None
            raise fault
        to_head, shapes = exchange.head.to_head, self._pool.response_shapes
        head = self._last_head
        if head is None or head.raw != raw:
            head = None if to_head else shapes.find(raw)
        parsed = head is None
        if head is None:
            head = parse_response(raw, to_head)
        if head.status == 101:
            self._tunnel = exchange.switch_protocols(head)
            if not self._tunnel:
                raise ReplicaFailed("101 must not be sent unasked")
            self._in_body = True
            rest, self._buffer = bytes(self._buffer), b""
            if rest:
                exchange.client.write_through(rest)
        elif head.status < 200:
            self._interim += 1
            if self._interim > MAX_INTERIM_RESPONSES:
                raise ReplicaFailed(f"there must be at most {MAX_INTERIM_RESPONSES} interim responses")
            if isinstance(self._buffer, bytes):
                self._buffer = bytearray(self._buffer)  # many may follow: removing each must not copy the rest
            if head.status != 100:
                exchange.receive_interim(head)
        else:
            if exchange.head.to_head:
                exchange.receive_response(head, b"")
                return
            if parsed:
                shapes.learn(head)
            if head.size <= CACHED_HEAD_BYTES:
                self._last_head = head
            self._handle_final_head(exchange, head)

    def _handle_final_head(self, exchange: "Exchange", head: ResponseHead) -> None:
        self._in_body = True
        if head.broken_rule:
            exchange.note_broken_rule(head.broken_rule)
        if not head.version_minor or self._pool.http10:
            self._pool.note_version(self.replica_id, head.version_minor)
        self._remaining = head.content_length
        self._decoder = ChunkedBody() if head.chunked else None
        self._until_close = head.until_close
        rest, self._buffer = bytes(self._buffer), b""
        if not head.chunked and not head.until_close and len(rest) >= head.content_length:
            self._buffer = rest[head.content_length :]  # excess bytes: the connection is not reused
            exchange.receive_response(head, rest[: head.content_length])
            return
        exchange.receive_head(head)
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
            except BadRequest as error:
                exchange.reject_response(ReplicaFailed(error.rule))
                return
            self._buffer = data[used:]
            exchange.receive_data(self._decoder.pop_data(), self._decoder.complete)
        elif self._until_close:
            exchange.receive_data(data, False)
        else:
            piece = data[: self._remaining]
            self._buffer = data[self._remaining :]
            self._remaining -= len(piece)
            exchange.receive_data(piece, not self._remaining)

    def _lost(self, exchange: "Exchange", clean: bool) -> None:
        unanswered = not self._in_body and not self._buffer
        batched, self._batched = self._batched, b""
        never_begun = unanswered and (bool(batched) or (clean and bytes_acknowledged(self._sock) <= self._sent_before))
        self.exchange = None
        self.closed = True
        exchange.upstream_lost(never_begun)

    def _unsolicited(self, exchange: "Exchange") -> None:
        """Bytes came before the request left: they answer nothing. The request takes another connection."""
        self.abort()
        exchange.upstream_lost(True)
