"""Lines out of a stream of bytes: bounded, and never half a line for a whole one. Pure."""

from dataclasses import dataclass, field

MAX_LINE_BYTES = 8 * 1024 * 1024
"""An object in the API is at most 1.5 MiB large in etcd by default; its JSON may be some times that."""


class LineTooLong(ValueError):
    """A line has more bytes than it may have."""


class LineCutShort(ValueError):
    """The stream ended within a line; `rest` is the incomplete line."""

    def __init__(self, rest: bytes) -> None:
        super().__init__(f"the stream ended within a line, after {len(rest)} bytes of it")
        self.rest = rest


@dataclass(slots=True)
class LineSplitter:
    """Splits a stream at line feeds. Empty lines, which carry nothing in watches and logs, are left out."""

    max_line_bytes: int = MAX_LINE_BYTES
    _pieces: list[bytes] = field(default_factory=list)  # joined only once: a line may come in thousands of pieces
    _held_bytes: int = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their line feeds. Raises LineTooLong."""
        *whole, rest = data.split(b"\n")
        if whole and self._pieces:
            whole[0] = b"".join((*self._pieces, whole[0]))
            self._pieces, self._held_bytes = [], 0
        if rest:
            self._pieces.append(rest)
            self._held_bytes += len(rest)
        if self._held_bytes > self.max_line_bytes or any(len(line) > self.max_line_bytes for line in whole):
            raise LineTooLong(f"a line has more than {self.max_line_bytes} bytes")
        return [line for line in whole if line]

    def end(self) -> None:
        """The stream has ended. Raises LineCutShort if that was within a line."""
        if self._pieces:
            raise LineCutShort(b"".join(self._pieces))
