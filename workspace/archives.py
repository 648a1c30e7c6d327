"""Content of zip and tar archives as blobs. Every entry is checked; nothing is unpacked into a folder. Blocking."""

import contextlib
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, BinaryIO

from serving.faults import shown
from workspace.relative_paths import clash, path_fault
from workspace.store.file_store import Blob, FileStore
from workspace.workspace_errors import InvalidArchive

CHUNK_BYTES = 1024 * 1024
_ENCRYPTED = 0x1
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, ValueError, RuntimeError)
"""Errors of the readers about malformed or unsupported content."""


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """Most that an archive may unpack to."""

    files: int = 100_000
    size_bytes: int = 64 * 1024**3
    """Sum over the files."""
    ratio: int = 250
    """Unpacked bytes for each byte of the archive, beyond `free_bytes`."""
    free_bytes: int = 100 * 1024**2


@dataclass(frozen=True, slots=True)
class _Entry:
    path: str
    size_bytes: int
    """As declared; the reader ends there."""
    content: IO[bytes]


def unpacked(store: FileStore, archive: Blob, limits: ArchiveLimits | None = None) -> dict[str, Blob]:
    """Path -> blob of every file of a stored zip or tar archive (plain, gzip, bzip2 or xz).

    store: of the archive and of its files.
    archive: blob of the archive.
    limits: most that it may unpack to; default: `ArchiveLimits()`.
    Raises InvalidArchive for an entry that leaves its folder, a link, a device, or too much content; StoreError.
    """
    most = limits or ArchiveLimits()
    allowed_bytes = min(most.size_bytes, most.free_bytes + archive.size_bytes * most.ratio)
    found: dict[str, Blob] = {}
    total_bytes = 0
    with store.open_blob(archive.sha256) as file, _broken():
        for entry in _entries(file):
            total_bytes += entry.size_bytes
            if len(found) == most.files:
                raise InvalidArchive(f"the archive has more than {most.files} files")
            if total_bytes > allowed_bytes:
                raise InvalidArchive(f"the archive unpacks to more than {allowed_bytes} bytes (at {shown(entry.path)})")
            if entry.path in found:
                raise InvalidArchive(f"{shown(entry.path)} occurs twice in the archive")
            found[entry.path] = _stored(store, entry)
    if twice := clash(found):
        raise InvalidArchive(f"{shown(twice)} is a file and a folder in the archive")
    return found


def _stored(store: FileStore, entry: _Entry) -> Blob:
    store.check_room(entry.size_bytes)
    writer = store.new_blob()
    try:
        while chunk := entry.content.read(CHUNK_BYTES):
            writer.write(chunk)
        return writer.finish(expected_bytes=entry.size_bytes)
    finally:
        writer.abort()


def _entries(file: BinaryIO) -> Iterator[_Entry]:
    """The checked files of an archive. Raises InvalidArchive."""
    is_zip = file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    file.seek(0)
    return _zip_entries(file) if is_zip else _tar_entries(file)


def _zip_entries(file: BinaryIO) -> Iterator[_Entry]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            path = info.orig_filename
            mode = info.external_attr >> 16
            if info.flag_bits & _ENCRYPTED:
                raise InvalidArchive(f"{shown(path)} is encrypted")
            if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise InvalidArchive(f"{shown(path)} is a link or device; an archive may have files and folders only")
            checked = _path(path.removesuffix("/"))
            if not path.endswith("/"):
                with archive.open(info) as content:
                    yield _Entry(checked, info.file_size, content)


def _tar_entries(file: BinaryIO) -> Iterator[_Entry]:
    with tarfile.open(fileobj=file, mode="r|*") as archive:
        for member in archive:
            path = member.name.removeprefix("./")
            if member.isdir() and path in ("", "."):
                continue
            checked = _path(path)
            if member.isdir():
                continue
            content = archive.extractfile(member) if member.isreg() else None
            if content is None:
                raise InvalidArchive(f"{shown(path)} is a link or device; an archive may have files and folders only")
            yield _Entry(checked, member.size, content)


def _path(path: str) -> str:
    if fault := path_fault(path):
        raise InvalidArchive(f"the path of an entry {fault} (got {shown(path)})")
    return path


@contextlib.contextmanager
def _broken() -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        raise InvalidArchive(f"the archive cannot be read: {error or type(error).__name__}") from error
