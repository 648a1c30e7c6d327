"""Non-blocking output of a process to a reader that may be slow or gone.

A pipe with a stopped reader blocks its writers, and with them the event loop. The output itself cannot be made
non-blocking: the flag is shared with all its users, the parent's terminal included.
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
    """A pipe that never blocks its writers; a thread copies from it to `target`."""

    def __init__(self, target: int) -> None:
        """`target`: a file descriptor; it stays open when the relay is closed."""
        self._source, self.fd = os.pipe()
        os.set_blocking(self.fd, False)
        self._target = target
        # A daemon: a process must be able to end while its output is blocked.
        self._thread = threading.Thread(target=self._copy, name="relay output", daemon=True)
        self._thread.start()

    def close(self, patience_s: float = 0.5) -> None:
        """Close the pipe; wait up to `patience_s` for the rest of the output."""
        os.close(self.fd)
        self._thread.join(patience_s)

    def _copy(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(self._source, COPY_BYTES):
                while data:
                    data = data[os.write(self._target, data) :]
        os.close(self._source)  # without a target, writers get EPIPE


class RecordFormatter(logging.Formatter):
    """Formats a record so that it cannot imitate another one or control a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Its further lines are indented, its control characters escaped."""
        return one_record(super().format(record))


class RelayHandler(logging.Handler):
    """Writes log records to a relay; counts dropped ones."""

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
    """A file that drops output that does not fit."""

    def write(self, data: Any, /) -> int:
        """Write as much as fits; reports all of it as written."""
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
