"""One `scorefront up` that is deployed to by the SDK: started, killed and started again by the test."""

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from scorefront.sdk import AksCompute, AksWebservice, InferenceConfig, Model, Workspace
from scorefront.sdk.exceptions import WebserviceException, WorkspaceException

ENDPOINT = "iris"
GOOD = "def init(): ...\ndef run(data): return data\n"
BROKEN = "import nowhere_to_be_found\n"
FILES = 300
"""Files of the source, and of the model."""
LONGEST_S = 120.0
POLL_S = 0.002


@dataclass(frozen=True)
class Course:
    """Deployments of one round."""

    first: str | None
    """Script of a version that serves before; None: none."""
    script: str
    """Script of the deployment that is killed."""


COURSES = {
    "create": Course(None, GOOD),
    "create-broken": Course(None, BROKEN),
    "replace": Course(GOOD, GOOD + "# new\n"),
    "replace-broken": Course(GOOD, BROKEN),
}


class Site:
    """An installation in a folder of its own, on one control port for all its lives."""

    def __init__(self, folder: Path) -> None:
        self.state_dir = folder / "state"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._descendants: list[psutil.Process] = []
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        for name in ("source", "model"):
            (folder / name).mkdir(parents=True)
            for number in range(FILES):
                (folder / name / f"{number}.txt").write_text("x")

    def start(self) -> None:
        """Start `up`; return when it answers."""
        command = [sys.executable, "-m", "scorefront", "up", "--state-dir", str(self.state_dir), "--workers", "1"]
        command += ["--listen", "127.0.0.1:0", "--control", self.url.removeprefix("http://")]
        with open(self._folder / "up.log", "ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        if not until(self._answers):
            raise RuntimeError((self._folder / "up.log").read_text()[-2000:])

    def kill(self) -> None:
        """SIGKILL `up` alone."""
        assert self._process is not None
        self._descendants += psutil.Process(self._process.pid).children(recursive=True)
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        assert self._process is not None
        self._descendants += psutil.Process(self._process.pid).children(recursive=True)
        self._process.terminate()
        return self._process.wait(LONGEST_S)

    def close(self) -> None:
        """Kill `up` if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def left(self) -> list[int]:
        """Processes of all lives that still run."""
        return [each.pid for each in self._descendants if runs(each)]

    def deploy(self, script: str) -> threading.Thread:
        """Ask for a deployment in the background; its end is that of the request, whatever its outcome."""
        thread = threading.Thread(target=self._deploy, args=(script,), daemon=True)
        thread.start()
        return thread

    def operations(self) -> list[dict[str, Any]]:
        """Stored operations, oldest first."""
        paths = (self.state_dir / "operations").glob("[!.]*.json")  # not those under construction
        found = [json.loads(path.read_text())["record"]["operation"] for path in paths]
        return sorted(found, key=lambda each: float(each["created"]))

    def _deploy(self, script: str) -> None:
        (self._folder / "source" / "score.py").write_text(script)
        try:
            workspace = Workspace(self.url)
            models = Model.list(workspace, "weights") or [
                Model.register(workspace, str(self._folder / "model"), "weights")
            ]
            inference = InferenceConfig(entry_script="score.py", source_directory=str(self._folder / "source"))
            settings = AksWebservice.deploy_configuration()
            compute = AksCompute(workspace, "myaks")
            Model.deploy(workspace, ENDPOINT, models[:1], inference, settings, compute, overwrite=True)
        except (WebserviceException, WorkspaceException, OSError):
            pass  # killed meanwhile

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False


def runs(process: psutil.Process) -> bool:
    """True for a process that is no zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def until(condition: Callable[[], object], within_s: float = LONGEST_S) -> bool:
    """Wait for a condition; False if it has not come about."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True
