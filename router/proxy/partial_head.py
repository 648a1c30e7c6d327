"""Heads that arrive in pieces: each byte is scanned once, even if the pieces are single bytes. Pure.

A head is refused at its first wrong byte, with the same error as in one read.
"""

from router.core.router_errors import BadRequest, HeadersTooLarge, ReplicaFailed, RouterError, UriTooLong
from router.proxy.head_parsing import has_stray_octets
from router.proxy.request_head import REQUEST_LINE, is_request_line
from router.proxy.response_head import STATUS_LINE
from router.settings import RouterSettings

_PLAIN = bytes(octet for octet in range(256) if (octet >= 0x20 and octet != 0x7F) or octet == 0x09)
LINE_SPARE_BYTES = 128
"""Allowance for the rest of an incomplete request line beside its target."""
STRAY_OCTETS = "control characters, bare CR or LF"
RESPONSE_TOO_LARGE = "the head of the response is too large"


class PartialHead:
    """The bytes of an incomplete head and the scan position."""

    __slots__ = ("_checked", "_searched", "buffer", "room")

    def __init__(self, data: bytes | bytearray) -> None:
        self.buffer = data if type(data) is bytearray else bytearray(data)
        """All received bytes, including those after the head."""
        self.room = 0
        """Bytes that may be added without a line end before `find_end` must run."""
        self._checked = 0
        """Bytes known to hold no control character and no stray CR or LF."""
        self._searched = 0
        """Start of the next search for the empty line."""

    def extend(self, data: bytes) -> bool:
        """Append bytes; True if `find_end` need not run: they neither complete nor invalidate the head."""
        self.buffer += data
        self.room -= len(data)
        if self.room < 0:
            return False
        if data in _PLAIN:  # usually one octet: the fastest test
            return True
        if data == b"\r":
            self.room = 0  # the next byte must be checked
            return True
        return not data.translate(None, _PLAIN)

    def find_end(self) -> int:
        """Size of the head if complete, else 0. Raises RouterError at the first fault."""
        buffer = self.buffer
        if not self._searched:
            self._skip_empty_line()
        found = buffer.find(b"\r\n\r\n", self._searched)
        if found >= 0:
            self._judge(found + 4, complete=True)
            return found + 4
        size = len(buffer)
        limit = self._judge(size, complete=False)
        self._searched = size - 3 if size > 3 else 0
        self.room = 0 if buffer.endswith(b"\r") else limit - size
        return 0

    def _skip_empty_line(self) -> None:
        """Hook before the first byte of a head."""

    def _judge(self, size: int, complete: bool) -> int:
        """Size at which the head must be checked again. Raises RouterError at its first fault.

        `size`: number of bytes that belong to this head. `complete`: it is complete and will be parsed next.
        """
        raise NotImplementedError

    def _is_clean(self, stop: int) -> bool:
        """True if no control character and no stray CR or LF precedes `stop`; a final CR may still get its LF."""
        part = self.buffer[self._checked : stop]
        if part.endswith(b"\r"):
            del part[-1:]
        self._checked += len(part)
        return part == b"\r\n" or not has_stray_octets(part)


class PartialRequestHead(PartialHead):
    """A partial request head. One empty line before it is skipped (RFC 9112 section 2.2), a second one is refused."""

    __slots__ = ("_has_line", "_max_bytes", "_max_line_bytes", "_skipped", "charged_bytes")

    def __init__(self, data: bytes | bytearray, settings: RouterSettings) -> None:
        super().__init__(data)
        self.charged_bytes = 0
        """Bytes charged to the HeadBudget of the worker."""
        self._max_bytes = settings.max_head_bytes
        self._max_line_bytes = settings.max_target_bytes + LINE_SPARE_BYTES
        self._has_line = False
        self._skipped = False

    def _skip_empty_line(self) -> None:
        buffer = self.buffer
        while buffer.startswith(b"\r\n"):
            if self._skipped:
                raise BadRequest("more than one empty line before the request line")
            self._skipped = True
            self._checked = 0
            del buffer[:2]

    def _judge(self, size: int, complete: bool) -> int:
        stop = size
        fault: type[RouterError] | None = None
        if size > self._max_bytes:
            stop, fault = self._max_bytes, HeadersTooLarge
        line_end = -1
        if not self._has_line:
            line_end = self.buffer.find(b"\r\n", self._searched, min(size, self._max_line_bytes + 1))
            self._has_line = line_end >= 0
            if not self._has_line and size > self._max_line_bytes <= stop:
                stop, fault = self._max_line_bytes, UriTooLong
        if complete and fault is None:
            return size
        if not self._is_clean(stop):
            raise BadRequest(STRAY_OCTETS)
        if 0 <= line_end <= stop - 2 and not is_request_line(self.buffer):
            raise BadRequest(REQUEST_LINE)
        if fault is not None:
            raise fault
        return self._max_bytes if self._has_line else min(self._max_bytes, self._max_line_bytes)


class PartialResponseHead(PartialHead):
    """A partial response head of a replica."""

    __slots__ = ("_max_bytes",)

    def __init__(self, data: bytes | bytearray, settings: RouterSettings) -> None:
        super().__init__(data)
        self._max_bytes = settings.max_response_head_bytes

    def _judge(self, size: int, complete: bool) -> int:
        too_large = size > self._max_bytes
        if complete and not too_large:
            return size
        fault = response_fault(self.buffer, self._is_clean(min(size, self._max_bytes)), too_large)
        if fault is not None:
            raise fault
        return self._max_bytes


def response_fault(raw: bytes | bytearray, clean: bool, too_large: bool) -> RouterError | None:
    """The error of bytes that cannot be or begin a response head; None if they can.

    `clean`: no stray octets. `too_large`: above the limit.
    """
    if not b"HTTP/1.".startswith(raw[:7]):
        return ReplicaFailed(STATUS_LINE)
    if not clean:
        return ReplicaFailed(STRAY_OCTETS)
    return ReplicaFailed(RESPONSE_TOO_LARGE) if too_large else None
