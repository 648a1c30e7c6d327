"""Adoption of a number of replicas that another client has set: the policy continues from it, with a new window."""

from dataclasses import replace

from autoscaler.policy import Decision, Direction, Observation, ScalingRule, ScalingState
from serving.endpoint import VersionKey


def adopt(
    key: VersionKey, state: ScalingState, number: int, writer: str, seen: Observation, now: float
) -> tuple[ScalingState, Decision]:
    """The next state and the decision record.

    key: of the version.
    state: of the last decision.
    number: replicas as set by the other client; fewer are wanted only after a whole scale-down window.
    writer: the other client, for people.
    seen: the slots now.
    now: seconds on a monotonic clock.
    """
    before = state.desired
    state.window.add(number, now)
    direction = Direction.HOLD if number == before else Direction.UP if number > before else Direction.DOWN
    decision = Decision(
        key=key,
        at_s=now,
        previous=before,
        desired=number,
        wanted=number,
        direction=direction,
        rule=ScalingRule.ADOPTED,
        reason=f"{writer} set the number to {number}: it is the current number now.",
        observation=seen,
        demand=seen.busy_mean + seen.waiting,
    )
    return replace(state, desired=number), decision
