"""Access to the files of a store by name: a folder of this machine, or an object store by fsspec. Blocking.

A name has `/` between its parts and is relative to the root of the store.
"""

import contextlib
import fcntl
import io
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from cluster import atomic_files

READ_AT_ONCE = 32
"""Concurrent reads of records at the start."""
PART_BYTES = 8 * 1024 * 1024
"""Size of the parts of a large object; the memory of an upload is a few of them."""
PARTS_AT_ONCE = 2


def new_part(folder: Path) -> tuple[BinaryIO, Path]:
    """A locked file under construction, opened for writing without a buffer. Raises OSError."""
    descriptor, name = tempfile.mkstemp(prefix=atomic_files.TEMPORARY_PREFIX, dir=folder)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return cast(BinaryIO, open(descriptor, "wb", buffering=0)), Path(name)


def sweep_parts(folder: Path) -> None:
    """Remove the files under construction of processes that have ended: theirs are not locked. Raises OSError."""
    for part in folder.glob(f"{atomic_files.TEMPORARY_PREFIX}*"):
        with contextlib.suppress(FileNotFoundError, BlockingIOError), part.open("rb") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink(missing_ok=True)


def write_all(file: BinaryIO, data: bytes) -> None:
    """Write `data` to a file without a buffer. Raises OSError."""
    remaining = memoryview(data)
    while remaining:
        remaining = remaining[file.write(remaining) :]


