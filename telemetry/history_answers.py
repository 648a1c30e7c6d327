"""Records of the history served by REST. Pure."""

from typing import Annotated, Final, Literal

from msgspec import Meta

from controlplane.answers import Answer, Count
from serving.endpoint import VersionType
from telemetry.comparison import ArmComparison, ArmVerdict, error_of
from telemetry.comparison_words import comparison_words
from telemetry.history.metric_history import HistorySpan, ScalingMove
from telemetry.history.point_ring import OTHER_CODES, HistoryPoint

_MS: Final = 1000
_Milliseconds = Annotated[float | None, Meta(description="milliseconds; null without requests")]


class HistoryPointAnswer(Answer, frozen=True):
    """One interval."""

    time: Annotated[int, Meta(description="its end, unix seconds")]
    seconds: Annotated[float, Meta(description="its length")]
    requests: Count
    requests_per_second: float
    failures: Annotated[dict[str, Count], Meta(description="requests by status code from 400 on; 499: client gone")]
    mean_ms: _Milliseconds
    p50_ms: _Milliseconds
    p95_ms: _Milliseconds
    p99_ms: _Milliseconds
    queue_wait_mean_ms: _Milliseconds
    queue_wait_p95_ms: _Milliseconds
    utilization: Annotated[float | None, Meta(description="slots in use / slots; null without slots")]
    replicas_ready: Count
    replicas_wanted: Count


class ScalingMoveAnswer(Answer, frozen=True):
    """A scaling decision that changed the number of replicas."""

    time: Annotated[float, Meta(description="unix seconds")]
    previous: Count
    desired: Count
    reason: str


class VersionHistoryAnswer(Answer, frozen=True):
    """Points of one version, oldest first."""

    version: str
    type: VersionType
    points: list[HistoryPointAnswer]
    scaling: Annotated[list[ScalingMoveAnswer], Meta(description="the last 100 within the span, oldest first")]


class ArmAnswer(Answer, frozen=True):
    """Counts of one version over the intervals in which both had requests."""

    version: str
    requests: Count
    failures: Count
    failure_rate: float | None
    mean_ms: _Milliseconds


class ComparisonAnswer(Answer, frozen=True):
    """A treatment against the control; differences are treatment minus control."""

    control: ArmAnswer
    treatment: ArmAnswer
    failure_rate_difference: float | None
    failure_rate_interval: Annotated[list[float], Meta(description="low and high bound, valid at all looks together")]
    confidence: Annotated[float, Meta(description="of the interval over the span")]
    mean_difference_ms: _Milliseconds
    mean_difference_interval_ms: Annotated[
        list[float] | None, Meta(description="as failureRateInterval; null below 50 requests of a version")
    ]
    verdict: Annotated[Literal["worse", "better", "no difference yet"], Meta(description="by the failure rates")]
    latency_verdict: Annotated[
        Literal["slower", "faster", "no difference yet"], Meta(description="by the mean durations")
    ]
    summary: Annotated[str, Meta(description="verdict, difference and interval as sentences")]


class HistoryAnswer(Answer, frozen=True):
    """History of the versions of an endpoint."""

    endpoint: str
    span: Literal["5m", "1h", "24h"]
    step_seconds: int
    versions: list[VersionHistoryAnswer]
    comparisons: Annotated[list[ComparisonAnswer], Meta(description="one for each treatment beside a control")]


_VERDICTS: Final[dict[ArmVerdict, Literal["worse", "better", "no difference yet"]]] = {
    ArmVerdict.WORSE: "worse",
    ArmVerdict.BETTER: "better",
    ArmVerdict.UNDECIDED: "no difference yet",
}
_LATENCY_VERDICTS: Final[dict[ArmVerdict, Literal["slower", "faster", "no difference yet"]]] = {
    ArmVerdict.WORSE: "slower",
    ArmVerdict.BETTER: "faster",
    ArmVerdict.UNDECIDED: "no difference yet",
}
RECORDS: Final = (
    HistoryPointAnswer,
    ScalingMoveAnswer,
    VersionHistoryAnswer,
    ArmAnswer,
    ComparisonAnswer,
    HistoryAnswer,
)


def point_answer(point: HistoryPoint) -> HistoryPointAnswer:
    """The record of one point."""
    return HistoryPointAnswer(
        time=point.time_s,
        seconds=round(point.seconds, 3),
        requests=point.requests,
        requests_per_second=round(point.requests / point.seconds, 3) if point.seconds else 0.0,
        failures={"other" if code == OTHER_CODES else str(code): count for code, count in point.failures.items()},
        mean_ms=_ms(point.mean_s),
        p50_ms=_ms(point.p50_s),
        p95_ms=_ms(point.p95_s),
        p99_ms=_ms(point.p99_s),
        queue_wait_mean_ms=_ms(point.queue_wait_mean_s),
        queue_wait_p95_ms=_ms(point.queue_wait_p95_s),
        utilization=None if point.utilization is None else round(point.utilization, 4),
        replicas_ready=point.ready,
        replicas_wanted=point.wanted,
    )


def move_answer(move: ScalingMove) -> ScalingMoveAnswer:
    """The record of one change of the number of replicas."""
    return ScalingMoveAnswer(round(move.time_s, 3), move.previous, move.desired, move.reason)


def comparison_answer(control: str, treatment: str, found: ArmComparison, span: HistorySpan) -> ComparisonAnswer:
    """The record of one comparison.

    control, treatment: names of the versions.
    found: the comparison.
    span: of its intervals.
    """
    arms, bounds_s = [], found.duration_bounds_s
    for name, tally in ((control, found.control), (treatment, found.treatment)):
        rate = round(tally.failures / tally.requests, 6) if tally.requests else None
        mean_s = tally.duration_s / tally.requests if tally.requests else None
        arms.append(ArmAnswer(name, tally.requests, tally.failures, rate, _ms(mean_s)))
    return ComparisonAnswer(
        control=arms[0],
        treatment=arms[1],
        failure_rate_difference=None if found.difference is None else round(found.difference, 6),
        failure_rate_interval=[round(found.low, 6), round(found.high, 6)],
        confidence=1 - error_of(span.seconds),
        mean_difference_ms=_ms(found.duration_difference_s),
        mean_difference_interval_ms=None if bounds_s is None else [round(each * _MS, 3) for each in bounds_s],
        verdict=_VERDICTS[found.verdict],
        latency_verdict=_LATENCY_VERDICTS[found.duration_verdict],
        summary=comparison_words(control, treatment, found, 1 - error_of(span.seconds)),
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * _MS, 3)
