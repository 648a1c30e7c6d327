"""Limits of a lingering close: input that is read and discarded after the final response. Pure.

An immediate close would reset the connection of a client that is still sending, and destroy the response (RFC 9112
section 9.6). Many clients read the response only after their whole body.
"""

LINGER_S = 2.0
"""Longest pause of the input, and longest lingering without a declared body."""
LINGER_BODY_S = 60.0
"""Longest lingering for the rest of a declared body."""
LINGER_BYTES = 1_000_000
"""Input discarded beyond the declared body."""


class Lingering:
    """One lingering close."""

    __slots__ = ("_ends_at", "_left_bytes", "_read_bytes", "_unread_body_bytes")

    def __init__(self, unread_body_bytes: int, now: float) -> None:
        """`unread_body_bytes`: rest of the declared body, 0 if there is none. `now`: monotonic seconds."""
        self._unread_body_bytes = unread_body_bytes
        self._read_bytes = 0
        self._left_bytes = unread_body_bytes + LINGER_BYTES
        self._ends_at = now + (LINGER_BODY_S if unread_body_bytes else LINGER_S)

    @property
    def body_read(self) -> bool:
        """True once the declared body has been read."""
        return self._read_bytes >= self._unread_body_bytes

    def deadline(self, now: float) -> float:
        """End of the lingering if nothing more comes."""
        return min(now + LINGER_S, self._ends_at)

    def discard(self, size_bytes: int) -> bool:
        """Discard input; False if it is more than the limit."""
        self._read_bytes += size_bytes
        return self._read_bytes <= self._left_bytes
