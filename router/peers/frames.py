"""What goes over a link: frames of messages as bytes, and back. Pure.

A frame is a 4-byte big-endian length and a msgpack body (msgspec, structs as arrays): a `Hello`, or a `Batch` of what
was said in one tick of the sender's loop.

Versions. A peer of another MAJOR is refused at its Hello, whose first fields never change. A higher MINOR may append
fields to a message; who does not know them ignores them. It may not send a kind of message that the Hello of the other
side is too old for: an unknown kind is malformed.
"""

import math
import struct
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from router.core.slot_messages import Ask, Declare, PeerMessage, Recall, SlotGranted

MAJOR, MINOR = 1, 0
MAX_FRAME_BYTES = 64 * 1024 * 1024
"""A Declare of a million leases fits."""
MAX_GREETING_BYTES = 4096
"""The limit until a session is open: who has not proved to be a peer costs no memory."""
_LENGTH = struct.Struct(">I")


class FrameError(Exception):
    """Bytes that are no frame, or a frame that must not be sent; the text says why."""


class Hello(msgspec.Struct, tag=1, frozen=True, array_like=True):
    """First on a link, from either end."""

    major: int
    minor: int
    name: str
    """Of the sender."""
    to: str
    """Whom it believes to talk to."""
    session: int
    """64 bits: drawn by the end that connects (high 32) and by the one that answers (low 32; 0 before)."""


class Batch(msgspec.Struct, tag=2, frozen=True, array_like=True):
    """Messages, in order."""

    session: int
    number: int
    """1, 2, 3 … in each direction of a session."""
    messages: tuple[PeerMessage, ...]


Frame = Hello | Batch

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Frame)


def encode(frame: Frame) -> bytearray:
    """The bytes of one frame. Raises FrameError where it would be over the limit."""
    data = bytearray(_LENGTH.size)
    _encoder.encode_into(frame, data, _LENGTH.size)
    size = len(data) - _LENGTH.size
    if size > MAX_FRAME_BYTES:
        raise FrameError(f"a frame of {size} bytes, at most {MAX_FRAME_BYTES}")
    _LENGTH.pack_into(data, 0, size)
    return data


def decode(body: bytes | memoryview) -> Frame:
    """The frame of a body (without its length). Raises FrameError."""
    try:
        frame: Frame = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"not a frame: {error}") from error
    if type(frame) is Batch:
        for message in frame.messages:
            sound = _SOUND.get(type(message))
            if sound is not None and not sound(message):
                raise FrameError(f"not a frame: {type(message).__name__} with a number out of its range")
    return frame


class PeerFrameReader:
    """Bytes in, frames out. After a FrameError it is of no use."""

    __slots__ = ("_buffer", "max_bytes")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.max_bytes = MAX_GREETING_BYTES
        """The largest body that is taken, from the next frame on."""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield every frame that is complete. Raises FrameError; the frames before have been yielded then."""
        buffer = self._buffer
        buffer += data
        start, end = 0, self._end(0)
        while end:
            with memoryview(buffer) as whole, whole[start + _LENGTH.size : end] as body:
                frame = decode(body)
            yield frame
            start, end = end, self._end(end)
        del buffer[:start]

    def _end(self, start: int) -> int:
        """Where the frame that begins at `start` ends; 0 while it is not complete."""
        buffer = self._buffer
        if len(buffer) - start < _LENGTH.size:
            return 0
        (size,) = _LENGTH.unpack_from(buffer, start)
        if size > self.max_bytes:
            raise FrameError(f"a frame of {size} bytes, at most {self.max_bytes}")
        end: int = start + _LENGTH.size + size
        return end if end <= len(buffer) else 0


# ---- what types do not say: a NaN among ages would leave a queue without an order, a wrong port would raise at its use


def _is_age(age_s: float | None) -> bool:
    return age_s is None or math.isfinite(age_s)


_SOUND: dict[type, Callable[[Any], bool]] = {
    Ask: lambda ask: math.isfinite(ask.age_s),
    SlotGranted: lambda grant: 0 < grant.port < 65536 and _is_age(grant.others_age_s),
    Recall: lambda recall: _is_age(recall.others_age_s),
    Declare: lambda declare: all(_is_age(ask.age_s) for holding in declare.holdings for ask in holding.asks),
}
