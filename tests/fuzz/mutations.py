"""Valid HTTP, made invalid: mutations, cuts into pieces, and the permitted responses."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

FRAGMENTS = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\x00",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"0\r\n\r\n",
    b"\r\n\r\n",
    b"5\r\n",
    b"ffffffffffffffff\r\n",
    b"Content-Length: 3\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"Connection: close\r\n",
    b"Connection: upgrade\r\nUpgrade: websocket\r\n",
    b"Expect: 100-continue\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HTTP/1.0",
    b"-1",
    b"\xff\xfe",
    b"A" * 5000,
)


@dataclass(frozen=True, slots=True)
class Mutation:
    """One change at a place given as a share of the length."""

    kind: str
    place: float
    fragment: bytes

    def apply(self, data: bytes) -> bytes:
        at = int(self.place * len(data))
        match self.kind:
            case "insert":
                return data[:at] + self.fragment + data[at:]
            case "overwrite":
                return data[:at] + self.fragment + data[at + len(self.fragment) :]
            case "delete":
                return data[:at] + data[at + 1 + len(self.fragment) :]
            case "line":  # at the end of a line, before a field
                ends = [match.end() for match in re.finditer(rb"\r\n", data)] or [at]
                at = ends[int(self.place * len(ends))]
                return data[:at] + self.fragment + data[at:]
            case "repeat":
                return data[:at] + data[at : at + 40] + data[at:]
            case _:
                return data[:at]


places = st.floats(0, 1, exclude_max=True)
mutations = st.builds(
    Mutation,
    st.sampled_from(("insert", "overwrite", "delete", "line", "repeat", "cut")),
    places,
    st.sampled_from(FRAGMENTS) | st.binary(min_size=1, max_size=6),
)


@dataclass(frozen=True, slots=True)
class Play:
    """One stream: a valid beginning, its mutations, its cuts."""

    template: int
    mutations: Sequence[Mutation]
    cuts: Sequence[float]

    def pieces(self, templates: Sequence[bytes]) -> list[bytes]:
        data = templates[self.template % len(templates)]
        for mutation in self.mutations:
            data = mutation.apply(data)
        ends = sorted(int(cut * len(data)) for cut in self.cuts)
        return [data[begin:end] for begin, end in zip([0, *ends], [*ends, len(data)], strict=True) if begin < end]


plays = st.builds(Play, st.integers(0, 99), st.lists(mutations, max_size=3), st.lists(places, max_size=4))

_head = re.compile(
    rb"HTTP/1\.1 ([1-5][0-9][0-9]) [\t -~]*\r\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*\r\n)*)\r\n"
)
_chunk = re.compile(rb"([0-9a-f]+)\r\n")


class Malformed(AssertionError):
    """The response is not a sequence of HTTP/1.1 answers."""


def answers(data: bytes, whole: bool) -> list[tuple[int, bytes]]:
    """(status, body) of every answer. `whole`: the last one must be so, too, since the connection was not broken off.

    Raises Malformed.
    """
    found: list[tuple[int, bytes]] = []
    while data:
        head = _head.match(data)
        if head is None:
            if whole or not _may_become(data):
                raise Malformed(data[:300])
            return found
        data = data[head.end() :]
        status, fields = int(head[1]), b"\r\n" + head[2].lower()
        length = re.search(rb"\r\ncontent-length: (\d+)\r\n", fields)
        if status < 200 or status in (204, 304):
            body: bytes | None = b""
        elif b"\r\ntransfer-encoding: chunked\r\n" in fields:
            if length:
                raise Malformed(b"two lengths: " + fields)
            body, data = _chunks(data)
        elif length:
            body, data = _exactly(data, int(length[1]))
        else:
            if b"\r\nconnection: close\r\n" not in fields:
                raise Malformed(b"no length: " + fields)
            body, data = data, b""
        if body is None:
            if whole:
                raise Malformed(b"an answer ends before its end: " + fields)
            return found
        if status >= 200:
            found.append((status, body))
    return found


def _may_become(data: bytes) -> bool:
    return b"\r\n\r\n" not in data and b"HTTP/1.1 ".startswith(data[:9])


def _exactly(data: bytes, size: int) -> tuple[bytes | None, bytes]:
    return (data[:size], data[size:]) if len(data) >= size else (None, b"")


def _chunks(data: bytes) -> tuple[bytes | None, bytes]:
    body = b""
    while True:
        size = _chunk.match(data)
        if size is None:
            if b"\r\n" in data[:20]:
                raise Malformed(b"no chunk: " + data[:100])
            return None, b""
        piece, data = _exactly(data[size.end() :], int(size[1], 16))
        if piece is None or len(data) < 2:
            return None, b""
        if data[:2] != b"\r\n":
            raise Malformed(b"no end of a chunk: " + data[:100])
        data = data[2:]
        if not piece:
            return body, data
        body += piece
