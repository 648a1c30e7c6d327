"""`scorefront model …` against the REST API."""

import asyncio
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from controlplane.rest import RestSettings, build_app
from scorefront.cli import model_client
from scorefront.cli.app import run
from scorefront.exposition import Exposition
from tests.fakes.clock import VirtualClock
from tests.fakes.plane import Bench
from workspace.model_routes import model_routes
from workspace.models.model_registry import ModelRegistry
from workspace.store.file_store import FileStore

Said = Callable[..., str]


class ApiThread(threading.Thread):
    """A control port with models, on a loop of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(name="control port")
        self.store = FileStore(folder / "store")
        self.models = ModelRegistry(self.store, VirtualClock().wall)
        self.puts: list[str] = []
        self.url = ""
        self._folder = folder
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()

    def run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    def begin(self) -> None:
        self.start()
        assert self._ready.wait(20)

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self.join(20)

    async def _serve(self) -> None:
        self._end = asyncio.Event()
        routes = model_routes(self.store, self.models)
        app = build_app(Bench(self._folder).plane.endpoints, RestSettings(), Exposition().render, more=(routes,))
        app.middlewares.insert(0, self._noted)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._ready.set()
        await self._end.wait()
        await runner.cleanup()

    @web.middleware
    async def _noted(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.method == "PUT":
            self.puts.append(request.path)
        response: web.StreamResponse = await handler(request)
        return response


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiThread]:
    served = ApiThread(tmp_path)
    served.begin()
    monkeypatch.setenv("SCOREFRONT_URL", served.url)
    yield served
    served.end()


@pytest.fixture
def said(api: ApiThread, capsys: pytest.CaptureFixture[str]) -> Said:
    """A command that succeeds: its output."""

    def call(*words: str) -> str:
        status = run(["model", *words])
        printed = capsys.readouterr()
        assert status == 0, printed.err
        return printed.out

    return call


@pytest.fixture
def refused(api: ApiThread, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """A command that fails with a status: its message."""

    def call(status: int, *words: str) -> str:
        assert run(["model", *words]) == status
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err and printed.out == ""
        return printed.err

    return call


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    folder = tmp_path / "bert"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"aa")
    (folder / "sub" / "b.bin").write_bytes(b"b")
    (folder / "sub" / "link").symlink_to("../a.bin")
    return folder


def test_a_folder_keeps_its_name_and_comes_back_as_it_was(said: Said, bert: Path, tmp_path: Path) -> None:
    out = said("register", "-n", "bert", "-p", str(bert), "-t", "team=search", "--property", "a=b", "-d", "x y")
    assert out == "model bert:1 registered (3 files, 5 B)\n"
    assert said("download", "bert:1", "-t", str(tmp_path / "out")).startswith("model bert:1 written to")
    found = {str(path.relative_to(tmp_path / "out")): path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    assert found == {"bert/a.bin": b"aa", "bert/sub/b.bin": b"b"}
    assert (tmp_path / "out" / "bert" / "sub" / "link").read_bytes() == b"aa"
    shown = json.loads(said("show", "bert", "-o", "json"))
    assert (shown["tags"], shown["properties"], shown["description"]) == ({"team": "search"}, {"a": "b"}, "x y")
    assert "bert/sub/b.bin" in said("show", "bert:1")


def test_a_file_is_registered_under_its_own_name(said: Said, bert: Path) -> None:
    said("register", "-n", "one", "-p", str(bert / "a.bin"))
    files = json.loads(said("show", "one", "-o", "json"))["files"]
    assert files == [{"path": "a.bin", "sha256": hashlib.sha256(b"aa").hexdigest(), "sizeBytes": 2}]


def test_the_current_folder_has_its_name(said: Said, bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bert)
    files = json.loads(said("register", "-n", "here", "-p", ".", "-o", "json"))["files"]
    assert [file["path"] for file in files] == ["bert/a.bin", "bert/sub/b.bin", "bert/sub/link"]


def test_content_that_is_stored_is_not_sent_again(said: Said, api: ApiThread, bert: Path) -> None:
    said("register", "-n", "bert", "-p", str(bert))
    said("register", "-n", "bert", "-p", str(bert))
    assert len(api.puts) == 2  # of three files, two have the same content
    assert said("list", "--latest").splitlines()[1].split()[:2] == ["bert", "2"]


def test_a_listing_is_selected(said: Said, bert: Path) -> None:
    for words in (("-n", "bert", "-t", "a=1"), ("-n", "bert"), ("-n", "wine")):
        said("register", "-p", str(bert), *words)
    ids = [model["id"] for model in json.loads(said("list", "-o", "json"))["value"]]
    assert ids == ["bert:2", "bert:1", "wine:1"]
    assert [line.split()[:2] for line in said("list", "-n", "bert", "-t", "a=1").splitlines()[1:]] == [["bert", "1"]]


def test_a_version_is_deleted(said: Said, refused: Callable[..., str], bert: Path) -> None:
    said("register", "-n", "bert", "-p", str(bert))
    assert "must name a version" in refused(2, "delete", "bert")
    assert said("delete", "bert:1") == "model bert:1 deleted\n"
    assert "there is no version 1 of model 'bert'" in refused(1, "delete", "bert:1")


def test_existing_files_are_kept_unless_told_otherwise(
    said: Said, refused: Callable[..., str], bert: Path, tmp_path: Path
) -> None:
    said("register", "-n", "one", "-p", str(bert / "a.bin"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.bin").write_text("mine")
    assert "--overwrite" in refused(1, "download", "one", "-t", str(tmp_path / "out"))
    assert (tmp_path / "out" / "a.bin").read_text() == "mine"
    said("download", "one", "-t", str(tmp_path / "out"), "--overwrite")
    assert (tmp_path / "out" / "a.bin").read_bytes() == b"aa"


def test_a_download_never_leaves_its_folder_by_a_link(
    said: Said, refused: Callable[..., str], bert: Path, tmp_path: Path
) -> None:
    said("register", "-n", "bert", "-p", str(bert))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "bert").symlink_to(tmp_path)
    assert "is outside of" in refused(1, "download", "bert", "-t", str(tmp_path / "out"))


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x"])
def test_a_path_of_a_server_that_leaves_the_folder_is_refused(
    refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    model = {"name": "m", "version": 1, "id": "m:1", "files": [{"path": path}], "sizeBytes": 1}
    monkeypatch.setattr(model_client.ModelClient, "model", lambda *_: model)
    assert "must be a relative path" in refused(1, "download", "m", "-t", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_damaged_content_is_not_left(
    said: Said, refused: Callable[..., str], api: ApiThread, bert: Path, tmp_path: Path
) -> None:
    said("register", "-n", "one", "-p", str(bert / "a.bin"))
    stored = api.store.local_path(hashlib.sha256(b"aa").hexdigest())
    assert stored is not None
    stored.chmod(0o600)
    stored.write_bytes(b"ab")
    assert "another SHA-256" in refused(1, "download", "one", "-t", str(tmp_path / "out"))
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("-n", ".x", "-p", "file"), "--name: must have 1 to 255"),
        (("-n", "x", "-p", "none"), "--path: there is no file or folder none"),
        (("-n", "x", "-p", "empty"), "--path: the folder empty has no files"),
        (("-n", "x", "-p", "pipe"), "is neither a file nor a folder"),
        (("-n", "x", "-p", "linked"), "is a link to a folder"),
        (("-n", "x", "-p", "odd"), "its path in the model must"),
        (("-n", "x", "-p", "file", "-t", "a"), "--tag: must look like team=search; got 'a'"),
        (("-n", "x", "-p", "file", "-t", "a=1", "-t", "a=2"), "--tag: a stands there twice"),
        (("-n", "x", "-p", "file", "--property", "=1"), "--property: must look like"),
        (("-n", "x"), "'-p'"),
    ],
)
def test_a_registration_that_cannot_be_is_refused(
    refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], text: str
) -> None:
    here = tmp_path / "here"
    (here / "empty").mkdir(parents=True)
    (here / "linked").mkdir()
    (here / "linked" / "up").symlink_to(here / "empty")
    (here / "odd").mkdir()
    (here / "odd" / "a\\b").write_text("")
    os.mkfifo(here / "pipe")
    (here / "file").write_text("x")
    monkeypatch.chdir(here)
    assert text in refused(2, "register", *words)


@pytest.mark.parametrize("model", [":1", "iris:x", "iris:0", "iris:-1", ""])
def test_an_id_that_is_none_is_refused(refused: Callable[..., str], model: str) -> None:
    assert "must be a name and a version number" in refused(2, "show", model)
