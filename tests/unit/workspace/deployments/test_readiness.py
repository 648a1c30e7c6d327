"""Judgement of a started version by its replicas."""

import pytest

from serving.replica import Replica, ReplicaState
from workspace.deployments.readiness import Verdict, judge


def replica(name: str, state: str, template: str = "new", reason: str = "") -> Replica:
    return Replica(name, "iris", "blue", "127.0.0.1", 1, ReplicaState(state), template=template, reason=reason)


@pytest.mark.parametrize(
    ("replicas", "needed", "verdict"),
    [
        ([], 1, Verdict.WAITING),
        ([replica("a", "ready")], 1, Verdict.READY),
        ([replica("a", "ready")], 2, Verdict.WAITING),
        ([replica("a", "ready", "old"), replica("b", "starting")], 1, Verdict.WAITING),
        ([replica("a", "failed", "old"), replica("b", "ready")], 1, Verdict.READY),
        ([replica("a", "failed", "old"), replica("b", "starting")], 1, Verdict.WAITING),
        ([replica("a", "ready", "old"), replica("b", "failed")], 1, Verdict.FAILED),
        ([replica("a", "draining")], 1, Verdict.WAITING),
        ([replica("a", "ready"), replica("b", "failed")], 2, Verdict.FAILED),
        ([replica("served", "failed"), replica("b", "starting")], 1, Verdict.WAITING),
    ],
)
def test_only_replicas_of_the_declared_template_count(replicas: list[Replica], needed: int, verdict: Verdict) -> None:
    assert judge(replicas, "new", needed, {"served"}).verdict is verdict


def test_the_reason_of_a_failure_and_of_a_wait_is_that_of_the_replica() -> None:
    failed = judge([replica("a", "failed", reason="exited with code 3")], "new", 1, ())
    assert (failed.reason, failed.replica) == ("exited with code 3", "a")
    assert judge([replica("a", "starting", reason="no room")], "new", 1, ()).reason == "no room"
    assert judge([replica("a", "ready")], "new", 3, ()).reason == "1 of 3 replicas ready"
