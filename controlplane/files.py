"""Atomic and durable file writes. Blocking; call in a thread."""

import contextlib
import errno
import itertools
import os
import stat
from pathlib import Path

TEMPORARY_PREFIX = ".part-"
"""Prefix of incomplete files; never read."""


def make_private_directory(path: Path) -> None:
    """Create `path` and its parents if absent, with access for this user only.

    Raises OSError, also if it is a symbolic link or belongs to another user, who could control its content.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = _opened(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if os.fstat(descriptor).st_mode & 0o077:
            os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)


def read_own(path: Path) -> bytes:
    """The content of a regular file of this user. Raises OSError, also for a link or a file of another user."""
    with open(_opened(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "is no regular file", str(path))
        return file.read()


def _opened(path: Path, flags: int) -> int:
    """A descriptor of `path`, without following links, if it belongs to this user. Raises OSError."""
    if path.is_symlink():
        raise OSError(errno.ELOOP, "is a symbolic link; name what it points to", str(path))
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    owner = os.fstat(descriptor).st_uid
    if owner != os.geteuid():
        os.close(descriptor)
        rule = f"belongs to uid {owner}, not to uid {os.geteuid()} of this process; change its owner, or use another"
        raise OSError(errno.EPERM, rule, str(path))
    return descriptor


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the content of `path` by `data`, mode 0600. After a crash at any instant the old or the new is complete.

    Raises OSError; then the old content is intact, unless only the last step failed (syncing the directory).
    """
    temporary = path.parent / f"{TEMPORARY_PREFIX}{path.name}"
    try:
        _write_durably(temporary, data)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def set_aside(path: Path) -> Path:
    """Rename `path` to the first free `NAME.damaged-1`, `-2`, …; returns the new path. Raises OSError."""
    aside = next(
        place
        for number in itertools.count(1)
        if not os.path.lexists(place := path.with_name(f"{path.name}.damaged-{number}"))
    )
    path.rename(aside)
    sync_directory(path.parent)
    return aside


def remove_durably(path: Path) -> None:
    """Unlink `path` if present, and sync its directory. Raises OSError."""
    path.unlink(missing_ok=True)
    sync_directory(path.parent)


def sweep(directory: Path) -> None:
    """Remove incomplete files of interrupted writes. Raises OSError."""
    for leftover in directory.glob(f"{TEMPORARY_PREFIX}*"):
        leftover.unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Sync a directory: a rename survives a power loss only afterwards. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_durably(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        remaining = memoryview(data)
        while remaining:
            remaining = remaining[os.write(descriptor, remaining) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
