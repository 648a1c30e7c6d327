"""Messages on the payloads of requests, from a router worker to the collector. Pure.

A body beyond `HELD_BYTES` travels in pieces before the message of its request, so that neither the worker nor the ring
holds whole bodies.
"""

import struct
import zlib
from dataclasses import dataclass
from typing import Final

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

_exchange = struct.Struct("<ddHIIIIHHHHHH")
_piece = struct.Struct("<BQ36s")
REQUEST, RESPONSE = 0, 1
pack_exchange = _exchange.pack
"""Head of a message of kind EXCHANGE: unix seconds of the beginning, duration in seconds, status, longest body in a
record, sizes of the two bodies, bits of those that went in pieces, lengths of endpoint, version, method, path and both
content types. The request id, these six, and the bodies that did not go in pieces follow."""


@dataclass(frozen=True, slots=True)
class CapturedBody:
    """A body as captured."""

    content_type: str
    data: bytes
    """All of it, unless `in_pieces`."""
    size_bytes: int
    in_pieces: bool = False


@dataclass(frozen=True, slots=True)
class CapturedExchange:
    """A request of a version and its response."""

    endpoint: str
    version: str
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


@dataclass(frozen=True, slots=True)
class BodyPiece:
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


def decode_exchange(message: bytes) -> CapturedExchange:
    """The content of a message of kind EXCHANGE. Raises ValueError."""
    try:
        fields = _exchange.unpack_from(message)
    except struct.error as error:
        raise ValueError(str(error)) from error
    began, duration_s, status, most, request_bytes, response_bytes, pieces, *lengths = fields
    texts, at = [], _exchange.size
    for length in (36, *lengths):
        texts.append(message[at : at + length].decode("latin-1"))
        at += length
    request_id, endpoint, version, method, path, request_type, response_type = texts
    between = at if pieces & 1 else at + request_bytes
    end = between if pieces & 2 else between + response_bytes
    if end != len(message):
        raise ValueError(f"a message of {len(message)} bytes should have {end}")
    return CapturedExchange(
        endpoint=endpoint,
        version=version,
        request_id=request_id,
        began=began,
        duration_s=duration_s,
        status=status,
        method=method,
        path=path,
        max_body_bytes=most,
        request=CapturedBody(request_type, message[at:between], request_bytes, bool(pieces & 1)),
        response=CapturedBody(response_type, message[between:end], response_bytes, bool(pieces & 2)),
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
