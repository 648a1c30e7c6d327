"""Files of collected data in the store. Blocking."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from cluster import atomic_files
from controlplane.control_errors import StoreError
from workspace.store.file_store import KEPT_FREE_BYTES, FileStore

SPOOL: Final = "payloads"


class PayloadStore(Protocol):
    """Files by name. Every method raises OSError."""

    @property
    def appends(self) -> bool:
        """True if a file can grow; otherwise each batch is a file of its own."""

    @property
    def spool(self) -> Path:
        """Folder on this machine for bodies under construction."""

    def size_bytes(self, name: str) -> int | None:
        """Size; None: there is no such file."""

    def append(self, name: str, data: bytes) -> None:
        """Add to the end of a file, made if absent. Only if `appends`."""

    def truncate(self, name: str, size_bytes: int) -> None:
        """Cut a file; one of 0 bytes is removed. Only if `appends`."""

    def write(self, name: str, data: bytes) -> None:
        """Create or replace a file as a whole."""

    def take(self, file: Path, name: str) -> None:
        """Make a local file the content of `name`, unless that exists; the local file is gone afterwards."""

    def delete(self, name: str) -> None:
        """Remove a file. No effect if it is absent."""

    def names(self, folder: str) -> list[str]:
        """Names of the files below a folder, sorted."""

    def open(self, name: str) -> BinaryIO:
        """Content of a file. Raises FileNotFoundError."""


class StoredPayloads:
    """The files of a `FileStore`. In a folder of this machine files grow; an object store has no append."""

    def __init__(self, store: FileStore) -> None:
        self._store = store
        self._folder = store.folder
        self._made: set[Path] = set()
        """Folders that exist."""

    @property
    def appends(self) -> bool:
        """True for a folder of this machine."""
        return self._folder is not None

    @property
    def spool(self) -> Path:
        """Beside the uploads under construction, so that a rename is enough in a local store."""
        return self._store.parts / SPOOL

    def size_bytes(self, name: str) -> int | None:
        """Size of a file."""
        with _as_os_error():
            return self._store.file_size_bytes(name)

    def append(self, name: str, data: bytes) -> None:
        """Append; on failure the file is as before."""
        path = self._path(name)
        if path.parent not in self._made:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._made.add(path.parent)
        if os.statvfs(path.parent).f_bavail * os.statvfs(path.parent).f_frsize < KEPT_FREE_BYTES + len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:
            self._made.discard(path.parent)
            raise
        try:
            before = os.fstat(fd).st_size
            remaining = memoryview(data)
            try:
                while remaining:
                    remaining = remaining[os.write(fd, remaining) :]
            except OSError:
                os.ftruncate(fd, before)
                raise
        finally:
            os.close(fd)

    def truncate(self, name: str, size_bytes: int) -> None:
        """Cut a file."""
        path = self._path(name)
        with contextlib.suppress(FileNotFoundError):
            if size_bytes:
                os.truncate(path, size_bytes)
            else:
                path.unlink()

    def write(self, name: str, data: bytes) -> None:
        """Write a file as a whole."""
        with _as_os_error():
            self._store.write_file(name, data)

    def take(self, file: Path, name: str) -> None:
        """Move a file into the store."""
        with _as_os_error():
            self._store.take_file(file, name)

    def delete(self, name: str) -> None:
        """Remove a file, and its folders that are empty then."""
        if self._folder is None:
            with _as_os_error():
                self._store.delete(name)
            return
        path = self._path(name)
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            while (path := path.parent) != self._folder:
                path.rmdir()
                self._made.discard(path)

    def names(self, folder: str) -> list[str]:
        """Names in the store."""
        with _as_os_error():
            return self._store.list_records(folder)

    def open(self, name: str) -> BinaryIO:
        """Open file."""
        with _as_os_error():
            return self._store.open_file(name)

    def _path(self, name: str) -> Path:
        assert self._folder is not None
        return self._folder / name


class AbsentPayloads:
    """No store: everything is dropped, and counted."""

    appends = False

    def __init__(self, parts: Path) -> None:
        """`parts`: folder for files under construction."""
        self.spool = parts / SPOOL

    def size_bytes(self, name: str) -> int | None:
        """None."""
        return None

    def append(self, name: str, data: bytes) -> None:
        """Fails."""
        raise _no_store()

    def truncate(self, name: str, size_bytes: int) -> None:
        """No effect."""

    def write(self, name: str, data: bytes) -> None:
        """Fails."""
        raise _no_store()

    def take(self, file: Path, name: str) -> None:
        """Fails."""
        raise _no_store()

    def delete(self, name: str) -> None:
        """No effect."""

    def names(self, folder: str) -> list[str]:
        """None."""
        return []

    def open(self, name: str) -> BinaryIO:
        """Fails."""
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)


def _no_store() -> OSError:
    return OSError(errno.ENODEV, "no store is set: SCOREFRONT_STORE")


def make_spool(store: PayloadStore) -> None:
    """Make the folder of bodies under construction. Raises OSError."""
    atomic_files.make_private_directory(store.spool)


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """Convert the errors of the store."""
    try:
        yield
    except StoreError as error:
        cause = error.__cause__
        number = cause.errno if isinstance(cause, OSError) and cause.errno is not None else errno.EIO
        raise OSError(number, str(error)) from error
