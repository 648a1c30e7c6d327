"""History of a running installation: control and treatments over time, also after a restart."""

import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from loadtests.installation import Installation, manifest, witness_version
from tests.e2e.conftest import Site

pytestmark = pytest.mark.process
WAIT_S = 60.0


def history(site: Site, query: str = "", least_points: int = 1) -> Any:
    """The history of the endpoint once each version has points."""
    deadline = time.monotonic() + WAIT_S
    while True:
        answer = site.rest("GET", f"/api/v1/endpoints/echo/history{query}")
        assert answer.status == 200, answer.body
        found = answer.json
        if all(len(each["points"]) >= least_points for each in found["versions"]) or time.monotonic() > deadline:
            return found
        time.sleep(0.2)  # interval of the polls


def requests(version: Any) -> int:
    return sum(point["requests"] for point in version["points"])


def test_history_shows_each_version_and_survives_a_restart(directory: Path) -> None:
    versions = [
        witness_version("blue", work_ms=1, slots=8, numReplicas=1, type="Control", isDefault=True),
        witness_version("green", work_ms=1, slots=8, numReplicas=1, type="Treatment", trafficPercentile=50),
    ]
    document = manifest("echo", versions)
    with Installation(directory) as installation:
        installation.start(document)
        site = Site(installation)
        key, _ = site.keys("echo")
        for version in ("blue", "green", "green"):
            assert site.score("echo", key, path="score", azureml_model_deployment=version).status == 200
        found = history(site, "?span=5m")
        assert [(each["version"], each["type"]) for each in found["versions"]] == [
            ("blue", "Control"),
            ("green", "Treatment"),
        ]
        assert [requests(each) for each in found["versions"]] == [1, 2]
        last = found["versions"][1]["points"][-1]
        assert (last["replicasReady"], last["replicasWanted"], last["failures"]) == (1, 1, {})
        assert 0 <= last["utilization"] <= 1
        (compared,) = found["comparisons"]
        assert (compared["control"]["version"], compared["treatment"]["version"]) == ("blue", "green")
        assert compared["verdict"] == compared["latencyVerdict"] == "no difference yet"
        assert compared["meanDifferenceIntervalMs"] is None
        assert site.rest("GET", "/api/endpoints/echo/history?span=5m").json["versions"]
        assert [each["version"] for each in history(site, "?version=green&span=24h")["versions"]] == ["green"]
        refused = site.rest("GET", "/api/v1/endpoints/echo/history?span=2h")
        assert (refused.status, "5m, 1h, 24h" in refused.json["error"]["message"]) == (400, True)
        assert site.rest("GET", "/api/v1/endpoints/none/history").status == 404
        assert site.rest("GET", "/api/endpoints/echo/history?version=none").status == 404
        document_of_api = site.rest("GET", "/openapi.json").json
        assert "/api/endpoints/{name}/history" in document_of_api["paths"]
        schema = {"$ref": "#/components/schemas/History", "components": document_of_api["components"]}
        jsonschema.Draft202012Validator(schema).validate(found)
        assert installation.stop() == 0
    with Installation(directory) as again:
        again.start(document)
        found = history(Site(again), "?span=1h")
        assert [requests(each) for each in found["versions"]] == [1, 2]
        assert again.stop() == 0
