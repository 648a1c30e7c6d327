"""Wrong command lines and wrong manifests, from the user's side: exit status and standard error.

Run in this process, through the same function as the program, so that hundreds of them take seconds; a few at the end
go through the real program. A witness socket shows that nothing invalid is sent.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from scorefront.cli.app import run

TESTS = Path(__file__).parents[1]
EXAMPLE = TESTS.parent / "examples/iris/endpoint.yaml"
CALLS = yaml.safe_load((TESTS / "data/wrong_calls.yaml").read_text())
MANIFESTS = yaml.safe_load((TESTS / "data/wrong_manifests.yaml").read_text())


@dataclass(frozen=True, slots=True)
class Witness:
    """A port that counts connections and accepts them only on request."""

    listener: socket.socket

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def nobody_came(self) -> bool:
        try:
            self.listener.accept()[0].close()
        except BlockingIOError:
            return True
        return False


@pytest.fixture
def witness(monkeypatch: pytest.MonkeyPatch) -> Iterator[Witness]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        witness = Witness(listener)
        monkeypatch.setenv("SCOREFRONT_URL", witness.url)
        yield witness


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Values of the words in capitals of wrong_calls.yaml."""
    monkeypatch.chdir(tmp_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = f"127.0.0.1:{probe.getsockname()[1]}"
    (tmp_path / "text.yaml").write_text("a: 1\nb: ]\n")
    (tmp_path / "none.pem").write_text("not a certificate\n")
    (tmp_path / "folder").mkdir()
    files = {"TEXT": "text.yaml", "FOLDER": "folder", "CERT": "none.pem", "KEY": "none.pem"}
    return {"GOOD": str(EXAMPLE), "FREE": free, **files}


def filled(text: str, words: dict[str, str]) -> str:
    for word, meaning in words.items():
        text = text.replace(word, meaning)
    return text


def test_there_are_enough_of_both() -> None:
    assert len(CALLS) >= 40
    assert len(MANIFESTS) >= 60


@pytest.mark.parametrize("case", CALLS, ids=lambda case: " ".join(case["call"]) or "(nothing)")
def test_a_wrong_call_is_refused_with_the_field_and_the_rule(
    case: dict[str, Any], words: dict[str, str], witness: Witness, capsys: pytest.CaptureFixture[str]
) -> None:
    status = run([filled(word, words) for word in case["call"]])
    out, err = capsys.readouterr()
    assert (status, out) == (case["status"], "")
    for expected in case["words"]:
        assert filled(expected, words) in err
    assert "Traceback" not in err
    assert witness.nobody_came()


@pytest.mark.parametrize("case", MANIFESTS, ids=lambda case: case["name"])
def test_a_wrong_manifest_is_refused_before_anything_is_sent(
    case: dict[str, Any], tmp_path: Path, witness: Witness, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "endpoint.yaml"
    file.write_text(yaml.safe_dump(case["manifest"]))
    status = run(["apply", "-f", str(file)])
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    if case["manifest"] is None:
        assert "is empty" in err
        return
    for fault in case["faults"]:
        lines = [line for line in err.splitlines() if f"{file}: {fault['path']}: " in line]
        assert any(fault["rule_contains"] in line for line in lines), err
    assert len(err.splitlines()) == len(case["faults"])
    assert witness.nobody_came()


def program(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scorefront", *arguments]
    env = {**os.environ, **environment}
    return subprocess.run(command, cwd=TESTS.parent, env=env, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize(
    ("variable", "text", "rule"),
    [
        ("SCOREFRONT_HEAD_TIMEOUT_S", "soon", "must be a number"),
        ("SCOREFRONT_FRONTEND_DOWN_CPU", "50", "must be above 0 and at most 1"),
        ("SCOREFRONT_CLUSTER_PURPOSE", "Test", "must be FastProd or DevTest"),
    ],
)
def test_up_does_not_start_with_a_wrong_setting(variable: str, text: str, rule: str, tmp_path: Path) -> None:
    addresses = ["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]
    done = program("up", *addresses, "--state-dir", str(tmp_path), **{variable: text})
    assert (done.returncode, done.stdout) == (2, "")
    assert variable in done.stderr and rule in done.stderr
    assert "Traceback" not in done.stderr


def test_up_names_document_and_file_of_an_endpoint_that_cannot_run_here(tmp_path: Path) -> None:
    file, state = tmp_path / "two.yaml", tmp_path / "state"
    spec = {"versions": [{"name": "one", "replica": {"image": "registry/model:1"}}]}
    document = {"apiVersion": "scorefront.io/v1alpha1", "kind": "ScoringEndpoint", "spec": spec}
    file.write_text(yaml.safe_dump_all([{**document, "metadata": {"name": name}} for name in ("first", "second")]))
    done = program(
        "up", "-f", str(file), "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--state-dir", str(state)
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"scorefront: {file}, document 1: spec.versions[0].replica.image: needs a cluster")
    assert not list(state.glob("endpoints/*"))


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["size", "--rps", "20", "--seconds", "10"], 0), (["size"], 2), (["router"], 2), (["get", "ab"], 2), (["-h"], 0)],
)
def test_the_program_leaves_with_the_status_of_its_command(arguments: list[str], status: int) -> None:
    done = program(*arguments)
    assert done.returncode == status, done
    assert bool(done.stderr) == (status != 0)
    assert bool(done.stdout) == (status == 0)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_closed_by_the_caller_is_like_an_unread_one(closed: str, tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        line = f'exec "$@" {closed}'
        command = ["sh", "-c", line, "sh", sys.executable, "-m", "scorefront", *arguments]
        return subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True, timeout=30, check=False)

    done = run("size", "--rps", "20", "--seconds", "10")
    assert (done.returncode, done.stdout, done.stderr) == (0, "" if ">&-" in closed.split() else "286\n", "")
    wrong = run("size")
    assert wrong.returncode == 2 and ("2>&-" in closed.split()) == (wrong.stderr == "")
