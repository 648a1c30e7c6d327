"""Liveness of pods by readiness and by the requests that routers hold."""

import asyncio
from typing import Any

import aiohttp
import pytest

from cluster.kubernetes.hung_pods import SilentPods
from cluster.kubernetes.objects.deployment import pod_template
from serving.endpoint import LivenessProbe, VersionKey
from serving.manifest import parse, to_endpoint
from tests.cluster.played.probe import Probe
from tests.unit.serving.documents import document, version

LIVENESS = LivenessProbe(period_s=10.0, initial_delay_s=300.0, timeout_s=2.0, failure_threshold=3)
ID = "iris-blue-1.01234567"


def pod(is_ready: bool) -> dict[str, Any]:
    return {
        "metadata": {"name": "iris-blue-1", "uid": "0123456789ab", "namespace": "home"},
        "status": {"conditions": [{"type": "Ready", "status": str(is_ready)}]},
    }


def first_hung(silent: SilentPods, from_s: int, busy: set[str], is_ready: bool = False) -> int | None:
    """The first second at which the pod counts as hung, within 20 minutes."""
    for now in range(from_s, from_s + 1200):
        if silent.hung([pod(is_ready)], busy, LIVENESS, float(now)):
            return now
    return None


def test_a_pod_that_scores_for_ever_is_alive_whatever_its_health_path_says() -> None:
    assert first_hung(SilentPods(), 0, {ID}) is None


def test_a_pod_without_readiness_and_request_is_hung_after_all_failing_probes() -> None:
    silent = SilentPods()
    assert first_hung(silent, 0, set(), is_ready=True) is None
    assert first_hung(silent, 1200, set()) == 1230


def test_a_request_that_ends_begins_the_time_anew() -> None:
    silent = SilentPods()
    silent.hung([pod(True)], set(), LIVENESS, 0.0)
    silent.hung([pod(False)], set(), LIVENESS, 1.0)
    silent.hung([pod(False)], {ID}, LIVENESS, 29.0)
    assert first_hung(silent, 30, set()) == 60


def test_a_first_start_has_its_initial_delay_and_a_forgotten_pod_begins_again() -> None:
    silent = SilentPods()
    assert first_hung(silent, 0, set()) == 330
    silent.keep(())
    assert first_hung(silent, 400, set()) == 730


@pytest.mark.parametrize(("answer", "alive"), [(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", True), (b"", True)])
async def test_a_kubelet_lets_a_busy_server_live_that_answers_503_or_is_silent(answer: bytes, alive: bool) -> None:
    async def busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(busy, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    probed = {"initialDelaySeconds": 0, "periodSeconds": 1, "failureThreshold": 1}
    declared = version(replica={"image": "m", "port": port}, livenessProbeRequirements=probed, scoringTimeoutMs=1)
    [only] = to_endpoint(parse(document(declared))).versions
    spec = pod_template(VersionKey("iris", "blue"), only)["spec"]["containers"][0]["livenessProbe"]
    probe = Probe(spec, "127.0.0.1", {}, lambda command: asyncio.sleep(0, 0), passes_at_first=True)
    async with aiohttp.ClientSession() as session:
        assert await probe._once(session) is alive
        server.close()
        await server.wait_closed()
        assert not await probe._once(session)
