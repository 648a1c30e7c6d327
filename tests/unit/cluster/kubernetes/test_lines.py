"""Lines out of a stream: whole ones only, however the bytes come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.kubernetes.client.lines import LineCutShort, LineSplitter, LineTooLong

LINES = st.lists(st.binary(min_size=1).filter(lambda data: b"\n" not in data))


@given(LINES, st.data())
def test_lines_come_out_as_they_went_in_wherever_the_stream_is_cut_into_pieces(
    lines: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)))))
    splitter = LineSplitter()
    found = [line for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) for line in splitter.feed(stream[a:b])]
    splitter.end()
    assert found == lines


@given(st.binary(min_size=1).filter(lambda data: not data.endswith(b"\n")))
def test_a_stream_that_ends_within_a_line_is_an_error_that_holds_the_rest(stream: bytes) -> None:
    splitter = LineSplitter()
    splitter.feed(stream)
    with pytest.raises(LineCutShort) as caught:
        splitter.end()
    assert caught.value.rest == stream.rpartition(b"\n")[2]


def test_empty_lines_say_nothing() -> None:
    assert LineSplitter().feed(b"\n\na\n\nb\n\n") == [b"a", b"b"]


@pytest.mark.parametrize("pieces", [[b"x" * 11], [b"xxxxx"] * 3, [b"a\n" + b"x" * 11 + b"\n"]])
def test_a_line_that_is_too_long_is_an_error_before_its_end_is_seen(pieces: list[bytes]) -> None:
    splitter = LineSplitter(max_line_bytes=10)
    for piece in pieces[:-1]:
        splitter.feed(piece)
    with pytest.raises(LineTooLong):
        splitter.feed(pieces[-1])


def test_a_long_line_in_many_pieces_is_joined_once() -> None:
    splitter = LineSplitter()
    for _ in range(100_000):
        assert splitter.feed(b"x" * 10) == []
    assert splitter.feed(b"\n") == [b"x" * 1_000_000]
