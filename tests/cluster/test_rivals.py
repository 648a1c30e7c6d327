"""Other clients that set the number of replicas of a workload, before a real API server with its field managers."""

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio

from tests.cluster.played.kube import Object
from tests.cluster.played.kubectl import kubectl
from tests.cluster.played.patience import until
from tests.cluster.played.records import scales, steps
from tests.cluster.played.site import HOME, Site

ROUNDS, PERIOD_S = 6, 3.0
MOST = 4


@pytest_asyncio.fixture(loop_scope="session")
async def endpoint(site: Site, name: str) -> AsyncIterator[str]:
    """One that scales between one and four pods, and stands at one."""
    scaler = {"minReplicas": 1, "maxReplicas": MOST, "scaleDownWindowInSeconds": 5}
    await site.apply(name, site.version(work_ms=100, autoScaler=scaler, maxQueueWaitMs=10_000))
    await site.ready(name, 1)
    yield name
    site.leave(name)


async def test_a_rival_that_applies_its_number_every_3_s_is_named_and_left_alone(site: Site, endpoint: str) -> None:
    workload = f"{endpoint}-blue"
    clients = await site.clients(endpoint, 5)
    clients.start()
    await site.ready(endpoint, MOST)
    async with scales(site.kube, HOME) as scaled:
        for _ in range(ROUNDS):
            await argo(site, workload, 1)
            await asyncio.sleep(PERIOD_S)
        after = await clients.stop()
        fights = [each.replicas for each in steps(scaled.seen, workload)].count(MOST)
    assert fights <= 3 and after.statuses[200] > 0
    told = await site.condition(endpoint, "ScalingConflict")
    assert told["status"] == "True" and "argocd (Apply) set 1 three times" in told["message"], told
    assert "argocd (Apply)" in await events(endpoint, "ScalingConflict")
    quiet = await site.clients(endpoint, 5)
    quiet.start()
    await argo(site, workload, 1)
    await asyncio.sleep(PERIOD_S)
    assert (await quiet.stop()).failures == [], "no pod goes, no request fails"


async def test_kubectl_scale_by_hand_is_adopted_for_a_window(site: Site, endpoint: str) -> None:
    async with scales(site.kube, HOME) as scaled:
        await kubectl("-n", HOME, "scale", f"deployment/{endpoint}-blue", "--replicas=3")
        await site.ready(endpoint, 3)

        async def is_back() -> bool:
            return [each.replicas for each in steps(scaled.seen, f"{endpoint}-blue")][-1] == 1

        await until(is_back, "the minimum, after the window")
        # A lower number is reached pod by pod, as each is drained; never is it raised again.
        numbers = [each.replicas for each in steps(scaled.seen, f"{endpoint}-blue")]
    assert numbers[:2] == [1, 3] and numbers[1:] == sorted(numbers[1:], reverse=True)


async def argo(site: Site, workload: str, replicas: int) -> None:
    """Server-side apply of a manifest with the number, by another field manager."""
    metadata = {"name": workload, "namespace": HOME}
    body: Object = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {"replicas": replicas},
    }
    await site.kube.apply(f"/apis/apps/v1/namespaces/{HOME}/deployments/{workload}", body, "argocd")


async def events(name: str, reason: str) -> str:
    """Notes of the Events of an endpoint."""
    selector = f"involvedObject.name={name},reason={reason}"
    return await kubectl(
        "-n", HOME, "get", "events", "--field-selector", selector, "-o", "jsonpath={.items[*].message}"
    )
