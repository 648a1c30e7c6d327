"""The replica of a pod."""

from typing import Any

import pytest

from cluster.kubernetes.objects.pod import key_of, replica_id, replica_of, unschedulable
from serving.endpoint import VersionKey
from serving.replica import Replica, ReplicaState

KEY = VersionKey("iris", "blue")
SCHEDULED = {"type": "PodScheduled", "status": "True"}
NO_ROOM = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
}


def ready(status: str = "True", **more: str) -> dict[str, str]:
    return {"type": "Ready", "status": status, **more}


def waiting(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    return {"name": "model", "state": {"waiting": {"reason": reason, "message": message}}, **more}


def pod(status: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "iris-blue-abc-x1", "uid": "0123456789ab", **metadata}, "status": status or {}}


def running(*conditions: dict[str, str], **status: Any) -> dict[str, Any]:
    return {"phase": "Running", "podIP": "10.1.2.3", "conditions": [SCHEDULED, *conditions], **status}


def seen(found: dict[str, Any]) -> Replica:
    replica = replica_of(found, KEY, 5001, 2)
    assert replica is not None
    return replica


LEAVING = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
DRAINING = {"annotations": {"scorefront.io/draining": "1"}}


def test_a_ready_pod_is_a_replica_at_its_own_address() -> None:
    assert seen(pod(running(ready()))) == Replica(
        "iris-blue-abc-x1.01234567", "iris", "blue", "10.1.2.3", 5001, ReplicaState.READY, 2
    )


def test_a_pod_that_comes_back_under_its_name_is_another_replica() -> None:
    assert replica_id(pod()) != replica_id(pod(uid="fedcba98"))
    assert replica_id(pod(name="own.with.dots-0")).startswith("own.with.dots-0.")


STATES = {
    "ready": (pod(running(ready())), ReplicaState.READY),
    "not ready": (pod(running(ready("False"))), ReplicaState.STARTING),
    "ready, but without an address": (pod({"phase": "Running", "conditions": [ready()]}), ReplicaState.STARTING),
    "just made": (pod(), ReplicaState.STARTING),
    "status null": ({"metadata": {"name": "x", "uid": "u"}, "status": None}, ReplicaState.STARTING),
    "no room": (pod({"phase": "Pending", "conditions": [NO_ROOM]}), ReplicaState.STARTING),
    "ready, being deleted": (pod(running(ready()), **LEAVING), ReplicaState.DRAINING),
    "ready, to go": (pod(running(ready()), **DRAINING), ReplicaState.DRAINING),
    "not ready, to go": (pod(running(ready("False")), **DRAINING), ReplicaState.DRAINING),
    "crashing": (pod(running(ready("False"), containerStatuses=[waiting("CrashLoopBackOff")])), ReplicaState.FAILED),
    "crashing while it starts": (
        pod(running(initContainerStatuses=[waiting("CrashLoopBackOff")])),
        ReplicaState.FAILED,
    ),
    "no such image": (pod(running(containerStatuses=[waiting("ImagePullBackOff")])), ReplicaState.FAILED),
    "no such secret": (pod(running(containerStatuses=[waiting("CreateContainerConfigError")])), ReplicaState.FAILED),
    "being made": (pod(running(containerStatuses=[waiting("ContainerCreating")])), ReplicaState.STARTING),
    "crashed, being deleted": (
        pod(running(containerStatuses=[waiting("CrashLoopBackOff")]), **LEAVING),
        ReplicaState.DRAINING,
    ),
    "evicted": (pod({"phase": "Failed", "reason": "Evicted"}), ReplicaState.FAILED),
    "evicted, to go": (pod({"phase": "Failed", "reason": "Evicted"}, **DRAINING), ReplicaState.FAILED),
}


@pytest.mark.parametrize(("found", "state"), STATES.values(), ids=STATES)
def test_the_state_of_a_pod(found: dict[str, Any], state: ReplicaState) -> None:
    assert seen(found).state is state


@pytest.mark.parametrize(
    "found",
    [
        pod({"phase": "Succeeded", "podIP": "10.1.2.3"}),
        pod({"phase": "Failed", "podIP": "10.1.2.3"}, **LEAVING),
        pod({"phase": "Pending"}, **LEAVING),
    ],
    ids=["ended well", "ended, being deleted", "deleted before it had an address"],
)
def test_a_pod_that_neither_runs_nor_will_run_is_no_replica(found: dict[str, Any]) -> None:
    assert replica_of(found, KEY, 5001, 1) is None


