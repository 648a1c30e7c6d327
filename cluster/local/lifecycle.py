"""The life cycle of a replica as two printable tables, with its times. Pure."""

import itertools
import re
from enum import StrEnum

from serving.endpoint import LivenessProbe
from serving.replica import ReplicaState


class LifecycleState(StrEnum):
    """State of a replica. STOPPING: its process has been asked to end. GONE: nothing but its log is left."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"
    FAILED = "failed"
    GONE = "gone"


class LifecycleEvent(StrEnum):
    """Event in the life of a replica."""

    HEALTHY = "healthy"
    """Its probes succeeded."""
    UNHEALTHY = "unhealthy"
    """It was not ready in time, went silent, or exceeded its memory limit."""
    EXITED = "exited"
    """Its process has ended."""
    RETIRED = "retired"
    """It is not wanted any more."""
    DRAINED = "drained"
    """It has no request in flight, or its time for draining is over."""
    DUE = "due"
    """Its backoff is over: it may be replaced."""


Table = dict[tuple[LifecycleState, LifecycleEvent], LifecycleState]


def _table(moves: Table) -> Table:
    """`moves`, completed by staying in place for all other pairs of state and event."""
    return {pair: moves.get(pair, pair[0]) for pair in itertools.product(LifecycleState, LifecycleEvent)}


# A replica that never was READY has no request in flight, so it is stopped without draining.
PROCESS: Table = _table(
    {
        (LifecycleState.STARTING, LifecycleEvent.HEALTHY): LifecycleState.READY,
        (LifecycleState.STARTING, LifecycleEvent.UNHEALTHY): LifecycleState.FAILED,
        (LifecycleState.STARTING, LifecycleEvent.EXITED): LifecycleState.FAILED,
        (LifecycleState.STARTING, LifecycleEvent.RETIRED): LifecycleState.STOPPING,
        (LifecycleState.READY, LifecycleEvent.UNHEALTHY): LifecycleState.FAILED,
        (LifecycleState.READY, LifecycleEvent.EXITED): LifecycleState.FAILED,
        (LifecycleState.READY, LifecycleEvent.RETIRED): LifecycleState.DRAINING,
        (LifecycleState.DRAINING, LifecycleEvent.UNHEALTHY): LifecycleState.STOPPING,
        (LifecycleState.DRAINING, LifecycleEvent.EXITED): LifecycleState.GONE,
        (LifecycleState.DRAINING, LifecycleEvent.DRAINED): LifecycleState.STOPPING,
        (LifecycleState.STOPPING, LifecycleEvent.EXITED): LifecycleState.GONE,
        (LifecycleState.FAILED, LifecycleEvent.RETIRED): LifecycleState.STOPPING,
        (LifecycleState.FAILED, LifecycleEvent.DUE): LifecycleState.GONE,
    }
)
"""Child processes. A failed one never recovers: it is replaced under a new id."""

STATIC: Table = _table(
    {
        (LifecycleState.STARTING, LifecycleEvent.HEALTHY): LifecycleState.READY,
        (LifecycleState.STARTING, LifecycleEvent.RETIRED): LifecycleState.GONE,
        (LifecycleState.READY, LifecycleEvent.UNHEALTHY): LifecycleState.FAILED,
        (LifecycleState.READY, LifecycleEvent.RETIRED): LifecycleState.DRAINING,
        (LifecycleState.DRAINING, LifecycleEvent.DRAINED): LifecycleState.GONE,
        (LifecycleState.FAILED, LifecycleEvent.HEALTHY): LifecycleState.READY,
        (LifecycleState.FAILED, LifecycleEvent.RETIRED): LifecycleState.GONE,
    }
)
"""Static replicas, run by others: they come and go with their answers; there is nothing to stop."""

OUTWARD: dict[LifecycleState, ReplicaState] = {
    LifecycleState.STARTING: ReplicaState.STARTING,
    LifecycleState.READY: ReplicaState.READY,
    LifecycleState.DRAINING: ReplicaState.DRAINING,
    LifecycleState.STOPPING: ReplicaState.DRAINING,
    LifecycleState.FAILED: ReplicaState.FAILED,
}
"""The reported state; GONE is reported by a Remove."""

WANTED = frozenset({LifecycleState.STARTING, LifecycleState.READY, LifecycleState.FAILED})
"""States that count as replicas of the version; the others are being removed."""

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
MAX_BACKOFF_OF_A_SERVER_S = 2.0
"""Limit for a replica that was READY: it is known to start, and every second without it is lost capacity."""
STEADY_S = 60.0
"""READY time after which earlier failures are forgotten."""


def backoff(failures: int, ready_s: float | None) -> tuple[int, float]:
    """(Failures in a row, seconds until the replacement may start) after one more failure.

    `failures`: in a row before this one. `ready_s`: time the replica had been READY, None if it never was. The first
    failure of a replica that served has no delay (a kill -9 is repaired in milliseconds); then 0.5 s, doubling up to 2
    s. One that never served waits from the first failure on, up to 30 s.
    """
    in_row = 1 if ready_s is not None and ready_s >= STEADY_S else failures + 1
    if in_row == 1 and ready_s is not None:
        return in_row, 0.0
    doublings = min(max(0, in_row - 2), 16)
    longest = MAX_BACKOFF_S if ready_s is None else MAX_BACKOFF_OF_A_SERVER_S
    return in_row, min(longest, FIRST_BACKOFF_S * 2.0**doublings)


def start_deadline_s(probe: LivenessProbe) -> float:
    """Longest time to readiness: that after which Kubernetes would kill it (340 s with the v1 defaults)."""
    return probe.initial_delay_s + probe.failure_threshold * probe.period_s


def start_poll_s(waited_s: float) -> float:
    """Pause between readiness probes: at most 20 a second, and within 5 % of the time waited so far."""
    return min(1.0, max(0.05, 0.05 * waited_s))


def exit_text(returncode: int, signal_names: dict[int, str]) -> str:
    """The end of a process for people. Negative codes are signals, as in `subprocess`."""
    if returncode < 0:
        return f"killed by {signal_names.get(-returncode, f'signal {-returncode}')}"
    return f"exited with code {returncode}"


def gist(reason: str) -> str:
    """The first line of a reason and the exceptions among the others, without numbers, which differ from try to try.

    Equal for repeated failures of one cause, in whatever order several workers wrote their lines.
    """
    first, *rest = reason.splitlines() or [""]
    raised = sorted({_NUMBER.sub("#", line.strip()) for line in rest if _EXCEPTION.match(line.strip())})
    return "\n".join([first, *raised])


_NUMBER = re.compile(r"\b(0x)?[0-9a-f]*[0-9][0-9a-f]*\b")
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt|Warning)\b")
