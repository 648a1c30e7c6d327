"""The status of a pod from the state of its containers. Pure; `now` is RFC 3339 text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Status = dict[str, Any]

WAITING, RUNNING, ENDED = "waiting", "running", "terminated"


@dataclass(frozen=True, slots=True)
class ContainerState:
    """One container as it is now. `since`: when it started or ended; `reason`: why it waits or has ended."""

    name: str
    image: str
    state: str = WAITING
    reason: str = "ContainerCreating"
    message: str = ""
    since: str = ""
    passes: bool = False
    """Its readiness probe."""
    restarts: int = 0
    exit_code: int = 0
    began: str = ""
    """Start of the present or last run."""
    last: tuple[str, str, int] | None = None
    """Start, end and exit status of the last run before the present state."""
    resources: Status | None = None
    """As the pod asks for them now: a change of them in place is done at once."""

    @property
    def ready(self) -> bool:
        """Runs, and passes."""
        return self.state == RUNNING and self.passes


def container_status(each: ContainerState) -> Status:
    """An entry of containerStatuses."""
    why = {"reason": each.reason, "message": each.message}
    told: dict[str, Status] = {
        WAITING: why,
        RUNNING: {"startedAt": each.since},
        ENDED: {**why, "exitCode": each.exit_code, "startedAt": each.began, "finishedAt": each.since},
    }
    last = {}
    if each.last is not None:
        began, ended, exit_code = each.last
        last = {ENDED: {"exitCode": exit_code, "startedAt": began, "finishedAt": ended}}
    resources = each.resources or {}
    return {
        "name": each.name,
        "image": each.image,
        "imageID": each.image,
        "ready": each.ready,
        "started": each.state == RUNNING,
        "restartCount": each.restarts,
        "state": {each.state: told[each.state]},
        "lastState": last,
        "resources": resources,
        "allocatedResources": resources.get("requests", {}),
    }


def phase(states: Sequence[ContainerState], over: bool) -> str:
    """Phase of a pod with always restarted containers, until it is `over`."""
    if over:
        return "Failed" if any(each.exit_code for each in states) else "Succeeded"
    begun = all(each.state != WAITING or each.restarts for each in states)
    return "Running" if begun else "Pending"


def conditions(states: Sequence[ContainerState], before: Sequence[Status], now: str) -> list[Status]:
    """Ready, ContainersReady and Initialized; one that has not changed keeps its time."""
    ready = bool(states) and all(each.ready for each in states)
    lacking = [each.name for each in states if not each.ready]
    why = {} if ready else {"reason": "ContainersNotReady", "message": f"containers with unready status: {lacking}"}
    wanted = [("Initialized", True, {}), ("ContainersReady", ready, why), ("Ready", ready, why)]
    known = {each["type"]: each for each in before}
    told = []
    for name, holds, words in wanted:
        status = str(holds)
        same = known.get(name, {}).get("status") == status
        since = known[name].get("lastTransitionTime", now) if same else now
        told.append({"type": name, "status": status, "lastTransitionTime": since, "reason": "", "message": "", **words})
    return told


def pod_status(states: Sequence[ContainerState], before: Status, ip: str, now: str, over: bool = False) -> Status:
    """The whole, for a patch of the status subresource. `before`: the pod's status as last seen."""
    return {
        "phase": phase(states, over),
        "hostIP": "127.0.0.1",
        "hostIPs": [{"ip": "127.0.0.1"}],
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "startTime": before.get("startTime", now),
        "conditions": conditions(states, before.get("conditions", ()), now),
        "containerStatuses": [container_status(each) for each in states],
    }


def is_ready(pod: Status) -> bool:
    """As the API tells it now."""
    told = pod.get("status", {}).get("conditions", ())
    return any(each["type"] == "Ready" and each["status"] == "True" for each in told)
