"""The scaling policy: one observation of a version in, the desired number of replicas and the reason out.

wanted = ceil((mean busy slots over the period + requests waiting now) ÷ (slots per replica × target utilization)),
within `bounds`. A scale-up happens at once; a scale-down only after wanted was lower for the whole scale-down window,
and only to the highest value in that window. Incomplete data may raise the number, never lower it.

The window begins when the requested replicas are ready, and is at least as long as a start takes: otherwise a version
that starts slower than its window would stop every replica before its first request. For such a version it doubles
with each scale-down that the load reverses. Replicas that cannot start, or
that no machine has room for, are not multiplied by waiting requests, nor are those that have yet to show that they can
start.

To add a rule: write a function of `RuleInputs` and put it into `RULES` at its rank. To add a limit (a schedule, a
quota): `bounds` is the only place that knows minimum and maximum.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from autoscaler.replica_facts import ReplicaFacts
from autoscaler.sizing import replicas_needed
from autoscaler.window import PeakWindow
from serving.endpoint import AutoscalePolicy, VersionKey

LONGEST_START_S = 3600.0
"""Limit of the window of a version that starts slower than its declared window."""
REVERSED_WINDOWS = 2
"""Windows within which a scale-up reverses the scale-down before it, for a version that starts slowly."""
MOST_STRETCH = 64
POKE_GAP_S = 0.05
"""Least time between two decisions of a version, for any number of requests without a free slot."""


UNKNOWN = ReplicaFacts()


@dataclass(frozen=True, slots=True)
class Observation:
    """The slots of one version at one instant."""

    busy_mean: float
    """Mean number of busy slots over the last refresh period, from exact time integrals; 0.0 when nothing is known."""
    busy: int
    """Slots in use now."""
    waiting: int
    """Queued requests now."""
    total_slots: int
    """Slots of ready replicas."""
    complete: bool
    """False while a worker does not report, or joined or left within the period: the numbers may then be too low."""


@dataclass(frozen=True, slots=True)
class ScalingState:
    """State from one decision to the next. `decide` changes the window in place: continue with the state it returns."""

    desired: int
    window: PeakWindow = field(default_factory=PeakWindow)
    lowered_s: float = -math.inf
    """Time of the last scale-down."""
    stretch: int = 1
    """Factor of the window of a version that starts slower than its declared window: doubled by each scale-down that
    the load reverses soon, halved by one that stands."""


class Direction(StrEnum):
    """Change of the number of replicas by a decision."""

    UP = "up"
    DOWN = "down"
    HOLD = "hold"


class ScalingRule(StrEnum):
    """The cause of a decision, as decision records and metrics name it."""

    DEMAND = "demand"
    """The number that the load needs."""
    MAX = "max"
    """Limited by the maximum."""
    MIN = "min"
    """Limited by the minimum."""
    WINDOW = "window"
    """Fewer are wanted; limited by the scale-down window."""
    INCOMPLETE = "incomplete"
    """No scale-down while data is missing."""
    FIXED = "fixed"
    """Autoscaling is off."""
    FIRST_START = "first start"
    """At most one replica above the minimum while none has been ready yet."""
    FAILING = "failing"
    """No scale-up while the newest template fails and has no ready replica."""
    ROOM = "room"
    """No scale-up while there is no room for a replica."""
    ADOPTED = "adopted"
    """Another client set the number; see `autoscaler.adoption`."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The desired number of replicas of a version, and the reason."""

    key: VersionKey
    at_s: float
    """Time of the decision on the clock of the caller."""
    previous: int
    desired: int
    wanted: int
    """The number for the load alone, within the bounds; above `desired` only by `failing`, `room` and `first start`."""
    direction: Direction
    rule: str
    """A value of `ScalingRule`."""
    reason: str
    """One sentence with the numbers, shown by `scorefront why`."""
    observation: Observation
    demand: float
    """Mean busy slots + waiting requests."""


class Bounds(NamedTuple):
    """The smallest and largest number of replicas allowed at one time."""

    low: int
    high: int

    def clamp(self, number: int) -> int:
        """The allowed number closest to `number`."""
        return max(self.low, min(self.high, number))


def bounds(policy: AutoscalePolicy, unix_s: float) -> Bounds:
    """The minimum and maximum at `unix_s` (seconds since 1970; today's policies do not depend on the time of day)."""
    return Bounds(policy.min_replicas, policy.max_replicas)