KILLED = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
REASONS = {
    "the scheduler is quoted": (pod({"phase": "Pending", "conditions": [NO_ROOM]}), "3 Insufficient nvidia.com/gpu"),
    "a crash tells how it ended": (
        pod(running(containerStatuses=[waiting("CrashLoopBackOff", "back-off 40s", lastState=KILLED)])),
        "container model: CrashLoopBackOff: back-off 40s; it last ended with OOMKilled (exit code 137)",
    ),
    "an image that cannot be had is named": (
        pod(running(containerStatuses=[waiting("ErrImagePull", "model:1 not found")])),
        "container model: ErrImagePull: model:1 not found",
    ),
    "a restart tells how the run before ended": (
        pod(
            running(
                ready("False"), containerStatuses=[{"name": "model", "state": {"running": {}}, "lastState": KILLED}]
            )
        ),
        "container model last ended with OOMKilled (exit code 137)",
    ),
    "a container that is being made says so": (
        pod(running(containerStatuses=[waiting("ContainerCreating")])),
        "container model: ContainerCreating",
    ),
    "one that runs waits for its probe": (
        pod(running(ready("False", message="containers with unready status: [model]"))),
        "containers with unready status: [model]",
    ),
    "one without a node waits for it": (pod({"phase": "Pending"}), "waiting for a node"),
    "an eviction is quoted": (
        pod({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}),
        "Evicted: low on memory",
    ),
    "a failed pod without words shows its containers": (
        pod({"phase": "Failed", "containerStatuses": [{"name": "model", "state": KILLED}]}),
        "container model last ended with OOMKilled (exit code 137)",
    ),
}


@pytest.mark.parametrize(("found", "words"), REASONS.values(), ids=REASONS)
def test_the_reason_is_a_sentence(found: dict[str, Any], words: str) -> None:
    assert words in seen(found).reason


def test_a_ready_pod_needs_no_reason() -> None:
    restarted = {"name": "model", "state": {"running": {}}, "lastState": KILLED}
    assert seen(pod(running(ready(), containerStatuses=[restarted]))).reason == ""


def test_a_long_reason_is_cut() -> None:
    assert len(seen(pod(running(containerStatuses=[waiting("ErrImagePull", "x" * 9000)]))).reason) == 500


def test_only_a_pod_without_a_node_by_the_scheduler_is_unschedulable() -> None:
    assert "Insufficient" in unschedulable(pod({"conditions": [NO_ROOM]}))
    assert unschedulable(pod({"conditions": [{**NO_ROOM, "message": ""}]})) == "Unschedulable"
    assert unschedulable(pod({"conditions": [{**NO_ROOM, "reason": "SchedulingGated"}]})) == ""
    assert unschedulable(pod(running(ready()))) == unschedulable(pod()) == ""


def test_the_labels_of_a_pod_name_its_version() -> None:
    labelled = pod(labels={"scorefront.io/endpoint": "iris", "scorefront.io/version": "blue"})
    assert key_of(labelled) == KEY
    assert key_of(pod()) is None


@pytest.mark.parametrize(
    ("reason", "message", "advice"),
    [
        ("CreateContainerConfigError", "container has runAsNonRoot and image will run as root", "runAsNonRoot: false"),
        (
            "CreateContainerConfigError",
            "container has runAsNonRoot and image has non-numeric user (dockeruser), cannot verify user is non-root",
            "USER in the image as a number",
        ),
        ("ImagePullBackOff", 'Back-off pulling image "private.azurecr.io/m:1": 401 Unauthorized', "imagePullSecrets"),
        ("ErrImagePull", "pull access denied, repository does not exist", "imagePullSecrets"),
    ],
)
def test_a_refusal_that_a_field_cures_names_the_field(reason: str, message: str, advice: str) -> None:
    told = seen(pod(running(ready("False"), containerStatuses=[waiting(reason, message)]))).reason
    assert message in told and advice in told


def test_a_refusal_that_no_field_cures_has_no_advice() -> None:
    told = seen(pod(running(ready("False"), containerStatuses=[waiting("ImagePullBackOff", "no such host")]))).reason
    assert told.endswith("no such host")
