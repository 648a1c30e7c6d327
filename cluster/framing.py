"""Frames of every link between processes: a 4-byte big-endian length and a msgpack body (msgspec structs). No I/O."""

import struct
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import msgspec

_T = TypeVar("_T")
_LENGTH = struct.Struct(">I")
_encoder = msgspec.msgpack.Encoder()


class LinkError(Exception):
    """A breach of the protocol of a link: bytes that are not a message, a frame over the limit, a wrong order."""


def encode_frame(message: msgspec.Struct, max_bytes: int) -> bytes:
    """`message` as one frame with a body of at most `max_bytes`. Raises LinkError."""
    body = _encoder.encode(message)
    if len(body) > max_bytes:
        raise LinkError(f"a frame of {len(body)} bytes, at most {max_bytes}")
    return _LENGTH.pack(len(body)) + body


def body_decoder(messages: Any) -> Callable[[bytes | memoryview], Any]:
    """A decoder of frame bodies that hold one of `messages`, a union of structs. The decoder raises LinkError."""
    decode = msgspec.msgpack.Decoder(messages).decode

    def decoded(body: bytes | memoryview) -> Any:
        try:
            return decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise LinkError(f"not a message: {error}") from error

    return decoded


class FrameReader(Generic[_T]):
    """Reassembles frames from a byte stream. Unusable after a LinkError."""

    __slots__ = ("_buffer", "_decode", "max_bytes")

    def __init__(self, decode: Callable[[memoryview], _T], max_bytes: int) -> None:
        """`decode`: body to message; must not keep the memoryview. `max_bytes`: limit of a body."""
        self._buffer = bytearray()
        self._decode = decode
        self.max_bytes = max_bytes
        """May be changed; applies from the next frame on."""

    def feed(self, data: bytes) -> Iterator[_T]:
        """Add `data`, yield the messages that are complete. Raises LinkError, after the messages before the fault."""
        buffer = self._buffer
        buffer += data
        start, end = 0, self._end(0)
        while end:
            with memoryview(buffer) as whole, whole[start + _LENGTH.size : end] as body:
                message = self._decode(body)
            yield message
            start, end = end, self._end(end)
        del buffer[:start]

    def _end(self, start: int) -> int:
        """The end of the frame that begins at `start`; 0 while it is incomplete. Raises LinkError."""
        buffer = self._buffer
        if len(buffer) - start < _LENGTH.size:
            return 0
        (size,) = _LENGTH.unpack_from(buffer, start)
        if size > self.max_bytes:
            raise LinkError(f"a frame of {size} bytes, at most {self.max_bytes}")
        end: int = start + _LENGTH.size + size
        return end if end <= len(buffer) else 0
