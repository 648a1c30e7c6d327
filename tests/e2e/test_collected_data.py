"""Payloads of a running installation: read back, counted, and without a credential in any file."""

import csv
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtests.installation import Installation, manifest, witness_version
from scorefront.up.payload_collector import rings_folder
from tests.e2e.conftest import Site

pytestmark = pytest.mark.process
WAIT_S = 30.0
V1_SCRIPT = """
import json

import numpy as np
from azureml.core.model import Model
from azureml.monitoring import ModelDataCollector


def init():
    global inputs_dc, prediction_dc
    inputs_dc = ModelDataCollector("loans", designation="inputs", feature_names=["income", "age"])
    prediction_dc = ModelDataCollector("loans", designation="predictions", feature_names=["granted"])


def run(raw_data):
    try:
        data = np.array(json.loads(raw_data)["data"])
        result = (data[:, 0] > 1000).astype(int)
        correlations = inputs_dc.collect(data)
        prediction_dc.collect(prediction_dc.add_correlations(result.reshape(-1, 1), correlations))
        return result.tolist()
    except Exception as e:
        return str(e)
"""
"""A script as the pages on v1's data collection have them."""


@pytest.fixture(scope="module")
def collecting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An endpoint with keys whose version collects, and one that samples nothing."""
    directory = tmp_path_factory.mktemp("collecting")
    environment = {"SCOREFRONT_PAYLOADS_BATCH_S": "0.05", "SCOREFRONT_PAYLOADS_PORT": "1"}
    with Installation(directory, "--access-log=all", environment=environment) as installation:
        documents = [
            manifest(name, [witness_version("blue", work_ms=1, dataCollection={"storageEnabled": True, **more})])
            for name, more in (("kept", {}), ("none", {"samplingPercent": 0}))
        ]
        (directory / "score.py").write_text(V1_SCRIPT)
        scored = {"name": "first", "replica": {"entryScript": "score.py"}, "dataCollection": {"storageEnabled": True}}
        installation.start(*documents, manifest("loans", [{**scored, "numReplicas": 1}], authEnabled=False))
        yield Site(installation)
        installation.stop()


def records(site: Site, *arguments: str, count: int) -> list[dict[str, Any]]:
    """What `scorefront data` prints, once it is `count` lines."""
    deadline = time.monotonic() + WAIT_S
    while True:
        done = site.cli("data", *arguments)
        lines = done.stdout.splitlines()
        if len(lines) >= count or time.monotonic() > deadline:
            assert done.returncode == 0, done.stderr
            return [json.loads(line) for line in lines]
        time.sleep(0.05)  # interval of the polls


def test_requests_and_responses_are_read_back_and_counted(collecting: Site) -> None:
    key, _ = collecting.keys("kept")
    bodies = [{"data": [number]} for number in range(5)]
    answers = [collecting.score("kept", key, body) for body in bodies]
    assert collecting.score("kept", "wrong").status == 401
    asked = records(collecting, "kept", "--collection", "request", "--since", "1h", count=5)
    answered = records(collecting, "kept", "--version", "blue", "--collection", "response", count=5)
    assert [record["data"] for record in asked] == bodies
    ids = [answer.headers["x-ms-request-id"] for answer in answers]
    assert [record["correlationid"] for record in asked] == ids == [each["xrequestid"] for each in answered]
    assert all(record["statuscode"] == 200 for record in answered)
    text = collecting.rest("GET", "/metrics").body.decode()
    assert 'scorefront_payloads_total{endpoint="kept",result="stored",version="blue"} 5.0' in text
    assert collecting.rest("GET", "/api/v1/endpoints/kept/data?collection=request").body.count(b"\n") == 5


def test_a_script_of_v1_collects_rows_that_are_joined_by_the_request_id(collecting: Site) -> None:
    answers = [collecting.score("loans", body={"data": [[income, 30], [10, 40]]}) for income in (500, 2000)]
    assert [answer.json for answer in answers] == [[0, 0], [1, 0]]
    store = collecting.installation.directory / "state" / "store"
    rows: dict[str, list[dict[str, str]]] = {}
    deadline = time.monotonic() + WAIT_S
    while [len(rows.get(name, ())) for name in ("inputs", "predictions")] != [4, 4]:
        assert time.monotonic() < deadline, rows
        time.sleep(0.05)  # interval of the polls
        for file in store.glob("modeldata/*/*/*/loans/loans/1/*/*/*/*/data.csv"):
            with file.open(newline="") as lines:
                rows[file.relative_to(store).parts[7]] = list(csv.DictReader(lines))
    assert [(row["income"], row["age"]) for row in rows["inputs"]] == [
        *(("500", "30"), ("10", "40")),
        *(("2000", "30"), ("10", "40")),
    ]
    assert [row["granted"] for row in rows["predictions"]] == ["0", "0", "1", "0"]
    ids = [answer.headers["x-ms-request-id"] for answer in answers for _ in range(2)]
    assert [row["$aml_request_id"] for row in rows["inputs"]] == ids
    assert [row["$aml_request_id"] for row in rows["predictions"]] == ids


def test_a_request_outside_the_sample_is_counted_and_not_kept(collecting: Site) -> None:
    key, _ = collecting.keys("none")
    assert collecting.score("none", key).status == 200
    text = collecting.rest("GET", "/metrics").body.decode()
    assert 'scorefront_payloads_total{endpoint="none",result="sampled_out",version="blue"} 1.0' in text
    assert records(collecting, "none", count=0) == []


def test_no_credential_is_in_collected_data_nor_in_the_rings(collecting: Site) -> None:
    key, other = collecting.keys("kept")
    assert collecting.score("kept", key, path=f"score?code={other}").status == 200
    records(collecting, "kept", "--collection", "request", count=6)
    state = collecting.installation.directory / "state"
    folders = [state / "store", state / "logs", rings_folder(state)]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".jsonl" for path in files) and any(path.suffix == ".ring" for path in files)
    for path in (*files, Path(collecting.installation.output)):
        content = path.read_bytes()
        if path != Path(collecting.installation.output):  # `up` prints the primary key on purpose
            assert key.encode() not in content, path
        assert other.encode() not in content, path


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("kept/data?version=../x", 400, "version"),
        ("kept/data?collection=a/b", 400, "collection"),
        ("kept/data?since=yesterday", 400, "since"),
        ("kept/data?more=1", 400, "more"),
        ("absent/data", 404, "absent"),
        ("%2e%2e/data", 404, ""),
    ],
)
def test_a_wrong_selection_is_refused(collecting: Site, query: str, status: int, words: str) -> None:
    answer = collecting.rest("GET", f"/api/v1/endpoints/{query}")
    assert answer.status == status and words.encode() in answer.body
