"""The store: immutable blobs by SHA-256, and JSON records, below one URL. Blocking: call it by `asyncio.to_thread`.

    blobs/<aa>/<sha256>     bytes, `aa` the first two digits of the digest
    models/…, assets/…      records, each written whole

A blob is collected in a file under construction on this machine, checked, and only then put into the store, so that a
broken upload leaves nothing there.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from cluster import atomic_files
from controlplane.control_errors import NewerFormat, StoreError, StoreUnavailable
from workspace.store.store_backend import (
    LocalFolder,
    MemoryObjects,
    ObjectStore,
    StoreBackend,
    new_part,
    sweep_parts,
    write_all,
)
from workspace.store.store_url import EXTRAS, MEMORY, local_folder, store_url_fault
from workspace.workspace_errors import InvalidUpload, NoSuchBlob, StoreFull, UploadTooLarge

MAX_BLOB_BYTES = 64 * 1024**3
"""Most bytes of one blob."""
KEPT_FREE_BYTES = 64 * 1024**2
"""Room on the disk that uploads leave for records and logs."""
FORMAT: Final = 1
FORMAT_RECORD: Final = "format.json"
PARTS = "parts"
"""Folder of files under construction: inside a local store, else in the state directory."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[^/\0]+(?:/[^/\0]+)*")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Blob:
    """Immutable content."""

    sha256: str
    """Digest in lower-case hexadecimal."""
    size_bytes: int


def is_sha256(text: str) -> bool:
    """True for a digest in lower-case hexadecimal."""
    return _SHA256.fullmatch(text) is not None


def checked_sha256(text: str) -> str:
    """`text`, if it is a digest. Raises InvalidUpload."""
    if not is_sha256(text):
        raise InvalidUpload(f"a blob is named by its SHA-256, 64 digits 0-9a-f (got {text[:80]!r})")
    return text


