"""Frames: encoded frames decode again in any pieces; anything else is refused."""

import math
import struct
from collections.abc import Iterable

import msgspec
import pytest

from cluster.framing import FrameReader, LinkError
from router.core.slot_messages import (
    Ask,
    Declare,
    Failed,
    Forget,
    Holding,
    PeerMessage,
    Ping,
    Pong,
    Recall,
    Return,
    SlotGranted,
)
from router.peers import frames as messages
from router.peers.frames import (
    MAJOR,
    MAX_FRAME_BYTES,
    MAX_GREETING_BYTES,
    MINOR,
    Batch,
    Frame,
    Hello,
    decode,
    encode,
)
from serving.endpoint import VersionKey

KEY = VersionKey("iris", "blue")
HELLO = Hello(MAJOR, MINOR, "a", "b", 7 << 32)
EVERY_KIND: tuple[PeerMessage, ...] = (
    Ask(KEY, 1, 0.25, True),
    Forget((1, 2)),
    SlotGranted(KEY, 1, 2**64 - 1, "r1", "127.0.0.1", 65535, None),
    SlotGranted(KEY, 2, 5, "r1", "fd00::1", 1, 0.5),
    Return((5,)),
    Failed(KEY, "r1", "connect"),
    Recall(KEY, "", 0.125),
    Declare(3, (Holding(KEY, ((5, "r1"),), (Ask(KEY, 9, 0.0),)),)),
    Ping(1),
    Pong(1),
)


def read(data: bytes | bytearray, pieces: int = 1) -> list[Frame]:
    reader = FrameReader(decode, MAX_GREETING_BYTES)
    reader.max_bytes = MAX_FRAME_BYTES
    size = -(-len(data) // pieces)
    return [frame for at in range(0, len(data), size) for frame in reader.feed(bytes(data[at : at + size]))]


def framed(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def raw(*items: object) -> bytes:
    return framed(msgspec.msgpack.encode(items))


def test_every_kind_of_message_is_known() -> None:
    assert {type(message) for message in EVERY_KIND} == set(PeerMessage.__args__)


@pytest.mark.parametrize("pieces", [1, 2, 3, 50, 10_000])
def test_frames_arrive_as_they_were_sent_however_they_are_cut(pieces: int) -> None:
    frames: list[Frame] = [HELLO, Batch(7, 1, EVERY_KIND), Batch(7, 2, ()), Batch(7, 3, EVERY_KIND[:2])]
    assert read(b"".join(map(encode, frames)), pieces) == frames


def test_a_frame_that_is_not_complete_is_waited_for() -> None:
    assert read(encode(HELLO)[:-1]) == []


def test_an_ask_costs_few_bytes() -> None:
    assert len(encode(Batch(2**64 - 1, 1, (EVERY_KIND[0],)))) < 60


NOT_FRAMES = {
    "nothing": b"",
    "no msgpack": b"\xc1",
    "a map": msgspec.msgpack.encode({"type": 1}),
    "an unknown kind of frame": msgspec.msgpack.encode((3, 1, 1, ())),
    "an unknown kind of message": msgspec.msgpack.encode((2, 1, 1, (("Gossip", 1),))),
    "a field too few": msgspec.msgpack.encode((2, 1, 1)),
    "a wrong type": msgspec.msgpack.encode((2, 1, 1, (("Ping", "one"),))),
    "text that is not UTF-8": msgspec.msgpack.encode((1, 1, 0, b"?", "b", 1)).replace(b"\xc4\x01?", b"\xa1\xff"),
    "something behind": msgspec.msgpack.encode((2, 1, 1, ())) + b"\xc0",
    "nesting without end": b"\x95\x02\x01\x01\x90" + b"\x91" * 100_000,
    "a length that promises four billion items": b"\x94\x02\x01\x01\xdd\xff\xff\xff\xff",
    "an age that is no number": msgspec.msgpack.encode(Batch(1, 1, (Ask(KEY, 1, math.nan),))),
    "an infinite age of others": msgspec.msgpack.encode(Batch(1, 1, (Recall(KEY, "", math.inf),))),
    "an age that is no number, declared": msgspec.msgpack.encode(
        Batch(1, 1, (Declare(1, (Holding(KEY, (), (Ask(KEY, 1, math.nan),)),)),))
    ),
    "a port that is none": msgspec.msgpack.encode(Batch(1, 1, (SlotGranted(KEY, 1, 1, "r", "h", 65536, None),))),
}


@pytest.mark.parametrize("body", NOT_FRAMES.values(), ids=NOT_FRAMES)
def test_invalid_frames_are_refused_with_one_class_of_error(body: bytes) -> None:
    with pytest.raises(LinkError):
        read(framed(body))


def test_frames_before_one_that_is_refused_have_arrived() -> None:
    reader = FrameReader(decode, MAX_GREETING_BYTES)
    frames = reader.feed(bytes(encode(HELLO)) + framed(b"\xc1"))
    assert next(frames) == HELLO
    with pytest.raises(LinkError):
        next(frames)


def test_fields_that_a_newer_minor_appends_are_ignored() -> None:
    assert read(raw(1, MAJOR, MINOR + 1, "a", "b", 5, "new", [1])) == [Hello(MAJOR, MINOR + 1, "a", "b", 5)]
    assert read(raw(2, 5, 1, (("Ping", 4, "new"), ("Return", (1,), {"new": 1})), "new")) == [
        Batch(5, 1, (Ping(4), Return((1,))))
    ]


def test_a_hello_of_another_major_can_still_be_read() -> None:
    assert read(raw(1, MAJOR + 1, 0, "a", "b", 5, *range(10))) == [Hello(MAJOR + 1, 0, "a", "b", 5)]


def test_a_frame_over_the_limit_is_refused_by_its_length_alone() -> None:
    with pytest.raises(LinkError, match=str(MAX_FRAME_BYTES)):
        read(struct.pack(">I", MAX_FRAME_BYTES + 1))


def test_an_unauthenticated_peer_may_send_little() -> None:
    reader = FrameReader(decode, MAX_GREETING_BYTES)
    with pytest.raises(LinkError, match=str(MAX_GREETING_BYTES)):
        exhaust(reader.feed(struct.pack(">I", MAX_GREETING_BYTES + 1)))


def test_the_limit_is_lifted_between_two_frames_of_one_piece() -> None:
    long = Batch(7, 1, (Forget(tuple(range(MAX_GREETING_BYTES))),))
    reader = FrameReader(decode, MAX_GREETING_BYTES)
    frames = reader.feed(bytes(encode(HELLO) + encode(long)))
    assert next(frames) == HELLO
    reader.max_bytes = MAX_FRAME_BYTES
    assert next(frames) == long


def test_a_frame_over_the_limit_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "MAX_FRAME_BYTES", 100)
    with pytest.raises(LinkError, match="at most 100"):
        encode(Batch(7, 1, (Forget(tuple(range(200))),)))


def exhaust(frames: Iterable[Frame]) -> None:
    for _ in frames:
        pass
