"""Starts `scorefront up` as a user does, in a process of its own and a directory of its own, and talks HTTP to it."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from loadtests.witness import over, read

REPLICA = Path(__file__).with_name("replica.py")
START_S = 60.0


def manifest(name: str, versions: Sequence[dict[str, Any]], **spec: Any) -> dict[str, Any]:
    """A ScoringEndpoint document."""
    return {
        "apiVersion": "scorefront.io/v1alpha1",
        "kind": "ScoringEndpoint",
        "metadata": {"name": name},
        "spec": {"versions": list(versions), **spec},
    }


def witness_version(
    name: str, witness: Path | str = "", work_ms: float = 100, slots: int = 1, **fields: Any
) -> dict[str, Any]:
    """A version with replicas of `loadtests/replica.py`."""
    command = ["python", str(REPLICA), "--port", "{port}", "--work-ms", str(work_ms), "--slots", str(slots)]
    if witness:
        command += ["--witness", str(witness)]
    return {"name": name, "replica": {"command": command}, "maxConcurrentRequestsPerContainer": slots, **fields}


class Installation:
    """One `scorefront up`. Ports are chosen by the system and read from its output."""

    def __init__(self, directory: Path, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.directory = directory
        self._arguments = arguments
        self._environment = environment or {}
        self.process: subprocess.Popen[str] | None = None
        self.scoring = ""
        self.control = ""

    def start(self, *documents: dict[str, Any], listen: str = "127.0.0.1:0", control: str = "127.0.0.1:0") -> None:
        """Start with these endpoints, and return when it says that it is ready."""
        files = []
        for document in documents:
            path = self.directory / f"{document['metadata']['name']}.json"
            path.write_text(json.dumps(document))
            files.append(path)
        self.start_files(*files, listen=listen, control=control)

    def start_files(self, *files: Path, listen: str = "127.0.0.1:0", control: str = "127.0.0.1:0") -> None:
        """Start with these files, and return when it says that it is ready."""
        named = [argument for path in files for argument in ("-f", str(path))]
        self.output = self.directory / f"up-{time.monotonic_ns()}.log"
        command = [sys.executable, "-m", "scorefront", "up", *named, "--state-dir", str(self.directory / "state")]
        command += ["--listen", listen, "--control", control, *self._arguments]
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self._environment},
            )
        self._await_ready()

    def _await_ready(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            said = self.output.read_text()
            dashboard = re.search(r"dashboard +(https?://\S+?)/?\s", said)
            if dashboard:
                self.control = dashboard[1]
                scoring = re.search(r"scoring +(https?://[^/\s]+)", said)
                self.scoring = scoring[1] if scoring else ""
                return
            if self.process.poll() is not None:
                raise RuntimeError(f"scorefront up ended with {self.process.returncode}:\n{said}")
            time.sleep(0.05)
        raise RuntimeError(f"not ready after {START_S} s:\n{self.output.read_text()}")

    def descendants(self) -> list[psutil.Process]:
        """Every process that it has started."""
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self, number: int = signal.SIGTERM, timeout: float = 15.0) -> int:
        """Send a signal and wait; returns the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout)

    def __enter__(self) -> "Installation":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop(signal.SIGKILL)


class Client:
    """HTTP to an installation: REST and scoring."""

    def __init__(self, installation: Installation, connections: int = 200) -> None:
        self._installation = installation
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=connections, ssl=False))
        self._keys: dict[str, str] = {}

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def rest(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """A call on the control API: (status, JSON or text)."""
        async with self._session.request(method, self._installation.control + path, json=body) as response:
            text = await response.text()
            return response.status, json.loads(text) if response.content_type == "application/json" else text

    async def key(self, endpoint: str) -> str:
        """The endpoint's primary key."""
        if endpoint not in self._keys:
            _, keys = await self.rest("GET", f"/api/v1/endpoints/{endpoint}/keys")
            self._keys[endpoint] = keys["primaryKey"]
        return self._keys[endpoint]

    async def score(
        self, endpoint: str, body: Any = None, path: str = "score", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """One scoring request with the primary key: (status, header fields, body)."""
        fields = {"Authorization": f"Bearer {await self.key(endpoint)}", **(headers or {})}
        url = f"{self._installation.scoring}/api/v1/service/{endpoint}/{path}"
        async with self._session.post(url, json=body or {}, headers=fields) as response:
            return response.status, dict(response.headers), await response.read()

    async def metrics(self) -> dict[str, float]:
        """Every series without a label, and the sum over labels of the others."""
        _, text = await self.rest("GET", "/metrics")
        found: dict[str, float] = {}
        for name, value in re.findall(r"^(\w+)(?:\{.*\})? (\S+)$", text, re.MULTILINE):
            found[name] = found.get(name, 0.0) + float(value)
        return found

    async def status(self, endpoint: str, version: str) -> dict[str, Any]:
        """The status of one version from the control plane."""
        _, view = await self.rest("GET", f"/api/v1/endpoints/{endpoint}")
        found: dict[str, Any] = view["status"]["versions"][version]
        return found

    async def until(self, endpoint: str, version: str, timeout: float, **wanted: Any) -> dict[str, Any]:
        """Wait until the version's status has these values; returns it. Raises TimeoutError with the last status."""
        deadline = time.monotonic() + timeout
        while True:
            status = await self.status(endpoint, version)
            if all(status[name] == value for name, value in wanted.items()):
                return status
            if time.monotonic() > deadline:
                raise TimeoutError(f"{endpoint}/{version} is not {wanted} after {timeout} s: {status}")
            await asyncio.sleep(0.1)


def overlaps(witness: Path, slots: int) -> tuple[int, int]:
    """(requests, requests that ran while more than `slots` ran on their replica), as recorded by the replicas."""
    spans = read(witness)
    return len(spans), over(spans, slots)
