"""Request ids: a GUID per request, and the sanitized id chosen by the client."""

import re

CLIENT_ID_MAX = 40
_not_allowed = re.compile(rb"[^A-Za-z0-9_-]")
_allowed = bytes(octet for octet in range(128) if not _not_allowed.match(bytes((octet,))))


class RequestIds:
    """GUIDs in the format of RFC 9562: 74 random bits per worker and a 48-bit counter.

    0.2 µs per id, against 1.6 µs for uuid4. Ids are unique, not secret.
    """

    __slots__ = ("_next", "_prefix")

    def __init__(self, entropy: bytes) -> None:
        """`entropy`: 16 random bytes."""
        digits = entropy.hex()
        variant = "89ab"[entropy[8] >> 6]
        self._prefix = f"{digits[0:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-".encode()
        self._next = int.from_bytes(entropy[10:16], "big")

    def next(self) -> bytes:
        """The next id, 36 ASCII characters."""
        self._next = number = (self._next + 1) & 0xFFFFFFFFFFFF
        return b"%b%012x" % (self._prefix, number)


def kept_client_id(value: bytes) -> bytes:
    """The sanitized `x-ms-client-request-id`: letters, digits, `-` and `_`, cut to 40 characters; may be empty."""
    if not value.translate(None, _allowed):
        return value[:CLIENT_ID_MAX]  # most ids: a third of the time of the expression
    return _not_allowed.sub(b"", value)[:CLIENT_ID_MAX]
