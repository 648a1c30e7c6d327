"""F1: a Deployment that an endpoint does not own is neither scaled, annotated, changed nor deleted for it."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from cluster.kubernetes.client.api_errors import ApiError
from cluster.kubernetes.client.paths import DEPLOYMENTS, ENDPOINTS, EVENTS, PODS
from serving.endpoint import VersionKey
from serving.faults import InvalidManifest
from serving.manifest import parse
from tests.fakes import foreign
from tests.fakes.cluster import Leadership, image, scoring_endpoint
from tests.fakes.foreign import Untouched

Object = dict[str, Any]
ENDPOINT = "/apis/scorefront.io/v1alpha1/namespaces/home/scoringendpoints/"
BY_REFERENCE = {"name": "api", "replica": {"workloadRef": {"kind": "Deployment", "name": "payments-api"}, "port": 80}}

FOREIGN: dict[str, tuple[str, Callable[[], Object]]] = {
    "no owner": ("WorkloadTaken", lambda: foreign.deployment("payments-api")),
    "owned by another endpoint": (
        "AlreadyClaimed",
        lambda: foreign.deployment("payments-api", owner=foreign.endpoint_controller("payments", "another-uid")),
    ),
    "owned by a foreign kind": (
        "WorkloadTaken",
        lambda: foreign.deployment("payments-api", owner=foreign.controller("Rollout", "payments-api", "r-1")),
    ),
    "our labels and no owner": (
        "WorkloadTaken",
        lambda: foreign.deployment(
            "payments-api", labels={"scorefront.io/endpoint": "payments", "scorefront.io/version": "api"}
        ),
    ),
    "claimed by another endpoint": (
        "AlreadyClaimed",
        lambda: foreign.deployment("payments-api", annotations={"scorefront.io/claimed-by": "another-uid"}),
    ),
}
"""Owner of the Deployment under the name `payments-api` -> the reason in the endpoint's status."""


@pytest.fixture
async def leader() -> AsyncIterator[Leadership]:
    made = Leadership()
    await made.start()
    made.plane.reports.workers_expected(["w1"])
    yield made
    await made.stop()


def payments(**fields: Any) -> Object:
    return scoring_endpoint("payments", versions=[image("api", numReplicas=1, **fields)])


async def delete(leader: Leadership, name: str) -> None:
    await leader.kubernetes.delete(ENDPOINT + name)
    await leader.settle(80)
    assert not leader.has_endpoint(name), "the endpoint is not kept from going"


@pytest.mark.parametrize("whose", FOREIGN)
@pytest.mark.parametrize("knows", ["before", "with the endpoint"])
async def test_a_foreign_deployment_under_the_name_of_a_version_is_left_alone(
    leader: Leadership, whose: str, knows: str
) -> None:
    reason, made = FOREIGN[whose]
    leader.kubernetes.put(DEPLOYMENTS, made())
    await leader.settle(1.0 if knows == "before" else 0.0)
    untouched = Untouched(leader.kubernetes, "payments-api")
    await leader.declare(payments(), 10)
    status, told, message = leader.conditions("payments")["Degraded"]
    assert (status, told) == ("True", reason) and "Deployment home/payments-api" in message
    assert reason in [each["reason"] for each in leader.kubernetes.all(EVENTS)]
    await leader.load(15, busy=1, waiting=9, total=1, key=VersionKey("payments", "api"))
    await delete(leader, "payments")
    untouched.check_unchanged()
    if knows == "before":
        untouched.check()


@pytest.mark.parametrize("whose", FOREIGN)
async def test_a_new_leader_does_not_take_a_foreign_deployment_for_one_that_it_finds(whose: str) -> None:
    first = await Leadership().start()
    await first.declare(payments())
    first.kubernetes.take_away(DEPLOYMENTS, "payments-api")
    await first.stop()
    first.kubernetes.put(DEPLOYMENTS, FOREIGN[whose][1]())
    untouched = Untouched(first.kubernetes, "payments-api")
    second = await Leadership(first.kubernetes, first.clock, fence=2).start()
    await second.settle(10)
    assert second.conditions("payments")["Degraded"][:2] == ("True", FOREIGN[whose][0])
    await delete(second, "payments")
    untouched.check()
    await second.stop()


