"""Routers and the leader agree on the owner of a name and on the replica that a pod is."""

import random
from typing import Any

import pytest

from cluster.changes import Upsert
from cluster.kubernetes.client.cache import ObjectGone, ObjectPut, ObjectsListed
from cluster.kubernetes.client.selectors import parsed
from cluster.kubernetes.cluster_index import NameOwnership, ReplicaIndex, ReplicaRule, Step, rule_of, seniority_of
from cluster.kubernetes.discovery import Discovery
from cluster.kubernetes.endpoint_objects import EndpointObjects, is_leaving
from cluster.kubernetes.objects.endpoint_status import selectors_of
from cluster.kubernetes.objects.scoring_endpoint import endpoint_of
from serving.endpoint import VersionKey
from serving.replica import Replica

Object = dict[str, Any]
Place = tuple[str, str]
NAMES, NAMESPACES = ("iris", "rose"), ("a", "b")


class LeaderModel:
    """Objects and pods as the leader indexes them, with a rule for every version of the owner of each name."""

    def __init__(self) -> None:
        self.objects = EndpointObjects()
        self.index = ReplicaIndex()
        self.replicas: dict[str, Replica] = {}
        self._declared: set[VersionKey] = set()

    def endpoint(self, change: ObjectPut | ObjectGone) -> None:
        if isinstance(change, ObjectPut):
            self.objects.put(change.object)
        else:
            self.objects.gone(change.object)
        wanted: dict[VersionKey, ReplicaRule | None] = {}
        for name in NAMES:
            owner = self.objects.owner(name)
            if owner is None or is_leaving(owner):
                continue
            for version in endpoint_of(owner).versions:
                selector = selectors_of(owner).get(version.name)
                wanted[VersionKey(name, version.name)] = rule_of(version, owner["metadata"]["namespace"], selector)
        self.apply(self.index.declare({**dict.fromkeys(self._declared), **wanted}))
        self._declared = set(wanted)

    def pod(self, change: ObjectPut | ObjectGone) -> None:
        self.apply(self.index.put(change.object) if isinstance(change, ObjectPut) else self.index.gone(change.object))

    def apply(self, steps: list[Step]) -> None:
        for step in steps:
            if isinstance(step, Upsert):
                self.replicas[step.replica.id] = step.replica
            else:
                del self.replicas[step.replica_id]

    def owners(self) -> dict[str, str]:
        found = {name: self.objects.owner(name) for name in NAMES}
        return {name: each["metadata"]["namespace"] for name, each in found.items() if each and not is_leaving(each)}


def made(name: str) -> Object:
    return {"name": name, "replica": {"image": "registry/model:1", "port": 5001}}


def adopted(name: str) -> Object:
    return {"name": name, "replica": {"workloadRef": {"kind": "Deployment", "name": f"w-{name}"}, "port": 80}}


def some_endpoint(draw: random.Random, generation: int, known: Object | None) -> Object:
    """Another state of `known`, or another object of that name."""
    kinds = [draw.choice((made, adopted))(name) for name in draw.sample(("blue", "green"), draw.randint(1, 2))]
    kinds[0]["isDefault"] = True
    created = draw.randint(1, 3)
    metadata: Object = {
        "name": draw.choice(NAMES),
        "namespace": draw.choice(NAMESPACES),
        "uid": f"uid-{generation}",
        "creationTimestamp": f"2030-01-01T00:00:{created:02}Z",
    }
    if known is not None:
        metadata = {name: value for name, value in known["metadata"].items() if name != "generation"}
        if draw.random() < 0.2:
            metadata["deletionTimestamp"] = "2030-01-02T00:00:00Z"
    selectors = [
        {"name": each["name"], "selector": draw.choice(("app=x", "app=y", "app in (x,y)", "tier!=a"))} for each in kinds
    ]
    return {
        "apiVersion": "scorefront.io/v1alpha1",
        "kind": "ScoringEndpoint",
        "metadata": {**metadata, "generation": generation},
        "spec": {"versions": kinds},
        "status": {"versions": selectors if draw.random() < 0.8 else []},
    }


