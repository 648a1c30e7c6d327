"""Data of scripts between the listener and the collector; bounded."""

import threading
from collections import deque
from dataclasses import dataclass
from typing import Final

from serving.endpoint import VersionKey
from telemetry.payload_batch import TablePlace
from telemetry.payload_records import ScriptPayload

SCRIPT_BYTES: Final = 32 * 1024 * 1024
"""Data of scripts that waits to be written; beyond it is dropped."""


@dataclass(frozen=True, slots=True)
class ScriptTable:
    """Rows that a script has sent in the layout of v1."""

    key: VersionKey
    place: TablePlace
    rows: bytes


class ScriptQueue:
    """Data of scripts on its way from the listener to the collector; bounded."""

    def __init__(self) -> None:
        self._waiting: deque[ScriptPayload | ScriptTable] = deque()
        self._size_bytes = 0
        self._lock = threading.Lock()

    def put(self, data: ScriptPayload | ScriptTable) -> bool:
        """Add; False: there is no room."""
        size_bytes = _script_bytes(data)
        with self._lock:
            if self._size_bytes + size_bytes > SCRIPT_BYTES:
                return False
            self._size_bytes += size_bytes
            self._waiting.append(data)
            return True

    def take(self) -> ScriptPayload | ScriptTable | None:
        """The oldest; None: there is none."""
        with self._lock:
            if not self._waiting:
                return None
            data = self._waiting.popleft()
            self._size_bytes -= _script_bytes(data)
            return data


def _script_bytes(data: ScriptPayload | ScriptTable) -> int:
    return len(data.rows if isinstance(data, ScriptTable) else data.body) + 500
