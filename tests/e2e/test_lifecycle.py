"""Starting, ending, breaking and starting again."""

import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from loadtests.installation import REPLICA, Installation, manifest, overlaps, witness_version
from tests.e2e.conftest import Site

IRIS = Path(__file__).parents[2] / "examples" / "iris"


def _end(installation: Installation, number: int) -> None:
    started = installation.descendants()
    began = time.monotonic()
    assert installation.stop(number) == 0
    assert time.monotonic() - began < 10
    _, alive = psutil.wait_procs(started, timeout=1)
    assert not alive


def _replicas(installation: Installation) -> list[psutil.Process]:
    found = []
    for process in installation.descendants():
        try:
            if str(REPLICA) in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything_with_status_0(directory: Path, number: signal.Signals) -> None:
    with Installation(directory) as installation:
        installation.start(manifest("echo", [witness_version("blue", numReplicas=2)]))
        _end(installation, number)


def test_the_printed_curl_line_of_the_iris_example_answers_with_a_prediction(directory: Path) -> None:
    subprocess.run([sys.executable, str(IRIS / "train.py")], check=True, capture_output=True)
    with Installation(directory) as installation:
        installation.start_files(IRIS / "endpoint.yaml")
        line = next(line for line in installation.output.read_text().splitlines() if line.startswith("curl "))
        answer = subprocess.run(shlex.split(line), capture_output=True, text=True, check=True, timeout=30)
        assert "setosa" in answer.stdout
        _end(installation, signal.SIGINT)


def test_up_serves_though_its_input_was_closed(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starter = directory / "starter"
    starter.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@" <&-\n')
    starter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(starter))
    with Installation(directory) as installation:
        installation.start(manifest("echo", [witness_version("blue", work_ms=1, numReplicas=1)]))
        site = Site(installation)
        assert site.score("echo", site.keys("echo")[0]).status == 200
        _end(installation, signal.SIGTERM)


def test_kill_9_leaves_nothing_and_the_next_start_has_the_same_keys_and_numbers(directory: Path) -> None:
    first = Installation(directory)
    first.start(manifest("phoenix", [witness_version("blue", autoScaler={"autoscaleEnabled": True, "minReplicas": 2})]))
    keys = Site(first).keys("phoenix")
    left = first.descendants()
    first.stop(signal.SIGKILL)
    _, alive = psutil.wait_procs(left, timeout=5)
    assert not alive
    with Installation(directory) as second:
        second.start()
        site = Site(second)
        assert site.keys("phoenix") == keys
        assert site.score("phoenix", keys[0]).status == 200
        assert site.rest("GET", "/api/v1/endpoints/phoenix").json["status"]["versions"]["blue"]["desired"] == 2
        _end(second, signal.SIGTERM)


def test_a_damaged_endpoint_is_skipped_with_its_reason_and_the_others_are_served(directory: Path) -> None:
    first = Installation(directory)
    first.start(manifest("phoenix", [witness_version("blue", numReplicas=1)]))
    site = Site(first)
    assert site.rest("PUT", "/api/v1/endpoints/dodo", manifest("dodo", [witness_version("blue")])).status == 201
    key, _ = site.keys("phoenix")
    _end(first, signal.SIGTERM)
    damaged = next(directory.rglob("endpoints/dodo.json"))
    damaged.write_text('{"format": 1, "document": {}, "keys": []}')
    with Installation(directory) as second:
        second.start()
        site = Site(second)
        assert site.score("phoenix", key).status == 200
        assert "dodo.json is damaged: Expected `object`, got `array` - at `$.keys`" in second.output.read_text()
        shown = site.cli("get")
        assert shown.returncode == 0 and "dodo: skipped: " in shown.stdout and "phoenix" in shown.stdout
        refused = site.cli("get", "dodo")
        assert refused.returncode == 1 and "at `$.keys`" in refused.stderr
        _end(second, signal.SIGTERM)
    assert damaged.read_text() == '{"format": 1, "document": {}, "keys": []}'


