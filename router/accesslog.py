"""The access log: one JSON line a request, written in batches, never blocking, without credentials or queries."""

import json
import os
from collections import deque
from enum import StrEnum

MAX_PENDING = 10_000
FLUSH_AT = 100
"""Lines that are written without waiting for the next flush."""
SAMPLE_ONE_IN = 100
ATOMIC_BYTES = 4096
"""PIPE_BUF of Linux: what a pipe takes whole or not at all, so that lines of several workers never mix."""


class AccessLogMode(StrEnum):
    """Which requests are logged."""

    OFF = "off"
    ERRORS = "errors"
    SAMPLED = "sampled"
    ALL = "all"


class AccessLog:
    """Collects lines for a non-blocking file descriptor; what does not fit is dropped and counted."""

    def __init__(self, mode: AccessLogMode, fd: int) -> None:
        self.mode = mode
        self.dropped = 0
        self._fd = fd
        # Comparing numbers takes half the time of comparing members of an enumeration; this is asked of each request.
        self._always_from = {AccessLogMode.OFF: 1000, AccessLogMode.ALL: 0}.get(mode, 400)
        self._samples = mode is AccessLogMode.SAMPLED
        self._seen = 0
        self._lines: deque[bytes] = deque()

    def wants(self, status: int) -> bool:
        """Whether a request that ended with this status is logged."""
        if status >= self._always_from:
            return True
        if not self._samples:
            return False
        self._seen += 1
        return self._seen % SAMPLE_ONE_IN == 0

    def add(self, record: dict[str, object]) -> None:
        """Take one record."""
        if len(self._lines) >= MAX_PENDING:
            self.dropped += 1
            return
        self._lines.append(json.dumps(record).encode() + b"\n")
        if len(self._lines) >= FLUSH_AT:
            self.flush()

    def flush(self) -> None:
        """Write what fits. Called from time to time; returns at once when the reader is slow or gone."""
        while self._lines:
            batch = self._next_batch()
            try:
                written = os.write(self._fd, batch)
            except BlockingIOError:
                written = 0
            except OSError:
                self.dropped += batch.count(b"\n") + len(self._lines)
                self._lines.clear()
                return
            if written < len(batch):
                self._lines.extendleft(reversed(batch[written:].splitlines(keepends=True)))
                return

    def _next_batch(self) -> bytes:
        """As many whole lines as are written at once."""
        lines = self._lines
        batch = [lines.popleft()]
        size = len(batch[0])
        while lines and (size := size + len(lines[0])) <= ATOMIC_BYTES:
            batch.append(lines.popleft())
        return b"".join(batch)
