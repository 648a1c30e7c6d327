"""What people are told about each cause that keeps pods away: kubectl get and describe, scorefront get, why, doctor."""

import asyncio
import contextlib
import re
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest
import pytest_asyncio

from tests.cluster.played.cli import doctor, scorefront
from tests.cluster.played.kube import Kube, Object
from tests.cluster.played.kubectl import kubectl
from tests.cluster.played.patience import until
from tests.cluster.played.site import HOME, REST_PORT, Site

LEAST = 1
"""minReplicas of replicas that fail."""
ROLE = "/apis/rbac.authorization.k8s.io/v1/clusterroles/scorefront-control-endpoints"


@dataclass(frozen=True, slots=True)
class Cause:
    """A cause, and what is said about it."""

    condition: str
    reason: str
    text: str
    """In the message of the condition."""
    event: str
    word: str
    """In the STATE column of `scorefront get`."""


QUOTA = Cause("ScalingLimited", "NoRoom", "exceeded quota", "ScalingLimited", "limited")
LIMIT_RANGE = Cause("ScalingLimited", "PodsRefused", "memory", "ScalingLimited", "refused")
NO_IMAGE = Cause("Degraded", "ReplicasFailing", "ImagePull", "ReplicasFailing", "failing")
CRASH_LOOP = Cause("Degraded", "ReplicasFailing", "container", "ReplicasFailing", "failing")
HPA = Cause("ScalingConflict", "ScaledByAnother", "HorizontalPodAutoscaler", "ScalingConflict", "conflict")
NO_RIGHT = Cause("Degraded", "NotReconciled", "403 Forbidden", "NotReconciled", "refused")


@pytest_asyncio.fixture(loop_scope="session")
async def place(kube: Kube, name: str) -> AsyncIterator[str]:
    """A namespace of its own."""
    await kube.create("/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    await kubectl("-n", name, "delete", "sep", "--all", "--timeout=60s")
    await kube.delete(f"/api/v1/namespaces/{name}")


async def told(site: Site, name: str, cause: Cause, namespace: str = HOME) -> None:
    """Wait until the cause is a condition, and check all other places."""

    async def is_told() -> bool:
        condition = await site.condition(name, cause.condition, namespace)
        said = (condition.get("status"), condition.get("reason")) == ("True", cause.reason)
        return said and cause.text in condition["message"]

    await until(is_told, f"the condition {cause.condition} {cause.reason}")
    message = (await site.condition(name, cause.condition, namespace))["message"]
    assert message.startswith("blue: ") and "blue: blue:" not in message and "('" not in message

    async def is_described() -> bool:
        return cause.event in await kubectl("-n", namespace, "describe", "sep", name)

    await until(is_described, "the Event")
    _, row, *rest = (await scorefront(site, "get", name)).splitlines()
    assert cause.word in row and not row.rstrip().endswith("ok"), row
    assert cause.text in "\n".join(rest), rest


@contextlib.asynccontextmanager
async def without(site: Site, resource: str, verb: str) -> AsyncIterator[None]:
    """Take one right from the control plane; once the removals of other tests are over if they need it, too."""
    kube = site.kube
    if verb == "patch":
        await site.all_left()
    rules = (await kube.get(ROLE))["rules"]
    fewer = [
        {**rule, "verbs": [each for each in rule["verbs"] if resource not in rule["resources"] or each != verb]}
        for rule in rules
    ]
    fewer = [rule for rule in fewer if rule["verbs"]]
    await kube.patch(ROLE, {"rules": fewer})
    try:
        yield
    finally:
        await kube.patch(ROLE, {"rules": rules})


async def test_a_quota_is_told_as_no_room(site: Site, kube: Kube, place: str) -> None:
    await kube.create(
        f"/api/v1/namespaces/{place}/resourcequotas", {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "1"}}}
    )
    await site.apply(place, site.version(work_ms=10, numReplicas=3), namespace=place)
    await told(site, place, QUOTA, place)