def test_kill_9_of_a_replica_costs_only_its_requests_in_flight(directory: Path) -> None:
    with Installation(directory) as installation:
        installation.start(manifest("echo", [witness_version("blue", work_ms=1, numReplicas=2, maxQueueWaitMs=10_000)]))
        site = Site(installation)
        key, _ = site.keys("echo")
        victim = _replicas(installation)[0]
        victim.kill()
        # Until it is gone the system still accepts data for it: such a request is in flight on it, and lost.
        psutil.wait_procs([victim], timeout=5)
        statuses = [site.score("echo", key).status for _ in range(20)]
        assert set(statuses) == {200}
        deadline = time.monotonic() + 20
        while site.rest("GET", "/readyz").status != 200 or len(_replicas(installation)) != 2:
            assert time.monotonic() < deadline, "the replica has not been replaced"
            time.sleep(0.05)
        assert victim.pid not in [replica.pid for replica in _replicas(installation)]
        _end(installation, signal.SIGTERM)


def test_replicas_are_added_at_once_and_given_back_without_a_failed_request(directory: Path) -> None:
    witness = directory / "witness"
    scaler = {"autoscaleEnabled": True, "minReplicas": 1, "maxReplicas": 3, "scaleDownWindowInSeconds": 2}
    version = witness_version("blue", witness, work_ms=60, autoScaler=scaler, maxQueueWaitMs=10_000)
    with Installation(directory) as installation:
        installation.start(manifest("echo", [version]))
        site = Site(installation)
        key, _ = site.keys("echo")
        command = [sys.executable, "-c", _LOAD, f"{installation.scoring}/api/v1/service/echo/score", key]
        clients = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
        statuses = {status for client in clients for status in client.communicate(timeout=60)[0].split()}
        assert statuses == {"200"}
        ups = [d for d in site.rest("GET", "/api/v1/endpoints/echo/decisions").json["value"] if d["direction"] == "up"]
        assert ups[-1]["desired"] == 3
        assert "÷" in ups[0]["reason"]
        deadline = time.monotonic() + 30
        while site.rest("GET", "/api/v1/endpoints/echo").json["status"]["versions"]["blue"]["ready"] != 1:
            # A trickle: 60 ms of work every 260 ms is a demand of a quarter of a slot.
            assert site.score("echo", key).status == 200
            assert time.monotonic() < deadline, "the replicas have not been given back"
            time.sleep(0.2)
        _end(installation, signal.SIGTERM)
    count, over = overlaps(witness, 1)
    assert count > 100
    assert over == 0


_LOAD = """
import sys, urllib.request
for _ in range(40):
    request = urllib.request.Request(sys.argv[1], b"{}", {"Authorization": "Bearer " + sys.argv[2]})
    try:
        print(urllib.request.urlopen(request, timeout=30).status)
    except urllib.error.HTTPError as error:
        print(error.code)
"""


def test_a_model_that_never_starts_is_reported_with_its_last_lines(directory: Path) -> None:
    broken = directory / "broken.py"
    broken.write_text("print('loading the model')\nraise RuntimeError('no such weights')\n")
    with Installation(directory) as installation:
        installation.start(manifest("echo", [witness_version("blue", work_ms=1, numReplicas=1)]))
        site = Site(installation)
        document = manifest("broken", [{"name": "blue", "replica": {"command": ["python", str(broken)]}}])
        assert site.rest("PUT", "/api/v1/endpoints/broken", document).status == 201
        deadline = time.monotonic() + 20
        while "no such weights" not in (said := site.rest("GET", "/readyz").body.decode() + _message(site, "broken")):
            assert time.monotonic() < deadline, said
            time.sleep(0.1)
        assert site.rest("GET", "/readyz").status == 503
        key, _ = site.keys("broken")
        answer = site.score("broken", key)
        assert (answer.status, answer.body) == (503, b"No ready replicas for service broken.")
        assert answer.headers["Retry-After"]
        assert site.rest("DELETE", "/api/v1/endpoints/broken").status == 204
        assert site.rest("GET", "/readyz").status == 200
        assert site.score("broken", key).status == 404
        _end(installation, signal.SIGTERM)


def _message(site: Site, endpoint: str) -> str:
    message: str = site.rest("GET", f"/api/v1/endpoints/{endpoint}").json["status"]["versions"]["blue"]["message"]
    return message