class RuleInputs(NamedTuple):
    """The numbers of one decision, for `RULES`."""

    policy: AutoscalePolicy
    bounds: Bounds
    slots_per_replica: int
    observation: Observation
    demand: float
    needed: int
    """Replicas for the demand, before the bounds."""
    wanted: int
    """`needed` within the bounds."""
    previous: int
    current: int
    """`previous` within the bounds."""
    peak: int | None
    """Highest wanted number in the scale-down window; None while the window is not fully known."""
    known_s: float
    """Seconds of the window that are known."""
    window_s: float
    """Length of the window: as declared, or a multiple of the time that a start takes if that is longer."""
    facts: ReplicaFacts


class RuleOutcome(NamedTuple):
    """The desired number by one rule, the cause, and the clause for the reason."""

    desired: int
    rule: ScalingRule
    because: str


def decide(
    key: VersionKey,
    policy: AutoscalePolicy,
    slots_per_replica: int,
    state: ScalingState,
    observation: Observation,
    now: float,
    unix_s: float,
    facts: ReplicaFacts = UNKNOWN,
) -> tuple[ScalingState, Decision]:
    """The next state and the decision for one version. Changed bounds count at once, whatever the window and the data.

    `state`: of the decision before. `observation`: the slots now. `now`: seconds on a monotonic clock, equal times
    are fine. `unix_s`: the same instant as wall-clock time, for `bounds`. `facts`: the replicas now, default unknown.
    """
    limits = bounds(policy, unix_s)
    demand = observation.busy_mean + observation.waiting
    needed = replicas_needed(demand, slots_per_replica, policy.target_utilization)
    wanted = limits.clamp(needed) if policy.enabled else limits.low
    current = limits.clamp(state.desired)
    # While data is missing the true need may be as high as the current number: the window must contain that, or the
    # end of an outage would find only low values in it and remove replicas at once. The same holds while replicas
    # start: they have not served yet what they were requested for.
    settled = observation.complete and not facts.starting
    state.window.add(wanted if settled else max(wanted, current), now)
    window_s = policy.scale_down_window_s
    if starts_slowly := facts.start_s > window_s:
        window_s = min(state.stretch * facts.start_s, LONGEST_START_S)
    inputs = RuleInputs(
        policy=policy,
        bounds=limits,
        slots_per_replica=slots_per_replica,
        observation=observation,
        demand=demand,
        needed=needed,
        wanted=wanted,
        previous=state.desired,
        current=current,
        peak=state.window.peak(window_s, now),
        known_s=state.window.known_s(now),
        window_s=window_s,
        facts=facts,
    )
    outcome = next(outcome for rule in RULES if (outcome := rule(inputs)) is not None)
    decision = Decision(
        key=key,
        at_s=now,
        previous=state.desired,
        desired=outcome.desired,
        wanted=wanted,
        direction=_direction(state.desired, outcome.desired),
        rule=outcome.rule,
        reason=_sentence(inputs, outcome),
        observation=observation,
        demand=demand,
    )
    return _next_state(state, decision, window_s if starts_slowly else 0.0), decision


