"""The in-flight rows of a router group in files, readable after the sudden end of the whole group.

    <root>/<group>/alive      locked (flock) by the supervisor
    <root>/<group>/<worker>   the row of a worker, locked by the supervisor and by the worker

The kernel releases a lock once every process that holds it has ended: that is certain, and known at once. The folder
belongs on a memory-backed volume of the pod, shared with a container that outlives the router's.
"""

import fcntl
import mmap
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from router.inflight_table import SIZE_BYTES, requests_in_flight

_ALIVE = "alive"
_NEW = ".new"


class InflightFolder:
    """Supervisor side: makes the folder and holds its lock until the end of the process."""

    def __init__(self, root: Path, group: str) -> None:
        """`root`: of all groups of the pod. `group`: id of this one. Raises OSError."""
        self._folder = root / group
        self._folder.mkdir(mode=0o700)
        made = self._folder / f"{_ALIVE}{_NEW}"
        self._fd = os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        made.rename(self._folder / _ALIVE)  # never seen without its lock

    def row(self, worker: str) -> Path:
        """The path of a worker's row."""
        return self._folder / worker

    def close(self) -> None:
        """Release the lock; the end of the process does so, too."""
        os.close(self._fd)


def groups(root: Path) -> list[str]:
    """Groups with a folder, alive or ended."""
    with suppress(FileNotFoundError):
        return sorted(entry.name for entry in root.iterdir() if (entry / _ALIVE).exists())
    return []


def wait_ended(root: Path, group: str) -> Mapping[str, Mapping[str, int] | None]:
    """Block until every process of a group has ended; worker -> its requests in flight by replica, None: unknown."""
    folder = root / group
    with _locked(folder / _ALIVE):
        rows = [entry for entry in folder.iterdir() if not entry.name.startswith(_ALIVE)]
        return {entry.name: _held(entry) for entry in rows}


def forget(root: Path, group: str) -> None:
    """Remove the folder of an ended group."""
    shutil.rmtree(root / group, ignore_errors=True)


def _held(row: Path) -> Mapping[str, int] | None:
    with _locked(row) as fd:
        if os.fstat(fd).st_size != SIZE_BYTES:
            return {}  # no worker was started
        with mmap.mmap(fd, SIZE_BYTES, prot=mmap.PROT_READ) as found:
            return requests_in_flight(found)


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        yield fd
    finally:
        os.close(fd)
