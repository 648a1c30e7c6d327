"""Messages between a group and the authority: a line of JSON each. Pure."""

import msgspec

from router.core.view import View
from router.membership.agreement import MembershipPart


class Here(msgspec.Struct, tag=True, frozen=True):
    """A group: that is me. First of all."""

    group: str


class Say(msgspec.Struct, tag=True, frozen=True):
    """A group: that is my part now."""

    part: MembershipPart


class Count(msgspec.Struct, tag=True, frozen=True):
    """A group, on request: sum over its workers."""

    busy: int
    total: int
    waiting: int
    violations: int
    double_returns: int


class SetView(msgspec.Struct, tag=True, frozen=True):
    """The authority: the members from now on."""

    view: View


class HowMany(msgspec.Struct, tag=True, frozen=True):
    """The authority: answer with `Count`."""


FromGroup = Here | Say | Count
ToGroup = SetView | HowMany

_encoder = msgspec.json.Encoder()
_from_group = msgspec.json.Decoder(FromGroup)
_to_group = msgspec.json.Decoder(ToGroup)


def line(word: FromGroup | ToGroup) -> bytes:
    """With its end."""
    return _encoder.encode(word) + b"\n"


def from_group(text: bytes) -> FromGroup:
    """Raises msgspec.DecodeError."""
    word: FromGroup = _from_group.decode(text)
    return word


def to_group(text: bytes) -> ToGroup:
    """Raises msgspec.DecodeError."""
    word: ToGroup = _to_group.decode(text)
    return word
