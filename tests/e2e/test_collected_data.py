"""Payloads of a running installation: read back, counted, and without a credential in any file."""

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
        installation.start(*documents)
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
