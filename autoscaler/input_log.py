"""Inputs of the scaling decisions of the last hour, kept compactly, and their replay through a changed policy. Pure."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from autoscaler.policy import Observation, ScalingState, decide
from autoscaler.replica_facts import ReplicaFacts
from autoscaler.window import PeakWindow
from serving.endpoint import AutoscalePolicy, VersionKey

KEPT_S = 3600.0
MOST_INPUTS = 200_000
"""Inputs kept for all versions together, about 50 MB; beyond it the oldest of the longest log are dropped."""


class ScalingInput(NamedTuple):
    """Inputs of one decision, in force until the next."""

    at_s: float
    observation: Observation
    facts: ReplicaFacts
    desired: int
    """The number decided."""


class InputLog:
    """The inputs by version. Equal ones in a row are kept once, so an idle version costs nothing."""

    def __init__(self, most: int = MOST_INPUTS) -> None:
        """`most`: bound on the inputs of all versions."""
        self._most = most
        self._count = 0
        self._inputs: dict[VersionKey, deque[ScalingInput]] = {}

    def add(self, key: VersionKey, given: ScalingInput) -> None:
        """Keep the inputs of a decision. Times never decrease."""
        observation = given.observation
        given = given._replace(observation=replace(observation, busy_mean=round(observation.busy_mean, 3)))
        log = self._inputs.setdefault(key, deque())
        if log and log[-1][1:] == given[1:]:
            return
        log.append(given)
        self._count += 1
        while len(log) > 1 and log[1].at_s <= given.at_s - KEPT_S:
            log.popleft()
            self._count -= 1
        if self._count > self._most:
            max(self._inputs.values(), key=len).popleft()
            self._count -= 1

    def of(self, key: VersionKey) -> Sequence[ScalingInput]:
        """The inputs of a version, oldest first."""
        return tuple(self._inputs.get(key, ()))

    def forget(self, key: VersionKey) -> None:
        """Drop the inputs of a removed version."""
        self._count -= len(self._inputs.pop(key, ()))


class Difference(NamedTuple):
    """A span in which another policy would have had another number. Times are seconds on the clock of the inputs."""

    from_s: float
    to_s: float
    recorded: int
    alternative: int
    reason: str
    """Reason of the alternative number at the beginning of the span."""


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The outcome of a replay of recorded inputs."""

    from_s: float
    to_s: float
    recorded_replica_seconds: float
    alternative_replica_seconds: float
    differences: tuple[Difference, ...]

    def shifted(self, by_s: float) -> "WhatIf":
        """The same on another clock, which is ahead by so many seconds."""
        moved = tuple(one._replace(from_s=one.from_s + by_s, to_s=one.to_s + by_s) for one in self.differences)
        return replace(self, from_s=self.from_s + by_s, to_s=self.to_s + by_s, differences=moved)


def what_if(
    key: VersionKey, policy: AutoscalePolicy, slots_per_replica: int, inputs: Sequence[ScalingInput], until_s: float
) -> WhatIf:
    """Replay recorded inputs through another policy, decision by decision.

    Waiting requests and busy slots are those recorded: other numbers of replicas would have changed them. A start in
    progress is left out, since it belongs to the recorded number.

    key: of the version.
    policy: the other policy.
    slots_per_replica: of the version.
    inputs: recorded, oldest first; at least one.
    until_s: end of the last input.
    """
    numbers: list[tuple[float, int, int, str]] = []
    state = ScalingState(inputs[0].desired, PeakWindow())
    ends_s = [after.at_s for after in inputs[1:]] + [until_s]
    for given, end_s in zip(inputs, ends_s, strict=True):
        facts = replace(given.facts, starting=0, first_start=False)
        at_s = given.at_s
        while at_s < end_s or at_s == given.at_s:
            state, decision = decide(key, policy, slots_per_replica, state, given.observation, at_s, at_s, facts)
            if not numbers or numbers[-1][1:3] != (given.desired, decision.desired):
                numbers.append((at_s, given.desired, decision.desired, decision.reason))
            at_s += policy.refresh_period_s
    spans = [
        (at_s, to_s, recorded, other, reason)
        for (at_s, recorded, other, reason), (to_s, *_) in pairwise([*numbers, (until_s, 0, 0, "")])
    ]
    return WhatIf(
        inputs[0].at_s,
        until_s,
        sum(recorded * (to_s - at_s) for at_s, to_s, recorded, _, _ in spans),
        sum(other * (to_s - at_s) for at_s, to_s, _, other, _ in spans),
        tuple(Difference(*span) for span in spans if span[2] != span[3] and span[1] > span[0]),
    )
