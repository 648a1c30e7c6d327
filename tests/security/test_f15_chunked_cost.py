"""F15: the cost of a chunked body depends on its bytes and chunks, not on line ends in its data; its end is
unchanged.
"""

import itertools
import re
import time
from collections.abc import Callable

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.router_errors import BadRequest
from router.proxy.chunked import LAST_CHUNK, ChunkedBody, chunk

CHUNK_BYTES = 16_384
BODY_BYTES = 2_000_000
TIMES_MORE = 3.0
"""The loads are compared with 1.3 by `loadtests.hostile`; one feed per line end would be more than 50."""


def body_of(pattern: bytes) -> bytes:
    data = pattern * (CHUNK_BYTES // len(pattern))
    return chunk(data) * (BODY_BYTES // len(data)) + LAST_CHUNK


def seconds(message: bytes, read_bytes: int) -> float:
    """CPU time to decode the message in reads of this size; the best of several."""
    pieces = [message[at : at + read_bytes] for at in range(0, len(message), read_bytes)]
    best = float("inf")
    for _ in range(5):
        began, body = time.process_time(), ChunkedBody()
        for piece in pieces:
            body.feed(piece)
            body.pop_data()
        best = min(best, time.process_time() - began)
        assert body.complete
    return best


@pytest.mark.parametrize("read_bytes", [65_536, 1024, 100])
@pytest.mark.parametrize(
    "pattern", [b"\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"\r\n0\r\n\r\n", b"\n", b"1\r\na\r\n0\r\n\r\n"]
)
def test_line_ends_in_the_data_cost_no_more_than_zeros(pattern: bytes, read_bytes: int) -> None:
    zeros = seconds(body_of(b"\0"), read_bytes)
    assert seconds(body_of(pattern), read_bytes) <= TIMES_MORE * zeros + 0.005


def test_a_body_is_read_no_further_than_its_end_however_much_follows() -> None:
    """A read may hold thousands of small bodies: each is decoded from the rest of the read."""
    message = chunk(b"hello") + LAST_CHUNK
    following = message * 20_000
    began, body = time.process_time(), ChunkedBody()
    for _ in range(100):
        body = ChunkedBody()
        assert body.feed(following) == len(message)
    assert body.pop_data() == b"hello"
    assert time.process_time() - began < 1.0  # it was 1.3 s for the search of line ends alone


# ---- the same decoder with every empty line offered by itself: slow, and certain to stop at the end


class _Slow:
    def __init__(self) -> None:
        self.data, self.complete = b"", False
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        self._tail = b""

    def on_body(self, data: bytes) -> None:
        self.data += data

    def on_message_complete(self) -> None:
        self.complete = True

    def feed(self, data: bytes) -> int:
        joined, before, used = self._tail + data, len(self._tail), 0
        self._tail = joined[-3:]
        cuts = [found.end() - before for found in re.finditer(rb"\r\n\r\n", joined)] + [len(data)]
        try:
            for cut in cuts:
                self._parser.feed_data(data[used:cut])
                used = cut
                if self.complete:
                    break
        except httptools.HttpParserError as error:
            raise BadRequest("the chunked body is malformed") from error
        return used


def decoded(feed: Callable[[bytes], int], complete: Callable[[], bool], pieces: list[bytes]) -> tuple[bool, int] | None:
    """(End reached, bytes used); None: refused."""
    used = 0
    try:
        for piece in pieces:
            count = feed(piece)
            used += count
            if complete():
                return True, used
            assert count == len(piece)
    except BadRequest:
        return None
    return False, used


TEXT = [
    b"\r\n",
    b"\r",
    b"\n",
    b"0",
    b"0\r\n\r\n",
    b"a",
    b"\r\n\r\n",
    b"5;x",
    b"\x00\xff",
    b"",
    b"GET / HTTP/1.1\r\n\r\n",
]
DATA = st.lists(st.sampled_from(TEXT), max_size=5).map(b"".join)
SIZES = st.sampled_from([b"%x", b"%X", b"%04x", b"%x;a=b", b'%x ;x="y"', b"%x\t"])
TRAILERS = st.lists(st.sampled_from([b"T: v\r\n", b"Connection: keep-alive\r\n", b"Upgrade: x\r\n"]), max_size=2)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A chunked body with something behind it, now and then damaged in one place."""
    parts = []
    for data in draw(st.lists(DATA.filter(bool), max_size=4)):
        parts.append(draw(SIZES) % len(data) + b"\r\n" + data + b"\r\n")
    parts.append(draw(st.sampled_from([b"0", b"000", b"0;e"])) + b"\r\n" + b"".join(draw(TRAILERS)) + b"\r\n")
    message = b"".join(parts) + draw(DATA)
    if draw(st.booleans()):
        return message
    at = draw(st.integers(0, len(message)))
    return message[:at] + draw(st.sampled_from(TEXT)) + message[at + draw(st.integers(0, 2)) :]


@st.composite
def cut(draw: st.DrawFn) -> list[bytes]:
    message = draw(messages())
    places = st.just(set(range(len(message)))) | st.sets(st.integers(0, len(message)), max_size=6)
    bounds = sorted({0, len(message), *draw(places)})
    return [message[begin:end] for begin, end in itertools.pairwise(bounds)]


@given(cut())
def test_a_body_ends_at_the_same_byte_as_with_empty_lines_one_by_one(pieces: list[bytes]) -> None:
    slow, fast = _Slow(), ChunkedBody()
    expected = decoded(slow.feed, lambda: slow.complete, pieces)
    assert decoded(fast.feed, lambda: fast.complete, pieces) == expected
    if expected is not None:
        assert fast.pop_data() == slow.data
