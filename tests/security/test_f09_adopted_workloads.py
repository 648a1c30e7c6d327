"""F9: an adopted workload belongs to the one version of one endpoint with the claim on it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from cluster.kubernetes.client.paths import DEPLOYMENTS, ENDPOINTS, EVENTS
from cluster.kubernetes.ownership import NotWritable, claim_of
from cluster.kubernetes.ownership import check as check_ownership
from serving.endpoint import VersionKey
from serving.faults import InvalidManifest
from serving.manifest import parse, to_endpoint
from tests.fakes import foreign
from tests.fakes.cluster import Leadership, image, scoring_endpoint
from tests.fakes.foreign import Untouched

Object = dict[str, Any]
CLAIM = "scorefront.io/claimed-by"
ENDPOINT = "/apis/scorefront.io/v1alpha1/namespaces/home/scoringendpoints/"


@pytest.fixture
async def leader() -> AsyncIterator[Leadership]:
    made = Leadership()
    await made.start()
    made.plane.reports.workers_expected(["w1"])
    yield made
    await made.stop()


def adopting(name: str = "blue", workload: str = "theirs", **fields: Any) -> Object:
    return {"name": name, "replica": {"workloadRef": {"kind": "Deployment", "name": workload}, "port": 80}, **fields}


def claim(leader: Leadership, name: str = "theirs") -> str | None:
    return leader.kubernetes.must_find(DEPLOYMENTS, name)["metadata"].get("annotations", {}).get(CLAIM)


def uid(leader: Leadership, endpoint: str) -> str:
    return str(leader.endpoint(endpoint)["metadata"]["uid"])


async def delete(leader: Leadership, name: str) -> None:
    await leader.kubernetes.delete(ENDPOINT + name)
    await leader.settle(10)
    assert not leader.has_endpoint(name)


async def test_a_workload_is_claimed_before_it_is_scaled_and_released_when_the_endpoint_goes(
    leader: Leadership,
) -> None:
    leader.kubernetes.put(DEPLOYMENTS, foreign.deployment("theirs", replicas=4))
    await leader.declare(scoring_endpoint("iris", versions=[adopting(numReplicas=2)]), 3)
    tried = [verb for verb, where, _ in leader.kubernetes.calls if "/deployments/theirs" in where]
    assert tried[0] == "merge" and claim(leader) == uid(leader, "iris")
    await delete(leader, "iris")
    assert claim(leader) is None and leader.kubernetes.find(DEPLOYMENTS, "theirs") is not None


async def test_two_endpoints_on_one_workload_the_later_has_a_condition_and_the_number_is_the_firsts(
    leader: Leadership,
) -> None:
    leader.kubernetes.put(DEPLOYMENTS, foreign.deployment("theirs", replicas=4))
    await leader.declare(scoring_endpoint("victim", versions=[adopting(numReplicas=4)]), 3)
    untouched = Untouched(leader.kubernetes, "theirs")
    await leader.declare(scoring_endpoint("thief", versions=[adopting(numReplicas=1)]), 40)
    status, reason, message = leader.conditions("thief")["Degraded"]
    assert (status, reason) == ("True", "AlreadyClaimed") and "theirs" in message
    assert "AlreadyClaimed" in [each["reason"] for each in leader.kubernetes.all(EVENTS)]
    assert leader.conditions("victim")["Degraded"][0] == "False"
    await delete(leader, "thief")
    untouched.check()
    await delete(leader, "victim")
    await leader.declare(scoring_endpoint("next", versions=[adopting(numReplicas=1)]), 3)
    assert claim(leader) == uid(leader, "next"), "it is free again"


@pytest.mark.parametrize("endpoint", ["thief", "victim"])
async def test_a_deployment_that_was_made_for_a_version_is_not_adopted(leader: Leadership, endpoint: str) -> None:
    """Neither by another endpoint nor by another version of the same one."""
    own = image("made", numReplicas=4)
    await leader.declare(scoring_endpoint("victim", versions=[own]), 3)
    untouched = Untouched(leader.kubernetes, "victim-made")
    if endpoint == "victim":
        versions = [{**own, "isDefault": True}, adopting("other", "victim-made", numReplicas=1)]
        leader.kubernetes.edit(ENDPOINTS, "victim", {"spec": {"versions": versions}})
        await leader.settle(40)
    else:
        await leader.declare(scoring_endpoint("thief", versions=[adopting(workload="victim-made", numReplicas=1)]), 40)
    assert leader.conditions(endpoint)["Degraded"][:2] == ("True", "AlreadyClaimed")
    assert leader.kubernetes.must_find(DEPLOYMENTS, "victim-made")["spec"]["replicas"] == 4
    assert len(leader.kubernetes.pods()) == 4
    if endpoint == "thief":
        await delete(leader, "thief")
        untouched.check()
    else:
        assert claim(leader, "victim-made") is None


async def test_two_versions_of_one_endpoint_on_one_workload_are_refused_by_the_parser() -> None:
    document = scoring_endpoint(versions=[adopting("blue", isDefault=True), adopting("green")])
    with pytest.raises(
        InvalidManifest, match=r"versions\[1\].replica.workloadRef.name: must be unique in the endpoint"
    ):
        parse(document)


async def test_two_versions_that_come_to_one_workload_all_the_same_do_not_fight(
    leader: Leadership, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object from before the rule, still in the API server."""
    monkeypatch.setattr("serving.rules.SPEC_RULES", ())
    leader.kubernetes.put(DEPLOYMENTS, foreign.deployment("theirs", replicas=4))
    versions = [adopting("blue", numReplicas=4, isDefault=True), adopting("green", numReplicas=1)]
    await leader.declare(scoring_endpoint("iris", versions=versions), 40)
    status, reason, message = leader.conditions("iris")["Degraded"]
    assert (status, reason) == ("True", "AlreadyClaimed") and message.startswith("green: ")
    assert leader.kubernetes.must_find(DEPLOYMENTS, "theirs")["spec"]["replicas"] == 4
    assert len(leader.kubernetes.pods()) == 4


