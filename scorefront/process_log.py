"""What a process says, to an output that may be slow, full or gone: nobody who says something ever waits for it.

A pipe whose reader has stopped blocks whoever writes to it, and an event loop that is blocked serves nobody. Making the
output itself non-blocking is no way out: that flag belongs to everybody who shares it, the parent's terminal included.
"""

import contextlib
import io
import logging
import os
import stat
import threading
from collections.abc import Iterator
from typing import Any, TextIO

from serving.printable import one_record

COPY_BYTES = 65_536


class Relay:
    """A pipe that never blocks its writers. A thread passes on what comes, however long `target` takes for it."""

    def __init__(self, target: int) -> None:
        """`target`: a file descriptor; it stays open when the relay is closed."""
        self._source, self.fd = os.pipe()
        os.set_blocking(self.fd, False)
        self._target = target
        # A daemon: a process must be able to end while its output is blocked.
        self._thread = threading.Thread(target=self._copy, name="relay output", daemon=True)
        self._thread.start()

    def close(self, patience_s: float = 0.5) -> None:
        """Nothing more will be written; wait a moment for what is on its way."""
        os.close(self.fd)
        self._thread.join(patience_s)

    def _copy(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(self._source, COPY_BYTES):
                while data:
                    data = data[os.write(self._target, data) :]
        os.close(self._source)  # when the target is gone, writers are told so


class RecordFormatter(logging.Formatter):
    """One record as text in which nothing can be taken for another record, or moves a terminal's cursor."""

    def format(self, record: logging.LogRecord) -> str:
        """Its further lines are indented, its control characters escaped."""
        return one_record(super().format(record))


class RelayHandler(logging.Handler):
    """Log records into a relay; what does not fit is dropped and counted."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self.dropped = 0
        self._fd = fd

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, or drop it."""
        line = (self.format(record) + "\n").encode(errors="replace")
        try:
            self.dropped += os.write(self._fd, line) < len(line)
        except OSError:
            self.dropped += 1


class _Lossy(io.FileIO):
    """Takes everything; what does not fit is lost."""

    def write(self, data: Any, /) -> int:
        """Write what fits; says that all of it did."""
        with contextlib.suppress(OSError):
            super().write(data)
        return memoryview(data).nbytes


@contextlib.contextmanager
def unblocked(stream: TextIO) -> Iterator[TextIO]:
    """A text stream to the same place that never makes a writer wait: the very same for a terminal or a file."""
    mode = os.fstat(stream.fileno()).st_mode
    if not stat.S_ISFIFO(mode) and not stat.S_ISSOCK(mode):
        yield stream
        return
    relay = Relay(stream.fileno())
    try:
        raw = _Lossy(relay.fd, "w", closefd=False)
        with io.TextIOWrapper(raw, encoding="utf-8", errors="replace", write_through=True) as stand_in:
            yield stand_in
    finally:
        relay.close()
