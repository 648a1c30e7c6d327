"""Responses of a running installation."""

import json
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from pathlib import Path

import pytest

from scorefront.process.time_slices import SLICE_S, slice_ns
from tests.e2e.conftest import Site
from tests.unit.deploy.monitoring import OF_A_CLUSTER, asked_for, queries


def test_a_score_needs_a_key_and_either_key_opens(site: Site) -> None:
    primary, secondary = site.keys("echo")
    assert site.score("echo", primary).status == 200
    assert site.score("echo", secondary).status == 200
    for wrong in ("", "x" * 43, primary[:-1], primary + "a", primary.swapcase()):
        answer = site.score("echo", wrong)
        assert answer.status == 401
        assert answer.headers["x-ms-error-code"] == "Unauthorized"
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert site.score("open-door").status == 200


def test_every_answer_carries_a_request_id_that_the_replica_saw_too(site: Site) -> None:
    key, _ = site.keys("echo")
    answer = site.score("echo", key, x_ms_client_request_id="mine/../42 " + "x" * 60)
    assert str(uuid.UUID(answer.headers["x-ms-request-id"])) == answer.json["id"]
    assert answer.headers["x-ms-client-request-id"] == ("mine42" + "x" * 60)[:40]
    assert answer.headers["azureml-model-deployment"] in ("blue", "green")
    refused = site.score("echo")
    assert uuid.UUID(refused.headers["x-ms-request-id"])
    assert "azureml-model-deployment" not in refused.headers


@pytest.mark.skipif(slice_ns() == 0, reason="the kernel has no slices of a single thread (before 6.12)")
def test_a_worker_has_short_time_slices(site: Site) -> None:
    workers = [one for one in site.installation.descendants() if "router-worker" in one.cmdline()]
    oldest = min(workers, key=lambda one: one.create_time())
    assert slice_ns(oldest.pid) == round(1e9 * SLICE_S)


def test_a_version_is_pinned_by_header_or_by_path(site: Site) -> None:
    key, _ = site.keys("echo")
    for version in ("blue", "green"):
        by_header = site.score("echo", key, azureml_model_deployment=version)
        by_path = site.score("echo", key, path=f"versions/{version}/score")
        assert by_header.headers["azureml-model-deployment"] == version
        assert by_path.headers["azureml-model-deployment"] == version
    missing = site.score("echo", key, azureml_model_deployment="red")
    assert (missing.status, missing.headers["x-ms-error-code"]) == (404, "VersionNotFound")


def test_unknown_endpoints_and_methods_have_different_answers(site: Site) -> None:
    answer = site.score("nobody", "key")
    assert (answer.status, answer.headers["x-ms-error-code"]) == (404, "EndpointNotFound")
    url = f"{site.installation.scoring}/api/v1/endpoint/open-door/score"
    put = site.call("PUT", url, {})
    assert (put.status, put.headers["x-ms-error-code"], put.headers["Allow"]) == (
        405,
        "MethodNotAllowed",
        "GET, HEAD, POST",
    )
    assert site.call("GET", f"{site.installation.scoring}/healthz").status == 200


def test_a_token_opens_its_endpoint_and_no_other(site: Site) -> None:
    token = site.rest("POST", "/api/v1/endpoints/tokened/token").json
    assert token["tokenType"] == "Bearer"
    assert time.time() < token["refreshAfter"] < token["expiryOn"]  # noqa: TID251 - tokens carry wall-clock times
    assert site.score("tokened", token["accessToken"]).status == 200
    assert site.score("tokened", token["accessToken"][:-4] + "AAAA").status == 401
    assert site.score("tokened", site.keys("tokened")[0]).status == 401
    assert site.score("echo", token["accessToken"]).status == 401
    assert site.rest("POST", "/api/v1/endpoints/echo/token").status == 409


def test_a_regenerated_key_dies_within_a_second_and_the_other_never_fails(site: Site) -> None:
    primary, secondary = site.keys("echo")
    statuses: Counter[int] = Counter()
    stop = threading.Event()

    def score_on() -> None:
        while not stop.is_set():
            statuses[site.score("echo", secondary).status] += 1

    load = [threading.Thread(target=score_on) for _ in range(4)]
    for thread in load:
        thread.start()
    try:
        fresh = site.rest("POST", "/api/v1/endpoints/echo/keys/regenerate", {"keyType": "primary"}).json["primaryKey"]
        deadline = time.monotonic() + 1.0
        while site.score("echo", primary).status != 401:
            assert time.monotonic() < deadline, "the old key still opens after a second"
        assert site.score("echo", fresh).status == 200
    finally:
        stop.set()
        for thread in load:
            thread.join()
    assert set(statuses) == {200}


