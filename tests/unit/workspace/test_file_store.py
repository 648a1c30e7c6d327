import errno
import hashlib
import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from controlplane.control_errors import NewerFormat, StoreError, StoreUnavailable
from workspace.store import store_backend
from workspace.store.file_store import MAX_BLOB_BYTES, Blob, FileStore
from workspace.workspace_errors import InvalidUpload, NoSuchBlob, StoreFull, UploadTooLarge


@pytest.fixture(params=["folder", "file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FileStore]:
    urls = {
        "folder": str(tmp_path / "store"),
        "file": f"file://{tmp_path}/store",
        "memory": f"memory://{uuid.uuid4().hex}",
    }
    yield FileStore(urls[request.param], tmp_path / "parts")
    assert left_over(tmp_path) == []


def left_over(folder: Path) -> list[Path]:
    """Files under construction."""
    return list(folder.rglob(".part-*"))


def put(store: FileStore, data: bytes) -> Blob:
    writer = store.new_blob()
    writer.write(data)
    return writer.finish()


def test_a_blob_is_named_by_its_digest(store: FileStore) -> None:
    writer = store.new_blob()
    writer.write(b"ab")
    writer.write(b"c")
    blob = writer.finish(hashlib.sha256(b"abc").hexdigest(), 3)
    assert store.blob(blob.sha256) == blob == Blob(hashlib.sha256(b"abc").hexdigest(), 3)
    with store.open_blob(blob.sha256) as file:
        assert file.read() == b"abc"
    assert store.blobs() == [blob.sha256]


def test_equal_content_is_stored_once_also_at_the_same_time(store: FileStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: put(store, b"same" * 1000), range(16)))
    assert [blob.sha256 for blob in found] == store.blobs()


def test_a_body_of_another_length_or_digest_leaves_nothing(store: FileStore) -> None:
    for sha256, size_bytes in (("0" * 64, None), (None, 4)):
        writer = store.new_blob()
        writer.write(b"abc")
        with pytest.raises(InvalidUpload):
            writer.finish(sha256, size_bytes)
    assert store.blobs() == []


def test_a_broken_upload_leaves_nothing(store: FileStore) -> None:
    writer = store.new_blob()
    writer.write(b"abc")
    writer.abort()
    assert store.blobs() == []


def test_uploads_of_a_killed_process_are_removed_at_the_next_start(tmp_path: Path) -> None:
    url = tmp_path / "store"
    FileStore(url)
    killed = url / "parts" / ".part-1"
    killed.write_bytes(b"half")
    running = FileStore(url).new_blob()
    running.write(b"other")
    FileStore(url)
    assert not killed.exists()
    assert running.finish().size_bytes == 5  # of a process that still runs: kept


def test_a_missing_blob_is_named(store: FileStore) -> None:
    for read in (store.blob, store.open_blob):
        with pytest.raises(NoSuchBlob, match="there is no blob 0000"):
            read("0" * 64)
    assert not store.has_blob("0" * 64)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 65, f"{'0' * 63}/"])
def test_a_digest_that_is_none_is_refused(store: FileStore, name: str) -> None:
    with pytest.raises(InvalidUpload, match="64 digits"):
        store.blob(name)


def test_records_are_created_once_and_replaced_whole(store: FileStore) -> None:
    assert store.read_record("models/iris/1.json") is None
    assert store.create_record("models/iris/1.json", {"a": 1})
    assert not store.create_record("models/iris/1.json", {"a": 2})
    assert store.read_record("models/iris/1.json") == {"a": 1}
    store.write_record("models/iris/1.json", {"a": "ä"})
    store.write_record("models/wine/1.json", {})
    assert store.read_record("models/iris/1.json") == {"a": "ä"}
    assert store.list_records("models") == ["models/iris/1.json", "models/wine/1.json"]
    assert store.list_records("models/iris") == ["models/iris/1.json"]
    assert dict(store.read_records("models"))["models/wine/1.json"] == b"{}"
    store.delete("models/iris/1.json")
    store.delete("models/iris/1.json")
    assert store.list_records("models") == ["models/wine/1.json"] and store.list_records("absent") == []


def test_one_of_many_creates_a_record(store: FileStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda number: store.create_record("models/a/1.json", number), range(16)))
    assert created.count(True) == 1 and store.read_record("models/a/1.json") == created.index(True)


@pytest.mark.parametrize("name", ["../x", "a/../x", "/x", "a//x", "", "a/", "."])
def test_a_record_never_leaves_the_store(store: FileStore, name: str) -> None:
    with pytest.raises(ValueError, match="not the name"):
        store.write_record(name, 1)


def test_a_damaged_record_is_named(store: FileStore) -> None:
    store.write_file("models/a/1.json", b"{")
    with pytest.raises(StoreError, match=r"models/a/1.json: is not JSON"):
        store.read_record("models/a/1.json")


def test_an_announced_terabyte_is_refused(store: FileStore) -> None:
    with pytest.raises(UploadTooLarge, match=str(MAX_BLOB_BYTES)):
        store.check_room(10**12)


def test_an_upload_without_room_is_refused_at_its_announcement(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(StoreFull, match="1000 bytes are free"):
        store.check_room(2000)


def test_a_full_disk_fails_the_upload_and_leaves_nothing(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Any, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    writer = store.new_blob()
    monkeypatch.setattr("workspace.store.file_store.write_all", full)
    with pytest.raises(StoreFull, match="No space left"):
        writer.write(b"abc")
    writer.abort()


def test_a_blob_cannot_be_changed_through_its_file(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "store")
    path = store.local_path(put(store, b"abc").sha256)
    assert path is not None and path.stat().st_mode & 0o777 == 0o400


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("ftp://host/x", "--store must be a folder or begin with file://, s3://, abfs://"),
        ("s3://", "must name a bucket or container"),
        ("file://relative", "must be file:///ABSOLUTE/PATH"),
        ("https://example.org", "must be a folder or begin with"),
    ],
)
def test_a_url_that_cannot_be_a_store_is_refused(url: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=text):
        FileStore(url, tmp_path)


@pytest.mark.parametrize(("scheme", "extra"), [("s3", "s3"), ("abfs", "azure"), ("gs", "gcs")])
def test_a_missing_driver_is_named_by_its_extra(
    scheme: str, extra: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing(url: str, **options: Any) -> Any:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(StoreError, match=rf"pip install 'scorefront\[{extra}\]'"):
        FileStore(f"{scheme}://bucket/folder", tmp_path)


def test_a_store_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    FileStore(tmp_path).write_record("format.json", {"format": 99})
    with pytest.raises(NewerFormat, match=r"format\.json must hold format 1"):
        FileStore(tmp_path)


def test_a_file_in_the_place_of_the_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(StoreUnavailable, match=r"--store .*/store: "):
        FileStore(tmp_path / "store")


def test_a_write_that_is_cut_off_is_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileStore(tmp_path / "store")
    store.write_record("models/a/1.json", 1)

    def cut(file: Any, data: bytes) -> None:
        file.write(data[:1])
        raise OSError(errno.EIO, "cut")

    monkeypatch.setattr(store_backend, "write_all", cut)
    with pytest.raises(StoreUnavailable):
        store.write_record("models/a/1.json", 23)
    assert store.read_record("models/a/1.json") == 1 and left_over(tmp_path) == []
