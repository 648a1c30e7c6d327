"""A batch of collected data: lines by file, and bodies with files of their own. Pure."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePath

from serving.endpoint import VersionKey
from telemetry.payload_records import RecordPlace


@dataclass(frozen=True, slots=True)
class TablePlace:
    """The file of rows in the layout of v1."""

    folder: str
    header: bytes
    """First line of the file."""


@dataclass(slots=True)
class PayloadBatch:
    """Data that is written, or dropped, together."""

    lines: dict[RecordPlace | TablePlace, bytearray] = field(default_factory=dict)
    bodies: dict[str, bytes | PurePath] = field(default_factory=dict)
    """Name in the store -> content, or a file of this machine."""
    spooled: list[PurePath] = field(default_factory=list)
    """Files of this machine that are removed once the batch is written."""
    payloads: Counter[VersionKey] = field(default_factory=Counter)
    """Requests, and data of scripts, in the batch."""
    damaged: Counter[VersionKey] = field(default_factory=Counter)
    """Requests that cannot be written."""
    size_bytes: int = 0

    def add_line(self, place: RecordPlace | TablePlace, line: bytes) -> None:
        """Add a line with its end."""
        lines = self.lines.get(place)
        if lines is None:
            lines = self.lines[place] = bytearray()
        lines += line
        self.size_bytes += len(line)

    def add_body(self, name: str, content: bytes | PurePath) -> None:
        """Add a body with a file of its own. `name`: in the store. `content`: bytes, or a file of this machine."""
        self.bodies[name] = content
        self.size_bytes += len(content) if isinstance(content, bytes) else 0

    @property
    def is_empty(self) -> bool:
        """True if nothing was added."""
        return not self.payloads and not self.damaged