class StoreBackend(Protocol):
    """Files by name. Every method raises OSError."""

    def read(self, name: str) -> bytes:
        """The whole content. Raises FileNotFoundError."""

    def read_many(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Name and content of each, in parallel; names that are gone are left out."""

    def open(self, name: str) -> BinaryIO:
        """The content as a stream of bytes. Raises FileNotFoundError."""

    def size_bytes(self, name: str) -> int | None:
        """Size; None: there is no such file."""

    def write(self, name: str, data: bytes) -> None:
        """Create or replace a file as a whole."""

    def create(self, name: str, data: bytes) -> bool:
        """Create a file as a whole; False: it exists, and is unchanged."""

    def take(self, file: Path, name: str) -> None:
        """Make a complete local file the content of `name`, unless that exists. The local file is gone afterwards."""

    def delete(self, name: str) -> None:
        """Remove a file. No effect if it is absent."""

    def names(self, prefix: str) -> list[str]:
        """Names of all files below the folder `prefix`, sorted."""

    def local_path(self, name: str) -> Path | None:
        """The file on this machine; None for an object store."""


class LocalFolder:
    """A folder of this machine. Files are read-only and appear as a whole, also after a power cut."""

    def __init__(self, root: Path, parts: Path) -> None:
        """`root`: created if absent. `parts`: folder of files under construction, on the same file system."""
        self._root = root
        self._parts = parts
        atomic_files.make_private_directory(root)

    def read(self, name: str) -> bytes:
        """Content of a file."""
        return (self._root / name).read_bytes()

    def read_many(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Contents of files, in order."""
        with ThreadPoolExecutor(READ_AT_ONCE, "read the store") as pool:
            for name, data in pool.map(self._read_or_none, names):
                if data is not None:
                    yield name, data

    def open(self, name: str) -> BinaryIO:
        """Open file."""
        return (self._root / name).open("rb")

    def size_bytes(self, name: str) -> int | None:
        """Size of a file."""
        try:
            return (self._root / name).stat().st_size
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Replace a file."""
        with self._written(data) as part:
            os.replace(part, self._place(name))
        atomic_files.sync_directory((self._root / name).parent)

    def create(self, name: str, data: bytes) -> bool:
        """Create a file by a hard link, which fails if the name exists."""
        with self._written(data) as part:
            try:
                os.link(part, self._place(name))
            except FileExistsError:
                return False
        atomic_files.sync_directory((self._root / name).parent)
        return True

    def take(self, file: Path, name: str) -> None:
        """Rename a file of the folder of parts."""
        place = self._place(name)
        if place.exists():
            file.unlink()
            return
        with file.open("rb") as written:
            os.fsync(written.fileno())
        file.chmod(0o400)
        os.replace(file, place)
        atomic_files.sync_directory(place.parent)

    def delete(self, name: str) -> None:
        """Unlink a file."""
        with contextlib.suppress(FileNotFoundError):
            atomic_files.remove_durably(self._root / name)

    def names(self, prefix: str) -> list[str]:
        """Names of files, those under construction left out."""
        found: list[str] = []
        for folder, _, files in os.walk(self._root / prefix):
            inside = Path(folder).relative_to(self._root).as_posix()
            found.extend(f"{inside}/{file}" for file in files)
        return sorted(found)

    def local_path(self, name: str) -> Path | None:
        """Path of a file."""
        return self._root / name

    def _read_or_none(self, name: str) -> tuple[str, bytes | None]:
        try:
            return name, self.read(name)
        except FileNotFoundError:
            return name, None

    def _place(self, name: str) -> Path:
        """Path for a new file, its folder created."""
        path = self._root / name
        if not path.parent.is_dir():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            atomic_files.sync_directory(path.parent.parent)
        return path

    @contextlib.contextmanager
    def _written(self, data: bytes) -> Iterator[Path]:
        """A durable file with `data` in the folder of parts; removed at the end unless it was renamed."""
        file, part = new_part(self._parts)
        try:
            with file:
                write_all(file, data)
                os.fsync(file.fileno())
                yield part
        finally:
            part.unlink(missing_ok=True)


class ObjectStore:
    """A bucket or container, by fsspec. An object appears as a whole at the end of its put."""

    def __init__(self, filesystem: Any, root: str) -> None:
        """`filesystem`: of fsspec, without a listing cache. `root`: bucket and path in it."""
        self._fs = filesystem
        self._root = root.rstrip("/")

    def read(self, name: str) -> bytes:
        """Content of an object."""
        return cast(bytes, self._fs.cat_file(self._at(name)))

    def read_many(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Contents of objects, by batches."""
        waiting = list(names)
        for start in range(0, len(waiting), READ_AT_ONCE * 8):
            batch = waiting[start : start + READ_AT_ONCE * 8]
            found = self._fs.cat([self._at(name) for name in batch], on_error="omit")
            by_path = {path.lstrip("/"): data for path, data in found.items()}
            for name in batch:
                data = by_path.get(self._at(name).lstrip("/"))
                if data is not None:
                    yield name, data

    def open(self, name: str) -> BinaryIO:
        """Open object, read by blocks."""
        return cast(BinaryIO, self._fs.open(self._at(name), "rb", block_size=PART_BYTES, cache_type="readahead"))

    def size_bytes(self, name: str) -> int | None:
        """Size of an object."""
        try:
            return int(self._fs.info(self._at(name))["size"])
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Put an object."""
        self._fs.pipe_file(self._at(name), data)

    def create(self, name: str, data: bytes) -> bool:
        """Put an object on condition that there is none (`If-None-Match: *`)."""
        try:
            self._fs.pipe_file(self._at(name), data, mode="create")
        except FileExistsError:
            return False
        return True

    def take(self, file: Path, name: str) -> None:
        """Put the content of a file, by parts."""
        if self.size_bytes(name) is None:
            self._fs.put_file(str(file), self._at(name), **_upload_options(self._fs))
        file.unlink()

    def delete(self, name: str) -> None:
        """Remove an object."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._at(name))

    def names(self, prefix: str) -> list[str]:
        """Names of objects."""
        root = self._root.lstrip("/") + "/"
        try:
            found = self._fs.find(self._at(prefix))
        except FileNotFoundError:
            return []
        return sorted(path.lstrip("/").removeprefix(root) for path in found)

    def local_path(self, name: str) -> Path | None:
        """None."""
        return None

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"


class MemoryObjects(ObjectStore):
    """Objects in this process, for tests: `memory://`. All streams of one object of fsspec share a position."""

    def __init__(self, filesystem: Any, root: str) -> None:
        """As `ObjectStore`."""
        super().__init__(filesystem, root)
        self._reading = threading.Lock()

    def read(self, name: str) -> bytes:
        """Content of an object."""
        with self._reading:
            return super().read(name)

    def read_many(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Contents of objects, in order."""
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                yield name, self.read(name)

    def open(self, name: str) -> BinaryIO:
        """A copy of an object."""
        return io.BytesIO(self.read(name))


def protocols(filesystem: Any) -> tuple[str, ...]:
    """URL schemes of a file system of fsspec."""
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _upload_options(filesystem: Any) -> dict[str, Any]:
    """Options that bound the memory of an upload."""
    known = protocols(filesystem)
    if "s3" in known:
        return {"chunksize": PART_BYTES, "max_concurrency": PARTS_AT_ONCE}
    if "abfs" in known:
        return {"max_concurrency": PARTS_AT_ONCE}
    if "gs" in known:
        return {"chunksize": PART_BYTES}
    return {}
