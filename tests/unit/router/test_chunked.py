"""The chunked coding: however it is cut, the same data and the same end; and no other end than that of the coding."""

import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.core.router_errors import BadRequest
from router.proxy.chunked import BYTES_PER_CHUNK, LAST_CHUNK, SPARE_BYTES, ChunkedBody, chunk

NEXT_REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def decode(pieces: list[bytes]) -> tuple[bytes, int, bool]:
    """Data, bytes used, and True at the end; the bytes after the end are not offered."""
    body, data, used = ChunkedBody(), b"", 0
    for piece in pieces:
        count = body.feed(piece)
        used += count
        data += body.pop_data()
        assert body.received == len(data)
        if body.complete:
            break
        assert count == len(piece)
    return data, used, body.complete


def by_definition(message: bytes) -> tuple[bytes, int | None]:
    """RFC 9112 section 7.1, read slowly: data and its end; None: not ended, or not the chunked coding.

    Generous about the contents of extensions and trailers, strict about every line end.
    """
    data, at = b"", 0
    while True:
        end = message.find(b"\r\n", at)
        size = re.fullmatch(rb"([0-9A-Fa-f]+)[ \t]*(;[^\r\n]*)?", message[at:end]) if end >= 0 else None
        if size is None:
            return data, None
        at, count = end + 2, int(size[1], 16)
        if count == 0:
            break
        data += message[at : at + count]
        if message[at + count : at + count + 2] != b"\r\n":
            return data, None
        at += count + 2
    while True:
        end = message.find(b"\r\n", at)
        if end < 0 or b"\n" in message[at:end] or b"\r" in message[at:end]:
            return data, None
        if end == at:
            return data, at + 2
        at = end + 2


# Data with apparent line ends, chunk sizes and whole endings for a careless reader.
DATA = st.lists(
    st.sampled_from([b"\r\n", b"\r", b"\n", b"0", b"0\r\n\r\n", b"a", b"\r\n\r\n", b"5;x", b"\x00\xff"])
).map(b"".join)
EXTENSION = st.sampled_from([b"", b"", b";a", b";a=b", b';a="q r"', b";a=b;c"])
TRAILER = st.lists(
    st.sampled_from([b"X-Sum: abc\r\n", b"Connection: upgrade\r\n", b"Upgrade: x\r\n", b"X-Empty:\r\n"]), max_size=3
)


