"""Replay of a trace through the scaling policy: events in virtual time, decisions by `autoscaler.policy.decide`."""

import heapq
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from autoscaler.policy import POKE_GAP_S, Decision, Direction, ScalingState, decide
from autoscaler.simulation.simulated_version import SimulatedReplica, SimulatedVersion
from serving.endpoint import AutoscalePolicy, VersionKey

KEY = VersionKey("trace", "replay")


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """Everything that a replay depends on but the trace."""

    policy: AutoscalePolicy = field(default_factory=AutoscalePolicy)
    slots: int = 1
    """Slots of a replica."""
    start_s: float = 20.0
    """Time of a replica from its start to its readiness."""
    queue_wait_s: float = 0.5


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """The outcome of a replay. Times are in seconds from the start of the trace."""

    settings: ReplaySettings
    replicas: list[tuple[float, int]]
    """(time, number of replicas that run: starting, ready or ending) at each change."""
    waits_s: list[float]
    """Waits of the served requests, in ascending order."""
    refused: int
    """Requests whose wait was over before a slot was free."""
    replica_seconds: float
    utilization: float
    """Busy slot-seconds ÷ slot-seconds of ready replicas; 0.0 without any."""
    end_s: float
    """End of the last request."""
    decisions: list[Decision]
    """Those that changed the number."""

    def wait_s(self, share: float) -> float:
        """The wait that this share of the served requests does not exceed (nearest rank); 0.0 without any."""
        if not self.waits_s:
            return 0.0
        return self.waits_s[max(0, math.ceil(share * len(self.waits_s)) - 1)]

    @property
    def most(self) -> int:
        """The largest number of replicas."""
        return max(number for _, number in self.replicas)


class _Event(IntEnum):
    """Kind of an event; at one time in this order."""

    DEPARTURE = 0
    READY = 1
    EXPIRY = 2
    DECISION = 3


class _Replay:
    """The state of one replay."""

    def __init__(self, settings: ReplaySettings) -> None:
        self.settings = settings
        policy = settings.policy
        self.version = SimulatedVersion(settings.slots, settings.queue_wait_s, settings.start_s, policy.min_replicas)
        self.changes: list[Decision] = []
        self._state = ScalingState(policy.min_replicas)
        self._decided_s = -math.inf
        self._poked = False
        self._events: list[tuple[float, _Event, int, Any]] = []
        self._order = itertools.count()
        self.in_flight = 0

    def run(self, requests: Sequence[tuple[float, float]]) -> float:
        """Replay all requests; returns the time of the last departure or refusal."""
        version, events = self.version, self._events
        self._at(0.0, _Event.DECISION, True)
        for arrival_s, service_s in requests:
            while events and events[0][0] <= arrival_s:
                self._handle()
            version.advance(arrival_s)
            self._serve(version.arrive(service_s), arrival_s)
            if version.waiting:
                self._at(arrival_s + self.settings.queue_wait_s, _Event.EXPIRY, None)
                self._poke(arrival_s)
        end_s = requests[-1][0]
        while self.in_flight or version.waiting:
            end_s = self._handle()
        return end_s

    def _handle(self) -> float:
        """Handle the next event; returns its time."""
        now, kind, _, subject = heapq.heappop(self._events)
        version = self.version
        version.advance(now)
        if kind is _Event.DEPARTURE:
            self.in_flight -= 1
            self._serve(version.depart(subject), now)
        elif kind is _Event.READY:
            self._serve(version.get_ready(subject), now)
        elif kind is _Event.EXPIRY:
            version.expire()
        else:
            self._decide(now, is_tick=subject)
        return now

    def _at(self, moment: float, kind: _Event, subject: Any) -> None:
        heapq.heappush(self._events, (moment, kind, next(self._order), subject))

    def _serve(self, granted: list[tuple[SimulatedReplica, float]], now: float) -> None:
        for replica, service_s in granted:
            self.in_flight += 1
            self._at(now + service_s, _Event.DEPARTURE, replica)

    def _poke(self, now: float) -> None:
        """A request found no free slot: decide at once, with the gap of the scaling loop."""
        if not self._poked:
            self._poked = True
            self._at(max(now, self._decided_s + POKE_GAP_S), _Event.DECISION, False)

    def _decide(self, now: float, is_tick: bool) -> None:
        policy = self.settings.policy
        if is_tick:
            self._at(now + policy.refresh_period_s, _Event.DECISION, True)
        else:
            self._poked = False
        self._decided_s = now
        version = self.version
        self._state, decision = decide(
            KEY,
            policy,
            self.settings.slots,
            self._state,
            version.observe(policy.refresh_period_s),
            now,
            now,
            version.facts(),
        )
        if decision.direction is not Direction.HOLD:
            self.changes.append(decision)
        for replica in version.scale(decision.desired):
            self._at(now + self.settings.start_s, _Event.READY, replica)


def replay(requests: Sequence[tuple[float, float]], settings: ReplaySettings) -> ReplayResult:
    """The outcome of a trace under a policy. The minimum of replicas is ready at the start.

    requests: (arrival, service time) in seconds, at least one, in order of arrival.
    settings: of the replay.
    """
    run = _Replay(settings)
    end_s = run.run(requests)
    version = run.version
    ready = version.ready_slot_seconds
    return ReplayResult(
        settings=settings,
        replicas=version.history,
        waits_s=sorted(version.waits_s),
        refused=version.refused,
        replica_seconds=version.replica_seconds,
        utilization=version.busy_slot_seconds / ready if ready else 0.0,
        end_s=end_s,
        decisions=run.changes,
    )
