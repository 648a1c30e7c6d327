"""Maintenance of nodes: replicas are evicted as `kubectl drain` does it."""

import asyncio
import contextlib

from loadtests.witness import over
from tests.cluster.played.kube import ApiFailure, Object
from tests.cluster.played.patience import until
from tests.cluster.played.podstatus import is_ready
from tests.cluster.played.site import HOME, Site

PODS, BUDGETS = f"/api/v1/namespaces/{HOME}/pods", f"/apis/policy/v1/namespaces/{HOME}/poddisruptionbudgets"
EVICTED_S = 90.0
REFUSED = 429


async def budget(site: Site, name: str) -> Object | None:
    """The budget of the version blue, None without one. Raises ApiFailure."""
    found = await site.kube.items(BUDGETS, labelSelector=f"scorefront.io/endpoint={name}")
    return found[0] if found else None


async def evict(site: Site, pod: Object) -> int:
    """Evict a pod until it is gone, as often as the API refuses; the number of refusals. Raises TimeoutError."""
    metadata, refusals = pod["metadata"], 0
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": metadata["name"]}}

    async def accepted() -> bool:
        nonlocal refusals
        try:
            await site.kube.create(f"{PODS}/{metadata['name']}/eviction", eviction)
        except ApiFailure as failure:
            refusals += failure.status == REFUSED
            return failure.status == 404
        return True

    await until(accepted, f"the eviction of {metadata['name']}", EVICTED_S)
    return refusals


async def fewest_ready(site: Site, name: str, seen: list[int]) -> None:
    """Note after every change how many pods are ready and not leaving, until cancelled."""
    there: dict[str, Object] = {}
    selector = f"scorefront.io/endpoint={name}"
    async with contextlib.aclosing(site.kube.changes(PODS, labelSelector=selector)) as changes:
        async for change in changes:
            there.pop(change.object["metadata"]["uid"], None)
            if not change.gone:
                there[change.object["metadata"]["uid"]] = change.object
            taking = [is_ready(each) and not each["metadata"].get("deletionTimestamp") for each in there.values()]
            seen.append(sum(taking))


async def test_of_a_drained_node_one_replica_of_a_version_at_a_time_is_away(site: Site, name: str) -> None:
    await site.apply(name, site.version(work_ms=50, numReplicas=3, maxQueueWaitMs=10_000))
    await site.ready(name, 3)

    async def is_kept() -> bool:
        found = await budget(site, name)
        return found is not None and found.get("status", {}).get("disruptionsAllowed") == 1

    await until(is_kept, "the disruption budget")
    pods = await site.pods(name)
    clients = await site.clients(name, 2)
    clients.start()
    seen: list[int] = []
    watching = asyncio.create_task(fewest_ready(site, name, seen), name="watch pods")
    await until(lambda: saw_three(seen), "the first look at the pods")
    del seen[:-1]
    try:
        refusals = await asyncio.gather(*(evict(site, pod) for pod in pods))
        await site.ready(name, 3)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        tally = await clients.stop()
    assert min(seen) == 2 and sum(refusals) > 0
    assert not {each["metadata"]["uid"] for each in pods} & {each["metadata"]["uid"] for each in await site.pods(name)}
    assert tally.failures == [] and over(site.spans(), 1) == 0
    site.leave(name)


async def saw_three(seen: list[int]) -> bool:
    return bool(seen) and seen[-1] == 3


async def test_the_only_replica_of_a_version_never_keeps_a_node_from_being_drained(site: Site, name: str) -> None:
    await site.apply(name, site.version(work_ms=10, numReplicas=2, maxQueueWaitMs=10_000))
    await site.ready(name, 2)

    async def is_kept() -> bool:
        return await budget(site, name) is not None

    async def is_gone() -> bool:
        return not await is_kept()

    await until(is_kept, "the disruption budget")
    await site.apply(name, site.version(work_ms=10, numReplicas=1, maxQueueWaitMs=10_000))
    await until(is_gone, "the end of the disruption budget")
    await site.ready(name, 1)
    (pod,) = await site.pods(name)
    assert await evict(site, pod) == 0
    site.leave(name)
