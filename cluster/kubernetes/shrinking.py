"""The choice of the pods to remove, and the number of pods meanwhile. Pure.

A pod to remove passes through three states, all visible in the API, so that a new leader can continue:

    staying     serves
    draining    annotated `scorefront.io/draining`: routers send it no new request
    drained     no request in flight: the number may fall by it

The number of a workload is always the wanted one plus the draining pods: its controller never has a reason to remove
a busy pod. Among the pods it may remove it takes the one with the lowest `pod-deletion-cost`; pods that are not ready
go first, at any cost.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cluster.kubernetes.objects.labels import DELETION_COST, DRAINING
from cluster.kubernetes.objects.pod import replica_id
from cluster.kubernetes.ownership import is_pod_of

DRAINING_COST = -1000
DRAINED_COST = -2000


@dataclass(frozen=True, slots=True)
class PodNow:
    """One pod that its workload's controller counts."""

    name: str
    uid: str
    id: str
    """Replica id."""
    created: str
    ready: bool
    placed: bool
    """It has a node. One that has none has never served."""
    draining: bool
    cost: int
    """0 without the annotation."""

    @property
    def ordinal(self) -> int:
        """Its place in a StatefulSet."""
        _, _, number = self.name.rpartition("-")
        return int(number) if number.isdigit() else 0


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps, in this order."""

    retire: tuple[PodNow, ...]
    """To be marked as going."""
    mark_drained: tuple[PodNow, ...]
    """To be marked as drained, while others are still draining."""
    replicas: int
    """The number of replicas to set now."""
    delete: tuple[PodNow, ...]
    """Drained, but its controller keeps it."""
    removable: tuple[PodNow, ...]
    """Drained pods that the controller may remove."""


def pod_now(pod: Mapping[str, Any]) -> PodNow | None:
    """The fields of a pod that matter here; None for a terminating pod, which its controller does not count."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    if metadata.get("deletionTimestamp") is not None or status.get("phase") in ("Failed", "Succeeded"):
        return None
    annotations = metadata.get("annotations") or {}
    ready = any(each.get("type") == "Ready" and each.get("status") == "True" for each in status.get("conditions") or ())
    return PodNow(
        name=metadata["name"],
        uid=metadata["uid"],
        id=replica_id(pod),
        created=metadata.get("creationTimestamp", ""),
        ready=ready,
        placed=bool((pod.get("spec") or {}).get("nodeName")),
        draining=DRAINING in annotations,
        cost=_cost(annotations.get(DELETION_COST, "")),
    )


def pods_now(pods: Iterable[Mapping[str, Any]], workload: Mapping[str, Any] | None) -> list[PodNow]:
    """The pods of `workload` that count; none without a workload."""
    if workload is None:
        return []
    return [now for pod in pods if is_pod_of(pod, workload) and (now := pod_now(pod)) is not None]


def of_deployment(
    wanted: int, pods: Collection[PodNow], victims: Collection[str], drained: Collection[str], overdue: Collection[str]
) -> Steps:
    """Steps towards `wanted` serving pods for a controller that respects the deletion cost.

    `victims`: replicas to remove in any case. `drained`: replicas without requests in flight, or past their deadline.
    `overdue`: replicas that should have been removed by now.
    """
    retired = [pod for pod in pods if pod.draining or pod.id in victims]
    staying = [pod for pod in pods if not (pod.draining or pod.id in victims)]
    surplus = max(0, len(staying) - wanted)
    # Those that serve least first: not ready, then the youngest, as the controller itself would choose.
    retired += sorted(
        sorted(staying, key=lambda pod: (pod.created, pod.name), reverse=True), key=lambda pod: pod.ready
    )[:surplus]
    done = [pod for pod in retired if _is_drained(pod, drained)]
    busy_count = len(retired) - len(done)
    return Steps(
        retire=tuple(pod for pod in retired if pod.placed and not pod.draining),
        mark_drained=tuple(pod for pod in done if pod.cost > DRAINED_COST) if busy_count else (),
        replicas=wanted + busy_count,
        delete=tuple(pod for pod in done if pod.id in overdue),
        removable=tuple(done),
    )


def of_statefulset(
    wanted: int, pods: Collection[PodNow], victims: Collection[str], drained: Collection[str], overdue: Collection[str]
) -> Steps:
    """Steps for a StatefulSet: the highest ordinals are removed, at any cost.

    Other victims are deleted once drained, and are recreated.
    """
    top = [pod for pod in pods if pod.ordinal >= wanted]
    strays = [pod for pod in pods if pod.ordinal < wanted and (pod.draining or pod.id in victims)]
    busy = [pod.ordinal for pod in top if not _is_drained(pod, drained)]
    idle_strays = tuple(pod for pod in strays if _is_drained(pod, drained))
    replicas = max([wanted, *(ordinal + 1 for ordinal in busy)])
    return Steps(
        retire=tuple(pod for pod in (*top, *strays) if pod.placed and not pod.draining),
        mark_drained=(),
        replicas=replicas,
        delete=idle_strays,
        removable=tuple(pod for pod in top if _is_drained(pod, drained)),
    )


def _is_drained(pod: PodNow, drained: Collection[str]) -> bool:
    return pod.id in drained or pod.cost <= DRAINED_COST or not pod.placed


def _cost(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return 0
