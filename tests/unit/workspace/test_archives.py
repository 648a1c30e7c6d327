import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from workspace.archives import ArchiveLimits, unpacked
from workspace.store.file_store import Blob, FileStore
from workspace.workspace_errors import InvalidArchive


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "store")


def put(store: FileStore, data: bytes) -> Blob:
    writer = store.new_blob()
    writer.write(data)
    return writer.finish()


def content(store: FileStore, blob: Blob) -> bytes:
    with store.open_blob(blob.sha256) as file:
        return file.read()


def zipped(**files: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def zip_entry(name: str, mode: int = 0, data: bytes = b"x") -> bytes:
    file = io.BytesIO()
    info = zipfile.ZipInfo("placeholder")
    info.filename = name
    info.external_attr = mode << 16
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(info, data)
    return file.getvalue()


def tarred(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 1, mode: str = "w:gz") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, link
        member.size = size if kind == tarfile.REGTYPE else 0
        archive.addfile(member, io.BytesIO(b"x" * size))
    return file.getvalue()


def test_files_of_a_zip_become_blobs(store: FileStore) -> None:
    found = unpacked(store, put(store, zipped(**{"score.py": b"a", "lib/one.py": b"bb", "empty/": b""})))
    assert {path: content(store, blob) for path, blob in found.items()} == {"score.py": b"a", "lib/one.py": b"bb"}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_files_of_a_tar_become_blobs(store: FileStore, mode: str, tmp_path: Path) -> None:
    (tmp_path / "source" / "lib").mkdir(parents=True)
    (tmp_path / "source" / "score.py").write_bytes(b"a")
    (tmp_path / "source" / "lib" / "one.py").write_bytes(b"bb")
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        archive.add(tmp_path / "source", ".")
    found = unpacked(store, put(store, file.getvalue()))
    assert {path: blob.size_bytes for path, blob in found.items()} == {"score.py": 1, "lib/one.py": 2}


OUTSIDE = ["../x", "a/../../x", "/etc/x", "a//b", "./../x", "a\\..\\b", "..", "a/./b", "a\x00b", "a\nb"]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("make", [zip_entry, tarred])
def test_a_path_out_of_its_folder_is_refused(store: FileStore, make: Callable[[str], bytes], name: str) -> None:
    if make is tarred and "\x00" in name:
        pytest.skip("a tar cannot have it")
    with pytest.raises(InvalidArchive, match="must"):
        unpacked(store, put(store, make(name)))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_a_link_or_device_in_a_zip_is_refused(store: FileStore, kind: int) -> None:
    with pytest.raises(InvalidArchive, match="'out' is a link or device"):
        unpacked(store, put(store, zip_entry("out", kind | 0o777, b"/etc/passwd")))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_a_link_or_device_in_a_tar_is_refused(store: FileStore, kind: bytes) -> None:
    with pytest.raises(InvalidArchive, match="'out' is a link or device"):
        unpacked(store, put(store, tarred("out", kind, "/etc/passwd")))


def test_an_entry_that_claims_a_terabyte_is_refused_before_it_is_read(store: FileStore) -> None:
    data = bytearray(zip_entry("big"))
    central = data.index(b"PK\x01\x02")
    data[central + 24 : central + 28] = (0xFFFFFFFE).to_bytes(4, "little")
    with pytest.raises(InvalidArchive):
        unpacked(store, put(store, bytes(data)), ArchiveLimits(size_bytes=2**31))


def test_a_bomb_is_refused_by_its_ratio(store: FileStore) -> None:
    bomb = put(store, zipped(zeros=bytes(5_000_000)))
    with pytest.raises(InvalidArchive, match="unpacks to more than"):
        unpacked(store, bomb, ArchiveLimits(ratio=10, free_bytes=1000))
    assert unpacked(store, bomb)["zeros"].size_bytes == 5_000_000


def test_more_files_than_allowed_are_refused(store: FileStore) -> None:
    with pytest.raises(InvalidArchive, match="more than 2 files"):
        unpacked(store, put(store, zipped(a=b"", b=b"", c=b"")), ArchiveLimits(files=2))


def test_a_file_that_is_a_folder_too_is_refused(store: FileStore) -> None:
    with pytest.raises(InvalidArchive, match="a file and a folder"):
        unpacked(store, put(store, zipped(**{"a": b"", "a/b": b""})))


@pytest.mark.parametrize("data", [b"", b"no archive", b"PK\x03\x04broken", b"\x1f\x8bbroken"])
def test_what_is_no_archive_is_refused(store: FileStore, data: bytes) -> None:
    with pytest.raises(InvalidArchive, match="cannot be read"):
        unpacked(store, put(store, data))


def test_a_truncated_archive_is_refused(store: FileStore) -> None:
    for data in (zipped(a=b"x" * 1000), tarred("a", size=100_000)):
        with pytest.raises(InvalidArchive):
            unpacked(store, put(store, data[: len(data) // 2]))
