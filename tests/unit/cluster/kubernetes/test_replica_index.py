from collections.abc import Sequence
from typing import Any

import pytest

from cluster.changes import Remove, Upsert
from cluster.kubernetes.client.selectors import parsed
from cluster.kubernetes.cluster_index import ReplicaIndex, ReplicaRule
from cluster.kubernetes.slim_objects import pod_for_leader
from serving.endpoint import VersionKey
from serving.replica import ReplicaState

BLUE, OWN = VersionKey("iris", "blue"), VersionKey("iris", "own")
LABELS = {"scorefront.io/endpoint": "iris", "scorefront.io/version": "blue"}
MADE = ReplicaRule("a", 5001, 2)
ADOPTED = ReplicaRule("a", 80, 1, parsed("app=x"))


def pod(
    name: str = "p1",
    uid: str = "12345678-1",
    namespace: str = "a",
    labels: dict[str, str] | None = None,
    phase: str = "Running",
    **metadata: list[dict[str, str]] | str,
) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "uid": uid, "namespace": namespace, "labels": labels or LABELS, **metadata},
        "spec": {"nodeName": "n", "containers": [{"name": "model", "image": "x"}]},
        "status": {"phase": phase, "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
    }


def upserts(steps: Sequence[Upsert | Remove]) -> list[Upsert]:
    """The steps, without a removal."""
    found = [step for step in steps if isinstance(step, Upsert)]
    assert len(found) == len(steps)
    return found


@pytest.fixture
def index() -> ReplicaIndex:
    made = ReplicaIndex()
    made.declare({BLUE: MADE})
    return made


def test_a_pod_with_the_labels_of_a_version_is_its_replica(index: ReplicaIndex) -> None:
    (step,) = upserts(index.put(pod()))
    assert step.replica.key == BLUE and (step.replica.host, step.replica.port) == ("10.0.0.1", 5001)
    assert step.replica.slots == 2 and step.replica.state is ReplicaState.READY
    assert index.key_of(step.replica.id) == BLUE


def test_pods_that_were_there_before_their_version_are_found() -> None:
    index = ReplicaIndex()
    assert index.put(pod()) == []
    assert len(upserts(index.declare({BLUE: MADE}))) == 1
    assert index.declare({BLUE: MADE}) == []


@pytest.mark.parametrize("other", [pod(namespace="b"), pod(labels={"app": "y"}), pod(phase="Succeeded")])
def test_a_foreign_unlabelled_or_ended_pod_is_no_replica(index: ReplicaIndex, other: dict[str, Any]) -> None:
    assert index.put(other) == [] and index.of(BLUE) == []


def test_a_pod_that_is_gone_is_no_replica_any_more(index: ReplicaIndex) -> None:
    (there,) = upserts(index.put(pod()))
    assert index.gone(pod()) == [Remove(there.replica.id)] and index.gone(pod()) == []
    assert index.key_of(there.replica.id) is None and index.labelled("a", BLUE) == []


def test_a_pod_that_comes_back_under_its_name_is_another_replica(index: ReplicaIndex) -> None:
    (first,) = upserts(index.put(pod()))
    steps = index.put(pod(uid="87654321-2"))
    assert steps[0] == Remove(first.replica.id) and upserts(steps[1:])[0].replica.id == "p1.87654321"
    assert index.gone(pod()) == [], "late words of the first"


def test_a_pod_that_loses_its_labels_is_given_up(index: ReplicaIndex) -> None:
    (there,) = upserts(index.put(pod()))
    assert index.put(pod(labels={"app": "y"})) == [Remove(there.replica.id)]
    assert index.labelled("a", BLUE) == []


def test_adopted_pods_are_known_by_the_selector_of_their_workload(index: ReplicaIndex) -> None:
    index.put(pod("x1", "aaaaaaaa", labels={"app": "x"}))
    (step,) = upserts(index.declare({OWN: ADOPTED}))
    assert (step.replica.key, step.replica.port) == (OWN, 80)
    assert [each["metadata"]["name"] for each in index.of(OWN)] == ["x1"]


def test_a_changed_port_is_published_without_a_gap(index: ReplicaIndex) -> None:
    index.put(pod())
    (step,) = upserts(index.declare({BLUE: ReplicaRule("a", 8080, 2)}))
    assert step.replica.port == 8080


def test_a_version_that_is_forgotten_has_no_replicas_but_its_pods_are_still_known_by_label(index: ReplicaIndex) -> None:
    (there,) = upserts(index.put(pod()))
    assert index.declare({BLUE: None}) == [Remove(there.replica.id)]
    assert len(index.labelled("a", BLUE)) == 1


def test_a_pod_for_the_leader_is_enough() -> None:
    whole = pod(creationTimestamp="2026", managedFields=[{"manager": "kubelet"}])
    index = ReplicaIndex()
    index.declare({BLUE: MADE})
    assert "managedFields" not in pod_for_leader(whole)["metadata"]
    assert index.put(pod_for_leader(whole)) == steps_of(whole)


def steps_of(whole: dict[str, Any]) -> list[Upsert | Remove]:
    index = ReplicaIndex()
    index.declare({BLUE: MADE})
    return index.put(whole)