async def test_a_change_of_leader_keeps_the_claims(leader: Leadership) -> None:
    leader.kubernetes.put(DEPLOYMENTS, foreign.deployment("theirs", replicas=4))
    await leader.declare(scoring_endpoint("victim", versions=[adopting(numReplicas=4)]), 3)
    await leader.declare(scoring_endpoint("a-thief", versions=[adopting(numReplicas=1)]), 3)
    await leader.stop()
    after = await Leadership(leader.kubernetes, leader.clock, fence=2).start()
    await after.settle(20)
    assert claim(after) == uid(after, "victim")
    assert after.conditions("a-thief")["Degraded"][:2] == ("True", "AlreadyClaimed")
    assert after.kubernetes.must_find(DEPLOYMENTS, "theirs")["spec"]["replicas"] == 4
    assert len(after.kubernetes.pods()) == 4
    await after.stop()


async def test_workloads_that_were_adopted_before_there_were_claims_are_claimed_by_one(leader: Leadership) -> None:
    leader.kubernetes.put(DEPLOYMENTS, foreign.deployment("theirs", replicas=4))
    await leader.declare(scoring_endpoint("one", versions=[adopting(numReplicas=4)]), 3)
    await leader.stop()
    leader.kubernetes.put(ENDPOINTS, scoring_endpoint("two", versions=[adopting(numReplicas=4)]))
    leader.kubernetes.edit(DEPLOYMENTS, "theirs", {"metadata": {"annotations": {CLAIM: None}}})
    after = await Leadership(leader.kubernetes, leader.clock, fence=2).start()
    await after.settle(20)
    degraded = [name for name in ("one", "two") if after.conditions(name)["Degraded"][1] == "AlreadyClaimed"]
    assert len(degraded) == 1 and claim(after) == uid(after, ({"one", "two"} - set(degraded)).pop())
    await after.stop()


async def test_a_claim_that_its_leader_could_not_take_off_is_taken_off_by_the_next(leader: Leadership) -> None:
    leader.kubernetes.put(DEPLOYMENTS, foreign.deployment("theirs"))
    await leader.declare(scoring_endpoint("iris", versions=[adopting(), image("green", isDefault=True)]), 3)
    await leader.stop()
    leader.kubernetes.edit(ENDPOINTS, "iris", {"spec": {"versions": [image("green")]}})
    after = await Leadership(leader.kubernetes, leader.clock, fence=2).start()
    await after.settle(8)
    assert claim(after) is None and after.kubernetes.must_find(DEPLOYMENTS, "theirs")["spec"]["replicas"] == 5
    await after.stop()


