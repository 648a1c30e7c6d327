"""The chunked transfer coding (RFC 9112 section 7.1), both ways: llhttp reads it, the router writes it anew.

httptools does not say where in a buffer a message ended. It ends at an empty line, so the buffer is offered piece by
piece, cut behind every CRLF CRLF; llhttp alone decides whether one of them was the end.
"""

import re

import httptools

from router.core.errors import BadRequest

_HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
_empty_line = re.compile(rb"\r\n\r\n")

# RFC 9110 section 6.5.1: whoever merges these into the head would read another message.
_NOT_IN_TRAILERS = frozenset({b"content-length", b"transfer-encoding", b"host", b"authorization", b"content-encoding"})

SPARE_BYTES = 8192
"""What sizes, extensions and trailers may take beside the data, plus BYTES_PER_CHUNK for each chunk."""
BYTES_PER_CHUNK = 64


class ChunkedBody:
    """Decodes one body. `feed` returns how many bytes belonged to it; then `take` gives the data."""

    __slots__ = ("_beside", "_chunks", "_forbidden", "_parser", "_pieces", "_tail", "complete", "received")

    def __init__(self) -> None:
        self.complete = False
        self.received = 0
        """Bytes of data so far."""
        self._pieces: list[bytes] = []
        self._beside = 0
        self._chunks = 0
        self._tail = b""
        self._forbidden = False
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(_HEAD)
        self._forbidden = False  # what the made-up head holds does not count

    def on_body(self, data: bytes) -> None:
        """llhttp: a piece of data."""
        self.received += len(data)
        self._pieces.append(data)

    def on_chunk_header(self) -> None:
        """llhttp: a chunk begins."""
        self._chunks += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        """llhttp: a field of the made-up head, then of the trailers, which are dropped."""
        self._forbidden |= name.lower() in _NOT_IN_TRAILERS

    def on_message_complete(self) -> None:
        """llhttp: the last chunk and its trailers are in."""
        self.complete = True

    def feed(self, data: bytes) -> int:
        """Bytes of `data` that belong to this body. Raises BadRequest when it is not the chunked coding."""
        used = 0
        before = self.received
        try:
            for cut in self._cuts(data):
                self._parser.feed_data(data[used:cut] if used or cut < len(data) else data)
                used = cut
                if self.complete:
                    break
        except httptools.HttpParserError as error:
            raise BadRequest("The chunked body is malformed.") from error
        if self._forbidden:
            raise BadRequest("The trailers hold a field that decides framing or routing.")
        self._beside += used - (self.received - before)
        if self._beside > SPARE_BYTES + BYTES_PER_CHUNK * self._chunks:
            raise BadRequest("The chunk extensions or trailers are too large.")
        return used

    def take(self) -> bytes:
        """The data that has come since the last take."""
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        return data

    def _cuts(self, data: bytes) -> list[int]:
        """Where an empty line ends in `data`, in order, and its end. A line may have begun in the data before."""
        joined, before = self._tail + data, len(self._tail)
        self._tail = joined[-3:]
        cuts = [found.end() - before for found in _empty_line.finditer(joined)]
        if cuts[-1:] != [len(data)]:
            cuts.append(len(data))
        return cuts


def chunk(data: bytes) -> bytes:
    """One chunk; nothing for no data, since an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


LAST_CHUNK = b"0\r\n\r\n"
