"""The scaling rule: what a version was seen to do goes in, the number of replicas it should have comes out.

wanted = ceil((mean busy slots over the period + requests waiting now) ÷ (slots per replica × target utilization)),
between min and max. More is asked for at once; less only when wanted has stayed lower for the whole window: then the
highest value wanted in it. Missing data may raise, never lower.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from autoscaler.sizing import replicas_needed
from autoscaler.window import PeakWindow
from serving.endpoint import AutoscalePolicy, VersionKey


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of one version's slots at one instant."""

    busy_mean: float
    """Mean number of busy slots over the last refresh period, from exact time integrals; 0.0 when nothing is known."""
    busy: int
    """Slots in use now."""
    waiting: int
    """Requests that wait for a slot now."""
    total_slots: int
    """Slots of ready replicas."""
    complete: bool
    """False while some worker is silent, or came or went within the period: what is seen may then be too little."""

    @property
    def utilization(self) -> float:
        """Share of the slots of ready replicas in use now; 0.0 where there is no slot."""
        return self.busy / self.total_slots if self.total_slots else 0.0


@dataclass(frozen=True, slots=True)
class ScalingState:
    """What a decision leaves for the next one. The window moves on with it: after `decide` use the state returned."""

    desired: int
    window: PeakWindow = field(default_factory=PeakWindow)


class Direction(StrEnum):
    """Where a decision moves the number of replicas."""

    UP = "up"
    DOWN = "down"
    HOLD = "hold"


class ScalingRule(StrEnum):
    """Which part of the rule settled a decision."""

    DEMAND = "demand"
    """The load needs just this many."""
    MAX = "max"
    """Bounded from above."""
    MIN = "min"
    """Bounded from below."""
    WINDOW = "window"
    """Fewer are wanted now; the window says how many may go."""
    INCOMPLETE = "incomplete"
    """Data is missing, so nothing is given back."""
    FIXED = "fixed"
    """Autoscaling is off."""


@dataclass(frozen=True, slots=True)
class Decision:
    """How many replicas a version should have, and why."""

    key: VersionKey
    at_s: float
    """On the clock of whoever asked."""
    previous: int
    desired: int
    wanted: int
    """What the load alone asks for, between min and max; never above `desired`."""
    direction: Direction
    rule: str
    """One of `ScalingRule`."""
    reason: str
    """One sentence for people, with the numbers."""
    observation: Observation
    demand: float
    """Mean busy slots + waiting requests."""


class _Inputs(NamedTuple):
    """One decision's numbers on their way through the rule."""

    policy: AutoscalePolicy
    slots_per_replica: int
    observation: Observation
    demand: float
    needed: int
    """Before min and max."""
    wanted: int
    previous: int
    current: int
    """`previous` between min and max."""
    peak: int | None
    known_s: float


class _Outcome(NamedTuple):
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
) -> tuple[ScalingState, Decision]:
    """The state after and the decision at `now` (seconds, never decreasing; equal times are fine).

    A changed minimum or maximum counts at once, whatever the window and the data say.
    """
    demand = observation.busy_mean + observation.waiting
    needed = replicas_needed(demand, slots_per_replica, policy.target_utilization)
    wanted = _bounded(needed, policy) if policy.enabled else policy.min_replicas
    current = _bounded(state.desired, policy)
    # While data is missing the true need may be as high as what stands: the window must remember that much, or the end
    # of an outage would find nothing but low values in it and give back replicas at once.
    state.window.add(wanted if observation.complete else max(wanted, current), now)
    peak = state.window.peak(policy.scale_down_window_s, now)
    known_s = state.window.known_s(now)
    inputs = _Inputs(
        policy, slots_per_replica, observation, demand, needed, wanted, state.desired, current, peak, known_s
    )
    outcome = _settle(inputs)
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
    return replace(state, desired=outcome.desired), decision


def _settle(given: _Inputs) -> _Outcome:
    """The rule, first match wins. Every branch gives at least `wanted` and stays between min and max."""
    policy, wanted, current = given.policy, given.wanted, given.current
    if not policy.enabled:
        return _Outcome(wanted, ScalingRule.FIXED, "the number is fixed")
    if given.needed > policy.max_replicas:
        return _Outcome(wanted, ScalingRule.MAX, f"the maximum is {policy.max_replicas}")
    if wanted > current:
        return _Outcome(wanted, ScalingRule.DEMAND, "more is asked for at once")
    if current != given.previous:
        return _now_bounded(given)
    if not given.observation.complete:
        return _Outcome(current, ScalingRule.INCOMPLETE, "counts are missing, which may raise but never lower")
    if wanted < current:
        return _given_back(given)
    if wanted == policy.min_replicas:
        return _Outcome(wanted, ScalingRule.MIN, f"the minimum is {policy.min_replicas}")
    return _Outcome(wanted, ScalingRule.DEMAND, "that is what there should be")


def _now_bounded(given: _Inputs) -> _Outcome:
    """What stands is outside the bounds, because these have changed."""
    if given.current < given.previous:
        return _Outcome(given.current, ScalingRule.MAX, f"the maximum is {given.current} now")
    return _Outcome(given.current, ScalingRule.MIN, f"the minimum is {given.current} now")


def _given_back(given: _Inputs) -> _Outcome:
    """Fewer are wanted than stand: only what was not wanted in the whole window may go."""
    length_s = given.policy.scale_down_window_s
    if given.peak is None:
        known = f"only {given.known_s:.0f} s of the {length_s:g} s window are known"
        return _Outcome(given.current, ScalingRule.WINDOW, known)
    desired = min(given.peak, given.current)
    return _Outcome(desired, ScalingRule.WINDOW, f"the most that was wanted in the last {length_s:g} s is {given.peak}")


def _bounded(number: int, policy: AutoscalePolicy) -> int:
    return max(policy.min_replicas, min(policy.max_replicas, number))


def _direction(previous: int, desired: int) -> Direction:
    if desired == previous:
        return Direction.HOLD
    return Direction.UP if desired > previous else Direction.DOWN


def _sentence(given: _Inputs, outcome: _Outcome) -> str:
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