def test_a_refused_change_leaves_everything_as_it_was(directory: Path) -> None:
    with Installation(directory) as installation:
        installation.start(manifest("echo", [witness_version("blue", work_ms=1, numReplicas=1)]))
        site = Site(installation)
        before = site.rest("GET", "/api/v1/endpoints/echo").json
        pids = {replica.pid for replica in _replicas(installation)}
        wrong = manifest("echo", [witness_version("blue", numReplicas=0), {"name": "x", "replica": {"image": "a/b:1"}}])
        answer = site.rest("PUT", "/api/v1/endpoints/echo", wrong)
        assert answer.status == 400
        assert {fault["path"] for fault in answer.json["error"]["faults"]} >= {"spec.versions[0].numReplicas"}
        assert site.rest("GET", "/api/v1/endpoints/echo").json["spec"] == before["spec"]
        assert {replica.pid for replica in _replicas(installation)} == pids
        _end(installation, signal.SIGTERM)


def test_two_installations_cannot_share_an_address_or_a_state_directory(directory: Path) -> None:
    with Installation(directory) as installation:
        installation.start(manifest("echo", [witness_version("blue", numReplicas=1)]))
        taken = installation.scoring.removeprefix("http://")
        command = [sys.executable, "-m", "scorefront", "up", "--control", "127.0.0.1:0", "--state-dir"]
        same_address = subprocess.run(
            [*command, str(directory / "other"), "--listen", taken],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (same_address.returncode, taken in same_address.stderr) == (1, True)
        same_state = subprocess.run(
            [*command, str(directory / "state"), "--listen", "127.0.0.1:0"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        told = f"scorefront: another scorefront is running with the state directory {directory / 'state'};"
        assert same_state.returncode == 1
        assert same_state.stderr == f"{told} stop it first, or choose another --state-dir\n"
        assert "Traceback" not in same_state.stderr + same_address.stderr
        _end(installation, signal.SIGTERM)


@pytest.mark.parametrize("start", ["declared by -f", "kept in the state"])
def test_readyz_is_200_only_once_every_endpoint_serves(directory: Path, start: str) -> None:
    version = witness_version("blue", work_ms=1, numReplicas=2)
    version["replica"]["command"] += ["--start-ms", "800"]
    documents = [manifest(name, [version], authEnabled=False) for name in ("first", "second")]
    if start == "kept in the state":
        with Installation(directory) as before:
            before.start(*documents)
            assert before.stop() == 0
    with Installation(directory) as installation, socket.socket() as scoring, socket.socket() as control:
        for chosen in (scoring, control):  # the ports stay this test's until `up` is about to listen
            chosen.bind(("127.0.0.1", 0))
        listen, control_at = ("{}:{}".format(*each.getsockname()) for each in (scoring, control))
        scoring.close()
        control.close()
        seen: list[tuple[int, list[int]]] = []
        asking = threading.Thread(target=_first_ready, args=(listen, control_at, seen), daemon=True)
        asking.start()
        installation.start(*(documents if start == "declared by -f" else []), listen=listen, control=control_at)
        asking.join(30)
        assert seen == [(200, [200, 200])]


def _first_ready(listen: str, control: str, seen: list[tuple[int, list[int]]]) -> None:
    """Ask /readyz until it is 200, then score both endpoints at once; notes the statuses."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        status = _status(f"http://{control}/readyz")
        if status == 200:
            scores = [_status(f"http://{listen}/api/v1/service/{name}/score", b"{}") for name in ("first", "second")]
            seen.append((status, scores))
            return
        time.sleep(0.002)  # interval of the polls


def _status(url: str, data: bytes | None = None) -> int:
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_an_address_in_use_is_named_with_its_option_and_a_remedy(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "{}:{}".format(*taken.getsockname())
        command = [
            sys.executable,
            "-m",
            "scorefront",
            "up",
            "--state-dir",
            str(directory / "state"),
            "--listen",
            address,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    remedy = "stop the process that listens there, or choose another address"
    assert f"--listen: cannot listen on {address}: Address already in use; {remedy}\n" in done.stderr
