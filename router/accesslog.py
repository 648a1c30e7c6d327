"""The access log: one JSON line per request, written in batches without blocking; no credentials, no queries."""

import json
import os
from collections import deque
from enum import StrEnum

MAX_PENDING = 10_000
FLUSH_AT = 100
"""Number of pending lines that triggers a write before the next flush."""
SAMPLE_ONE_IN = 100
ATOMIC_BYTES = 4096
"""PIPE_BUF of Linux: the largest atomic write to a pipe, so that lines of several workers never mix."""


class AccessLogMode(StrEnum):
    """Selection of the requests that are logged."""

    OFF = "off"
    ERRORS = "errors"
    SAMPLED = "sampled"
    ALL = "all"


class AccessLog:
    """Bounded buffer of lines for a non-blocking file descriptor; lines beyond MAX_PENDING are dropped and counted."""

    def __init__(self, mode: AccessLogMode, fd: int) -> None:
        self.mode = mode
        self.dropped = 0
        self._fd = fd
        # Comparing numbers takes half the time of comparing enum members; `includes` runs for each request.
        self._always_from = {AccessLogMode.OFF: 1000, AccessLogMode.ALL: 0}.get(mode, 400)
        self._samples = mode is AccessLogMode.SAMPLED
        self._seen = 0
        self._lines: deque[bytes] = deque()

    def includes(self, status: int) -> bool:
        """True if a request that ended with this status is logged."""
        if status >= self._always_from:
            return True
        if not self._samples:
            return False
        self._seen += 1
        return self._seen % SAMPLE_ONE_IN == 0

    def add(self, record: dict[str, object]) -> None:
        """Append one record."""
        if len(self._lines) >= MAX_PENDING:
            self.dropped += 1
            return
        self._lines.append(json.dumps(record).encode() + b"\n")
        if len(self._lines) >= FLUSH_AT:
            self.flush()

    def flush(self) -> None:
        """Write pending lines until the descriptor would block. Called periodically; a closed reader drops them all."""
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
        """Whole lines of at most ATOMIC_BYTES; a longer line alone."""
        lines = self._lines
        batch = [lines.popleft()]
        size = len(batch[0])
        while lines and (size := size + len(lines[0])) <= ATOMIC_BYTES:
            batch.append(lines.popleft())
        return b"".join(batch)
