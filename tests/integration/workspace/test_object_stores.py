"""The store on S3 (moto) and Azure Blob (azurite), both as servers on this machine."""

import asyncio
import contextlib
import hashlib
import logging
import os
import shutil
import socket
import subprocess
import urllib.request
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
from moto.server import ThreadedMotoServer

from controlplane.control_errors import StoreError, StoreUnavailable
from tests.fakes.clock import VirtualClock
from workspace.archives import unpacked
from workspace.models.model_records import ModelDraft, ModelFile
from workspace.models.model_registry import ModelRegistry
from workspace.store import store_backend
from workspace.store.file_store import Blob, FileStore

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Account and key of every emulator of Azure Blob; no secret."""
AZURITE = shutil.which("azurite-blob", path=os.environ.get("AZURITE") or None)
"""Path of the emulator: in PATH, or in the folder AZURITE."""

pytestmark = [pytest.mark.process, pytest.mark.filterwarnings("ignore::ResourceWarning")]


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module", autouse=True)
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str | None]:
    """Connection string of an emulator; None without one. Started before any test, since it outlives each."""
    if AZURITE is None:
        yield None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("azurite")
    words = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder), "--skipApiVersionCheck"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([AZURITE, *words], stdout=log, stderr=log)
    try:
        until_listening(port, process)
        yield (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
            f"BlobEndpoint=http://127.0.0.1:{port}/{ACCOUNT};"
        )
    finally:
        process.kill()
        process.wait()


def until_listening(port: int, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(600):
        assert process.poll() is None, "azurite ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.1):
            return
        process.poll()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
    pytest.fail("azurite does not listen")


@pytest.fixture(params=["s3", "abfs"])
def url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket or container."""
    name = uuid.uuid4().hex
    if request.param == "s3":
        endpoint = request.getfixturevalue("s3")
        for variable, value in {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
        }.items():
            monkeypatch.setenv(variable, value)
        with urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{name}", method="PUT")):
            return f"s3://{name}/scorefront"
    azure = request.getfixturevalue("azure")
    if azure is None:
        pytest.skip("needs azurite (npm install azurite), in PATH or in the folder named by AZURITE")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azure)
    fsspec.filesystem("abfs", skip_instance_cache=True).mkdir(name)
    return f"abfs://{name}/scorefront"


@pytest.fixture
def store(url: str, tmp_path: Path) -> FileStore:
    return FileStore(url, tmp_path / "parts")


def put(store: FileStore, data: bytes) -> Blob:
    writer = store.new_blob()
    writer.write(data)
    return writer.finish()


def content(store: FileStore, blob: Blob) -> bytes:
    with store.open_blob(blob.sha256) as file:
        return file.read()


def test_blobs_and_records_are_kept(store: FileStore, url: str, tmp_path: Path) -> None:
    blob = put(store, b"abc")
    assert put(store, b"abc") == blob == store.blob(blob.sha256) and content(store, blob) == b"abc"
    assert store.local_path(blob.sha256) is None and store.blobs() == [blob.sha256]
    assert store.read_record("models/a/1.json") is None and store.list_records("models") == []
    assert store.create_record("models/a/1.json", 1) and not store.create_record("models/a/1.json", 2)
    store.write_record("models/b/1.json", {"x": "ä"})
    again = FileStore(url, tmp_path / "parts")
    assert dict(again.read_records("models")) == {"models/a/1.json": b"1", "models/b/1.json": '{"x": "ä"}'.encode()}
    assert again.list_records("models/a") == ["models/a/1.json"]
    again.delete("models/a/1.json")
    again.delete("models/a/1.json")
    assert store.list_records("models") == ["models/b/1.json"]
    assert list((tmp_path / "parts").iterdir()) == []


def test_a_large_blob_goes_by_parts(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_backend, "PART_BYTES", 5 * 1024**2)  # least part of S3
    data = os.urandom(1024**2) * 12
    blob = put(store, data)
    assert hashlib.sha256(content(store, blob)).hexdigest() == blob.sha256


def test_a_broken_upload_leaves_nothing(store: FileStore) -> None:
    writer = store.new_blob()
    writer.write(b"abc")
    writer.abort()
    assert store.blobs() == []


def test_an_archive_is_read_from_there(store: FileStore) -> None:
    empty_tar = bytes(10_240)
    assert unpacked(store, put(store, empty_tar)) == {}


def test_one_of_many_creates_a_record(store: FileStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda number: store.create_record("models/a/1.json", number), range(16)))
    assert created.count(True) == 1 and store.read_record("models/a/1.json") == created.index(True)


async def test_two_processes_never_give_a_version_twice(store: FileStore, url: str, tmp_path: Path) -> None:
    files = (ModelFile("model.pkl", (await asyncio.to_thread(put, store, b"abc")).sha256, 0),)
    other = await asyncio.to_thread(FileStore, url, tmp_path / "parts")
    both = [ModelRegistry(each, VirtualClock().wall) for each in (store, other)]
    found = await asyncio.gather(*(each.register(ModelDraft(name="iris", files=files)) for each in both * 5))
    assert sorted(model.version for model in found) == list(range(1, 11))
    third = ModelRegistry(other, VirtualClock().wall)
    await third.start()
    assert [model.version for model in third.list("iris")] == list(range(10, 0, -1))


def test_an_absent_bucket_is_named_at_the_start(url: str, tmp_path: Path) -> None:
    scheme = url.partition("://")[0]
    with pytest.raises(StoreUnavailable, match=rf"--store {scheme}://absent-bucket/x: "):
        FileStore(f"{scheme}://absent-bucket/x", tmp_path / "parts")


def test_an_account_that_is_not_told_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)
    with pytest.raises(StoreError, match=r"--store abfs://c/x: .*account_name"):
        FileStore("abfs://c/x", tmp_path / "parts")
