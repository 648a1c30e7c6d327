"""The life of one replica as two printable tables, and the times that go with it. Pure."""

import itertools
from enum import StrEnum

from serving.endpoint import LivenessProbe
from serving.replica import ReplicaState


class LifecycleState(StrEnum):
    """Where a replica stands; STOPPING has been told to end, GONE has left no trace but its log."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"
    FAILED = "failed"
    GONE = "gone"


class LifecycleEvent(StrEnum):
    """What can happen to a replica."""

    HEALTHY = "healthy"
    """It answered its probes as it should."""
    SICK = "sick"
    """It never got ready, went silent, or grew over its memory limit."""
    EXITED = "exited"
    """Its process has ended."""
    RETIRED = "retired"
    """It is not wanted any more."""
    RELEASED = "released"
    """Nothing is in flight on it, or the time for that is over."""
    DUE = "due"
    """Its backoff is over: another may take its place."""


Table = dict[tuple[LifecycleState, LifecycleEvent], LifecycleState]


def _table(moves: Table) -> Table:
    """`moves`, and staying put for every other pair of state and event."""
    return {pair: moves.get(pair, pair[0]) for pair in itertools.product(LifecycleState, LifecycleEvent)}


# A replica that never was READY has nothing in flight, so it is stopped without a drain.
PROCESS: Table = _table(
    {
        (LifecycleState.STARTING, LifecycleEvent.HEALTHY): LifecycleState.READY,
        (LifecycleState.STARTING, LifecycleEvent.SICK): LifecycleState.FAILED,
        (LifecycleState.STARTING, LifecycleEvent.EXITED): LifecycleState.FAILED,
        (LifecycleState.STARTING, LifecycleEvent.RETIRED): LifecycleState.STOPPING,
        (LifecycleState.READY, LifecycleEvent.SICK): LifecycleState.FAILED,
        (LifecycleState.READY, LifecycleEvent.EXITED): LifecycleState.FAILED,
        (LifecycleState.READY, LifecycleEvent.RETIRED): LifecycleState.DRAINING,
        (LifecycleState.DRAINING, LifecycleEvent.SICK): LifecycleState.STOPPING,
        (LifecycleState.DRAINING, LifecycleEvent.EXITED): LifecycleState.GONE,
        (LifecycleState.DRAINING, LifecycleEvent.RELEASED): LifecycleState.STOPPING,
        (LifecycleState.STOPPING, LifecycleEvent.EXITED): LifecycleState.GONE,
        (LifecycleState.FAILED, LifecycleEvent.RETIRED): LifecycleState.STOPPING,
        (LifecycleState.FAILED, LifecycleEvent.DUE): LifecycleState.GONE,
    }
)
"""A child process of ours. A failed one never recovers: it is replaced under a new id."""

STATIC: Table = _table(
    {
        (LifecycleState.STARTING, LifecycleEvent.HEALTHY): LifecycleState.READY,
        (LifecycleState.STARTING, LifecycleEvent.RETIRED): LifecycleState.GONE,
        (LifecycleState.READY, LifecycleEvent.SICK): LifecycleState.FAILED,
        (LifecycleState.READY, LifecycleEvent.RETIRED): LifecycleState.DRAINING,
        (LifecycleState.DRAINING, LifecycleEvent.RELEASED): LifecycleState.GONE,
        (LifecycleState.FAILED, LifecycleEvent.HEALTHY): LifecycleState.READY,
        (LifecycleState.FAILED, LifecycleEvent.RETIRED): LifecycleState.GONE,
    }
)
"""A replica that somebody else runs: it comes and goes with its answers, and there is nothing to stop."""

OUTWARD: dict[LifecycleState, ReplicaState] = {
    LifecycleState.STARTING: ReplicaState.STARTING,
    LifecycleState.READY: ReplicaState.READY,
    LifecycleState.DRAINING: ReplicaState.DRAINING,
    LifecycleState.STOPPING: ReplicaState.DRAINING,
    LifecycleState.FAILED: ReplicaState.FAILED,
}
"""How a state is reported; GONE is reported by a Remove."""

WANTED = frozenset({LifecycleState.STARTING, LifecycleState.READY, LifecycleState.FAILED})
"""States that count as replicas of the version; the others are on their way out."""

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
MAX_BACKOFF_OF_A_SERVER_S = 2.0
"""For one that was READY: it is known to start, and every second without it is capacity lost."""
STEADY_S = 60.0
"""A replica that was READY for this long has proved itself: its failures before that are forgotten."""


def backoff(failures: int, ready_s: float | None) -> tuple[int, float]:
    """After one more failure: (failures in a row with this one, seconds until the replacement may start).

    `failures` were in a row before this one; `ready_s` is how long the replica had been READY, None if it never was.
    The first failure of a replica that served costs no wait (a kill -9 is mended in milliseconds); then 0.5 s, doubling
    up to 2 s. One that never served waits from the first time on, up to 30 s.
    """
    in_row = 1 if ready_s is not None and ready_s >= STEADY_S else failures + 1
    if in_row == 1 and ready_s is not None:
        return in_row, 0.0
    doublings = min(max(0, in_row - 2), 16)
    longest = MAX_BACKOFF_S if ready_s is None else MAX_BACKOFF_OF_A_SERVER_S
    return in_row, min(longest, FIRST_BACKOFF_S * 2.0**doublings)


def start_deadline_s(probe: LivenessProbe) -> float:
    """How long a replica may take to get ready: when Kubernetes would have killed it (340 s with the v1 defaults)."""
    return probe.initial_delay_s + probe.failure_threshold * probe.period_s


def start_poll_s(waited_s: float) -> float:
    """Pause between two readiness probes: at most 20 a second, and readiness is noticed within 5 % of its time."""
    return min(1.0, max(0.05, 0.05 * waited_s))


def exit_text(returncode: int, signal_names: dict[int, str]) -> str:
    """How a process ended, for people. Negative codes are signals, as in `subprocess`."""
    if returncode < 0:
        return f"killed by {signal_names.get(-returncode, f'signal {-returncode}')}"
    return f"exited with code {returncode}"
