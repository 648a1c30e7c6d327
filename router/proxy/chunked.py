"""The chunked transfer coding (RFC 9112 section 7.1), both ways: llhttp reads it, the router writes it anew.

httptools does not tell where in its input a message ended. llhttp gets whole reads, refuses what follows the end, and
the place of the end is worked out afterwards, once per body, from the sizes of the pieces of data. So a body costs by
its bytes and its chunks, whatever its data looks like.
"""

import httptools

from router.core.router_errors import BadRequest

# "close": llhttp stops at the first byte behind the body instead of reading on.
_HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
_EMPTY_LINE = b"\r\n\r\n"

# RFC 9110 section 6.5.1: whoever merges these into the head would read another message.
_NOT_IN_TRAILERS = frozenset({b"content-length", b"transfer-encoding", b"host", b"authorization", b"content-encoding"})

SPARE_BYTES = 8192
"""What sizes, extensions and trailers may take beside the data, plus BYTES_PER_CHUNK for each chunk."""
BYTES_PER_CHUNK = 64


class ChunkedBody:
    """Decodes one body. `feed` returns how many bytes belonged to it; then `take` gives the data."""

    __slots__ = (
        *("_at_size", "_beside", "_chunks", "_forbidden", "_parser", "_pieces", "_tail"),
        *("complete", "on_body", "received"),
    )

    def __init__(self) -> None:
        self.complete = False
        self.received = 0
        """Bytes of data so far."""
        self._pieces: list[bytes] = []
        self._beside = 0
        self._chunks = 0
        self._at_size = True
        """Whether a size line is next or has begun."""
        self._tail = b""
        """The last bytes before the next `feed`."""
        self._forbidden = False
        self.on_body = self._pieces.append
        """llhttp: a piece of data; one per chunk and `feed`."""
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(_HEAD)
        self._forbidden = False  # what the made-up head holds does not count

    def on_chunk_header(self) -> None:
        """llhttp: a size line has ended."""
        self._chunks += 1
        self._at_size = False

    def on_chunk_complete(self) -> None:
        """llhttp: the line end behind the data of a chunk has come."""
        self._at_size = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """llhttp: a field of the made-up head, then of the trailers, which are dropped."""
        self._forbidden |= name.lower() in _NOT_IN_TRAILERS

    def on_message_complete(self) -> None:
        """llhttp: the last chunk and its trailers are in."""
        self.complete = True

    def feed(self, data: bytes | bytearray) -> int:
        """Bytes of `data` that belong to this body. Raises BadRequest when it is not the chunked coding."""
        first, chunks, at_size = len(self._pieces), self._chunks, self._at_size
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self.complete:
                raise BadRequest("The chunked body is malformed.") from error
        if self._forbidden:
            raise BadRequest("The trailers hold a field that decides framing or routing.")
        pieces = self._pieces[first:] if first else self._pieces
        size = len(pieces[0]) if len(pieces) == 1 else sum(map(len, pieces))
        used = self._end(data, pieces, self._chunks - chunks, at_size) if self.complete else len(data)
        self._tail = bytes(data[-3:]) if len(data) > 2 else self._tail[-2:] + data
        self.received += size
        self._beside += used - size
        if self._beside > SPARE_BYTES + BYTES_PER_CHUNK * self._chunks:
            raise BadRequest("The chunk extensions or trailers are too large.")
        return used

    def take(self) -> bytes:
        """The data that has come since the last take."""
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        return data

    def _end(self, data: bytes | bytearray, pieces: list[bytes], begun: int, at_size: bool) -> int:
        """Where in `data` the body ended.

        `pieces`: of the data in it. `begun`: size lines that ended in it, the one of the last chunk included.
        `at_size`: whether it began in or before a size line.
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
        # The empty line has begun before: with the line end of the last size line, or of a trailer.
        before = len(self._tail)
        return (self._tail + data).index(_EMPTY_LINE, max(0, before + at - 2) if begun else 0) + 4 - before


def chunk(data: bytes) -> bytes:
    """One chunk; nothing for no data, since an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


LAST_CHUNK = b"0\r\n\r\n"
