"""A pod as the replica that it is."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from cluster.kubernetes.objects import labels
from serving.endpoint import VersionKey
from serving.replica import Replica, ReplicaState

STUCK = frozenset({"CrashLoopBackOff", "ErrImageNeverPull", "ErrImagePull", "ImagePullBackOff", "InvalidImageName"})
"""Waiting reasons of a container that do not resolve by waiting; so does every CreateContainer…Error."""
ADVICE = {
    "runAsNonRoot and image has non-numeric user": "write USER in the image as a number, or runAsNonRoot: false",
    "runAsNonRoot and image will run as root": "write runAsNonRoot: false, or USER with a number in the image",
    "unauthorized|authentication required|authorization failed|pull access denied|no basic auth credentials": (
        "name the Secret of the registry in imagePullSecrets: [{name: …}]"
    ),
}
"""Words of a kubelet -> what to write in the manifest."""
LONGEST_REASON = 500
TEMPLATE_LABELS = ("pod-template-hash", "controller-revision-hash")
_UID_DIGITS = 8

Pod = Mapping[str, Any]


def key_of(pod: Pod) -> VersionKey | None:
    """The version named by the labels of a pod; None for a pod of an adopted workload, or of no version."""
    return labels.key_of(pod["metadata"])


def replica_id(pod: Pod) -> str:
    """`<name>.<first 8 digits of the uid>`: a pod of a StatefulSet comes back under its name, but with another uid."""
    return f"{pod['metadata']['name']}.{pod['metadata']['uid'][:_UID_DIGITS]}"


def replica_of(pod: Pod, key: VersionKey, port: int, slots: int) -> Replica | None:
    """The replica of `pod`, on `port` with `slots` slots; None if nothing runs in it and nothing will.

    A replica without an address yet has the host "".
    """
    status = pod.get("status") or {}
    phase, leaving = status.get("phase"), pod["metadata"].get("deletionTimestamp") is not None
    if phase == "Succeeded" or (leaving and (phase == "Failed" or not status.get("podIP"))):
        return None
    state, reason = _condition(pod, status, leaving)
    return Replica(
        id=replica_id(pod),
        endpoint=key.endpoint,
        version=key.version,
        host=status.get("podIP") or "",
        port=port,
        state=state,
        slots=slots,
        reason=reason[:LONGEST_REASON],
        template=_template(pod),
        failures=0 if state is ReplicaState.READY else _restarts(status),
        placed=not unschedulable(pod),
    )


def _template(pod: Pod) -> str:
    """The digest of the pod template that the controller of its workload labels it with."""
    found = pod["metadata"].get("labels") or {}
    return next((found[name] for name in TEMPLATE_LABELS if name in found), "")


def _restarts(status: Mapping[str, Any]) -> int:
    return max((int(container.get("restartCount") or 0) for container in _containers(status)), default=0)


def _condition(pod: Pod, status: Mapping[str, Any], leaving: bool) -> tuple[ReplicaState, str]:
    if status.get("phase") == "Failed":
        said = ": ".join(text for text in (status.get("reason"), status.get("message")) if text)
        return ReplicaState.FAILED, said or "; ".join(_endings(status)) or "the pod has failed"
    if leaving or labels.DRAINING in (pod["metadata"].get("annotations") or {}):
        return ReplicaState.DRAINING, ""
    if _is_true(status, "Ready") and status.get("podIP"):
        return ReplicaState.READY, ""
    if failures := list(_failures(status)):
        return ReplicaState.FAILED, "; ".join(failures)
    return ReplicaState.STARTING, _awaited(pod, status)


def is_running(pod: Pod) -> bool:
    """True if all its containers run and it is to stay."""
    status, metadata = pod.get("status") or {}, pod["metadata"]
    if metadata.get("deletionTimestamp") is not None or labels.DRAINING in (metadata.get("annotations") or {}):
        return False
    containers = status.get("containerStatuses") or ()
    return bool(containers) and all("running" in (each.get("state") or {}) for each in containers)


def is_ready(pod: Pod) -> bool:
    """True if its kubelet reports it as ready."""
    return _is_true(pod.get("status") or {}, "Ready")


def unschedulable(pod: Pod) -> str:
    """The scheduler's reason for leaving the pod without a node; "" if it has one, or was not scheduled yet."""
    scheduled = _found(pod.get("status") or {}, "PodScheduled")
    if scheduled.get("status") != "False" or scheduled.get("reason") != "Unschedulable":
        return ""
    return scheduled.get("message") or "Unschedulable"


def _awaited(pod: Pod, status: Mapping[str, Any]) -> str:
    """The condition that keeps the pod from being ready."""
    if no_room := unschedulable(pod):
        return f"no room in the cluster: {no_room}"
    scheduled = _found(status, "PodScheduled")
    if scheduled.get("status") != "True":
        return scheduled.get("message") or "waiting for a node"
    for container in _containers(status):
        if waiting := (container.get("state") or {}).get("waiting"):
            message = waiting.get("message") or waiting.get("reason", "waiting")
            return "; ".join((f"container {container['name']}: {message}", *_endings(status)))
    ended = list(_endings(status))
    if ended:
        return "; ".join(ended)
    ready = _found(status, "Ready")
    return ready.get("message") or "not ready yet"


def _failures(status: Mapping[str, Any]) -> Iterator[str]:
    for container in _containers(status):
        waiting = (container.get("state") or {}).get("waiting") or {}
        why = waiting.get("reason", "")
        if why in STUCK or (why.startswith("CreateContainer") and why.endswith("Error")):
            message = ": ".join(text for text in (why, waiting.get("message")) if text)
            ended = _ended(container)
            yield f"container {container['name']}: {message}" + (f"; it {ended}" if ended else "") + _advice(message)


def _advice(message: str) -> str:
    """The field to write in the manifest, for refusals that one cures; "" for others."""
    return next((f"; {advice}" for words, advice in ADVICE.items() if re.search(words, message, re.IGNORECASE)), "")


def _endings(status: Mapping[str, Any]) -> Iterator[str]:
    for container in _containers(status):
        if ended := _ended(container):
            yield f"container {container['name']} {ended}"


def _ended(container: Mapping[str, Any]) -> str:
    """The last failed end of a container: `last ended with OOMKilled (exit code 137)`."""
    for state in ("state", "lastState"):
        end = (container.get(state) or {}).get("terminated")
        if end and (end.get("exitCode") or end.get("signal")):
            said = " ".join(str(end.get("message") or "").split())
            ended = f"last ended with {end.get('reason') or 'Error'} (exit code {end.get('exitCode')})"
            return f"{ended}: {said}" if said else ended
    return ""


def _containers(status: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def _found(status: Mapping[str, Any], type_: str) -> Mapping[str, Any]:
    conditions = status.get("conditions") or ()
    return next((condition for condition in conditions if condition.get("type") == type_), {})


def _is_true(status: Mapping[str, Any], type_: str) -> bool:
    return _found(status, type_).get("status") == "True"