def _next_state(state: ScalingState, decision: Decision, slow_window_s: float) -> ScalingState:
    """The state after a decision.

    state: before it.
    decision: the decision.
    slow_window_s: length of the window of a version that starts slower than declared; 0.0 for others.
    """
    now, stretch, lowered_s = decision.at_s, state.stretch, state.lowered_s
    if decision.direction is Direction.DOWN:
        lowered_s = now
    elif decision.direction is Direction.UP and slow_window_s and math.isfinite(lowered_s):
        reversed_soon = now - lowered_s <= REVERSED_WINDOWS * slow_window_s
        stretch = min(2 * stretch, MOST_STRETCH) if reversed_soon else max(1, stretch // 2)
        lowered_s = -math.inf  # judged once
    return replace(state, desired=decision.desired, stretch=stretch, lowered_s=lowered_s)


# ---- the rules; each returns its outcome, or None if it does not apply


def autoscaling_off(given: RuleInputs) -> RuleOutcome | None:
    """The declared number."""
    return None if given.policy.enabled else RuleOutcome(given.wanted, ScalingRule.FIXED, "the number is fixed")


def failing(given: RuleInputs) -> RuleOutcome | None:
    """No scale-up while replicas of the newest template fail and none is ready: more of them would fail, too."""
    facts = given.facts
    if given.wanted <= given.current or facts.ready or not facts.failing:
        return None
    return RuleOutcome(given.current, ScalingRule.FAILING, _because(f"{facts.failing} failing and none ready", facts))


def first_start(given: RuleInputs) -> RuleOutcome | None:
    """One replica above the minimum at most, while none has been ready: requests that wait for the first need no more
    if it starts, and more of them would fail with it if it does not."""
    facts, most = given.facts, max(given.current, given.bounds.low + 1)
    if given.wanted <= most or not facts.first_start or not facts.starting:
        return None
    return RuleOutcome(most, ScalingRule.FIRST_START, f"none of {facts.starting} starting has been ready yet")


def no_room(given: RuleInputs) -> RuleOutcome | None:
    """No scale-up while there is no room for a replica: more of them would wait, too."""
    facts = given.facts
    if given.wanted <= given.current or not facts.unplaced:
        return None
    return RuleOutcome(given.current, ScalingRule.ROOM, _because(f"{facts.unplaced} without room", facts))


def demand_above_maximum(given: RuleInputs) -> RuleOutcome | None:
    """The maximum, when the load needs more."""
    high = given.bounds.high
    return RuleOutcome(given.wanted, ScalingRule.MAX, f"the maximum is {high}") if given.needed > high else None


def scale_up(given: RuleInputs) -> RuleOutcome | None:
    """The wanted number at once, when it is higher."""
    if given.wanted <= given.current:
        return None
    return RuleOutcome(given.wanted, ScalingRule.DEMAND, "more is asked for at once")


def changed_bounds(given: RuleInputs) -> RuleOutcome | None:
    """The nearest allowed number, when the bounds have moved past the previous one."""
    current = given.current
    if current < given.previous:
        return RuleOutcome(current, ScalingRule.MAX, f"the maximum is {current} now")
    return RuleOutcome(current, ScalingRule.MIN, f"the minimum is {current} now") if current > given.previous else None


def missing_data(given: RuleInputs) -> RuleOutcome | None:
    """No change while counts are missing."""
    if given.observation.complete:
        return None
    return RuleOutcome(given.current, ScalingRule.INCOMPLETE, "counts are missing, which may raise but never lower")


def scale_down(given: RuleInputs) -> RuleOutcome | None:
    """The highest number wanted in the scale-down window, when fewer are wanted now."""
    if given.wanted >= given.current:
        return None
    if given.observation.complete and given.facts.starting:
        starting = "1 replica is" if given.facts.starting == 1 else f"{given.facts.starting} replicas are"
        return RuleOutcome(given.current, ScalingRule.WINDOW, f"{starting} still starting")
    length_s = given.window_s
    if given.peak is None:
        known = f"only {given.known_s:.0f} s of the {length_s:g} s window are known"
        return RuleOutcome(given.current, ScalingRule.WINDOW, known)
    desired = min(given.peak, given.current)
    return RuleOutcome(
        desired, ScalingRule.WINDOW, f"the most that was wanted in the last {length_s:g} s is {given.peak}"
    )


def at_minimum(given: RuleInputs) -> RuleOutcome | None:
    """No change at the minimum."""
    low = given.bounds.low
    return RuleOutcome(given.wanted, ScalingRule.MIN, f"the minimum is {low}") if given.wanted == low else None


def as_demanded(given: RuleInputs) -> RuleOutcome | None:
    """No change: the number fits the load."""
    return RuleOutcome(given.wanted, ScalingRule.DEMAND, "that is what there should be")


RULES: tuple[Callable[[RuleInputs], RuleOutcome | None], ...] = (
    autoscaling_off,
    failing,
    no_room,
    first_start,
    demand_above_maximum,
    scale_up,
    changed_bounds,
    missing_data,
    scale_down,
    at_minimum,
    as_demanded,
)
"""In order of rank: the first that applies decides. Every outcome is within the bounds, and at least `wanted` except
by `failing`, `no_room` and `first_start`."""


def _because(state: str, facts: ReplicaFacts) -> str:
    return f"{state} ({facts.hindrance})" if facts.hindrance else state


def _direction(previous: int, desired: int) -> Direction:
    if desired == previous:
        return Direction.HOLD
    return Direction.UP if desired > previous else Direction.DOWN


def _sentence(given: RuleInputs, outcome: RuleOutcome) -> str:
    """`Demand 7.20 (4.20 busy on average + 3 waiting) ÷ (1 slot × 70 %) needs 11 replicas; …: up from 2 to 10.`"""
    seen, previous = given.observation, given.previous
    slots = "1 slot" if given.slots_per_replica == 1 else f"{given.slots_per_replica} slots"
    replicas = "1 replica" if given.needed == 1 else f"{given.needed} replicas"
    direction = _direction(previous, outcome.desired)
    holds = direction is Direction.HOLD
    move = f"stays at {previous}" if holds else f"{direction} from {previous} to {outcome.desired}"
    return (
        f"Demand {given.demand:.2f} ({seen.busy_mean:.2f} busy on average + {seen.waiting} waiting) ÷ "
        f"({slots} × {given.policy.target_utilization * 100:g} %) needs {replicas}; {outcome.because}: {move}."
    )