class FileStore:
    """Blobs and records below one URL. Every method raises StoreError if the store fails."""

    def __init__(self, url: str | Path, parts: Path | None = None) -> None:
        """Open the store and remove the files of interrupted uploads.

        url: folder, `file://`, `memory://`, `s3://`, `abfs://` or `gs://`.
        parts: folder of files under construction on this machine; None: inside a local store, else one of the system.
        Raises StoreError, also for a URL without a driver, naming the extra.
        """
        self.url = str(url)
        if fault := store_url_fault(self.url):
            raise StoreError(f"--store {fault} (got {self.url!r})")
        self._folder = folder = Path(path).absolute() if (path := local_folder(self.url)) is not None else None
        if folder is not None:
            parts = folder / PARTS
        elif parts is None:
            parts = Path(tempfile.gettempdir()) / f"scorefront-{os.geteuid()}-parts"
        self._parts = parts
        with _failures(f"--store {self.url}"):
            self._backend: StoreBackend = LocalFolder(folder, parts) if folder is not None else _object_store(self.url)
            atomic_files.make_private_directory(parts)
            sweep_parts(parts)
        self._check_format()

    def _check_format(self) -> None:
        """Write the record of the format, or read it: a store that cannot be used is refused at the start."""
        with _failures(f"--store {self.url}"):
            created = self._backend.create(FORMAT_RECORD, json.dumps({"format": FORMAT}).encode())
        if created:
            return
        record = self.read_record(FORMAT_RECORD)
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise NewerFormat(f"--store {self.url}: {FORMAT_RECORD} must hold format {FORMAT} (got {record!r})")

    @property
    def folder(self) -> Path | None:
        """Folder of a local store; None for another one."""
        return self._folder

    @property
    def parts(self) -> Path:
        """Folder of files under construction on this machine."""
        return self._parts

    # ---- blobs
    def new_blob(self) -> "BlobWriter":
        """A writer for one blob."""
        return BlobWriter(self._backend, self._parts)

    def check_room(self, size_bytes: int) -> None:
        """Refuse an upload at its announcement. Raises UploadTooLarge, StoreFull."""
        if size_bytes > MAX_BLOB_BYTES:
            raise UploadTooLarge(f"a blob has at most {MAX_BLOB_BYTES} bytes (got {size_bytes})")
        with _failures(str(self._parts)):
            free = shutil.disk_usage(self._parts).free
        if size_bytes > free - KEPT_FREE_BYTES:
            raise StoreFull(f"{self._parts}: {size_bytes} bytes do not fit; {free} bytes are free")

    def blob(self, sha256: str) -> Blob:
        """A stored blob. Raises NoSuchBlob."""
        with _failures(sha256):
            size = self._backend.size_bytes(_blob_name(sha256))
        if size is None:
            raise NoSuchBlob(sha256)
        return Blob(sha256, size)

    def has_blob(self, sha256: str) -> bool:
        """True if the blob is stored."""
        with _failures(sha256):
            return self._backend.size_bytes(_blob_name(sha256)) is not None

    def open_blob(self, sha256: str) -> BinaryIO:
        """The bytes of a blob as a stream; close it. Raises NoSuchBlob."""
        try:
            with _failures(sha256, absent=FileNotFoundError):
                return self._backend.open(_blob_name(sha256))
        except FileNotFoundError:
            raise NoSuchBlob(sha256) from None

    def local_path(self, sha256: str) -> Path | None:
        """Read-only file of a blob for hard links; None if the store is not on this machine."""
        return self._backend.local_path(_blob_name(sha256))

    @property
    def is_local(self) -> bool:
        """True if the store is a folder of this machine."""
        return isinstance(self._backend, LocalFolder)

    def blobs(self) -> list[str]:
        """Digests of all blobs."""
        with _failures("blobs"):
            found = (name.rpartition("/")[2] for name in self._backend.names("blobs"))
            return [name for name in found if is_sha256(name)]

    def unlinked_blobs(self, before: float) -> set[str]:
        """Digests of blobs older than `before` (unix seconds) without a hard link elsewhere; none if not local."""
        found = set()
        for sha256 in self.blobs() if self.is_local else ():
            with contextlib.suppress(FileNotFoundError), _failures(sha256, absent=FileNotFoundError):
                status = os.stat(self.local_path(sha256) or "")
                if status.st_nlink == 1 and status.st_mtime < before:
                    found.add(sha256)
        return found

    def delete_blob(self, sha256: str) -> None:
        """Remove a blob. Hard links to it stay."""
        with _failures(sha256):
            self._backend.delete(_blob_name(sha256))

    # ---- records
    def read_record(self, name: str) -> Any | None:
        """JSON value of a record, e.g. `models/iris/1.json`; None: absent. Raises StoreError for damaged JSON."""
        try:
            with _failures(name, absent=FileNotFoundError):
                return _parsed(name, self._backend.read(_checked(name)))
        except FileNotFoundError:
            return None

    def write_record(self, name: str, value: Any) -> None:
        """Create or replace a record as a whole. `value`: JSON values."""
        self.write_file(name, json.dumps(value, ensure_ascii=False).encode())

    def create_record(self, name: str, value: Any) -> bool:
        """Create a record; False if it exists, also when another process creates it at the same time."""
        data = json.dumps(value, ensure_ascii=False).encode()
        with _failures(name):
            return self._backend.create(_checked(name), data)

    def write_file(self, name: str, data: bytes) -> None:
        """Create or replace a file of any content as a whole."""
        with _failures(name):
            self._backend.write(_checked(name), data)

    def take_file(self, file: Path, name: str) -> None:
        """Make a complete file of `parts` the content of `name`, unless that exists. It is gone afterwards."""
        with _failures(name):
            self._backend.take(file, _checked(name))

    def file_size_bytes(self, name: str) -> int | None:
        """Size of a file; None: there is none of that name."""
        with _failures(name):
            return self._backend.size_bytes(_checked(name))

    def open_file(self, name: str) -> BinaryIO:
        """Content of a file as a stream; close it. Raises FileNotFoundError."""
        with _failures(name, absent=FileNotFoundError):
            return self._backend.open(_checked(name))

    def delete(self, name: str) -> None:
        """Remove a record. No effect if it is absent."""
        with _failures(name):
            self._backend.delete(_checked(name))

    def list_records(self, prefix: str) -> list[str]:
        """Names of all records below the folder `prefix`, sorted."""
        with _failures(prefix):
            return self._backend.names(_checked(prefix))

    def read_records(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """Name and raw content of all records below the folder `prefix`, read in parallel."""
        names = self.list_records(prefix)
        with _failures(prefix):
            yield from self._backend.read_many(names)


class BlobWriter:
    """One upload. Ends with `finish` or `abort`; both may be called in any thread, one call at a time."""

    def __init__(self, backend: StoreBackend, parts: Path) -> None:
        self._backend = backend
        self._digest = hashlib.sha256()
        self._size_bytes = 0
        with _failures(str(parts)):
            self._file, self._part = new_part(parts)

    def write(self, chunk: bytes) -> None:
        """Append bytes. Raises UploadTooLarge, StoreFull."""
        if self._size_bytes + len(chunk) > MAX_BLOB_BYTES:
            raise UploadTooLarge(f"a blob has at most {MAX_BLOB_BYTES} bytes")
        with _failures(str(self._part.parent)):
            write_all(self._file, chunk)
        self._digest.update(chunk)
        self._size_bytes += len(chunk)

    def finish(self, expected_sha256: str | None = None, expected_bytes: int | None = None) -> Blob:
        """Put the blob into the store.

        expected_sha256: announced digest; None: any.
        expected_bytes: announced size; None: any.
        Raises InvalidUpload if they differ; then nothing is stored.
        """
        try:
            blob = Blob(self._digest.hexdigest(), self._size_bytes)
            if expected_bytes is not None and blob.size_bytes != expected_bytes:
                raise InvalidUpload(f"{expected_bytes} bytes were announced, {blob.size_bytes} arrived")
            if expected_sha256 is not None and blob.sha256 != expected_sha256:
                raise InvalidUpload(f"the SHA-256 of the body is {blob.sha256}, not {expected_sha256}")
            with _failures(blob.sha256):
                self._backend.take(self._part, _blob_name(blob.sha256))
            return blob
        finally:
            self.abort()

    def abort(self) -> None:
        """Remove the upload's file. No effect after `finish`."""
        self._file.close()
        self._part.unlink(missing_ok=True)


def _blob_name(sha256: str) -> str:
    return f"blobs/{checked_sha256(sha256)[:2]}/{sha256}"


def _checked(name: str) -> str:
    """`name`, unless it leaves the store. Raises ValueError: names are made by the product, never by users."""
    if not _NAME.fullmatch(name) or any(part in (".", "..") for part in name.split("/")):
        raise ValueError(f"not the name of a record: {name!r}")
    return name


def _parsed(name: str, data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise StoreError(f"{name}: is not JSON: {error}") from error


def _object_store(url: str) -> StoreBackend:
    import fsspec  # late: local stores need no driver

    scheme = url.partition("://")[0]
    # no listing cache: other processes write, too; no instance cache: the environment holds the credentials
    options = {} if scheme == MEMORY else {"use_listings_cache": False, "skip_instance_cache": True}
    try:
        filesystem, root = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        driver = f"pip install 'scorefront[{EXTRAS.get(scheme)}]'"
        raise StoreError(f"--store {url}: its driver is missing: {driver}") from error
    except ValueError as error:  # of adlfs: no account in the environment
        raise StoreError(f"--store {url}: {error}") from error
    return (MemoryObjects if scheme == MEMORY else ObjectStore)(filesystem, root)


@contextlib.contextmanager
def _failures(subject: str, absent: type[Exception] = StoreError) -> Iterator[None]:
    """Convert failures of the store. `subject`: file or object that the text names. `absent`: error that passes."""
    try:
        yield
    except (absent, StoreError):
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _FULL:
            raise StoreFull(f"{subject}: {reason}") from error
        raise StoreUnavailable(f"{subject}: {reason}") from error
    except Exception as error:
        if _is_of_driver(error):
            raise StoreUnavailable(f"{subject}: {error}") from error
        raise


def _is_of_driver(error: Exception) -> bool:
    """True for the errors of object store clients, which have no common class."""
    return type(error).__module__.partition(".")[0] in ("botocore", "aiobotocore", "azure", "gcsfs", "aiohttp")
