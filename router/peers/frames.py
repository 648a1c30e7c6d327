"""Frames of a link: encoding and decoding. Pure.

A frame is a 4-byte big-endian length and a msgpack body (msgspec, structs as arrays): a `Hello`, or a `Batch` of the
messages of one tick of the sender's loop.

Versions. A peer of another MAJOR is refused at its Hello; the first fields of Hello never change. A higher MINOR may
append fields to a message; older peers ignore them. It must not send a message type unknown to the MINOR of the other
side: an unknown type is malformed.
"""

import math
from collections.abc import Callable
from typing import Any

import msgspec

from cluster.framing import LinkError, body_decoder, encode_frame
from router.core.slot_messages import Ask, Declare, PeerMessage, Recall, SlotGranted

MAJOR, MINOR = 1, 0
MAX_FRAME_BYTES = 64 * 1024 * 1024
"""A Declare of a million leases fits."""
MAX_GREETING_BYTES = 4096
"""Limit until the session is open, so that an unauthenticated peer costs no memory."""


class Hello(msgspec.Struct, tag=1, frozen=True, array_like=True):
    """First frame on a link, in both directions."""

    major: int
    minor: int
    name: str
    """Name of the sender."""
    to: str
    """Expected name of the receiver."""
    session: int
    """64 random bits: high 32 from the connecting end, low 32 from the answering end (0 in the first Hello)."""


class Batch(msgspec.Struct, tag=2, frozen=True, array_like=True):
    """Messages in order."""

    session: int
    number: int
    """1, 2, 3 … in each direction of a session."""
    messages: tuple[PeerMessage, ...]


Frame = Hello | Batch

_decode: Callable[[bytes | memoryview], Frame] = body_decoder(Frame)


def encode(frame: Frame) -> bytes:
    """`frame` as bytes. Raises LinkError above MAX_FRAME_BYTES."""
    return encode_frame(frame, MAX_FRAME_BYTES)


def decode(body: bytes | memoryview) -> Frame:
    """The frame in a body (without its length). Raises LinkError."""
    frame = _decode(body)
    if type(frame) is Batch:
        for message in frame.messages:
            sound = _SOUND.get(type(message))
            if sound is not None and not sound(message):
                raise LinkError(f"not a message: {type(message).__name__} with a number out of range")
    return frame


# ---- checks beyond types: a NaN age would break the order of a queue, a wrong port would raise at its use


def _is_age(age_s: float | None) -> bool:
    return age_s is None or math.isfinite(age_s)


_SOUND: dict[type, Callable[[Any], bool]] = {
    Ask: lambda ask: math.isfinite(ask.age_s),
    SlotGranted: lambda grant: 0 < grant.port < 65536 and _is_age(grant.others_age_s),
    Recall: lambda recall: _is_age(recall.others_age_s),
    Declare: lambda declare: all(_is_age(ask.age_s) for holding in declare.holdings for ask in holding.asks),
}
