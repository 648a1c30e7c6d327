"""A private folder for the sockets by which the workers of one group reach each other.

It is locked as long as its supervisor lives: what one that was killed has left behind is known by the lock's absence.
Those who clean temporary folders by age leave a locked one alone, too.
"""

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

PREFIX = "scorefront-links-"
MAX_PATH_BYTES = 107
"""What the address of a Unix socket can hold (unix(7)), less its last 0."""
_LONGEST = f"{PREFIX}12345678/99999999.handoff"


class SocketFolderError(Exception):
    """There is no place for the sockets."""


class SocketFolder:
    """There from its making to `close`."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        """Make it, for its owner only. Raises SocketFolderError."""
        above = _parent(environment)
        for left in _left_behind(above):
            _remove_unless_locked(left)
        try:
            self.path, self._lock = _made(above)
        except OSError as error:
            raise SocketFolderError(f"cannot make a folder for sockets in {above}: {error.strerror}") from error

    def address(self, serial: int) -> str:
        """Where peers reach the n-th worker: `unix:PATH`."""
        return f"unix:{self.path / str(serial)}"

    def forget(self, address: str) -> None:
        """The worker with this address has ended; a killed one has left its sockets behind."""
        path = address.removeprefix("unix:")
        for name in (path, f"{path}.handoff"):
            with contextlib.suppress(OSError):
                os.unlink(name)

    def close(self) -> None:
        """Remove it. A second time is harmless."""
        if self._lock >= 0:
            _remove(self.path)
            os.close(self._lock)
            self._lock = -1


def _parent(environment: Mapping[str, str]) -> Path:
    for candidate in (environment.get("XDG_RUNTIME_DIR"), tempfile.gettempdir()):
        short = candidate and len(os.fsencode(os.path.join(candidate, _LONGEST))) <= MAX_PATH_BYTES
        if candidate and short and os.access(candidate, os.W_OK | os.X_OK):
            return Path(candidate)
    most = MAX_PATH_BYTES - len(_LONGEST) - 1
    raise SocketFolderError(
        f"TMPDIR: must be a folder that can be written to, with a path of at most {most} bytes, since the workers' "
        f"sockets are made in it; got {tempfile.gettempdir()}"
    )


def _made(above: Path) -> tuple[Path, int]:
    """A new folder, locked. One that is taken for a left one before it is locked is made again."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=above))  # with mode 0700
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:
            return path, lock
        os.close(lock)


def _left_behind(above: Path) -> Iterator[Path]:
    """Folders of this user that look like ours."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(above):
            looks_like_it = entry.name.startswith(PREFIX) and entry.is_dir(follow_symlinks=False)
            if looks_like_it and entry.stat(follow_symlinks=False).st_uid == os.geteuid():
                yield Path(entry.path)


def _remove_unless_locked(path: Path) -> None:
    with contextlib.suppress(OSError):
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(path)
        finally:
            os.close(lock)


def _remove(path: Path) -> None:
    """The sockets in it, and then itself; whatever else somebody has put there stays."""
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(path)):
            if stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode):
                os.unlink(entry.path)
        os.rmdir(path)
