"""Evidence in a pod's status that a router group has ended. Pure.

A container that a kubelet reports as ended stays ended, so an old status is as good as a new one, provided that it is
about the container of the group and not about an earlier one of the same pod. Two facts tell them apart, both by the
clock of the node, which kubelet and router share: the container started when the supervisor did, and it finished after
that. A clock that was set back in between makes the evidence incomplete, never wrong.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

CONTAINER = "router"
"""Name of the container that runs a group."""
START_TOLERANCE_S = 5.0
"""Largest difference between the start of a container by its status and the start of its first process."""
_ENDED_PHASES = ("Succeeded", "Failed")


def pod_ended(pod: Mapping[str, Any], uid: str) -> bool:
    """True if the pod with this uid has ended: its name has another pod now, or its phase is final."""
    return pod["metadata"]["uid"] != uid or (pod.get("status") or {}).get("phase") in _ENDED_PHASES


def container_ended(pod: Mapping[str, Any], started_at: float) -> bool:
    """True if the pod's status reports the end of the container whose first process started at `started_at`.

    `pod`: of the group, by its uid. `started_at`: unix seconds by the node's clock; 0: unknown, never true.
    """
    return started_at > 0 and any(_is_end_of(ended, started_at) for ended in _ended_containers(pod))


def _ended_containers(pod: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The present and the last end of the router's container."""
    for status in (pod.get("status") or {}).get("containerStatuses") or ():
        if status.get("name") == CONTAINER:
            for state in (status.get("state"), status.get("lastState")):
                if state and (ended := state.get("terminated")):
                    yield ended


def _is_end_of(ended: Mapping[str, Any], started_at: float) -> bool:
    start, finish = _seconds(ended.get("startedAt")), _seconds(ended.get("finishedAt"))
    if start is None or finish is None:
        return False  # a kubelet that has lost the container reports neither
    return abs(start - started_at) <= START_TOLERANCE_S and finish > started_at


def _seconds(text: Any) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp() if text else None
    except (TypeError, ValueError):
        return None
