"""The command line against a scripted control plane: output, requests and exit status."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from scorefront.cli import app
from scorefront.cli import up_command as up
from scorefront.cli.app import COMMANDS, GROUPS, run
from tests.fakes.http_server import Answer, ScriptedServer, answer_json, scripted_server

ROOT = Path(__file__).parents[4]
IRIS = "/api/v1/endpoints/iris"
TOKEN = {"accessToken": "abc.def.ghi", "tokenType": "Bearer", "refreshAfter": 1, "expiryOn": 2}


def version(share: float, **changes: Any) -> dict[str, Any]:
    counts = {"desired": 2, "ready": 1, "starting": 1, "draining": 0, "failed": 0, "busy": 1, "total": 2, "waiting": 3}
    return {**counts, "share": share, "isDefault": False, "type": "Treatment", "message": "", **changes}


def view(server: ScriptedServer, auth: str = "key") -> dict[str, Any]:
    versions = {
        "blue": version(0.875, isDefault=True, type="Control"),
        "green": version(0.125, failed=1, message="[bold]cannot import[/bold] name 'x'"),
    }
    status = {"ready": False, "scoringUri": f"{server.url}/score", "auth": auth, "versions": versions}
    return {"kind": "ScoringEndpoint", "metadata": {"name": "iris"}, "spec": {}, "status": status}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    with scripted_server() as script:
        monkeypatch.setenv("SCOREFRONT_URL", script.url)
        monkeypatch.delenv("SCOREFRONT_TOKEN", raising=False)
        script.on(f"GET {IRIS}", answer_json(view(script)))
        script.on("GET /api/v1/endpoints", answer_json({"value": [view(script)]}))
        script.on(f"GET {IRIS}/keys", answer_json({"primaryKey": "k1", "secondaryKey": "k2"}))
        script.on(f"POST {IRIS}/token", answer_json(TOKEN))
        yield script


def test_a_what_if_shows_where_the_policy_would_have_decided_otherwise(
    server: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    span = {"from": 1.8e9, "to": 1.8e9 + 60, "recorded": 4, "whatIf": 2, "reason": "less was enough"}
    found = {"version": "blue", "policy": "target=90", "from": 1.8e9, "to": 1.8e9 + 600, "differences": [span]}
    totals = {"recordedReplicaSeconds": 2400.0, "whatIfReplicaSeconds": 2280.0}
    server.on(f"GET {IRIS}/decisions/what-if", answer_json({"value": [found | totals]}))
    assert run(["why", "iris", "--what-if", "target=90"]) == 0
    shown = capsys.readouterr().out
    assert "less was enough" in shown and "replica-seconds 2400 recorded, 2280 with the change" in shown
    assert "policy=target" in server.asked[-1].path
    assert run(["why", "--what-if", "target=90"]) == 2
    assert run(["why", "iris", "--what-if", "target=900"]) == 2
    assert "target: must be a whole number from 1 to 100; got '900'" in capsys.readouterr().err


def test_size_prints_the_number_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["size", "--rps", "20", "--seconds", "10"]) == 0
    assert capsys.readouterr() == ("286\n", "")


@pytest.mark.parametrize(
    ("options", "replicas"),
    [(["--target-utilization", "100"], 200), (["--concurrency", "4"], 72), (["--concurrency", "1000"], 1)],
)
def test_size_knows_target_and_concurrency(
    options: list[str], replicas: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["size", "--rps", "20", "--seconds", "10", *options]) == 0
    assert capsys.readouterr().out == f"{replicas}\n"


def test_get_shows_a_row_per_version_and_its_problems(
    server: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["get", "iris"]) == 0
    head, blue, green, *rest = capsys.readouterr().out.splitlines()
    assert head.split() == ["ENDPOINT", "VERSION", "ROLE", "TRAFFIC", "READY", "BUSY", "WAITING", "STATE"]
    assert " ".join(blue.split()) == "iris blue default, Control 87.5 % 1/2 1/2 3 1 starting"
    assert " ".join(green.split()) == "iris green Treatment 12.5 % 1/2 1/2 3 1 starting, 1 failed"
    assert rest[0] == "iris/green: [bold]cannot import[/bold] name 'x'"
    assert f"{server.url}/score" in rest[1]


@pytest.mark.parametrize(("form", "load"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_get_prints_the_view_for_programs(
    server: ScriptedServer, capsys: pytest.CaptureFixture[str], form: str, load: Any
) -> None:
    assert run(["get", "iris", "-o", form]) == 0
    assert load(capsys.readouterr().out) == view(server)
    assert run(["get", "-o", form]) == 0
    assert load(capsys.readouterr().out) == {"value": [view(server)]}


def test_get_names_skipped_endpoints_and_the_reason(server: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    skipped = [{"name": "wine", "message": "wine.json is damaged: [red] at `$.keys`"}]
    server.on("GET /api/v1/endpoints", answer_json({"value": [view(server)], "skipped": skipped}))
    assert run(["get"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "wine: skipped: wine.json is damaged: [red] at `$.keys`"
    assert run(["get", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == skipped
    server.on("GET /api/v1/endpoints", answer_json({"value": [], "skipped": skipped}))
    assert run(["get"]) == 0
    assert capsys.readouterr() == ("wine: skipped: wine.json is damaged: [red] at `$.keys`\n", "")


def test_get_of_nothing_says_so_on_standard_error(server: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("GET /api/v1/endpoints", answer_json({"value": []}))
    assert run(["get"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "scorefront apply" in err


def test_apply_checks_every_file_before_it_sends_one(
    server: ScriptedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wrong.yaml").write_text("kind: Nothing\n")
    assert run(["apply", "-f", str(ROOT / "examples/iris/endpoint.yaml"), "-f", str(tmp_path / "wrong.yaml")]) == 2
    assert server.asked == []
    assert f"error: {tmp_path}/wrong.yaml: " in capsys.readouterr().err


def test_a_refusal_names_the_document_of_several(
    server: ScriptedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "two.yaml"
    documents = [
        {
            "apiVersion": "scorefront.io/v1alpha1",
            "kind": "ScoringEndpoint",
            "metadata": {"name": name},
            "spec": {"versions": [{"name": "one", "replica": {"command": ["absent", "{port}"]}}]},
        }
        for name in ("first", "second")
    ]
    file.write_text(yaml.safe_dump_all(documents))
    fault = {"path": "spec.versions[0].replica.command[0]", "value": "absent", "rule": "must be a program"}
    refusal = {"error": {"code": "InvalidEndpoint", "message": "1 rule is broken", "faults": [fault]}}
    server.on("PUT /api/v1/endpoints/first", answer_json({}, 201))
    server.on("PUT /api/v1/endpoints/second", answer_json(refusal, 400))
    assert run(["apply", "-f", str(file)]) == 2
    place = "spec.versions[0].replica.command[0]"
    told = f"error: {file}, document 2: {place}: must be a program (got 'absent')\n"
    assert capsys.readouterr() == ("endpoint first created\n", told)


def test_apply_sends_absolute_paths(server: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on(f"PUT {IRIS}", answer_json({}, 201))
    assert run(["apply", "-f", str(ROOT / "examples/iris/endpoint.yaml")]) == 0
    assert capsys.readouterr().out == "endpoint iris created\n"
    model_dirs = [v["replica"]["modelDir"] for v in server.asked[0].document["spec"]["versions"]]
    assert model_dirs == [str(ROOT / f"examples/iris/models/{name}/1") for name in ("blue", "green")]


def test_output_of_get_can_be_applied_again(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    declared = yaml.safe_load((ROOT / "examples/iris/endpoint.yaml").read_text())
    server.on(f"GET {IRIS}", answer_json({**declared, "status": view(server)["status"]}))
    server.on(f"PUT {IRIS}", answer_json({}))
    assert run(["get", "iris", "-o", "yaml"]) == 0
    text = capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert run(["apply", "-f", "-"]) == 0
    assert capsys.readouterr().out == "endpoint iris changed\n"


def test_why_without_a_name_explains_the_number_of_router_workers(
    server: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = {"workers": 1, "routers": 3}, {"workers": 2, "routers": 3}
    step = {"at": 0.5, "previous": one, "desired": two, "direction": "up", "rule": "routing", "reason": "Slow [3 ms]."}
    server.on("GET /api/v1/front-end/decisions", answer_json({"value": [step]}))
    assert run(["why", "--last", "7"]) == 0
    words = capsys.readouterr().out.splitlines()[1].split()
    assert words == ["1970-01-01", "00:00:00.500", "1", "→", "2", "3", "→", "3", "routing", "Slow", "[3", "ms]."]
    assert server.asked[0].path.endswith("?last=7")
    assert run(["why", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"value": [step]}
    server.on("GET /api/v1/front-end/decisions", answer_json({"value": []}))
    assert run(["why"]) == 0
    assert "no decision on the number of router workers yet" in capsys.readouterr().err


def test_delete_prints_the_deleted_endpoint(server: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on(f"DELETE {IRIS}", Answer(204))
    assert run(["delete", "iris"]) == 0
    assert capsys.readouterr().out == "endpoint iris deleted\n"


def test_keys_are_printed_as_text_and_json(server: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "iris"]) == 0
    assert capsys.readouterr().out.split() == ["primary", "k1", "secondary", "k2"]
    assert run(["keys", "iris", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"primaryKey": "k1", "secondaryKey": "k2"}


def test_a_key_is_regenerated_by_its_type(server: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on(f"POST {IRIS}/keys/regenerate", answer_json({"primaryKey": "k1", "secondaryKey": "new"}))
    assert run(["keys", "iris", "--regenerate", "secondary"]) == 0
    assert server.asked[0].document == {"keyType": "secondary"}
    assert "new" in capsys.readouterr().out


def test_keys_are_brought_along_from_files_and_standard_input(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.on(f"POST {IRIS}/keys/regenerate", answer_json({"primaryKey": "k1", "secondaryKey": "k2"}))
    (tmp_path / "primary.key").write_text("abcdefghijklmnopqrstuvwxyz012345\n")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345\r\n")))
    assert run(["keys", "iris", "--set-primary", str(tmp_path / "primary.key"), "--set-secondary", "-"]) == 0
    assert [each.document for each in server.asked] == [
        {"keyType": "primary", "keyValue": "abcdefghijklmnopqrstuvwxyz012345"},
        {"keyType": "secondary", "keyValue": "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"},
    ]
    assert "k1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--set-primary", "{short}"], "16 to 512 visible ASCII characters"),
        (["--set-primary", "/no/such/file"], "there is no such file"),
        (["--set-primary", "-", "--set-secondary", "-"], "standard input is taken"),
        (["--set-primary", "{good}", "--set-secondary", "{good}"], "must differ"),
        (["--set-primary", "{good}", "--regenerate", "secondary"], "excludes"),
    ],
)
def test_keys_that_cannot_be_brought_along_change_nothing(
    server: ScriptedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    (tmp_path / "short").write_text("s3cret")
    (tmp_path / "good").write_text("g" * 32)
    files = {name: str(tmp_path / name) for name in ("short", "good")}
    assert run(["keys", "iris", *(option.format(**files) for option in options)]) == 2
    error = capsys.readouterr().err
    assert words in error and "s3cret" not in error and not server.asked


def test_a_token_is_one_word_as_text_and_whole_as_json(
    server: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["token", "iris"]) == 0
    assert capsys.readouterr().out == "abc.def.ghi\n"
    assert run(["token", "iris", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == TOKEN


def test_traffic_sends_percentages_and_shows_the_split(
    server: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.on(f"PATCH {IRIS}/traffic", answer_json(view(server)))
    assert run(["traffic", "iris", "blue=87.5", "green=12.5", "--control", "blue"]) == 0
    percentiles = {"blue": 87.5, "green": 12.5}
    assert server.asked[0].document == {"percentiles": percentiles, "default": None, "control": "blue"}
    assert "87.5 %" in capsys.readouterr().out


@pytest.mark.parametrize(("auth", "sent"), [("key", "Bearer k1"), ("token", "Bearer abc.def.ghi"), ("none", None)])
def test_score_fetches_the_credential_that_the_endpoint_demands(
    server: ScriptedServer, capfdbinary: pytest.CaptureFixture[bytes], auth: str, sent: str | None
) -> None:
    server.on(f"GET {IRIS}", answer_json(view(server, auth)))
    server.on("POST /score", Answer(200, b'{"predictions": ["setosa"]}'))
    assert run(["score", "iris", "-d", '{"data": [[1, 2, 3, 4]]}', "--version", "green"]) == 0
    assert capfdbinary.readouterr().out == b'{"predictions": ["setosa"]}'
    asked = server.asked[-1]
    assert asked.headers.get("authorization") == sent
    assert asked.headers["azureml-model-deployment"] == "green"
    assert asked.body == b'{"data": [[1, 2, 3, 4]]}'


def test_score_reads_a_file(server: ScriptedServer, tmp_path: Path) -> None:
    server.on("POST /score", Answer(200, b"1"))
    sample = ROOT / "examples/iris/sample.json"
    assert run(["score", "iris", "-d", f"@{sample}"]) == 0
    assert server.asked[-1].body == sample.read_bytes()


def test_a_refused_score_prints_status_code_and_body(
    server: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    text = b"Too many requests for service iris (overloaded)"
    server.on("GET /score", Answer(503, text, {"x-ms-error-code": "Overloaded"}))
    assert run(["score", "iris"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"error: status 503 Overloaded\n{text.decode()}\n"


def test_logs_name_version_and_replica(server: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    entry = {"version": "blue", "replica": "r1", "line": "loaded [red]"}
    server.on(f"GET {IRIS}/logs", Answer(200, json.dumps(entry).encode() + b"\n"))
    assert run(["logs", "iris", "--tail", "5"]) == 0
    assert capsys.readouterr().out == "blue r1 | loaded [red]\n"


def test_why_shows_time_step_rule_and_reason(server: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    reason = "2.4 busy + 3 waiting = 5.4; 5.4 / (1 x 0.7) = 7.7, so 8 " * 5
    decision = {"at": 1700000000.25, "version": "blue", "previous": 1, "desired": 8, "rule": "demand", "reason": reason}
    server.on(f"GET {IRIS}/decisions", answer_json({"value": [decision]}))
    assert run(["why", "iris", "--last", "1"]) == 0
    row = capsys.readouterr().out.splitlines()[1]
    assert row.split("  ")[0] == "2023-11-14 22:13:20.250"
    assert "1 → 8" in row
    assert row.rstrip().endswith(reason.rstrip())


def test_the_token_of_the_environment_is_sent(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCOREFRONT_TOKEN", "control-secret\n")
    assert run(["get"]) == 0
    assert server.asked[0].headers["authorization"] == "Bearer control-secret"


def test_import_writes_a_manifest_with_paths_relative_to_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "azure"
    (source / "code").mkdir(parents=True)
    (source / "ic.json").write_text('{"entryScript": "score.py", "sourceDirectory": "code"}')
    config = {"computeType": "AKS", "maxQueueWaitMs": 750, "keys": {"primaryKey": "very-secret-very-secret"}}
    (source / "dc.json").write_text(json.dumps(config))
    monkeypatch.chdir(tmp_path)
    words = ["-n", "iris", "--ic", "azure/ic.json", "--dc", "azure/dc.json", "--model-dir", "models"]
    assert run(["import", *words]) == 0
    out, err = capsys.readouterr()
    version = yaml.safe_load(out)["spec"]["versions"][0]
    assert version["maxQueueWaitMs"] == 750
    assert version["replica"] == {"entryScript": "score.py", "sourceDirectory": "azure/code", "modelDir": "models"}
    assert "keys are secrets" in err
    assert "very-secret" not in out + err
    assert run(["import", *words, "-o", "azure/endpoint.yaml"]) == 0
    replica = yaml.safe_load((source / "endpoint.yaml").read_text())["spec"]["versions"][0]["replica"]
    assert replica == {"entryScript": "score.py", "sourceDirectory": "code", "modelDir": "../models"}


def test_every_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for word in COMMANDS:
        assert run([word, "--help"]) == 0
        text = capsys.readouterr().out
        shown = word if word not in ("router", "control") else "up"  # … the wish of a newcomer
        assert f"scorefront {shown}" in text.split("\n", 1)[1], word


def test_every_command_of_a_group_has_help_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for word, (_, commands) in GROUPS.items():
        for name in commands:
            assert run([word, name, "--help"]) == 0
            assert f"scorefront {word} {name}" in capsys.readouterr().out.split("\n", 1)[1]


def test_a_group_without_a_command_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["operation"]) == 2
    err = capsys.readouterr().err
    assert "cancel" in err and "error" not in err


def test_a_missing_argument_names_the_command_of_the_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["operation", "show"]) == 2
    assert "try `scorefront operation show --help`" in capsys.readouterr().err


def test_an_unforeseen_error_shows_no_traceback(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.on("GET /api/v1/endpoints", answer_json({"value": [{"metadata": {}}]}))
    assert run(["get"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: internal error: KeyError")
    assert "Traceback" not in err


def test_an_interrupt_ends_quietly(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(up, "read_manifests", interrupted)
    assert run(["up"]) == app.INTERRUPTED
    assert capsys.readouterr() == ("", "")


def command_line(*words: str, **environment: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "scorefront", *words]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, **pipes)  # type: ignore[call-overload]


def test_a_reader_that_has_had_enough_ends_it_quietly(server: ScriptedServer) -> None:
    lines = b"".join(b'{"version": "v", "replica": "r", "line": "%d"}\n' % n for n in range(50_000))
    server.on(f"GET {IRIS}/logs", Answer(200, lines))
    with command_line("logs", "iris") as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"v r | 0\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_a_full_disk_is_reported(server: ScriptedServer) -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "scorefront", "get", "-o", "json"]
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert done.stderr == b"error: No space left on device\n"
