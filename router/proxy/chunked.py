"""The chunked transfer coding (RFC 9112 section 7.1): decoded by llhttp, encoded anew by the router.

httptools does not report the position at which a message ended. llhttp is fed whole reads and stops at the end; the
position is then computed, once per body, from the sizes of the data pieces. The cost of a body depends on its bytes and
its chunks, not on their content.
"""

import httptools

from router.core.router_errors import BadRequest

# "close": llhttp stops at the first byte behind the body instead of reading on.
_HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
_EMPTY_LINE = b"\r\n\r\n"

# RFC 9110 section 6.5.1: merged into the head, these would change the message.
_NOT_IN_TRAILERS = frozenset({b"content-length", b"transfer-encoding", b"host", b"authorization", b"content-encoding"})

SPARE_BYTES = 8192
"""Allowance for size lines, extensions and trailers; plus BYTES_PER_CHUNK for each chunk."""
BYTES_PER_CHUNK = 64


class ChunkedBody:
    """Decoder of one body: `feed` input, then `pop_data`."""

    __slots__ = (
        *("_at_size", "_beside", "_chunks", "_forbidden", "_parser", "_pieces", "_tail"),
        *("complete", "on_body", "received"),
    )

    def __init__(self) -> None:
        self.complete = False
        self.received = 0
        """Bytes of decoded data so far."""
        self._pieces: list[bytes] = []
        self._beside = 0
        self._chunks = 0
        self._at_size = True
        """True if a size line is next or incomplete."""
        self._tail = b""
        """The last three bytes of the previous `feed`."""
        self._forbidden = False
        self.on_body = self._pieces.append
        """llhttp callback: a piece of data, one per chunk and `feed`."""
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(_HEAD)
        self._forbidden = False  # fields of the artificial head do not count

    def on_chunk_header(self) -> None:
        """llhttp callback: end of a size line."""
        self._chunks += 1
        self._at_size = False

    def on_chunk_complete(self) -> None:
        """llhttp callback: end of the line after the data of a chunk."""
        self._at_size = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """llhttp callback: a field of the artificial head, or of the trailers (dropped)."""
        self._forbidden |= name.lower() in _NOT_IN_TRAILERS

    def on_message_complete(self) -> None:
        """llhttp callback: end of the trailers."""
        self.complete = True

    def feed(self, data: bytes | bytearray) -> int:
        """Decode input; return the number of its bytes that belong to this body. Raises BadRequest."""
        first, chunks, at_size = len(self._pieces), self._chunks, self._at_size
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self.complete:
                raise BadRequest("the chunked body is malformed") from error
        if self._forbidden:
            raise BadRequest("trailers must not hold fields that decide framing or routing")
        pieces = self._pieces[first:] if first else self._pieces
        size = len(pieces[0]) if len(pieces) == 1 else sum(map(len, pieces))
        used = self._end(data, pieces, self._chunks - chunks, at_size) if self.complete else len(data)
        self._tail = bytes(data[-3:]) if len(data) > 2 else self._tail[-2:] + data
        self.received += size
        self._beside += used - size
        if self._beside > SPARE_BYTES + BYTES_PER_CHUNK * self._chunks:
            raise BadRequest("the chunk extensions or trailers are too large")
        return used

    def pop_data(self) -> bytes:
        """The data decoded since the last call."""
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        return data

    def _end(self, data: bytes | bytearray, pieces: list[bytes], begun: int, at_size: bool) -> int:
        """Position in `data` just after the body.

        `pieces`: data pieces decoded from it. `begun`: number of size lines that ended in it, that of the last chunk
        included. `at_size`: True if it began in or before a size line.
        """
        at = 0
        if begun:
            sizes = map(len, pieces)
            if not at_size:
                rest = next(sizes) if len(pieces) == begun else 0
                at = data.index(b"\n", rest) + 1
            for size in sizes:
                at = data.index(b"\n", at) + 1 + size + 2
            at = data.index(b"\n", at) + 1
        if at >= 2:
            return data.index(_EMPTY_LINE, at - 2) + 4
        # The empty line began in an earlier read: with the line end of the last size line, or of a trailer.
        before = len(self._tail)
        return (self._tail + data).index(_EMPTY_LINE, max(0, before + at - 2) if begun else 0) + 4 - before


def chunk(data: bytes) -> bytes:
    """One encoded chunk; empty for empty data, since an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


LAST_CHUNK = b"0\r\n\r\n"
