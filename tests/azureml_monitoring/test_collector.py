"""azureml-ai-monitoring, unmodified, in a replica of `scorefront up`: opt-in, as pandas and its like are downloaded."""

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from loadtests.installation import Installation, manifest
from telemetry.collector_settings import DEFAULT_PORT
from tests.e2e.conftest import Site

SWITCH = "SCOREFRONT_AZUREML_MONITORING"
"""1: build an environment with azureml-ai-monitoring from PyPI."""
PACKAGES = ("azureml-ai-monitoring==1.0.0", "pandas==2.2.3")
WAIT_S = 60.0
SCRIPT = """
import json

import pandas as pd
from azureml.ai.monitoring import Collector
from azureml.ai.monitoring.context import BasicCorrelationContext
from azureml.monitoring import ModelDataCollector


def init():
    global inputs, outputs, rows
    inputs = Collector(name="model_inputs")
    outputs = Collector(name="model_outputs")
    rows = ModelDataCollector("adder", designation="inputs", feature_names=["a", "b"])


def run(data):
    frame = pd.DataFrame(json.loads(data)["data"])
    context = inputs.collect(frame, BasicCorrelationContext(id=json.loads(data).get("id") or "of-the-script"))
    result = pd.DataFrame({"sum": frame.sum(axis=1)})
    outputs.collect(result, context)
    rows.collect(frame)
    return result["sum"].tolist()
"""

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.timeout(1200)]


def is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def collected(site: Site, collection: str, count: int) -> list[dict[str, Any]]:
    """What `scorefront data` prints of a collection, once it is `count` lines."""
    deadline = time.monotonic() + WAIT_S
    while True:
        done = site.cli("data", "adder", "--collection", collection)
        lines = done.stdout.splitlines()
        if len(lines) >= count:
            return [json.loads(line) for line in lines]
        assert time.monotonic() < deadline, done.stdout + done.stderr
        time.sleep(0.2)  # interval of the polls


def test_the_collector_of_azure_collects_beside_that_of_v1(tmp_path: Path) -> None:
    if not os.environ.get(SWITCH):
        pytest.skip(f"{SWITCH}=1 installs {PACKAGES[0]} into an environment of the test, and collects with it")
    (tmp_path / "score.py").write_text(SCRIPT)
    (tmp_path / "requirements.txt").write_text("\n".join(PACKAGES))
    version = {
        "name": "first",
        "numReplicas": 1,
        "replica": {"entryScript": "score.py", "environment": "requirements.txt"},
        "dataCollection": {"storageEnabled": True},
    }
    was_free = is_free(DEFAULT_PORT)
    with Installation(tmp_path, environment={"SCOREFRONT_PAYLOADS_BATCH_S": "0.05"}) as installation:
        installation.start(manifest("adder", [version], authEnabled=False))
        site = Site(installation)
        answers = [site.score("adder", body={"data": {"a": [1, 2], "b": [3, 4]}, "id": f"id-{n}"}) for n in range(3)]
        assert [answer.json for answer in answers] == [[4, 6]] * 3
        inputs, outputs = (collected(site, name, 3) for name in ("model_inputs", "model_outputs"))
        assert [record["correlationid"] for record in inputs] == [f"id-{n}" for n in range(3)]
        assert [record["correlationid"] for record in outputs] == [f"id-{n}" for n in range(3)]
        assert inputs[0]["data"] == [{"a": 1, "b": 3}, {"a": 2, "b": 4}] and outputs[0]["data"] == [
            {"sum": 4},
            {"sum": 6},
        ]
        assert {record["agent"] for record in (*inputs, *outputs)} == {"azureml-ai-monitoring/1.0.0"}
        store = tmp_path / "state" / "store"
        deadline = time.monotonic() + WAIT_S
        while not list(store.glob("modeldata/**/data.csv")):
            assert time.monotonic() < deadline, "no rows of ModelDataCollector"
            time.sleep(0.2)  # interval of the polls
        assert not (was_free and is_free(DEFAULT_PORT)), "Azure's port is taken, unless another process had it"
        assert installation.stop() == 0
