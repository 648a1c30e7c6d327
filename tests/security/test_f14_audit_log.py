"""F14: each change, each reading of a credential and each refused attempt is one line of the audit log."""

import json
import logging
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from controlplane.audit import REFUSED_BURST, AttemptLimit, AuditFormatter, note
from controlplane.control_token import ControlToken
from controlplane.openapi import OPERATIONS
from controlplane.rest import RestSettings, build_app
from scorefront.exposition import Exposition
from scorefront.process.audit_output import audit_file, audit_output
from tests.fakes.plane import Bench, manifest

TOKEN = "control-token-of-the-test"
IRIS = "/api/v1/endpoints/iris"
Lines = list[dict[str, Any]]


class Kept(logging.Handler):
    """The log as an operator reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(AuditFormatter())
        self.text: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.text.append(self.format(record))

    @property
    def lines(self) -> Lines:
        return [json.loads(text) for text in self.text]


@pytest.fixture
def kept() -> Iterator[Kept]:
    log, handler = logging.getLogger("scorefront.audit"), Kept()
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield handler
    log.removeHandler(handler)
    log.setLevel(logging.NOTSET)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[TestClient[Any, Any]]:
    bench = Bench(tmp_path / "state")
    await bench.start()
    app = build_app(
        bench.plane.endpoints,
        RestSettings(loopback=False, authenticators=(ControlToken.fixed(TOKEN),)),
        Exposition().render,
    )
    client = TestClient(TestServer(app), headers={"Authorization": f"Bearer {TOKEN}"})
    await client.start_server()
    yield client
    await client.close()
    await bench.plane.stop()


async def test_changes_and_credentials_are_lines_and_nothing_secret_is_in_them(
    api: TestClient[Any, Any], kept: Kept
) -> None:
    assert (await api.put(IRIS, json=manifest(tokenAuthEnabled=True))).status == 201
    keys = await (await api.get(f"{IRIS}/keys")).json()
    assert (await api.post(f"{IRIS}/keys/regenerate", json={"keyType": "primary"})).status == 200
    token = await (await api.post(f"{IRIS}/token")).json()
    assert (await api.patch(f"{IRIS}/traffic", json={"percentiles": {"blue": 30}})).status == 200
    assert (await api.patch(f"{IRIS}/traffic", json={"percentiles": {"no": 30}})).status == 400
    assert (await api.post(f"{IRIS}/restart", json={"version": "blue"})).status == 200
    assert (await api.delete(IRIS, headers={"x-ms-client-request-id": "mine-7"})).status == 204
    assert (await api.delete(IRIS)).status == 404
    told = [(line["operation"], line["endpoint"], line["status"], line["outcome"]) for line in kept.lines]
    assert told == [
        ("putEndpoint", "iris", 201, "done"),
        ("getKeys", "iris", 200, "done"),
        ("regenerateKey", "iris", 200, "done"),
        ("issueToken", "iris", 200, "done"),
        ("setTraffic", "iris", 200, "done"),
        ("setTraffic", "iris", 400, "refused"),
        ("restartEndpoint", "iris", 200, "done"),
        ("deleteEndpoint", "iris", 204, "done"),
        ("deleteEndpoint", "iris", 404, "refused"),
    ]
    assert {line["caller"] for line in kept.lines} == {"control token"}
    assert {line["from"] for line in kept.lines} == {"127.0.0.1"}
    assert all(line["audit"] is True and line["time"].endswith("Z") for line in kept.lines)
    assert kept.lines[7]["clientRequestId"] == "mine-7" and kept.lines[8]["code"] == "EndpointNotFound"
    for secret in (TOKEN, keys["primaryKey"], keys["secondaryKey"], token["accessToken"]):
        assert not any(secret in text for text in kept.text)


async def test_read_requests_are_not_audited(api: TestClient[Any, Any], kept: Kept) -> None:
    for path in ("/", "/healthz", "/readyz", "/metrics", "/api/v1/endpoints", IRIS, f"{IRIS}/decisions", "/nowhere"):
        await api.get(path)
    assert kept.lines == []


def test_every_operation_that_changes_something_is_audited() -> None:
    assert {operation.id for operation in OPERATIONS if not operation.is_audited and operation.method != "GET"} == set()
    assert next(operation for operation in OPERATIONS if operation.id == "getKeys").is_audited


@pytest.mark.parametrize("credential", [None, "Bearer wrong-secret", "Basic eDp3cm9uZy1zZWNyZXQ=", "Bearer "])
async def test_a_refused_attempt_is_audited_without_the_credential(
    api: TestClient[Any, Any], kept: Kept, credential: str | None
) -> None:
    headers = {} if credential is None else {"Authorization": credential}
    stranger: TestClient[Any, Any]
    async with TestClient(api.server) as stranger:
        assert (await stranger.get(f"{IRIS}/keys?secret=1", headers=headers)).status == 401
        assert (await stranger.get("/nowhere", headers=headers)).status == 401
    assert [(line["operation"], line["status"], line["caller"]) for line in kept.lines] == [
        ("getKeys", 401, "unknown"),
        ("none", 401, "unknown"),
    ]
    assert not any("secret" in text for text in kept.text)


async def test_many_refused_attempts_are_counted_and_changes_are_noted_all_the_same(
    api: TestClient[Any, Any], kept: Kept
) -> None:
    for _ in range(200):
        assert (await api.get(IRIS, headers={"Authorization": "Bearer x"})).status == 401
    assert len(kept.lines) < REFUSED_BURST + 20
    await api.put(IRIS, json=manifest())
    assert kept.lines[-1]["operation"] == "putEndpoint"


def test_left_out_attempts_are_counted_in_the_next_line() -> None:
    limit = AttemptLimit()
    told = [limit.take(0.0) for _ in range(1000)]
    lines = [each for each in told if each is not None]
    assert lines == [0] * len(lines) and REFUSED_BURST <= len(lines) <= REFUSED_BURST + 1
    assert limit.take(100.0) == 1000 - len(lines)


async def test_no_line_can_be_forged(api: TestClient[Any, Any], kept: Kept) -> None:
    odd = '%0A"audit":true,"caller":"root"%1b[2K' + "x" * 1000
    assert (await api.delete(f"/api/v1/endpoints/{odd}")).status == 404
    (text,) = kept.text
    assert "\n" not in text and "\x1b" not in text and len(text) < 2000
    assert json.loads(text)["caller"] == "control token"


def test_the_file_is_private_bounded_and_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scorefront.process.audit_output.FILE_BYTES", 2000)
    with audit_file(tmp_path):
        for number in range(200):
            note({"caller": "uid 1", "number": number})
    found = sorted(tmp_path.iterdir())
    assert [file.name for file in found] == ["audit.log", *(f"audit.log.{number}" for number in (1, 2, 3, 4))]
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 and file.stat().st_size <= 2000 for file in found)
    assert json.loads((tmp_path / "audit.log").read_text().splitlines()[-1])["number"] == 199
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "audit.log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"audit\.log"), audit_file(tmp_path / "link"):
        pass


def test_in_a_cluster_lines_go_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    with audit_output():
        note({"caller": "uid 1"})
    assert json.loads(capsys.readouterr().out)["caller"] == "uid 1"
