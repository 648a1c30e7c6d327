"""Private folder for the Unix sockets of the workers of one router.

It is locked for the life of its supervisor: an unlocked folder is left over from a killed one. Programs that clean
temporary folders by age (systemd-tmpfiles) skip locked ones.
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
"""Longest address of a Unix socket (unix(7)), without the final NUL."""
_LONGEST = f"{PREFIX}12345678/99999999.handoff"


class SocketFolderError(Exception):
    """The folder cannot be made."""


class SocketFolder:
    """Exists from its construction to `close`."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        """Make the folder with mode 0700. Raises SocketFolderError."""
        above = _parent(environment)
        for left in _left_behind(above):
            _remove_unless_locked(left)
        try:
            self.path, self._lock = _made(above)
        except OSError as error:
            raise SocketFolderError(f"cannot make a folder for sockets in {above}: {error.strerror}") from error

    def address(self, serial: int) -> str:
        """The address of the n-th worker: `unix:PATH`."""
        return f"unix:{self.path / str(serial)}"

    def forget(self, address: str) -> None:
        """Remove the sockets of an ended worker; a killed one leaves them behind."""
        path = address.removeprefix("unix:")
        for name in (path, f"{path}.handoff"):
            with contextlib.suppress(OSError):
                os.unlink(name)

    def close(self) -> None:
        """Remove the folder; harmless the second time."""
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
    """A new folder, locked; made again if another process removes it as left over before it is locked."""
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
    """Folders of this user with our prefix."""
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
    """Remove the sockets in it, then the folder; other files stay, and the folder with them."""
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(path)):
            if stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode):
                os.unlink(entry.path)
        os.rmdir(path)
