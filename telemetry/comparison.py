"""Comparison of a treatment with the control of its endpoint, by failed requests. Pure.

Both arms are compared within each interval, and the intervals are weighted as in a Mantel-Haenszel risk difference: a
change of the traffic split or a bad hour for both arms is then no difference between them. The bounds are a normal
mixture confidence sequence (Robbins 1970): they hold at all looks together, so that a page may be watched and a verdict
be acted on at any time.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

ERROR: Final = 0.05
"""Probability of a wrong verdict on equal arms within a day of looks."""
DAY_S: Final = 86_400
LEAST_REQUESTS: Final = 5
"""Requests of each arm in an interval; smaller intervals are merged with the next."""
MIXTURE_VARIANCE: Final = 3.0
"""Variance of the mixture: bounds are tightest at about 2,000 requests of each arm with 3 % of failures."""


class ArmVerdict(StrEnum):
    """Outcome for the treatment."""

    WORSE = "worse"
    BETTER = "better"
    UNDECIDED = "no difference yet"


class ArmTally(NamedTuple):
    """Counts of one version in one interval."""

    requests: int
    failures: int
    duration_s: float = 0.0
    """Sum over the requests."""


@dataclass(frozen=True, slots=True)
class ArmComparison:
    """Treatment minus control, over the intervals in which both had requests."""

    control: ArmTally
    treatment: ArmTally
    difference: float | None
    """Difference of the failure rates; None without common intervals."""
    low: float
    high: float
    """Bounds of the difference, in [-1, 1]."""
    duration_difference_s: float | None
    """Difference of the mean durations in seconds, without bounds."""
    verdict: ArmVerdict


@dataclass(slots=True)
class ArmPairSums:
    """Sums over intervals; each term depends on one interval only, so intervals can be added and removed."""

    control_requests: int = 0
    control_failures: int = 0
    control_s: float = 0.0
    treatment_requests: int = 0
    treatment_failures: int = 0
    treatment_s: float = 0.0
    weight: float = 0.0
    weighted: float = 0.0
    """Sum of weight * difference of the failure rates."""
    weighted_s: float = 0.0
    """Sum of weight * difference of the mean durations."""
    control_spread: float = 0.0
    """Sum of weight² / requests; times p(1 - p) it is a part of the variance of `weighted`."""
    treatment_spread: float = 0.0

    def add(self, control: ArmTally, treatment: ArmTally, sign: int = 1) -> None:
        """Add one interval. Both arms need requests.

        control, treatment: counts in the interval.
        sign: -1: remove an interval that was added.
        """
        mine, theirs = treatment.requests, control.requests
        weight = mine * theirs / (mine + theirs)
        self.control_requests += sign * theirs
        self.control_failures += sign * control.failures
        self.control_s += sign * control.duration_s
        self.treatment_requests += sign * mine
        self.treatment_failures += sign * treatment.failures
        self.treatment_s += sign * treatment.duration_s
        self.weight += sign * weight
        self.weighted += sign * weight * (treatment.failures / mine - control.failures / theirs)
        self.weighted_s += sign * weight * (treatment.duration_s / mine - control.duration_s / theirs)
        self.control_spread += sign * weight * weight / theirs
        self.treatment_spread += sign * weight * weight / mine

    def variance(self) -> float:
        """Estimated variance of `weighted`.

        Each arm counts with its own failure rate or with that of both, if that varies more: an arm with few requests
        and, by chance, few failures would otherwise seem certain.
        """
        both = _binomial_variance(
            self.control_failures + self.treatment_failures, self.control_requests + self.treatment_requests
        )
        control = _binomial_variance(self.control_failures, self.control_requests)
        treatment = _binomial_variance(self.treatment_failures, self.treatment_requests)
        return self.control_spread * max(control, both) + self.treatment_spread * max(treatment, both)

    def bounds(self, error: float) -> tuple[float, float]:
        """Bounds of the difference of the failure rates. `error`: probability of a miss at any look."""
        if not self.weight:
            return -1.0, 1.0
        total = self.variance() + MIXTURE_VARIANCE
        half = math.sqrt(total * math.log(total / (MIXTURE_VARIANCE * error * error))) / self.weight
        middle = self.weighted / self.weight
        return max(middle - half, -1.0), min(middle + half, 1.0)


def compare(intervals: Iterable[tuple[ArmTally, ArmTally]], span_s: float) -> ArmComparison:
    """Compare the arms.

    intervals: counts of control and treatment in each interval, oldest first.
    span_s: length of all intervals together. A shorter span sees new traffic more often within a day, so that its
        bounds are wider by what that many looks cost.
    """
    sums = ArmPairSums()
    for control, treatment in _merged(intervals):
        sums.add(control, treatment)
    low, high = sums.bounds(error_of(span_s))
    return ArmComparison(
        control=ArmTally(sums.control_requests, sums.control_failures, sums.control_s),
        treatment=ArmTally(sums.treatment_requests, sums.treatment_failures, sums.treatment_s),
        difference=sums.weighted / sums.weight if sums.weight else None,
        low=low,
        high=high,
        duration_difference_s=sums.weighted_s / sums.weight if sums.weight else None,
        verdict=verdict_of(low, high),
    )


def error_of(span_s: float) -> float:
    """Probability of a wrong verdict within one span, so that it is ERROR within a day."""
    return ERROR * min(span_s / DAY_S, 1.0)


def verdict_of(low: float, high: float) -> ArmVerdict:
    """The verdict by the bounds of the difference."""
    return ArmVerdict.WORSE if low > 0 else ArmVerdict.BETTER if high < 0 else ArmVerdict.UNDECIDED


def _merged(intervals: Iterable[tuple[ArmTally, ArmTally]]) -> Iterable[tuple[ArmTally, ArmTally]]:
    """Intervals with LEAST_REQUESTS of each arm; the last may have fewer, but not none."""
    nothing = ArmTally(0, 0)
    control, treatment = nothing, nothing
    for more_control, more_treatment in intervals:
        control, treatment = _sum(control, more_control), _sum(treatment, more_treatment)
        if min(control.requests, treatment.requests) >= LEAST_REQUESTS:
            yield control, treatment
            control, treatment = nothing, nothing
    if control.requests and treatment.requests:
        yield control, treatment


def _sum(one: ArmTally, other: ArmTally) -> ArmTally:
    return ArmTally(one.requests + other.requests, one.failures + other.failures, one.duration_s + other.duration_s)


def _binomial_variance(failures: int, requests: int) -> float:
    """Variance of one request's failure; one failure and one success more keep it above 0 before the first failure."""
    rate = (failures + 1) / (requests + 2)
    return rate * (1 - rate)