def test_the_split_changes_under_load_without_a_failed_request(site: Site) -> None:
    key, _ = site.keys("echo")
    statuses: Counter[int] = Counter()
    stop = threading.Event()

    def score_on() -> None:
        while not stop.is_set():
            statuses[site.score("echo", key).status] += 1

    load = [threading.Thread(target=score_on) for _ in range(4)]
    for thread in load:
        thread.start()
    try:
        for percent in (0, 100, 50, 20):
            body = {"percentiles": {"blue": 0, "green": percent}, "default": None, "control": None}
            assert site.rest("PATCH", "/api/v1/endpoints/echo/traffic", body).status == 200
        refused = site.rest("PATCH", "/api/v1/endpoints/echo/traffic", {"percentiles": {"blue": 90}})
        assert refused.status == 400
    finally:
        stop.set()
        for thread in load:
            thread.join()
    assert set(statuses) == {200}
    shares = site.rest("GET", "/api/v1/endpoints/echo").json["status"]["versions"]
    assert (shares["blue"]["share"], shares["green"]["share"]) == (0.8, 0.2)


def test_metrics_count_scoring_requests_and_hold_no_key(site: Site) -> None:
    key, _ = site.keys("open-door")
    before = site.rest("GET", "/metrics").body.decode()
    for _ in range(3):
        site.score("open-door")
    after = site.rest("GET", "/metrics").body.decode()

    def count(text: str) -> float:
        name = 'scorefront_requests_total{code="200",endpoint="open-door",version="blue"}'
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))

    assert count(after) - count(before) == 3
    assert "scorefront_slot_violations_total 0.0" in after
    assert key not in after
    there = {line.split()[2] for line in after.splitlines() if line.startswith("# TYPE ")}
    assert asked_for(queries()).keys() - there - OF_A_CLUSTER == set(), "of the board and the alert rules"


def test_the_command_line_has_the_effects_of_rest(site: Site) -> None:
    assert "echo" in site.cli("get").stdout
    scored = site.cli("score", "open-door", "-d", "{}")
    assert (scored.returncode, '"pid"' in scored.stdout) == (0, True)
    pinned = site.cli("score", "echo", "-d", "{}", "--version", "green")
    assert pinned.returncode == 0
    gone = site.cli("get", "nobody")
    assert (gone.returncode, "nobody" in gone.stderr) == (1, True)
    assert site.cli("why", "echo").returncode == 0
    assert site.cli("keys", "echo", "-o", "json").stdout.startswith("{")
    assert site.cli("token", "tokened").returncode == 0


def test_the_trace_of_an_endpoint_has_every_arrival_and_is_read_by_simulate(site: Site, tmp_path: Path) -> None:
    key, _ = site.keys("echo")
    before = len(trace_rows(site, "echo"))
    for size in (10, 2000):
        assert site.score("echo", key, {"data": "x" * size}).status == 200
    assert site.score("echo").status == 401  # never reached a version
    rows = trace_rows(site, "echo")
    assert len(rows) == before + 2
    arrival, service_ms, size_bytes = rows[-1]
    assert float(arrival) >= float(rows[-2][0]) and 1.0 <= float(service_ms) < 30_000 and int(size_bytes) > 2000
    file = tmp_path / "trace.csv"
    assert "requests written" in site.cli("trace", "echo", "-o", str(file)).stderr
    simulated = subprocess.run(
        [sys.executable, "-m", "scorefront", "simulate", str(file), "-o", "json"], capture_output=True, check=True
    )
    assert json.loads(simulated.stdout)[0]["refused"] == 0


def trace_rows(site: Site, endpoint: str) -> list[list[str]]:
    """Rows of the trace without the header."""
    text = site.cli("trace", endpoint, "--since", "10m").stdout
    header, *rows = [line.split(",") for line in text.splitlines()]
    assert header == ["arrival", "service_ms", "bytes"]
    return rows