async def test_a_limit_range_is_told_as_refused_pods(site: Site, kube: Kube, place: str) -> None:
    limits = [{"type": "Container", "max": {"memory": "10Mi"}}]
    await kube.create(
        f"/api/v1/namespaces/{place}/limitranges", {"metadata": {"name": "small"}, "spec": {"limits": limits}}
    )
    await site.apply(place, site.version(work_ms=10, numReplicas=1), namespace=place)
    await told(site, place, LIMIT_RANGE, place)
    assert "starting" not in (await site.condition(place, "Ready", place))["message"]


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"replica": {"image": "registry.example/unknown:1"}}, NO_IMAGE),
        ({"env": {"WORK_MS": "nonsense"}}, CRASH_LOOP),
    ],
    ids=["missing image", "crash loop"],
)
async def test_replicas_that_fail_are_told_with_their_reason(
    site: Site, name: str, fields: Object, cause: Cause
) -> None:
    scaler = {"minReplicas": LEAST, "maxReplicas": 4}
    version = site.version(env=fields.get("env", {}), autoScaler=scaler, maxQueueWaitMs=2000)
    await site.apply(name, {**version, **({"replica": fields["replica"]} if "replica" in fields else {})})
    await until(lambda: has_keys(site, name), "keys")
    seen: list[int] = []
    crowd = await site.clients(name, 4)
    watching = asyncio.create_task(count_pods(site, name, seen), name="count pods")
    crowd.start()
    try:
        await told(site, name, cause)
        assert "failing" in await scorefront(site, "why", name)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await crowd.stop()
    assert 0 < max(seen) <= LEAST + 1, "replicas that cannot start are not multiplied by waiting requests"
    site.leave(name)


async def has_keys(site: Site, name: str) -> bool:
    return bool(await site.key(name))


async def count_pods(site: Site, name: str, seen: list[int]) -> None:
    """Note how many pods there are, until cancelled."""
    while True:
        seen.append(sum(not each["metadata"].get("deletionTimestamp") for each in await site.pods(name)))
        await asyncio.sleep(0.1)  # interval of looks at the pods


async def test_an_autoscaler_is_told_as_a_conflict(site: Site, name: str) -> None:
    await site.apply(name, site.version(work_ms=10, autoScaler={"minReplicas": 1, "maxReplicas": 3}))
    await site.ready(name, 1)
    await kubectl("-n", HOME, "autoscale", f"deployment/{name}-blue", "--min=1", "--max=2")
    await told(site, name, HPA)
    await kubectl("-n", HOME, "delete", "hpa", f"{name}-blue")
    site.leave(name)


async def test_a_missing_right_to_scale_is_told_also_by_why_and_doctor(site: Site, name: str) -> None:
    await site.apply(name, site.version(work_ms=100, autoScaler={"minReplicas": 1, "maxReplicas": 3}))
    await site.ready(name, 1)
    async with without(site, "deployments/scale", "update"):
        crowd = await site.clients(name, 4)
        crowd.start()
        await told(site, name, NO_RIGHT)
        await crowd.stop()
        assert re.search(r"asked for 3: refused: .*403 Forbidden", await scorefront(site, "why", name))
        status, text = await doctor()
        assert status == 1 and "may not update deployments/scale.apps in all namespaces" in text
    site.leave(name)


@pytest.mark.parametrize("verb", ["create", "patch"])
async def test_a_missing_right_on_deployments_is_told(site: Site, name: str, verb: str) -> None:
    async with without(site, "deployments", verb):
        await site.apply(name, site.version(work_ms=10, numReplicas=1))
        await told(site, name, NO_RIGHT)
        status, text = await doctor()
        assert status == 1 and f"may not {verb} deployments.apps in all namespaces" in text
    # A change of the endpoint is tried at once.
    await site.apply(name, site.version(work_ms=11, numReplicas=1))
    await site.ready(name, 1)
    site.leave(name)


async def test_a_new_leader_without_a_right_to_read_says_what_it_waits_for(site: Site) -> None:
    old = await site.holder()
    async with without(site, "horizontalpodautoscalers", "list"):
        assert site.signal(old, signal.SIGKILL)

        async def is_said() -> bool:
            holder = await site.holder()
            leader = next((pod for pod in await site.controls() if pod["metadata"]["name"] == holder), None)
            if leader is None:
                return False
            url = f"https://{leader['status']['podIP']}:{REST_PORT}/readyz"
            try:
                async with aiohttp.ClientSession() as session, session.get(url, ssl=False) as answer:
                    waiting = (await answer.json()).get("waitingFor", [])
            except aiohttp.ClientError:
                return False
            return any(each.startswith("list horizontalpodautoscalers: ") and "403" in each for each in waiting)

        await until(is_said, "the reason in /readyz")
        status, text = await doctor()
        assert status == 1 and "may not list horizontalpodautoscalers.autoscaling" in text
    await site.installed()
