"""F2: an annotation on a tenant's workload never ends a leader; a newer leader still does, at once."""

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cluster.kubernetes.client.api_errors import ApiUnreachable
from cluster.kubernetes.client.election import Election, ElectionSettings
from cluster.kubernetes.client.paths import DEPLOYMENTS, ENDPOINTS, EVENTS, LEASES
from cluster.kubernetes.fence import Fenced
from scorefront.router.uplink import leader_of
from serving.endpoint import VersionKey
from tests.fakes import foreign
from tests.fakes.cluster import BLUE, LEASE, HeldLease, Leadership, image, scoring_endpoint
from tests.fakes.foreign import Untouched

Object = dict[str, Any]
FENCE = "scorefront.io/fence"
TENANT_B = {"name": "blue", "replica": {"workloadRef": {"kind": "Deployment", "name": "theirs"}, "port": 80}}


@pytest.fixture
async def leader() -> AsyncIterator[Leadership]:
    made = Leadership(fence=7)
    await made.start()
    made.plane.reports.workers_expected(["w1"])
    await made.declare(scoring_endpoint(versions=[image(numReplicas=2)]), 2)
    yield made
    await made.stop()


def fence_on(leader: Leadership, name: str = "iris-blue") -> str | None:
    return leader.kubernetes.must_find(DEPLOYMENTS, name)["metadata"].get("annotations", {}).get(FENCE)


def number(leader: Leadership, name: str = "iris-blue") -> int:
    return int(leader.kubernetes.must_find(DEPLOYMENTS, name)["spec"]["replicas"])


def forge(leader: Leadership, text: str, name: str = "iris-blue") -> None:
    leader.kubernetes.edit(DEPLOYMENTS, name, {"metadata": {"annotations": {FENCE: text}}})


async def scale_to(leader: Leadership, replicas: int) -> None:
    spec = {"spec": {"versions": [image(numReplicas=replicas)]}}
    leader.kubernetes.edit(ENDPOINTS, "iris", spec)
    await leader.settle(8)


def leads_on(leader: Leadership) -> bool:
    running = leader.control._running
    return not leader.control._parts.fence.broken.is_set() and running is not None and not running.done()


async def test_a_forged_fence_fails_its_endpoint_and_no_other(leader: Leadership) -> None:
    forged = f"{leader.lease.lease_uid}/999999999"
    leader.kubernetes.put(DEPLOYMENTS, foreign.deployment("theirs", annotations={FENCE: forged}))
    untouched = Untouched(leader.kubernetes, "theirs")
    await leader.declare(scoring_endpoint("tenant-b", versions=[TENANT_B]), 20)
    status, reason, message = leader.conditions("tenant-b")["Degraded"]
    assert (status, reason) == ("True", "FenceForged") and f"remove the annotation {FENCE}" in message
    assert "FenceForged" in [each["reason"] for each in leader.kubernetes.all(EVENTS)]
    await scale_to(leader, 3)
    assert number(leader) == 3 and leads_on(leader)
    untouched.check()


async def test_leader_after_leader_survives_a_forged_fence_and_the_way_out_works(leader: Leadership) -> None:
    forge(leader, f"{leader.lease.lease_uid}/999999999")
    await leader.stop()
    for fence in (8, 9):
        after = await Leadership(leader.kubernetes, leader.clock, fence).start()
        await after.settle(10)
        assert leads_on(after) and after.conditions()["Degraded"][:2] == ("True", "FenceForged")
        if fence == 9:
            await scale_to(after, 4)
            assert number(after) == 2, "nothing is written"
            after.kubernetes.edit(DEPLOYMENTS, "iris-blue", {"metadata": {"annotations": {FENCE: None}}})
            await after.settle(8)
            assert number(after) == 4 and after.conditions()["Degraded"][0] == "False"
        await after.stop()


@pytest.mark.parametrize(
    "text", ["99999999999999999999", "lease/9", "-1", "none", "{uid}/2147483648", "{uid}/-5", "{uid}/1e9", "7", "8"]
)
async def test_a_fence_that_is_not_valid_or_of_another_lease_is_replaced(leader: Leadership, text: str) -> None:
    forge(leader, text.format(uid=leader.lease.lease_uid))
    await scale_to(leader, 3)
    assert number(leader) == 3 and fence_on(leader) == leader.fence and leads_on(leader)
    assert leader.conditions()["Degraded"][0] == "False"


async def test_a_forged_fence_does_not_raise_the_number_of_the_next_leader(leader: Leadership) -> None:
    """Or the highest number that a Lease can hold would be on a tenant's workload, and no leader could follow."""
    forge(leader, f"{leader.lease.lease_uid}/2147483647")
    election = Election(LEASE, "home", "next", {}, ElectionSettings())
    election.seen(leader.kubernetes.find(LEASES, LEASE), 0.0)
    assert election.bid("now")["spec"]["leaseTransitions"] == 8


async def test_a_lease_lost_without_a_leader_makes_old_fences_stale(leader: Leadership) -> None:
    old = leader.fence
    await leader.stop()
    leader.kubernetes.take_away(LEASES, LEASE)
    after = await Leadership(leader.kubernetes, leader.clock, fence=1).start()
    await after.settle(8)
    assert after.fence != old and fence_on(after) == after.fence and after.fence.endswith("/1")
    await scale_to(after, 3)
    assert number(after) == 3 and leads_on(after)
    await after.stop()