async def test_a_version_that_is_renamed_keeps_the_workload(leader: Leadership) -> None:
    leader.kubernetes.put(DEPLOYMENTS, foreign.deployment("theirs", replicas=2))
    await leader.declare(scoring_endpoint("iris", versions=[adopting("blue")]), 3)
    leader.kubernetes.edit(ENDPOINTS, "iris", {"spec": {"versions": [adopting("green")]}})
    await leader.settle(12)
    assert claim(leader) == uid(leader, "iris") and leader.conditions("iris")["Degraded"][0] == "False"


async def test_a_workload_that_others_made_anew_is_claimed_anew_unless_it_has_an_owner(leader: Leadership) -> None:
    leader.kubernetes.put(DEPLOYMENTS, foreign.deployment("theirs", replicas=2))
    await leader.declare(scoring_endpoint("iris", versions=[adopting(numReplicas=2)]), 3)
    leader.kubernetes.take_away(DEPLOYMENTS, "theirs")
    leader.kubernetes.put(DEPLOYMENTS, foreign.deployment("theirs", replicas=3))
    await leader.settle(12)
    assert claim(leader) == uid(leader, "iris")
    leader.kubernetes.take_away(DEPLOYMENTS, "theirs")
    owner = foreign.controller("Rollout", "theirs", "r-1")
    leader.kubernetes.put(DEPLOYMENTS, foreign.deployment("theirs", replicas=3, owner=owner))
    untouched = Untouched(leader.kubernetes, "theirs")
    await leader.settle(12)
    assert leader.conditions("iris")["Degraded"][:2] == ("True", "WorkloadTaken")
    await delete(leader, "iris")
    untouched.check()


async def test_pods_that_only_the_selector_means_are_neither_marked_nor_counted(leader: Leadership) -> None:
    """A thief's Deployment with a selector for the pods of another one."""
    leader.kubernetes.put(DEPLOYMENTS, foreign.deployment("victims", replicas=3, app="shared"))
    leader.kubernetes.put(DEPLOYMENTS, foreign.deployment("bait", replicas=2, app="shared"))
    await leader.declare(scoring_endpoint("thief", versions=[adopting(workload="bait", numReplicas=2)]), 3)
    untouched = Untouched(leader.kubernetes, "victims")
    await leader.provider.scale(VersionKey("thief", "blue"), 1, list(leader.routers.replicas))
    for replica in list(leader.routers.replicas):
        leader.plane.reports.replica_drained(replica)
    await leader.settle(30)
    assert leader.kubernetes.must_find(DEPLOYMENTS, "bait")["spec"]["replicas"] <= 2
    untouched.check()


UNFIT = {
    "labels of another endpoint": foreign.deployment("theirs", labels={"scorefront.io/endpoint": "other"}),
    "labels of another version": foreign.deployment(
        "theirs", labels={"scorefront.io/endpoint": "iris", "scorefront.io/version": "green"}
    ),
    "a claim": foreign.deployment("theirs", annotations={CLAIM: "another-uid"}),
    "an empty claim": foreign.deployment("theirs", annotations={CLAIM: ""}),
}


@pytest.mark.parametrize("case", UNFIT)
async def test_a_workload_with_a_foreign_claim_is_not_adopted(leader: Leadership, case: str) -> None:
    leader.kubernetes.put(DEPLOYMENTS, UNFIT[case])
    untouched = Untouched(leader.kubernetes, "theirs")
    await leader.declare(scoring_endpoint("iris", versions=[adopting(numReplicas=1)]), 10)
    assert leader.conditions("iris")["Degraded"][:2] == ("True", "AlreadyClaimed")
    await delete(leader, "iris")
    untouched.check()


@pytest.mark.parametrize("case", UNFIT)
def test_the_rule_says_so_without_a_cluster(case: str) -> None:
    endpoint = to_endpoint(parse(scoring_endpoint(versions=[adopting()])))
    owner = {"metadata": {"name": "iris", "namespace": "home", "uid": "u-1"}}
    wanted = claim_of("iris", endpoint.versions[0], owner)
    assert wanted is not None
    check_ownership(None, wanted)
    check_ownership(foreign.deployment("theirs", annotations={CLAIM: "u-1"}), wanted)
    with pytest.raises(NotWritable):
        check_ownership(UNFIT[case], wanted)
