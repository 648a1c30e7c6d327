"""Atomic replacement of files, and checks of the owner of files that are read. Blocking: call it in a thread."""

import contextlib
import errno
import itertools
import os
import stat
from pathlib import Path

TEMPORARY_PREFIX = ".part-"
"""Prefix of the names of files under construction; never read, removed by `sweep`."""
_LINK = "is a symbolic link; name what it points to"


def make_private_directory(path: Path) -> None:
    """Create `path` and its parents if absent; set mode 0700.

    Raises OSError, also for a symbolic link and for a directory of another user: its content could be theirs.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = _opened(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if os.fstat(descriptor).st_mode & 0o077:
            os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)


def read_own(path: Path) -> bytes:
    """The content of a regular file of this user. Raises OSError, also for a link and for a file of another user."""
    with open(_opened(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "is no regular file", str(path))
        return file.read()


def check_own(path: Path) -> None:
    """Raises OSError if `path` is a symbolic link or belongs to another user; not if it is absent."""
    if path.is_symlink():
        raise OSError(errno.ELOOP, _LINK, str(path))
    with contextlib.suppress(FileNotFoundError):
        _check_owner(path.lstat().st_uid, path)


def _opened(path: Path, flags: int) -> int:
    """A descriptor of `path`, which must belong to this user; links are not followed. Raises OSError."""
    if path.is_symlink():
        raise OSError(errno.ELOOP, _LINK, str(path))
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _check_owner(os.fstat(descriptor).st_uid, path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _check_owner(owner: int, path: Path) -> None:
    if owner != os.geteuid():
        rule = f"belongs to uid {owner}, not to uid {os.geteuid()} of this process; change its owner, or use another"
        raise OSError(errno.EPERM, rule, str(path))


def write_atomically(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace `path` by `data`, mode 0600. A reader finds the old or the new content, never a part.

    `durable`: also survive a crash of the machine, at the cost of two fsync; otherwise only one of the process.
    Raises OSError; the old content then stands, unless only the sync of the directory failed.
    """
    temporary = path.parent / f"{TEMPORARY_PREFIX}{path.name}"
    try:
        _write(temporary, data, durable)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(path.parent)


def set_aside(path: Path) -> Path:
    """Rename `path` to the first free `NAME.damaged-1`, `-2`, …; return the new path. Raises OSError."""
    aside = next(
        place
        for number in itertools.count(1)
        if not os.path.lexists(place := path.with_name(f"{path.name}.damaged-{number}"))
    )
    path.rename(aside)
    sync_directory(path.parent)
    return aside


def remove_durably(path: Path) -> None:
    """Unlink `path` if it exists, and make that durable. Raises OSError."""
    path.unlink(missing_ok=True)
    sync_directory(path.parent)


def sweep(directory: Path) -> None:
    """Remove the files of interrupted writes. Raises OSError."""
    for leftover in directory.glob(f"{TEMPORARY_PREFIX}*"):
        leftover.unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Make the names in `directory` durable: a rename survives a power cut only after this. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(path: Path, data: bytes, durable: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        remaining = memoryview(data)
        while remaining:
            remaining = remaining[os.write(descriptor, remaining) :]
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
