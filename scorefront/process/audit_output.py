"""Output of the audit log: a file in the state directory on one machine, standard output in a cluster."""

import contextlib
import logging
import logging.handlers
import os
import sys
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path

from controlplane.audit import AuditFormatter

FILE = "audit.log"
FILE_BYTES = 10_000_000
OLD_FILES = 4
"""`audit.log.1` is the newest of them."""

_log = logging.getLogger("scorefront.audit")


class _PrivateFile(logging.handlers.RotatingFileHandler):
    """Readable by the owner only, and never through a link."""

    def _open(self) -> TextIOWrapper:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        return open(os.open(self.baseFilename, flags, 0o600), "a", encoding="utf-8")


@contextlib.contextmanager
def audit_file(state_dir: Path) -> Iterator[None]:
    """Write to `audit.log` in the state directory during the block. Raises OSError."""
    handler = _PrivateFile(state_dir / FILE, maxBytes=FILE_BYTES, backupCount=OLD_FILES, encoding="utf-8")
    with _writing_to(handler):
        yield


@contextlib.contextmanager
def audit_output() -> Iterator[None]:
    """Write to standard output during the block."""
    with _writing_to(logging.StreamHandler(sys.stdout)):
        yield


@contextlib.contextmanager
def _writing_to(handler: logging.Handler) -> Iterator[None]:
    handler.setFormatter(AuditFormatter())
    level, propagate = _log.level, _log.propagate
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)
    _log.propagate = False
    try:
        yield
    finally:
        _log.removeHandler(handler)
        handler.close()
        _log.setLevel(level)
        _log.propagate = propagate
