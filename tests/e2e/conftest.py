"""Installations that tests talk to: `scorefront up`, started as a user starts it."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from loadtests.installation import Installation, manifest, witness_version


@dataclass(frozen=True)
class Answer:
    """An HTTP answer of any status."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Site:
    """An installation with the calls that tests make."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation

    def call(self, method: str, url: str, body: Any = None, **headers: str) -> Answer:
        """One request; keyword names become header names with dashes."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if data is not None:
            fields.setdefault("Content-Type", "application/json")
        request = urllib.request.Request(url, data=data, method=method, headers=fields)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return Answer(response.status, dict(response.headers), response.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, dict(error.headers), error.read())

    def rest(self, method: str, path: str, body: Any = None) -> Answer:
        """A call on the control API."""
        return self.call(method, self.installation.control + path, body)

    def score(self, endpoint: str, key: str = "", body: Any = None, path: str = "score", **headers: str) -> Answer:
        """A scoring request."""
        if key:
            headers["Authorization"] = f"Bearer {key}"
        url = f"{self.installation.scoring}/api/v1/service/{endpoint}/{path}"
        return self.call("POST", url, body if body is not None else {}, **headers)

    def keys(self, endpoint: str) -> tuple[str, str]:
        """Primary and secondary key."""
        keys = self.rest("GET", f"/api/v1/endpoints/{endpoint}/keys").json
        return keys["primaryKey"], keys["secondaryKey"]

    def cli(self, *arguments: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """The command line, pointed at this installation."""
        return subprocess.run(
            [sys.executable, "-m", "scorefront", *arguments, "--control-url", self.installation.control],
            capture_output=True,
            text=True,
            timeout=60,
            input=input,
            check=False,
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One installation for the tests of a module: an endpoint with keys and two versions, one with tokens, one open."""
    directory = tmp_path_factory.mktemp("site")
    with Installation(directory) as installation:
        installation.start(
            manifest(
                "echo",
                [
                    witness_version("blue", work_ms=1, slots=8, numReplicas=1, trafficPercentile=80),
                    witness_version("green", work_ms=1, slots=8, numReplicas=1, trafficPercentile=20),
                ],
            ),
            manifest("tokened", [witness_version("blue", work_ms=1, slots=8, numReplicas=1)], tokenAuthEnabled=True),
            manifest("open-door", [witness_version("blue", work_ms=1, slots=8, numReplicas=1)], authEnabled=False),
        )
        yield Site(installation)
        assert installation.stop() == 0


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A folder for an installation of the test's own."""
    return tmp_path
