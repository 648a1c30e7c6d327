"""An endpoint's whole life in a cluster, as a user sees it: kubectl in front, HTTP behind the Service."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from loadtests.witness import over
from tests.cluster.played.cli import scorefront
from tests.cluster.played.images import ROOT
from tests.cluster.played.kube import Kube, Object
from tests.cluster.played.kubectl import Refused, apply, kubectl
from tests.cluster.played.patience import until
from tests.cluster.played.site import HOME, Site, empty, named

SAMPLE = json.loads((ROOT / "examples" / "iris" / "sample.json").read_text())
DIES_WITHIN_S = 1.0
SELECTOR = "scorefront.io/endpoint={}"


@pytest_asyncio.fixture(loop_scope="session")
async def endpoint(site: Site, name: str) -> AsyncIterator[str]:
    """One with a single pod, that answers; its name."""
    await site.apply(name, site.version(work_ms=10, numReplicas=1, maxQueueWaitMs=5000))
    await site.ready(name, 1)
    yield name
    site.leave(name)


async def ready_condition(site: Site, name: str) -> bool:
    return (await site.condition(name, "Ready")).get("status") == "True"


async def test_the_example_is_applied_and_scored_in_both_versions(site: Site) -> None:
    await apply("-n", HOME, "-f", str(ROOT / "examples" / "iris" / "cluster.yaml"))
    try:
        await site.ready("iris", 2)
        status, header, body = await site.score("iris", SAMPLE)
        assert status == 200
        assert "predictions" in json.loads(body)
        for version in ("blue", "green"):
            status, header, _ = await site.score("iris", SAMPLE, azureml_model_deployment=version)
            assert (status, header["azureml-model-deployment"]) == (200, version)
    finally:
        site.leave("iris")


async def test_kubectl_get_shows_the_main_columns_of_an_endpoint(site: Site, endpoint: str) -> None:
    await until(lambda: ready_condition(site, endpoint), "the condition Ready")
    head, row = (await kubectl("-n", HOME, "get", "sep", endpoint)).splitlines()
    assert head.split() == ["NAME", "READY", "REPLICAS", "DEFAULT", "URL", "AGE"]
    assert row.split()[:4] == [endpoint, "True", "1/1", "blue"]
    assert row.split()[4].endswith(f"/api/v1/service/{endpoint}/score")


async def test_an_invalid_manifest_is_refused_by_kubectl_apply_and_leaves_the_endpoint_unchanged(
    site: Site, endpoint: str
) -> None:
    before = (await site.endpoint(endpoint))["spec"]
    first, second = site.version("blue", trafficPercentile=80), site.version("green", trafficPercentile=30)
    with pytest.raises(Refused, match=r"spec\.versions"):
        await site.apply(endpoint, first, second)
    assert (await site.endpoint(endpoint))["spec"] == before
    assert (await site.score(endpoint))[0] == 200


async def test_scoring_needs_a_key(site: Site, endpoint: str) -> None:
    assert (await site.score(endpoint, key="x" * 32))[0] == 401


async def test_a_key_that_is_made_anew_is_in_force_everywhere_and_the_other_one_stays(
    site: Site, endpoint: str
) -> None:
    old, other = await site.key(endpoint), await site.key(endpoint, "secondaryKey")
    await scorefront(site, "keys", endpoint, "--regenerate", "primary", "-o", "json")
    began_s = time.monotonic()

    async def is_refused() -> bool:
        return {(await site.score(endpoint, key=old))[0] for _ in range(4)} == {401}

    await until(is_refused, "the end of the old key", DIES_WITHIN_S)
    assert time.monotonic() - began_s <= DIES_WITHIN_S
    assert await site.key(endpoint) != old
    assert (await site.score(endpoint))[0] == 200
    assert (await site.score(endpoint, key=other))[0] == 200


async def test_more_pods_come_under_load_and_go_after_it_without_a_lost_request(site: Site, name: str) -> None:
    scaler = {"minReplicas": 1, "maxReplicas": 4, "scaleDownWindowInSeconds": 3}
    await site.apply(name, site.version(work_ms=100, autoScaler=scaler, maxQueueWaitMs=10_000))
    await site.ready(name, 1)
    crowd = await site.clients(name, 4)
    crowd.start()
    await site.ready(name, 4)
    tally = await crowd.stop()
    few = await site.clients(name, 1, think_s=0.5)
    few.start()
    await site.ready(name, 1)
    trickle = await few.stop()
    assert [*tally.failures, *trickle.failures] == []
    assert over(site.spans(), 1) == 0
    site.leave(name)


async def test_an_endpoint_that_is_deleted_leaves_nothing_behind(site: Site, name: str) -> None:
    await site.apply(name, site.version(work_ms=10, numReplicas=2))
    await site.ready(name, 2)
    assert (await site.endpoint(name))["metadata"]["finalizers"] == ["scorefront.io/drain"]
    await site.remove(name)

    async def nothing_is_left() -> bool:
        kinds = "deployments,replicasets,secrets,pods"
        return not (await kubectl("-n", HOME, "get", kinds, "-l", SELECTOR.format(name), "-o", "name")).strip()

    await until(nothing_is_left, "the end of everything")
    assert (await site.score(name, key="x" * 32))[0] == 404


async def test_an_endpoint_in_another_namespace_is_served_and_a_taken_name_is_a_condition(
    site: Site, kube: Kube, endpoint: str
) -> None:
    there, mine = f"{endpoint}-ns", f"{endpoint}-b"
    await kube.create("/api/v1/namespaces", {"metadata": {"name": there}})
    try:
        await site.apply(mine, site.version(work_ms=10, numReplicas=1), namespace=there)
        await site.apply(endpoint, site.version(work_ms=10, numReplicas=1), namespace=there)
        await site.ready(mine, 1, namespace=there)

        async def is_told() -> bool:
            told = await site.condition(endpoint, "Degraded", there)
            return told.get("status") == "True" and f"{HOME}/{endpoint}" in told["message"]

        await until(is_told, "the condition Degraded")
        assert (await site.condition(endpoint, "Degraded")).get("status") == "False"
        assert named(await site.pods(endpoint, there)) == []
    finally:
        site.later(empty(kube, there))


async def test_a_different_declaration_by_hand_is_reported_and_kept(site: Site, endpoint: str) -> None:
    workload = await deployment(site, endpoint)
    container = {"name": "model", "image": "registry.example/model:theirs"}
    theirs: Object = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": workload["metadata"]["name"], "namespace": HOME},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }
    path = f"/apis/apps/v1/namespaces/{HOME}/deployments/{workload['metadata']['name']}"
    await site.kube.apply(path, theirs, manager="somebody")

    async def is_told() -> bool:
        told = await site.condition(endpoint, "Degraded")
        return told.get("status") == "True" and "somebody" in told["message"]

    await until(is_told, "the condition Degraded")
    seen = await site.kube.get(path)
    assert seen["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example/model:theirs"


async def test_an_autoscaler_on_the_same_workload_is_reported_and_left_alone_until_it_is_gone(
    site: Site, endpoint: str
) -> None:
    workload = (await deployment(site, endpoint))["metadata"]["name"]
    path = f"/apis/autoscaling/v2/namespaces/{HOME}/horizontalpodautoscalers"
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": workload}
    spec = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 2}
    await site.kube.create(path, {"metadata": {"name": endpoint}, "spec": spec})

    async def is_told() -> bool:
        told = await site.condition(endpoint, "ScalingConflict")
        return told.get("status") == "True" and endpoint in told["message"]

    async def is_over() -> bool:
        return (await site.condition(endpoint, "ScalingConflict")).get("status") == "False"

    try:
        await until(is_told, "the condition ScalingConflict")
        await site.apply(endpoint, site.version(work_ms=10, numReplicas=3, maxQueueWaitMs=5000))
        await asyncio.sleep(3)
        assert (await deployment(site, endpoint))["spec"]["replicas"] == 1
    finally:
        await site.kube.delete(f"{path}/{endpoint}")
    await until(is_over, "the end of the conflict")
    await site.ready(endpoint, 3)


async def test_unschedulable_pods_are_reported_and_the_others_serve(site: Site, name: str) -> None:
    # The played node has 1000 cores: two pods of 400 have room beside the product.
    version = site.version(work_ms=10, numReplicas=4, containerResourceRequirements={"cpu": 400, "memoryInGB": 0.1})
    await site.apply(name, version)

    async def is_limited() -> bool:
        told = await site.condition(name, "ScalingLimited")
        return told.get("status") == "True" and "nsufficient cpu" in told["message"]

    await until(is_limited, "the condition ScalingLimited")
    await until(lambda: site.answers(name), "an answer")
    assert len(await site.pods(name)) <= 4
    site.leave(name)


async def deployment(site: Site, name: str) -> Object:
    """The one of an endpoint with one version."""
    path = f"/apis/apps/v1/namespaces/{HOME}/deployments"
    (found,) = await site.kube.items(path, labelSelector=SELECTOR.format(name))
    return found
