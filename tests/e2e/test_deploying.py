"""From a model file to an endpoint: the example's notebook, and the command with the files of `az ml`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from loadtests.installation import Installation
from tests.e2e.conftest import Site

EXAMPLE = Path(__file__).parents[2] / "examples" / "azureml"
SCRIPT = """
import os, time
def init():
    time.sleep({pause_s})
    {failure}
def run(data):
    return sorted(os.listdir(os.environ["AZUREML_MODEL_DIR"]))
"""
pytestmark = [pytest.mark.process, pytest.mark.slow]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An installation without endpoints, and with one registered model."""
    directory = tmp_path_factory.mktemp("workspace")
    (directory / "weights.txt").write_text("1 2 3")
    with Installation(directory) as installation:
        installation.start()
        site = Site(installation)
        registered = site.cli("model", "register", "-n", "numbers", "-p", str(directory / "weights.txt"))
        assert registered.returncode == 0, registered.stderr
        yield site
        assert installation.stop() == 0


def files(folder: Path, failure: str = "", pause_s: float = 0) -> list[str]:
    """The options of `model deploy` for files written to a folder."""
    (folder / "score.py").write_text(SCRIPT.format(failure=failure or "pass", pause_s=pause_s))
    (folder / "ic.json").write_text(json.dumps({"entryScript": "score.py", "runtime": None}))
    (folder / "dc.json").write_text(json.dumps({"computeType": "aks", "autoScaler": {"maxReplicas": 2}}))
    return ["--ic", str(folder / "ic.json"), "--dc", str(folder / "dc.json"), "--ct", "myaks", "-m", "numbers"]


def test_the_notebook_is_that_of_the_script() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import notebook, pathlib; top = pathlib.Path(sys.argv[1]);"
    code += "print(notebook.notebook((top / 'deploy.py').read_text()), end='')"
    made = subprocess.run([sys.executable, "-c", code, str(EXAMPLE)], capture_output=True, text=True, check=True)
    assert made.stdout == (EXAMPLE / "deploy.ipynb").read_text()


@pytest.mark.timeout(600)
def test_the_notebook_runs_from_top_to_bottom(workspace: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(EXAMPLE / "score.py", tmp_path)
    monkeypatch.setenv("SCOREFRONT_URL", workspace.installation.control)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    document = nbformat.read(EXAMPLE / "deploy.ipynb", as_version=4)
    NotebookClient(document, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = "".join(output.get("text", "") for cell in document.cells for output in cell.get("outputs", ()))
    for line in ("Healthy", "[0, 2]", "versiona 20 True", "versionb 40 True Control", "['versiona']"):
        assert line in said, said
    assert workspace.rest("GET", "/api/v1/endpoints").json["value"] == []


def test_a_command_deploys_and_names_steps_and_url(workspace: Site, tmp_path: Path) -> None:
    deployed = workspace.cli("model", "deploy", "-n", "numbers", *files(tmp_path))
    assert deployed.returncode == 0, deployed.stderr
    steps = [line.split()[0] for line in deployed.stdout.splitlines()[1:8]]
    assert steps == ["validate", "snapshot", "environment", "models", "start", "ready", "Succeeded"]
    assert "/api/v1/service/numbers/score" in deployed.stdout
    scored = workspace.cli("score", "numbers", "-d", "{}")
    assert json.loads(scored.stdout) == ["weights.txt"]


def test_a_name_that_is_taken_is_refused_without_overwrite(workspace: Site, tmp_path: Path) -> None:
    options = ["model", "deploy", "-n", "taken", *files(tmp_path)]
    assert workspace.cli(*options).returncode == 0
    refused = workspace.cli(*options)
    assert refused.returncode != 0 and "already exists" in refused.stderr
    assert workspace.cli(*options, "--overwrite").returncode == 0


def test_a_broken_script_is_named_with_step_and_reason(workspace: Site, tmp_path: Path) -> None:
    failed = workspace.cli("model", "deploy", "-n", "broken", *files(tmp_path, failure="raise KeyError('weights')"))
    assert failed.returncode == 1
    assert "ended as Failed at step" in failed.stderr and "KeyError: 'weights'" in failed.stderr


def test_invalid_files_are_refused_by_name_and_field(workspace: Site, tmp_path: Path) -> None:
    options = files(tmp_path)
    (tmp_path / "dc.json").write_text(json.dumps({"computeType": "aks", "scoringTimeoutMs": 300001}))
    refused = workspace.cli("model", "deploy", "-n", "wrong", *options)
    assert refused.returncode == 2 and "dc.json: scoringTimeoutMs" in refused.stderr
    refused = workspace.cli("model", "deploy", "-n", "wrong", *files(tmp_path)[:-1], "none")
    assert refused.returncode == 1 and "none" in refused.stderr


def test_an_interrupt_leaves_the_deployment_running(workspace: Site, tmp_path: Path) -> None:
    command = ["model", "deploy", "-n", "slow", *files(tmp_path, pause_s=5)]
    process = subprocess.Popen(
        [sys.executable, "-m", "scorefront", *command, "--control-url", workspace.installation.control],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        announced = process.stdout.readline()
        validated = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130 and validated.startswith("validate"), (announced, said)
    operation = announced.split()[-1]
    for hint in ("goes on", f"operation logs {operation} -f", f"operation cancel {operation}"):
        assert hint in said
    deadline = time.monotonic() + 60
    while workspace.rest("GET", f"/api/v1/operations/{operation}").json["state"] != "Succeeded":
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_deployment_can_be_left_at_once(workspace: Site, tmp_path: Path) -> None:
    begun = workspace.cli("model", "deploy", "-n", "later", *files(tmp_path), "--no-wait")
    assert begun.returncode == 0 and "operation logs" in begun.stdout
    operation = begun.stdout.splitlines()[0].split()[-1]
    assert workspace.cli("operation", "logs", operation, "-f").returncode == 0
