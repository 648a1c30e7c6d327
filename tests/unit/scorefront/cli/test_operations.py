"""Commands on operations against a scripted control plane."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from scorefront.cli.app import run
from tests.fakes.http_server import Answer, ScriptedServer, answer_json, scripted_server

OPERATION: dict[str, Any] = {
    "id": "op-1",
    "kind": "Create",
    "endpoint": "iris",
    "version": "blue",
    "state": "Running",
    "step": "environment",
    "created": 1_700_000_000.0,
    "ended": None,
    "error": None,
    "steps": [{"step": "validate", "began": 1_700_000_000.0, "ended": 1_700_000_000.5, "note": ""}],
}
FAILED: dict[str, Any] = {
    **OPERATION,
    "state": "Failed",
    "ended": 1_700_000_012.5,
    "error": {"code": "BuildFailed", "message": "nowhere: no such package", "step": "environment", "logTail": ["x"]},
}
LOG = b'{"at": 1700000000.25, "line": "validate: done (0.5 s)"}\n{"at": 1700000001.0, "line": "\\u001b[31mred"}\n'


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    with scripted_server() as script:
        monkeypatch.setenv("SCOREFRONT_URL", script.url)
        yield script


def log(server: ScriptedServer) -> None:
    server.on("GET /api/v1/operations/op-1/logs", Answer(200, LOG, {"Content-Type": "application/x-ndjson"}))


def test_the_list_shows_the_step_of_what_runs_and_the_reason_of_what_failed(
    server: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.on("GET /api/v1/operations", answer_json({"value": [OPERATION, {**FAILED, "id": "op-2"}]}))
    assert run(["operation", "list"]) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["ID", "KIND", "ENDPOINT", "VERSION", "STATE", "CREATED", "(UTC)", "SECONDS", "REASON"]
    assert "Running (environment)" in first
    assert "12.5" in second and "nowhere: no such package" in second


def test_one_operation_is_shown_with_its_steps_and_the_log_of_the_replica(
    server: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.on("GET /api/v1/operations/op-1", answer_json(FAILED))
    assert run(["operation", "show", "op-1"]) == 0
    out = capsys.readouterr().out
    assert "validate" in out and out.endswith("nowhere: no such package\nx\n")
    server.on("GET /api/v1/operations/op-1", answer_json(FAILED))
    assert run(["operation", "show", "op-1", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == FAILED


def test_the_log_has_times(server: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    log(server)
    assert run(["operation", "logs", "op-1"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "2023-11-14T22:13:20.250Z validate: done (0.5 s)"


@pytest.mark.parametrize(("operation", "status"), [({**OPERATION, "state": "Succeeded"}, 0), (FAILED, 1)])
def test_a_followed_log_ends_with_the_outcome(
    server: ScriptedServer, capsys: pytest.CaptureFixture[str], operation: dict[str, Any], status: int
) -> None:
    log(server)
    server.on("GET /api/v1/operations/op-1", answer_json(operation))
    assert run(["operation", "logs", "op-1", "-f"]) == status
    assert ("operation op-1: Failed" in capsys.readouterr().err) is bool(status)


def test_cancel_asks_for_it(server: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("POST /api/v1/operations/op-1/cancel", answer_json(OPERATION, 202))
    assert run(["operation", "cancel", "op-1"]) == 0
    assert capsys.readouterr().out == "operation op-1 cancelled\n"


def test_an_unknown_operation_is_named(server: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    refusal = {"error": {"code": "OperationNotFound", "message": "there is no operation 'op-1'"}}
    server.on("GET /api/v1/operations/op-1", answer_json(refusal, 404))
    assert run(["operation", "show", "op-1"]) == 1
    assert capsys.readouterr().err == "error: there is no operation 'op-1'\n"
