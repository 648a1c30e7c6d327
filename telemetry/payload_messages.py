"""Messages on the payloads of requests, from a router worker to the collector. Pure.

A body beyond `HELD_BYTES` travels in pieces before the message of its request, so that neither the worker nor the ring
holds whole bodies.
"""

import struct
import zlib
from collections.abc import Callable
from typing import Final

import msgspec

from serving.endpoint import VersionKey

EXCHANGE: Final = 1
"""Kind of the message of a whole request and its response."""
PIECE: Final = 2
"""Kind of a piece of a body."""
ABANDONED: Final = 3
"""Kind of the end of pieces whose request is dropped."""
ACCESS: Final = 4
"""Kind of an access record, for request records and spans."""
HELD_BYTES: Final = 262_144
"""Bytes of a body held by a worker until the request ends."""

_exchange = struct.Struct("<IIddQQIHHHHB36s")
_unframed = struct.Struct("<ddQQIHHHHB36s")
_piece = struct.Struct("<BQ36s")
REQUEST, RESPONSE = 0, 1
EXCHANGE_BYTES: Final = _unframed.size
"""Bytes of a message of kind EXCHANGE before the texts and bodies."""
pack_exchange = _exchange.pack
"""Beginning of a message of kind EXCHANGE: its frame (bytes after it, kind), unix seconds of the end, duration in
seconds, sizes of the two bodies, longest body in a record, status, index of the version, lengths of the description and
of the content type of the response, bits of the bodies that went in pieces, request id. The description, the content
type, and the bodies that did not go in pieces follow."""


class CapturedBody(msgspec.Struct, frozen=True):
    """A body as captured."""

    content_type: str
    data: bytes
    """All of it, unless `in_pieces`."""
    size_bytes: int
    in_pieces: bool = False


class CapturedExchange(msgspec.Struct, frozen=True):
    """A request of a version and its response."""

    key: VersionKey
    request_id: str
    began: float
    """Unix seconds."""
    duration_s: float
    status: int
    method: str
    path: str
    max_body_bytes: int
    request: CapturedBody
    response: CapturedBody


class BodyPiece(msgspec.Struct, frozen=True):
    """A piece of a body."""

    request_id: str
    side: int
    """REQUEST or RESPONSE."""
    at: int
    """Its place in the body."""
    data: bytes


def is_sampled(request_id: bytes, sampling: float) -> bool:
    """True if a request is in the sample: the same for all who know its id. `sampling`: share, in [0, 1]."""
    return zlib.crc32(request_id) < sampled_below(sampling)


def sampled_below(sampling: float) -> int:
    """Bound of the CRC-32 of the ids in a sample. `sampling`: its share, in [0, 1]."""
    return round(sampling * 0x1_0000_0000)


def describe(method: bytes, path: bytes, content_type: bytes) -> bytes:
    """The description of a request in a message of kind EXCHANGE. `method`, `path`: without blanks."""
    return b"%b %b %b" % (method, path, content_type)


def decode_exchange(message: bytes, version_at: Callable[[int], VersionKey]) -> CapturedExchange:
    """The content of a message of kind EXCHANGE, without its frame. Raises ValueError.

    `version_at`: the version with an index; raises ValueError.
    """
    try:
        fields = _unframed.unpack_from(message)
    except struct.error as error:
        raise ValueError(str(error)) from error
    ended, duration_s, request_bytes, response_bytes, most, status, index, asked, answered, pieces, request_id = fields
    described = EXCHANGE_BYTES + asked
    begun = described + answered
    between = begun if pieces & 1 else begun + request_bytes
    end = between if pieces & 2 else between + response_bytes
    if end != len(message):
        raise ValueError(f"a message of {len(message)} bytes should have {end}")
    method, path, request_type = message[EXCHANGE_BYTES:described].decode("latin-1").split(" ", 2)
    response_type = message[described:begun].decode("latin-1")
    return CapturedExchange(
        version_at(index),
        request_id.decode("latin-1"),
        ended - duration_s,
        duration_s,
        status,
        method,
        path,
        most,
        CapturedBody(request_type if request_bytes else "", message[begun:between], request_bytes, bool(pieces & 1)),
        CapturedBody(response_type, message[between:end], response_bytes, bool(pieces & 2)),
    )


def encode_piece(request_id: bytes, side: int, at: int) -> bytes:
    """The message of a piece without its bytes, which follow. `side`: of the exchange. `at`: place in the body."""
    return _piece.pack(side, at, request_id)


def decode_piece(message: bytes) -> BodyPiece:
    """The content of a message of kind PIECE. Raises ValueError."""
    try:
        side, at, request_id = _piece.unpack_from(message)
    except struct.error as error:
        raise ValueError(str(error)) from error
    return BodyPiece(request_id.decode("latin-1"), side, at, message[_piece.size :])