@pytest.mark.parametrize("verb", ["get", "apply", "merge", "replace", "delete"])
async def test_a_deployment_that_is_deleted_and_made_anew_by_others_before_a_write_is_left_alone(
    leader: Leadership, verb: str
) -> None:
    """The watch has not told of it when the request is sent."""
    await leader.declare(scoring_endpoint("payments", versions=[image("api", numReplicas=3)]), 3)
    kubernetes, untouched = leader.kubernetes, list[Untouched]()

    def swap(asked: str, where: str) -> ApiError | None:
        if asked == verb and "/deployments/payments-api" in where and not untouched:
            kubernetes.take_away(DEPLOYMENTS, "payments-api")
            kubernetes.put(DEPLOYMENTS, foreign.deployment("payments-api"))
            untouched.append(Untouched(kubernetes, "payments-api"))
        return None

    if verb == "merge":  # the fence is gone, so it is put on again
        kubernetes.edit(DEPLOYMENTS, "payments-api", {"metadata": {"annotations": {"scorefront.io/fence": None}}})
        await leader.settle(0.2)
    kubernetes.refusal = swap
    if verb == "delete":
        await kubernetes.delete(ENDPOINT + "payments")
        await leader.settle(1)
    else:
        changed = {**image("api", numReplicas=1), "replica": {"image": "registry/model:2"}}
        kubernetes.edit(ENDPOINTS, "payments", {"spec": {"versions": [changed]}})
        await leader.settle(3)
    for replica in list(leader.routers.replicas):
        leader.plane.reports.replica_drained(replica)
    await leader.settle(70)
    assert untouched, f"no {verb} was sent"
    untouched[0].check_unchanged()
    if verb == "delete":
        assert not leader.has_endpoint("payments")
    else:
        assert leader.conditions("payments")["Degraded"][:2] == ("True", "WorkloadTaken")


async def test_a_foreign_deployment_that_comes_while_ours_is_made_is_not_changed(leader: Leadership) -> None:
    """It even has the selector, the labels and no owner: nothing in it would keep an apply from writing it."""
    labels = {"scorefront.io/endpoint": "payments", "scorefront.io/version": "api"}
    theirs = foreign.deployment("payments-api")
    theirs["metadata"]["labels"] = dict(labels)
    theirs["spec"] = {
        "replicas": 5,
        "selector": {"matchLabels": dict(labels)},
        "template": {"metadata": {"labels": dict(labels)}, "spec": {}},
    }
    untouched: list[Untouched] = []

    def come(asked: str, where: str) -> ApiError | None:
        if asked == "apply" and not untouched:
            leader.kubernetes.put(DEPLOYMENTS, theirs)
            untouched.append(Untouched(leader.kubernetes, "payments-api"))
        return None

    leader.kubernetes.refusal = come
    await leader.declare(payments(), 10)
    assert leader.conditions("payments")["Degraded"][:2] == ("True", "WorkloadTaken")
    untouched[0].check_unchanged()


async def test_an_endpoint_with_a_taken_workload_runs_once_the_name_is_free(leader: Leadership) -> None:
    leader.kubernetes.put(DEPLOYMENTS, foreign.deployment("payments-api"))
    await leader.declare(payments(), 3)
    leader.kubernetes.take_away(DEPLOYMENTS, "payments-api")
    await leader.settle(8)
    assert leader.conditions("payments")["Degraded"][0] == "False"
    assert leader.conditions("payments")["Ready"][0] == "True"


async def test_other_versions_of_the_endpoint_run_on(leader: Leadership) -> None:
    leader.kubernetes.put(DEPLOYMENTS, foreign.deployment("payments-api"))
    untouched = Untouched(leader.kubernetes, "payments-api")
    versions = [image("api", numReplicas=1, isDefault=True), image("blue", numReplicas=2)]
    await leader.declare(scoring_endpoint("payments", versions=versions), 5)
    assert leader.kubernetes.must_find(DEPLOYMENTS, "payments-blue")["spec"]["replicas"] == 2
    message = leader.conditions("payments")["Degraded"][2]
    assert "api: " in message and "blue" not in message
    untouched.check()


async def test_our_deployment_with_a_changed_owner_is_written_no_more(leader: Leadership) -> None:
    await leader.declare(payments(), 3)
    theirs = [foreign.controller("Rollout", "payments-api", "r-1")]
    leader.kubernetes.edit(DEPLOYMENTS, "payments-api", {"metadata": {"ownerReferences": theirs}})
    await leader.settle(1)
    untouched = Untouched(leader.kubernetes, "payments-api")
    leader.kubernetes.edit(ENDPOINTS, "payments", {"spec": {"versions": [image("api", numReplicas=4)]}})
    await leader.settle(10)
    assert leader.conditions("payments")["Degraded"][:2] == ("True", "WorkloadTaken")
    await delete(leader, "payments")
    untouched.check()


async def test_an_owner_that_is_no_controller_makes_nothing_ours(leader: Leadership) -> None:
    await leader.declare(payments(), 0)
    uid = leader.endpoint("payments")["metadata"]["uid"]
    leader.kubernetes.take_away(DEPLOYMENTS, "payments-api") if leader.kubernetes.all(DEPLOYMENTS) else None
    owner = {**foreign.endpoint_controller("payments", uid), "controller": False}
    leader.kubernetes.put(DEPLOYMENTS, foreign.deployment("payments-api", owner=owner))
    untouched = Untouched(leader.kubernetes, "payments-api")
    await leader.settle(10)
    assert leader.conditions("payments")["Degraded"][:2] == ("True", "WorkloadTaken")
    untouched.check_unchanged()