async def test_a_restored_workload_of_ours_with_an_old_fence_is_taken_up(leader: Leadership) -> None:
    """Restored in place: its owner is the endpoint that is there, its fence of a cluster of before."""
    forge(leader, "lease-before/4100")
    await leader.stop()
    after = await Leadership(leader.kubernetes, leader.clock, fence=8).start()
    await after.settle(8)
    assert fence_on(after) == after.fence and leads_on(after) and after.conditions()["Ready"][0] == "True"
    await after.stop()


async def test_a_newer_leader_of_the_same_lease_fences_at_once(leader: Leadership) -> None:
    newer = HeldLease(leader.kubernetes, 8)
    forge(leader, f"{newer.lease_uid}/8")
    await leader.settle(0.1)
    with pytest.raises(Fenced):
        await leader.provider.scale(BLUE, 5)
    with pytest.raises(Fenced):
        await leader.control.run()
    assert number(leader) == 2


async def test_a_leader_of_a_new_lease_fences_the_one_that_still_believes_in_the_lost_one(leader: Leadership) -> None:
    """Two leaders live, and the number of the newer one is lower."""
    leader.kubernetes.take_away(LEASES, LEASE)
    after = await Leadership(leader.kubernetes, leader.clock, fence=1).start()
    await after.settle(1)
    assert fence_on(after) == after.fence
    with pytest.raises(Fenced):
        await leader.provider.scale(BLUE, 9)
    with pytest.raises(Fenced):
        await leader.control.run()
    assert number(after) == 2 and fence_on(after) == after.fence
    await after.provider.scale(BLUE, 3)
    assert number(after) == 3
    await after.stop()


async def test_a_write_that_the_old_leader_had_begun_fails_when_the_new_one_of_a_new_lease_was_faster(
    leader: Leadership,
) -> None:
    """It was read, and found to be ours, before the new leader wrote."""
    newer: list[HeldLease] = []

    def another_leads_by_now(verb: str, where: str) -> None:
        if verb == "replace" and where.endswith("/scale") and not newer:
            leader.kubernetes.take_away(LEASES, LEASE)
            newer.append(HeldLease(leader.kubernetes, 1))
            forge(leader, f"{newer[0].lease_uid}/1")

    leader.kubernetes.refusal = another_leads_by_now
    with pytest.raises(Fenced):
        await leader.provider.scale(BLUE, 9)
    assert number(leader) == 2 and fence_on(leader) == f"{newer[0].lease_uid}/1"


async def test_while_the_lease_cannot_be_read_a_higher_fence_prevents_writes_and_ends_no_leader(
    leader: Leadership,
) -> None:
    forge(leader, f"{leader.lease.lease_uid}/8")
    leader.kubernetes.refusal = lambda verb, where: ApiUnreachable("away") if "/leases/" in where else None
    await scale_to(leader, 3)
    assert number(leader) == 2 and leads_on(leader)
    leader.kubernetes.refusal = lambda verb, where: None
    await leader.settle(8)
    assert number(leader) == 2 and leader.conditions()["Degraded"][1] == "FenceForged"


async def test_each_of_many_leaders_puts_its_own_fence_on_its_objects(leader: Leadership) -> None:
    await leader.stop()
    seen = [fence_on(leader)]
    for fence in (8, 9, 10):
        after = await Leadership(leader.kubernetes, leader.clock, fence).start()
        await after.settle(2)
        seen.append(fence_on(after))
        await after.stop()
    assert all(before != after for before, after in itertools.pairwise(seen)) and None not in seen


def test_a_router_distinguishes_a_recreated_lease() -> None:
    annotations = {"scorefront.io/link": "10.0.0.1:8083"}
    old = {"metadata": {"uid": "a", "annotations": annotations}, "spec": {"holderIdentity": "x", "leaseTransitions": 7}}
    new = {"metadata": {"uid": "b", "annotations": annotations}, "spec": {"holderIdentity": "x", "leaseTransitions": 7}}
    assert leader_of(old) != leader_of(new)


async def test_a_forged_fence_on_a_workload_to_be_deleted_keeps_it_and_has_a_reason(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint("rose", versions=[image("one", numReplicas=1)]), 2)
    forge(leader, f"{leader.lease.lease_uid}/99", "rose-one")
    await leader.kubernetes.delete("/apis/scorefront.io/v1alpha1/namespaces/home/scoringendpoints/rose")
    await leader.settle(70)
    assert leader.kubernetes.find(DEPLOYMENTS, "rose-one") is not None and leads_on(leader)
    assert "FenceForged" in [each["reason"] for each in leader.kubernetes.all(EVENTS)]
    leader.kubernetes.edit(DEPLOYMENTS, "rose-one", {"metadata": {"annotations": {FENCE: None}}})
    await leader.settle(70)
    assert not leader.has_endpoint("rose")
    assert leader.provider.status.facts(VersionKey("iris", "blue")) is not None