@st.composite
def messages(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A whole chunked body and its data."""
    pieces = draw(st.lists(DATA.filter(bool), max_size=6))
    digits = draw(st.sampled_from([b"%x", b"%X", b"%03x"]))
    coded = b"".join(digits % len(piece) + draw(EXTENSION) + b"\r\n" + piece + b"\r\n" for piece in pieces)
    last = draw(st.sampled_from([b"0", b"00", b"0000"])) + draw(EXTENSION) + b"\r\n"
    return coded + last + b"".join(draw(TRAILER)) + b"\r\n", b"".join(pieces)


def cut(message: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(message) + 1) for place in places}), len(message)]
    return [message[start:end] for start, end in pairwise(edges) if start < end]


@given(messages(), st.lists(st.integers(0, 10_000), max_size=12), st.sampled_from([b"", b"\r\n\r\n", NEXT_REQUEST]))
def test_however_a_body_is_cut_its_data_and_its_end_are_the_same(
    coded: tuple[bytes, bytes], places: list[int], following: bytes
) -> None:
    message, data = coded
    assert by_definition(message) == (data, len(message))
    assert decode(cut(message + following, places)) == (data, len(message), True)


@given(messages())
def test_a_body_may_come_byte_by_byte(coded: tuple[bytes, bytes]) -> None:
    message, data = coded
    pieces = [bytes([byte]) for byte in message + NEXT_REQUEST]
    assert decode(pieces) == (data, len(message), True)


@given(messages(), st.data())
def test_a_body_that_is_cut_off_has_no_end(coded: tuple[bytes, bytes], data: Any) -> None:
    message, whole = coded
    part = message[: data.draw(st.integers(0, len(message) - 1))]
    got, used, complete = decode([part])
    assert not complete and used == len(part) and whole.startswith(got)


@given(messages(), st.data())
def test_one_wrong_byte_never_moves_the_end_nor_the_data_beyond_the_coding(
    coded: tuple[bytes, bytes], data: Any
) -> None:
    message, _ = coded
    place = data.draw(st.integers(0, len(message) - 1))
    wrong = bytes([data.draw(st.sampled_from(list(b"\r\n\x00 \t;0159afG-+x:\xff")))])
    flipped = message[:place] + data.draw(st.sampled_from([wrong, b"", wrong + message[place : place + 1]]))
    flipped += message[place + 1 :] + NEXT_REQUEST
    expected, end = by_definition(flipped)
    try:
        got, used, complete = decode(cut(flipped, data.draw(st.lists(st.integers(0, 10_000), max_size=4))))
    except BadRequest:
        return
    if complete:
        assert (got, used) == (expected, end)
    else:
        assert expected.startswith(got) or got.startswith(expected)


@given(st.binary(max_size=40), st.lists(st.integers(0, 100), max_size=3))
@example(b"0\n\r\n", [])
@example(b"0\n\n", [])
@example(b"0\r\n\n", [])
@example(b"1\nx\n0\n\n", [])
@example(b"0 \r\n\r\n", [])
def test_any_bytes_are_read_by_the_definition_or_refused(message: bytes, places: list[int]) -> None:
    expected, end = by_definition(message)
    try:
        got, used, complete = decode(cut(message, places))
    except BadRequest:
        return
    assert not complete or (got, used) == (expected, end)


@pytest.mark.parametrize(
    "message",
    [
        b"\r\n",
        b"x\r\n",
        b"-1\r\nx\r\n0\r\n\r\n",
        b"+1\r\nx\r\n0\r\n\r\n",
        b"0x1\r\nx\r\n0\r\n\r\n",
        b" 1\r\nx\r\n0\r\n\r\n",
        b"1 \r\nx\r\n0\r\n\r\n",
        b"1\t\r\nx\r\n0\r\n\r\n",
        b"1\nx\r\n0\r\n\r\n",
        b"1\r\nx\n0\r\n\r\n",
        b"1\r\nxy\r\n0\r\n\r\n",
        b"2\r\nx\r\n0\r\n\r\n",
        b"1\rx\r\n0\r\n\r\n",
        b"1;a\nb\r\nx\r\n0\r\n\r\n",
        b"1;a\rb\r\nx\r\n0\r\n\r\n",
        b"1;a\x00\r\nx\r\n0\r\n\r\n",
        b"1_0\r\nx\r\n0\r\n\r\n",
        b"FFFFFFFFFFFFFFFFF\r\nx",
        b"1" + b"0" * 16 + b"\r\nx",
        b"0\r\nX-A: b\nX-B: c\r\n\r\n",
        b"0\r\nX A: b\r\n\r\n",
        b"0\r\nX-A : b\r\n\r\n",
        b"0\r\nX-A: b\r\n c\r\n\r\n",
        b"0\r\nX-A: \x00\r\n\r\n",
        b"0\r\nX-A\r\n\r\n",
    ],
)
def test_ambiguous_chunked_bodies_are_refused(message: bytes) -> None:
    with pytest.raises(BadRequest):
        decode([message])
    with pytest.raises(BadRequest):
        decode([bytes([byte]) for byte in message])


def test_bytes_after_the_end_are_not_touched() -> None:
    body = ChunkedBody()
    assert body.feed(b"1\r\nx\r\n0\r\n\r\n" + b"\x00garbage\r\n\r\n") == 11
    assert body.complete and body.pop_data() == b"x"


def test_trailers_are_read_and_thrown_away() -> None:
    coded = b"1\r\nx\r\n0\r\nX-Sum: abc\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert decode([coded + NEXT_REQUEST]) == (b"x", len(coded), True)


@pytest.mark.parametrize("field", [b"Content-Length: 9", b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"])
def test_a_trailer_that_speaks_of_framing_is_refused(field: bytes) -> None:
    with pytest.raises(BadRequest):
        decode([b"1\r\nx\r\n0\r\n" + field + b"\r\n\r\n"])


@pytest.mark.parametrize("size", [1, 10, 1000, 70_000])
def test_extensions_are_bounded_however_they_come(size: int) -> None:
    coded = b"1;" + b"e" * (SPARE_BYTES + 3 * BYTES_PER_CHUNK) + b"\r\nx\r\n0\r\n\r\n"
    with pytest.raises(BadRequest, match="extensions or trailers"):
        decode([coded[at : at + size] for at in range(0, len(coded), size)])


@pytest.mark.parametrize("size", [1, 10, 1000, 70_000])
def test_trailers_are_bounded_however_they_come(size: int) -> None:
    coded = b"1\r\nx\r\n0\r\n" + b"X-A: b\r\n" * 1100 + b"\r\n"
    with pytest.raises(BadRequest, match="extensions or trailers"):
        decode([coded[at : at + size] for at in range(0, len(coded), size)])


def test_many_extensions_that_are_small_each_are_bounded_together() -> None:
    coded = (b"1;" + b"e" * 2 * BYTES_PER_CHUNK + b"\r\nx\r\n") * 1000
    with pytest.raises(BadRequest, match="extensions or trailers"):
        decode([coded])


def test_a_body_in_chunks_of_one_byte_is_not_too_large_beside_its_data() -> None:
    data, _, complete = decode([b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n"])
    assert complete and len(data) == 20_000


@given(st.lists(st.binary(max_size=50)))
def test_an_encoded_body_is_decoded_to_the_same(pieces: list[bytes]) -> None:
    message = b"".join(map(chunk, pieces)) + LAST_CHUNK
    assert decode([message]) == (b"".join(pieces), len(message), True)


def test_no_data_makes_no_chunk_since_that_would_be_the_end() -> None:
    assert chunk(b"") == b""
    assert chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"


def test_nothing_is_taken_twice() -> None:
    body = ChunkedBody()
    body.feed(b"3\r\nabc\r\n2\r\nde")
    assert body.pop_data() == b"abcde" and body.pop_data() == b""
    body.feed(b"\r\n0\r\n\r\n")
    assert body.pop_data() == b"" and body.complete and body.received == 5
