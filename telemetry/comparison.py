"""Comparison of a treatment with the control of its endpoint, by failed requests and by mean durations. Pure.

Both arms are compared within each interval, and the intervals are weighted as in a Mantel-Haenszel risk difference: a
change of the traffic split or a bad hour for both arms is then no difference between them. The bounds are a normal
mixture confidence sequence (Robbins 1970): they hold at all looks together, so that a page may be watched and a verdict
be acted on at any time. For durations, whose variance is estimated, they hold once there are some requests.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from operator import add
from typing import Final, NamedTuple

ERROR: Final = 0.05
"""Probability of a wrong verdict on equal arms within a day of looks."""
DAY_S: Final = 86_400
LEAST_REQUESTS: Final = 5
"""Requests of each arm in an interval; smaller intervals are merged with the next."""
MIXTURE_VARIANCE: Final = 3.0
"""Variance of the mixture: bounds are tightest at about 2,000 requests of each arm with 3 % of failures."""

DURATION_MIXTURE: Final = 100.0
"""Variance of the mixture for durations, in squares of their deviation: tightest at about 2,000 requests per arm."""
LEAST_DURATIONS: Final = 50
"""Requests of each arm without which there are no bounds for durations."""


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
    squares_s2: float = 0.0
    """Upper bound of the sum of the squares of the durations."""


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
    """Difference of the mean durations in seconds; None without common intervals."""
    duration_bounds_s: tuple[float, float] | None
    """Bounds of the difference; None with less than LEAST_DURATIONS requests of an arm."""
    verdict: ArmVerdict
    """By the failure rates."""
    duration_verdict: ArmVerdict
    """By the mean durations: WORSE is slower."""


@dataclass(slots=True)
class ArmPairSums:
    """Sums over intervals; each term depends on one interval only, so intervals can be added and removed."""

    control_requests: int = 0
    control_failures: int = 0
    control_s: float = 0.0
    control_s2: float = 0.0
    treatment_requests: int = 0
    treatment_failures: int = 0
    treatment_s: float = 0.0
    treatment_s2: float = 0.0
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
        self.control_s2 += sign * control.squares_s2
        self.treatment_requests += sign * mine
        self.treatment_failures += sign * treatment.failures
        self.treatment_s += sign * treatment.duration_s
        self.treatment_s2 += sign * treatment.squares_s2
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
        half = _half_width(self.variance(), MIXTURE_VARIANCE, error) / self.weight
        middle = self.weighted / self.weight
        return max(middle - half, -1.0), min(middle + half, 1.0)

    def duration_bounds_s(self, error: float) -> tuple[float, float] | None:
        """Bounds of the difference of the mean durations; None: too few requests.

        As for failures, each arm counts with its own variance or with that of both, if that is larger.
        `error`: probability of a miss at any look.
        """
        if min(self.control_requests, self.treatment_requests) < LEAST_DURATIONS:
            return None
        requests = self.control_requests + self.treatment_requests
        both = _variance(requests, self.control_s + self.treatment_s, self.control_s2 + self.treatment_s2)
        if both <= 0:
            return None
        control = max(both, _variance(self.control_requests, self.control_s, self.control_s2))
        treatment = max(both, _variance(self.treatment_requests, self.treatment_s, self.treatment_s2))
        spread = (self.control_spread * control + self.treatment_spread * treatment) / both
        half = math.sqrt(both) * _half_width(spread, DURATION_MIXTURE, error) / self.weight
        middle = self.weighted_s / self.weight
        return middle - half, middle + half


def compare(intervals: Iterable[tuple[ArmTally, ArmTally]], span_s: float) -> ArmComparison:
    """Compare the arms.

    intervals: counts of control and treatment in each interval, oldest first.
    span_s: length of all intervals together. A shorter span sees new traffic more often within a day, so that its
        bounds are wider by what that many looks cost.
    """
    sums = ArmPairSums()
    for control, treatment in _merged(intervals):
        sums.add(control, treatment)
    error = error_of(span_s)
    low, high = sums.bounds(error)
    slower = sums.duration_bounds_s(error)
    return ArmComparison(
        control=ArmTally(sums.control_requests, sums.control_failures, sums.control_s, sums.control_s2),
        treatment=ArmTally(sums.treatment_requests, sums.treatment_failures, sums.treatment_s, sums.treatment_s2),
        difference=sums.weighted / sums.weight if sums.weight else None,
        low=low,
        high=high,
        duration_difference_s=sums.weighted_s / sums.weight if sums.weight else None,
        duration_bounds_s=slower,
        verdict=verdict_of(low, high),
        duration_verdict=ArmVerdict.UNDECIDED if slower is None else verdict_of(*slower),
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
    return ArmTally(*map(add, one, other))


def _half_width(variance: float, mixture: float, error: float) -> float:
    """Half of the width of Robbins' bounds for a sum of this variance. `mixture`: variance of the mixture."""
    total = variance + mixture
    return math.sqrt(total * math.log(total / (mixture * error * error)))


def _variance(requests: int, sum_s: float, squares_s2: float) -> float:
    return squares_s2 / requests - (sum_s / requests) ** 2


def _binomial_variance(failures: int, requests: int) -> float:
    """Variance of one request's failure; one failure and one success more keep it above 0 before the first failure."""
    rate = (failures + 1) / (requests + 2)
    return rate * (1 - rate)