async def test_a_restored_backup_is_left_alone_and_made_anew_once_it_is_gone(leader: Leadership) -> None:
    """Owner and fence are those of the cluster that was saved."""
    old = foreign.deployment(
        "payments-api",
        owner=foreign.endpoint_controller("payments", "uid-before"),
        annotations={"scorefront.io/fence": "lease-before/41"},
    )
    leader.kubernetes.put(DEPLOYMENTS, old)
    untouched = Untouched(leader.kubernetes, "payments-api")
    await leader.declare(payments(), 10)
    assert leader.conditions("payments")["Degraded"][:2] == ("True", "AlreadyClaimed")
    untouched.check_unchanged()
    leader.kubernetes.take_away(DEPLOYMENTS, "payments-api")
    await leader.settle(8)
    assert leader.conditions("payments")["Ready"][0] == "True"


async def test_pods_that_only_carry_the_labels_are_neither_marked_nor_deleted(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint("payments", versions=[image("api", minimum=1, maximum=4)]), 2)
    labels = {"scorefront.io/endpoint": "payments", "scorefront.io/version": "api"}
    bait = foreign.deployment("bait", replicas=3, labels=labels)
    leader.kubernetes.put(DEPLOYMENTS, bait)
    draining = {"scorefront.io/draining": "true", "controller.kubernetes.io/pod-deletion-cost": "-2000"}
    lone = {"metadata": {"name": "bait-alone", "labels": labels, "annotations": draining}, "spec": {}, "status": {}}
    leader.kubernetes.put(PODS, lone)
    await leader.settle(2)
    untouched, alone = Untouched(leader.kubernetes, "bait"), leader.kubernetes.find(PODS, "bait-alone")
    key = VersionKey("payments", "api")
    await leader.provider.scale(key, 3)
    assert leader.kubernetes.must_find(DEPLOYMENTS, "payments-api")["spec"]["replicas"] == 3
    await leader.settle(2)
    theirs = [each for each in leader.routers.replicas if each.startswith("bait-")]
    await leader.provider.scale(key, 1, theirs)
    for replica in list(leader.routers.replicas):
        leader.plane.reports.replica_drained(replica)
    await leader.settle(30)
    assert leader.kubernetes.must_find(DEPLOYMENTS, "payments-api")["spec"]["replicas"] == 1
    await delete(leader, "payments")
    untouched.check()
    assert leader.kubernetes.find(PODS, "bait-alone") == alone


# ---- scorefront's own Deployments


@pytest.mark.parametrize("version", ["router", "control"])
async def test_a_version_with_the_name_of_a_scorefront_workload_is_refused(leader: Leadership, version: str) -> None:
    document = scoring_endpoint("scorefront", versions=[image(version, numReplicas=1)])
    with pytest.raises(InvalidManifest, match=rf"spec.versions\[0\].name: .*scorefront-{version} is a Deployment"):
        parse(document)
    leader.kubernetes.put(DEPLOYMENTS, foreign.deployment(f"scorefront-{version}", app="scorefront"))
    untouched = Untouched(leader.kubernetes, f"scorefront-{version}")
    await leader.declare(document, 10)
    assert leader.conditions("scorefront")["Degraded"][:2] == ("True", "Invalid")
    await delete(leader, "scorefront")
    untouched.check()


def test_the_same_names_elsewhere_are_names_as_any() -> None:
    parse(scoring_endpoint("scorefront", versions=[image("blue")]))
    parse(scoring_endpoint("iris", versions=[image("router")]))


@pytest.mark.parametrize("name", ["scorefront-router", "scorefront-control"])
def test_scorefronts_own_deployments_cannot_be_named_for_adoption(name: str) -> None:
    reference = {"kind": "Deployment", "name": name}
    with pytest.raises(InvalidManifest, match=r"workloadRef.name: must not be a Deployment of scorefront itself"):
        parse(scoring_endpoint(versions=[{"name": "blue", "replica": {"workloadRef": reference}}]))


async def test_a_part_of_scorefront_under_another_name_is_not_adopted(leader: Leadership) -> None:
    """As a kustomization with a name prefix makes it."""
    own = foreign.deployment("payments-api", labels={"scorefront.io/component": "router"})
    leader.kubernetes.put(DEPLOYMENTS, own)
    untouched = Untouched(leader.kubernetes, "payments-api")
    await leader.declare(scoring_endpoint("thief", versions=[BY_REFERENCE]), 10)
    status, reason, message = leader.conditions("thief")["Degraded"]
    assert (status, reason) == ("True", "WorkloadTaken") and "a part of scorefront itself" in message
    untouched.check()
