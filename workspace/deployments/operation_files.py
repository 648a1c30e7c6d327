"""Files of operations in the state directory: a record and a log each. Blocking, except for appending to a log.

<root>/<operation id>.json    the record, written whole
<root>/<operation id>.log     the log: lines with their time
"""

import contextlib
import logging
import os
from pathlib import Path

import msgspec

from cluster import atomic_files
from cluster.timed_line import TimedLine, stamp, timed
from controlplane.control_errors import StoreError
from workspace.deployments.records import DeploymentRecord

FORMAT = 1
MOST_LOG_BYTES = 10_000_000
"""Size above which a log takes no more lines."""
LINE_CHARACTERS = 8192
"""Longer lines are cut."""

_log = logging.getLogger(__name__)


class _OperationFile(msgspec.Struct):
    format: int
    record: DeploymentRecord


class OperationFiles:
    """The records and logs under one root."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._bytes: dict[str, int] = {}
        """Sizes of the logs that were written to."""

    def load(self) -> list[DeploymentRecord]:
        """All readable records, oldest first; damaged files are named in the log and stay. Raises StoreError."""
        found = []
        try:
            atomic_files.make_private_directory(self._root)
            atomic_files.sweep(self._root)
            paths = sorted(self._root.glob("*.json"))
        except OSError as error:
            raise StoreError(f"cannot use {self._root}: {error.strerror}") from error
        for path in paths:
            try:
                kept = msgspec.json.decode(atomic_files.read_own(path), type=_OperationFile)
            except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
                _log.error("operation %s: skipped: %s is damaged: %s", path.stem, path, error)
                continue
            if kept.format == FORMAT:
                found.append(kept.record)
            else:
                _log.error("operation %s: skipped: %s has format %d, not %d", path.stem, path, kept.format, FORMAT)
        return sorted(found, key=lambda record: record.operation.created)

    def save(self, record: DeploymentRecord) -> None:
        """Write a record. Raises StoreError; then the previous one is intact."""
        path = self._root / f"{record.id}.json"
        try:
            atomic_files.write_atomically(path, msgspec.json.encode(_OperationFile(FORMAT, record)) + b"\n")
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror}") from error

    def remove(self, operation: str) -> None:
        """Remove a record and its log. Raises StoreError."""
        self._bytes.pop(operation, None)
        for path in (self._root / f"{operation}.json", self._log_path(operation)):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise StoreError(f"cannot remove {path}: {error.strerror}") from error

    def append(self, operation: str, text: str, at: float) -> None:
        """Add lines to a log; a full disk loses them.

        operation: id. text: one line or several. at: unix seconds.
        """
        time = stamp(at)
        lines = [f"{time} {line[:LINE_CHARACTERS]}\n" for line in text.splitlines() if line.strip()]
        data = "".join(lines).encode("utf-8", "replace")
        path = self._log_path(operation)
        with contextlib.suppress(OSError):
            if operation not in self._bytes:
                self._bytes[operation] = path.stat().st_size if path.exists() else 0
            if self._bytes[operation] > MOST_LOG_BYTES:
                return
            self._bytes[operation] += len(data)
            if self._bytes[operation] > MOST_LOG_BYTES:
                data += f"{time} the log is full: further lines are left out\n".encode()
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                os.write(descriptor, data)
            finally:
                os.close(descriptor)

    def read_log(self, operation: str, from_byte: int = 0) -> tuple[list[TimedLine], int]:
        """The whole lines of a log from a position on, and the position after them."""
        try:
            with open(self._log_path(operation), "rb") as file:
                file.seek(from_byte)
                data = file.read()
        except FileNotFoundError:
            return [], from_byte
        except OSError as error:
            raise StoreError(f"cannot read {self._log_path(operation)}: {error.strerror}") from error
        whole = data[: data.rfind(b"\n") + 1]
        return timed(whole.decode("utf-8", "replace").split("\n")[:-1]), from_byte + len(whole)

    def _log_path(self, operation: str) -> Path:
        return self._root / f"{operation}.log"
