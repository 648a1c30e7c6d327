"""The scaling policy: one observation of a version in, the desired number of replicas and the reason out.

wanted = ceil((mean busy slots over the period + requests waiting now) ÷ (slots per replica × target utilization)),
within `bounds`. A scale-up happens at once; a scale-down only after wanted was lower for the whole scale-down window,
and only to the highest value in that window. Incomplete data may raise the number, never lower it.

To add a rule: write a function of `RuleInputs` and put it into `RULES` at its rank. To add a limit (a schedule, a
quota): `bounds` is the only place that knows minimum and maximum.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from autoscaler.sizing import replicas_needed
from autoscaler.window import PeakWindow
from serving.endpoint import AutoscalePolicy, VersionKey


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

    @property
    def utilization(self) -> float:
        """Busy slots ÷ total slots of ready replicas; 0.0 without slots."""
        return self.busy / self.total_slots if self.total_slots else 0.0


@dataclass(frozen=True, slots=True)
class ScalingState:
    """State from one decision to the next. `decide` changes the window in place: continue with the state it returns."""

    desired: int
    window: PeakWindow = field(default_factory=PeakWindow)


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


@dataclass(frozen=True, slots=True)
class Decision:
    """The desired number of replicas of a version, and the reason."""

    key: VersionKey
    at_s: float
    """Time of the decision on the clock of the caller."""
    previous: int
    desired: int
    wanted: int
    """The number for the load alone, within the bounds; never above `desired`."""
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
) -> tuple[ScalingState, Decision]:
    """The next state and the decision for one version. Changed bounds count at once, whatever the window and the data.

    `state`: of the decision before. `observation`: the slots now. `now`: seconds on a monotonic clock, equal times
    are fine. `unix_s`: the same instant as wall-clock time, for `bounds`.
    """
    limits = bounds(policy, unix_s)
    demand = observation.busy_mean + observation.waiting
    needed = replicas_needed(demand, slots_per_replica, policy.target_utilization)
    wanted = limits.clamp(needed) if policy.enabled else limits.low
    current = limits.clamp(state.desired)
    # While data is missing the true need may be as high as the current number: the window must contain that, or the
    # end of an outage would find only low values in it and remove replicas at once.
    state.window.add(wanted if observation.complete else max(wanted, current), now)
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
        peak=state.window.peak(policy.scale_down_window_s, now),
        known_s=state.window.known_s(now),
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
    return replace(state, desired=outcome.desired), decision


# ---- the rules; each returns its outcome, or None if it does not apply


def autoscaling_off(given: RuleInputs) -> RuleOutcome | None:
    """The declared number."""
    return None if given.policy.enabled else RuleOutcome(given.wanted, ScalingRule.FIXED, "the number is fixed")


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
    length_s = given.policy.scale_down_window_s
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
    demand_above_maximum,
    scale_up,
    changed_bounds,
    missing_data,
    scale_down,
    at_minimum,
    as_demanded,
)
"""In order of rank: the first that applies decides. Every outcome is at least `wanted` and within the bounds."""


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
