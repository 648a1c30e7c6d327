"""Evidence in a pod's status for the end of its router: of this container, not of an earlier one."""

from typing import Any

import pytest

from cluster.kubernetes.container_end import container_ended, pod_ended

STARTED_AT = 1_800_000_000.4
"""2027-01-15T08:00:00.4Z"""


def at(second: float) -> str:
    hours, rest = divmod(8 * 3600 + second, 3600)
    return f"2027-01-15T{int(hours):02}:{int(rest // 60):02}:{int(rest % 60):02}Z"


def pod(start_s: float | None, finish_s: float | None, name: str = "router", state: str = "state") -> dict[str, Any]:
    """A pod with a container that ended; times in seconds after 08:00, None: not reported."""
    ended: dict[str, Any] = {"startedAt": None, "finishedAt": None, "exitCode": 137}
    if start_s is not None:
        ended["startedAt"] = at(start_s)
    if finish_s is not None:
        ended["finishedAt"] = at(finish_s)
    statuses = [{"name": "other", "state": {"running": {}}}, {"name": name, state: {"terminated": ended}}]
    return {"metadata": {"uid": "u"}, "status": {"phase": "Running", "containerStatuses": statuses}}


@pytest.mark.parametrize("state", ["state", "lastState"])
@pytest.mark.parametrize(("start_s", "finish_s"), [(0, 1), (0, 3000), (1, 2), (-2, 9)])
def test_the_container_that_started_with_the_group_has_ended(state: str, start_s: float, finish_s: float) -> None:
    assert container_ended(pod(start_s, finish_s, state=state), STARTED_AT)


@pytest.mark.parametrize(
    ("case", "start_s", "finish_s"),
    [
        ("earlier container", -60, -1),
        ("earlier container, ended in the second of the start", -60, 0),
        ("earlier container, and the clock was set back between the two", -60, 12),
        ("start in the same second as the end", 0, 0),
        ("container lost by the kubelet", None, None),
        ("no start", None, 5),
        ("no end", 0, None),
    ],
)
def test_other_ends_are_no_evidence(case: str, start_s: float | None, finish_s: float | None) -> None:
    assert not container_ended(pod(start_s, finish_s), STARTED_AT), case
    assert not container_ended(pod(start_s, finish_s, state="lastState"), STARTED_AT), case


def test_another_container_of_the_pod_is_no_evidence() -> None:
    assert not container_ended(pod(0, 9, name="sidecar"), STARTED_AT)


def test_a_group_of_unknown_start_is_never_taken_for_ended() -> None:
    assert not container_ended(pod(0, 9), 0.0)


@pytest.mark.parametrize("status", [{}, {"containerStatuses": None}, {"containerStatuses": [{"name": "router"}]}])
def test_a_status_without_states_is_no_evidence(status: dict[str, Any]) -> None:
    assert not container_ended({"metadata": {"uid": "u"}, "status": status}, STARTED_AT)


@pytest.mark.parametrize(
    ("uid", "phase", "ended"),
    [("u", "Running", False), ("u", "Failed", True), ("u", "Succeeded", True), ("v", "Running", True)],
)
def test_a_pod_ends_by_its_phase_or_by_its_successor(uid: str, phase: str, ended: bool) -> None:
    assert pod_ended({"metadata": {"uid": uid}, "status": {"phase": phase}}, "u") is ended