def some_pod(draw: random.Random) -> Object:
    labels = {}
    if draw.random() < 0.6:
        labels = {"scorefront.io/endpoint": draw.choice(NAMES), "scorefront.io/version": draw.choice(("blue", "green"))}
    if draw.random() < 0.6:
        labels["app"] = draw.choice(("x", "y"))
    name, namespace = draw.choice(("p1", "p2", "p3")), draw.choice(NAMESPACES)
    uid = f"{name}{namespace}{draw.choice('12')}-0000-0000"
    return {
        "metadata": {"name": name, "namespace": namespace, "uid": uid, "labels": labels},
        "status": {
            "phase": draw.choice(("Running", "Running", "Pending", "Succeeded")),
            "podIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": draw.choice(("True", "False"))}],
        },
    }


@pytest.mark.parametrize("seed", range(60))
def test_routers_and_the_leader_agree_on_name_owners_and_replicas(seed: int) -> None:
    draw = random.Random(seed)
    leader, routers = LeaderModel(), Discovery()
    crs: dict[Place, Object] = {}
    pods: dict[Place, Object] = {}
    for generation in range(1, 81):
        if draw.random() < 0.5:
            objects, found = crs, some_endpoint(draw, generation, None)
            place = found["metadata"]["namespace"], found["metadata"]["name"]
            if place in crs and draw.random() < 0.9:
                found = some_endpoint(draw, generation, crs[place])
        else:
            objects, found = pods, some_pod(draw)
        place = found["metadata"]["namespace"], found["metadata"]["name"]
        gone = place in objects and draw.random() < 0.3
        change = ObjectGone(objects.pop(place)) if gone else ObjectPut(found)
        if not gone:
            objects[place] = found
        if objects is crs:
            leader.endpoint(change)
            routers.endpoint_changes(change)
        else:
            leader.pod(change)
            routers.pod_changes(change if draw.random() < 0.8 else ObjectsListed(tuple(pods.values())))
        assert {name: each.namespace for name, each in routers.served().items()} == leader.owners(), f"seed {seed}"
        served = {key for each in routers.served().values() for key in each.rules}
        known = {each.id: each for each in routers.replicas() if each.key in served}
        if known != leader.replicas:
            # A router keeps a pod that lost its version until the pod is gone; the leader does not.
            extra = {each: replica for each, replica in known.items() if each not in leader.replicas}
            assert {**leader.replicas, **extra} == known and all(e.state == "draining" for e in extra.values()), seed


# ---- names


def test_the_oldest_object_owns_a_name_until_it_is_dropped() -> None:
    names: NameOwnership[Object] = NameOwnership(seniority_of)
    old = {"metadata": {"creationTimestamp": "2030-01-01T00:00:01Z", "uid": "2"}}
    young = {"metadata": {"creationTimestamp": "2030-01-01T00:00:02Z", "uid": "1"}}
    names.put(("a", "iris"), young)
    names.put(("b", "iris"), old)
    assert names.owner("iris") is old and names.rivals("iris") == [young]
    assert names.drop(("b", "iris")) and not names.drop(("b", "iris"))
    assert names.owner("iris") is young and names.names() == ["iris"]
    assert names.drop(("a", "iris")) and names.owner("iris") is None and names.names() == []


# ---- pods of versions that are not declared


def test_labels_of_an_adopting_version_make_no_replica() -> None:
    index, key = ReplicaIndex(drain_undeclared=True), VersionKey("iris", "blue")
    labels = {"scorefront.io/endpoint": "iris", "scorefront.io/version": "blue"}
    pod = {"metadata": {"name": "p1", "namespace": "a", "uid": "12345678", "labels": labels}, "status": {}}
    index.declare({key: ReplicaRule("a", 80, 1, parsed("app=x"))})
    assert index.put(pod) == []
