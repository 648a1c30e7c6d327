"""`scorefront.azureml.connect`: redirections of one workspace, without azureml-core."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scorefront import azureml
from tests.fakes.http_server import Answer, ScriptedServer, answer_json, scripted_server

BLOB = "/azureml/blobs/LocalUpload/c/a.bin"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    with scripted_server() as one:
        monkeypatch.setattr(azureml, "_connected", {one.url: "secret"})
        monkeypatch.setattr("scorefront.azureml.time.sleep", lambda seconds: None)
        yield one


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8081", "unix:/run/control", "ftp://host", "http://host/path", "http://"]
)
def test_a_wrong_url_is_refused_with_the_rule(url: str) -> None:
    with pytest.raises(azureml.ConnectionRefused, match="http://HOST:PORT"):
        azureml.connect(url)


def test_without_azureml_core_the_remedy_is_named() -> None:
    with pytest.raises(azureml.ConnectionRefused, match=r"pip install azureml-core.*scorefront\.sdk"):
        azureml.connect("http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (answer_json({"error": {"message": "the credential is missing"}}, 401), "refuses the token.*credential"),
        (answer_json({"message": "not yours"}, 403), "not yours"),
        (answer_json({}), "no control port of scorefront"),
        (Answer(404, b"<html>"), "no control port of scorefront"),
    ],
)
def test_another_answer_than_a_workspace_is_explained(server: ScriptedServer, answer: Answer, words: str) -> None:
    server.on("GET /azureml/discovery", answer)
    with pytest.raises(azureml.ConnectionRefused, match=words):
        azureml._discovered(server.url, "token")


def test_a_port_without_a_server_is_named() -> None:
    with pytest.raises(azureml.ConnectionRefused, match="does not answer"):
        azureml._discovered("http://127.0.0.1:1", "token")


def test_a_small_file_is_sent_at_once_with_the_token(server: ScriptedServer) -> None:
    server.on(f"PUT {BLOB}", Answer(201))
    azureml._uploading(None)(io.BytesIO(b"content"), f"{server.url}{BLOB}?sig=1")
    (asked,) = server.asked
    assert (asked.body, asked.headers["authorization"]) == (b"content", "Bearer secret")


def test_an_empty_file_is_sent(server: ScriptedServer) -> None:
    server.on(f"PUT {BLOB}", Answer(201))
    azureml._uploading(None)(io.BytesIO(), f"{server.url}{BLOB}?sig=1")
    assert server.asked[0].headers["content-length"] == "0"


def test_a_large_file_is_sent_by_blocks(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azureml, "SINGLE_PUT_BYTES", 4)
    monkeypatch.setattr(azureml, "BLOCK_BYTES", 3)
    server.on(f"PUT {BLOB}", Answer(201))
    azureml._uploading(None)(io.BytesIO(b"abcdefg"), f"{server.url}{BLOB}?sig=1")
    assert [asked.body for asked in server.asked[:-1]] == [b"abc", b"def", b"g"]
    assert server.asked[-1].body.count(b"<Latest>") == 3


def test_a_refused_upload_is_an_error_with_the_reason(server: ScriptedServer) -> None:
    server.on(f"PUT {BLOB}", answer_json({"message": "no room"}, 507))
    with pytest.raises(OSError, match=r"507.*no room"):
        azureml._uploading(None)(io.BytesIO(b"x"), f"{server.url}{BLOB}?sig=1")
    assert len(server.asked) == 1


def test_a_server_that_is_away_is_asked_again(server: ScriptedServer) -> None:
    server.on(f"PUT {BLOB}", answer_json({"message": "wait"}, 503))
    with pytest.raises(OSError, match="503"):
        azureml._uploading(None)(io.BytesIO(b"x"), f"{server.url}{BLOB}?sig=1")
    assert [asked.body for asked in server.asked] == [b"x"] * azureml.ATTEMPTS


def test_other_workspaces_keep_their_functions(server: ScriptedServer) -> None:
    calls: list[tuple[Any, ...]] = []

    def original(*args: Any, **kwargs: Any) -> str:
        calls.append((*args, kwargs))
        return "original"

    url = "https://account.blob.core.windows.net/container/blob?sig=1"
    assert azureml._uploading(original)("stream", url, timeout=3) == "original"
    assert azureml._downloading(original)(url, "path") == "original"
    assert azureml._downloading(original)(f"{server.url}/other", "path") == "original"
    assert calls == [("stream", url, {"timeout": 3}), (url, "path", {}), (f"{server.url}/other", "path", {})]
    assert azureml._downloading(original)(f"{server.url}{BLOB}", "path") == "original"
    assert calls[-1][-1]["session"].headers["Authorization"] == "Bearer secret"


def test_the_module_imports_nothing_but_the_standard_library() -> None:
    source = Path(azureml.__file__).read_text()
    top = [line for line in source.splitlines() if line.startswith(("import ", "from "))]
    assert not any("scorefront" in line or "requests" in line for line in top)
