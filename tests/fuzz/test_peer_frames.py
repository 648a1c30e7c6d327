"""Arbitrary bytes from a peer: frames or LinkError, never anything else; every frame that is read can be written."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from cluster.framing import FrameReader, LinkError
from router.core.slot_messages import PeerMessage
from router.peers.frames import MAJOR, MAX_FRAME_BYTES, Batch, Frame, Hello, decode, encode
from router.peers.session import Answered, Broken, Delivered, Opened, Session
from tests.unit.router.test_frames import EVERY_KIND, HELLO

messages = st.one_of([st.from_type(kind) for kind in PeerMessage.__args__])
frames = st.one_of(
    st.from_type(Hello),
    st.builds(Batch, st.integers(0, 2**64 - 1), st.integers(0, 2**32), st.lists(messages, max_size=4).map(tuple)),
)
STREAM = b"".join(bytes(encode(frame)) for frame in (HELLO, Batch(7, 1, EVERY_KIND), Batch(7, 2, EVERY_KIND[:3])))
edits = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from(("insert", "overwrite", "delete", "cut")), st.binary(max_size=6)),
    min_size=1,
    max_size=4,
)


def read(data: bytes) -> tuple[list[Frame], bool]:
    """The frames, and True if they end in an error."""
    reader = FrameReader(decode, MAX_FRAME_BYTES)
    found: list[Frame] = []
    try:
        for frame in reader.feed(data):
            found.append(frame)
    except LinkError:
        return found, True
    return found, False


def edited(data: bytes, changes: list[tuple[float, str, bytes]]) -> bytes:
    for place, kind, fragment in changes:
        at = int(place * len(data))
        match kind:
            case "insert":
                data = data[:at] + fragment + data[at:]
            case "overwrite":
                data = data[:at] + fragment + data[at + len(fragment) :]
            case "delete":
                data = data[:at] + data[at + len(fragment) :]
            case _:
                data = data[:at]
    return data


def check(data: bytes) -> None:
    found, _ = read(data)
    for frame in found:
        assert read(bytes(encode(frame))) == ([frame], False)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_frames_or_refused(data: bytes) -> None:
    check(data)


@given(st.binary(max_size=200))
def test_an_arbitrary_body_is_a_frame_or_refused(body: bytes) -> None:
    check(struct.pack(">I", len(body)) + body)


@given(edits)
def test_a_stream_that_was_tampered_with_gives_frames_or_is_refused(changes: list[tuple[float, str, bytes]]) -> None:
    check(edited(STREAM, changes))


@given(edits, st.integers(0, len(STREAM) - 4))
def test_a_body_that_was_tampered_with_under_a_right_length_gives_frames_or_is_refused(
    changes: list[tuple[float, str, bytes]], at: int
) -> None:
    body = edited(bytes(encode(Batch(7, 1, EVERY_KIND)))[4:], changes)
    check(struct.pack(">I", len(body)) + body)


@given(st.integers(0, len(STREAM)))
def test_a_stream_that_ends_early_gives_the_frames_before_and_no_error(size: int) -> None:
    found, refused = read(STREAM[:size])
    assert not refused
    assert found == read(STREAM)[0][: len(found)]


@given(frames)
def test_any_frame_that_can_be_made_is_read_as_it_was_or_refused_for_its_numbers(frame: Frame) -> None:
    try:
        data = encode(frame)
    except (OverflowError, UnicodeEncodeError):
        return  # beyond 64 bits, or no text: the core makes neither
    found, refused = read(bytes(data))
    assert refused or found == [frame]


@given(st.lists(frames | st.just(Hello(MAJOR, 0, "a", "b", 1 << 32)), max_size=6), st.booleans())
def test_for_any_frames_a_session_answers_with_a_step(frames: list[Frame], connects: bool) -> None:
    session = Session("b", "a" if connects else "", 5)
    for frame in frames:
        assert isinstance(session.receive(frame), Answered | Opened | Delivered | Broken | None)
