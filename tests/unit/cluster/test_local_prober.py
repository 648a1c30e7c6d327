"""When a child replica is asked for its health, in virtual time."""

import asyncio
from types import SimpleNamespace
from typing import cast

from cluster.local.health_prober import probe_child
from cluster.local.lifecycle import LifecycleEvent, LifecycleState
from cluster.local.machine import LocalMachine
from cluster.local.probe import ProbeOutcome, ProbeSign
from serving.endpoint import LivenessProbe, Version
from tests.fakes.virtual_loop import run_virtually


class FailingReplica:
    """A ready replica whose health path answers 503."""

    id, host, port, subreaper = "iris-blue-1", "127.0.0.1", 5001, None

    def __init__(self, liveness: LivenessProbe) -> None:
        replica = SimpleNamespace(health_path="/")
        self.version = cast(
            Version, SimpleNamespace(liveness=liveness, replica=replica, scoring_timeout_s=60.0, longest_request_s=60.0)
        )
        self.state = LifecycleState.READY
        self.killed_s = 0.0

    def handle(self, event: LifecycleEvent, reason: str = "") -> None:
        assert event is LifecycleEvent.UNHEALTHY
        self.state, self.killed_s = LifecycleState.FAILED, asyncio.get_running_loop().time()


class FailingProber:
    """Gets the same wrong answer everywhere."""

    async def get(self, host: str, port: int, path: str, timeout_s: float) -> ProbeOutcome:
        return ProbeOutcome(ProbeSign.BAD, f"GET {path} answered 503")


def killed_after(liveness: LivenessProbe) -> float:
    replica = FailingReplica(liveness)

    async def probe() -> None:
        clock = asyncio.get_running_loop().time
        await probe_child(replica, cast(LocalMachine, SimpleNamespace(clock=clock, prober=FailingProber())))

    run_virtually(probe())
    return replica.killed_s


def test_liveness_begins_after_the_initial_delay_and_then_counts_its_threshold() -> None:
    assert killed_after(LivenessProbe(period_s=10.0, initial_delay_s=310.0, failure_threshold=3)) == 330.0
    assert killed_after(LivenessProbe(period_s=7.0, initial_delay_s=60.0, failure_threshold=1)) == 63.0
    assert killed_after(LivenessProbe(period_s=1.0, initial_delay_s=0.0, failure_threshold=3)) == 3.0
