"""The access log: one JSON line a request, written in batches, never blocking, without credentials or queries."""

import json
import os
from collections import deque
from enum import StrEnum

MAX_PENDING = 10_000
SAMPLE_ONE_IN = 100


class AccessLogMode(StrEnum):
    """Which requests are logged."""

    OFF = "off"
    ERRORS = "errors"
    SAMPLED = "sampled"
    ALL = "all"


class AccessLog:
    """Collects records for a non-blocking file descriptor; what does not fit is dropped and counted."""

    def __init__(self, mode: AccessLogMode, fd: int) -> None:
        self.mode = mode
        self.dropped = 0
        self._fd = fd
        self._seen = 0
        self._pending: deque[dict[str, object]] = deque()
        self._unwritten = b""

    def wants(self, status: int) -> bool:
        """Whether a request that ended with this status is logged."""
        if self.mode is AccessLogMode.OFF:
            return False
        if self.mode is AccessLogMode.ALL or status >= 400:
            return True
        if self.mode is AccessLogMode.SAMPLED:
            self._seen += 1
            return self._seen % SAMPLE_ONE_IN == 0
        return False

    def add(self, record: dict[str, object]) -> None:
        """Take one record; JSON is made when the batch is written."""
        if len(self._pending) >= MAX_PENDING:
            self.dropped += 1
        else:
            self._pending.append(record)

    def flush(self) -> None:
        """Write what fits. Called from time to time; returns at once when the reader is slow or gone."""
        if not self._unwritten:
            lines = [json.dumps(self._pending.popleft()) for _ in range(min(500, len(self._pending)))]
            self._unwritten = "".join(line + "\n" for line in lines).encode()
        if self._unwritten:
            try:
                written = os.write(self._fd, self._unwritten)
                self._unwritten = self._unwritten[written:]
            except BlockingIOError:
                pass
            except OSError:
                self.dropped += self._unwritten.count(b"\n") + len(self._pending)
                self._unwritten = b""
                self._pending.clear()
