"""Points of one version in columns of fixed length. Pure."""

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from telemetry.history.bucket_quantiles import deviation_bound, quantiles
from telemetry.history.worker_deltas import BucketSums, VersionDelta

MAX_CODES: Final = 8
"""Status codes of failures with a column of their own."""
OTHER_CODES: Final = 0
"""Column of the failures with further codes."""
FIRST_FAILURE: Final = 400
"""Lowest status code of a failed request; 499: the client has gone."""

_ABSENT: Final = 0xFFFF
_MOST: Final = 0xFFFE
_MOST_COUNT: Final = 0xFFFF_FFFF
_LEAST_S: Final = 1e-6
_STEP: Final = math.log(1e10) / (_MOST - 1)
"""Step of packed durations: 0.035 % from 1 µs to 10,000 s."""
TRAFFIC_TYPES: Final = "IHHHHHHHH"
"""Array types of the columns of `_Traffic`."""


@dataclass(frozen=True, slots=True)
class HistoryPoint:
    """One version in one interval."""

    time_s: int
    """Its end, unix seconds."""
    seconds: float
    """Its length."""
    requests: int
    failures: Mapping[int, int]
    """Status code -> requests; OTHER_CODES: codes without a column."""
    mean_s: float | None
    """Mean duration; None without requests, as are the next six."""
    deviation_s: float | None
    """Upper bound of the standard deviation of the durations."""
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    queue_wait_mean_s: float | None
    queue_wait_p95_s: float | None
    utilization: float | None
    """Slots in use / slots, at the scrapes; None without slots."""
    ready: int
    """Replicas, at the last scrape."""
    wanted: int
    """Replicas, at the last scrape."""

    @property
    def failed(self) -> int:
        """Failures with any code."""
        return sum(self.failures.values())


class ReplicaNumbers(NamedTuple):
    """Replicas of a version at a scrape."""

    ready: int
    wanted: int


NO_REPLICAS: Final = ReplicaNumbers(0, 0)


class _Traffic(NamedTuple):
    requests: int
    mean: int
    deviation: int
    p50: int
    p95: int
    p99: int
    queue_wait_mean: int
    queue_wait_p95: int
    utilization: int


@dataclass(slots=True)
class PointRing:
    """Columns of one version; those of traffic are allocated with the first request."""

    ready: "array[int]"
    wanted: "array[int]"
    traffic: "list[array[int]]" = field(default_factory=list)
    failures: "dict[int, array[int]]" = field(default_factory=dict)

    @classmethod
    def empty(cls, length: int) -> "PointRing":
        """A ring without points. `length`: number of places."""
        return cls(array("H", [_ABSENT]) * length, array("H", [_ABSENT]) * length)

    def put(self, place: int, delta: VersionDelta | None, utilization: float | None, replicas: ReplicaNumbers) -> None:
        """Replace one point.

        place: index of the point.
        delta: requests in its interval; None: none.
        utilization: mean of the interval; None: no slots.
        replicas: at its end.
        """
        self.ready[place] = min(replicas.ready, _MOST)
        self.wanted[place] = min(replicas.wanted, _MOST)
        if not self.traffic:
            if delta is None or not delta.requests:
                return
            self._allocate_traffic()
        for column, value in zip(self.traffic, _packed(delta, utilization), strict=True):
            column[place] = value
        for column in self.failures.values():
            column[place] = 0
        for code, count in delta.requests.items() if delta is not None else ():
            if code >= FIRST_FAILURE:
                column = self._failures_of(code)
                column[place] = min(column[place] + count, _MOST_COUNT)

    def _allocate_traffic(self) -> None:
        length = len(self.ready)
        durations = (array(kind, [_ABSENT]) * length for kind in TRAFFIC_TYPES[1:-1])
        utilization = array(TRAFFIC_TYPES[-1], (0 if 0 < ready < _ABSENT else _ABSENT for ready in self.ready))
        self.traffic = [array(TRAFFIC_TYPES[0], [0]) * length, *durations, utilization]

    def _failures_of(self, code: int) -> "array[int]":
        if code not in self.failures and len(self.failures.keys() - {OTHER_CODES}) >= MAX_CODES:
            code = OTHER_CODES
        return self.failures.setdefault(code, array("I", [0]) * len(self.ready))

    def get(self, place: int, time_s: int, seconds: float) -> HistoryPoint | None:
        """One point; None if there is none. Arguments beside its index are those of its interval."""
        if self.wanted[place] == _ABSENT:
            return None
        replicas = ReplicaNumbers(self.ready[place], self.wanted[place])
        if not self.traffic:
            return _point(time_s, seconds, _packed(None, 0.0 if replicas.ready else None), {}, replicas)
        failures = {code: column[place] for code, column in sorted(self.failures.items()) if column[place]}
        return _point(time_s, seconds, _Traffic(*(column[place] for column in self.traffic)), failures, replicas)

    def requests_at(self, place: int) -> int:
        """Requests of one point; 0 if there is none."""
        return self.traffic[0][place] if self.traffic and self.wanted[place] != _ABSENT else 0

    def failures_at(self, place: int, first_code: int) -> int:
        """Failures of one point with a status code from `first_code` on; those without a column of their own count."""
        return sum(column[place] for code, column in self.failures.items() if code >= first_code or code == OTHER_CODES)

    def p95_at(self, place: int) -> float | None:
        """The 95 % quantile of the durations of one point; None without requests."""
        return _unpack(self.traffic[3][place]) if self.traffic else None

    def clear(self, place: int) -> None:
        """Remove one point."""
        self.ready[place] = self.wanted[place] = _ABSENT

    def size_bytes(self) -> int:
        """Size of the columns."""
        columns = (self.ready, self.wanted, *self.traffic, *self.failures.values())
        return sum(len(column) * column.itemsize for column in columns)


def loose_point(
    time_s: int, seconds: float, delta: VersionDelta | None, utilization: float | None, replicas: ReplicaNumbers
) -> HistoryPoint:
    """A point of an interval that has not ended. Arguments as of `HistoryPoint` and `PointRing.put`.

    time_s, seconds: end and length of the interval so far.
    delta, utilization, replicas: of the interval.
    """
    failures: dict[int, int] = {}
    for code, count in sorted(delta.requests.items()) if delta is not None else ():
        if code >= FIRST_FAILURE:
            place = code if len(failures) < MAX_CODES else OTHER_CODES
            failures[place] = failures.get(place, 0) + count
    return _point(time_s, seconds, _packed(delta, utilization), failures, replicas)


def _packed(delta: VersionDelta | None, utilization: float | None) -> _Traffic:
    ratio = _ABSENT if utilization is None else round(min(utilization, 1.0) * _MOST)
    requests = sum(delta.requests.values()) if delta is not None else 0
    if delta is None or not requests:
        return _Traffic(0, _ABSENT, _ABSENT, _ABSENT, _ABSENT, _ABSENT, _ABSENT, _ABSENT, ratio)
    durations, waits = delta.duration, delta.queue_wait
    p50, p95, p99 = _quantiles(durations.bounds_s, durations.counts, (0.5, 0.95, 0.99))
    (wait_p95,) = _quantiles(waits.bounds_s, waits.counts, (0.95,))
    return _Traffic(
        min(requests, _MOST_COUNT),
        _pack(durations.sum_s / requests),
        _deviation(durations),
        p50,
        p95,
        p99,
        _pack(waits.sum_s / requests),
        wait_p95,
        ratio,
    )


def _quantiles(bounds_s: Sequence[float], counts: "array[int]", shares: tuple[float, ...]) -> list[int]:
    if not any(counts):
        return [_ABSENT] * len(shares)
    return [_pack(value) for value in quantiles(bounds_s, counts, shares)]


def _deviation(durations: BucketSums) -> int:
    if not any(durations.counts):
        return _ABSENT
    return _pack(deviation_bound(durations.bounds_s, durations.counts, durations.sum_s))


def _point(
    time_s: int, seconds: float, traffic: _Traffic, failures: Mapping[int, int], replicas: ReplicaNumbers
) -> HistoryPoint:
    return HistoryPoint(
        time_s=time_s,
        seconds=seconds,
        requests=traffic.requests,
        failures=failures,
        mean_s=_unpack(traffic.mean),
        deviation_s=_unpack(traffic.deviation),
        p50_s=_unpack(traffic.p50),
        p95_s=_unpack(traffic.p95),
        p99_s=_unpack(traffic.p99),
        queue_wait_mean_s=_unpack(traffic.queue_wait_mean),
        queue_wait_p95_s=_unpack(traffic.queue_wait_p95),
        utilization=None if traffic.utilization == _ABSENT else traffic.utilization / _MOST,
        ready=replicas.ready,
        wanted=replicas.wanted,
    )


def _pack(seconds: float) -> int:
    """0 for less than a microsecond; else 1 + the logarithm in steps."""
    if seconds < _LEAST_S:
        return 0
    return 1 + min(round(math.log(seconds / _LEAST_S) / _STEP), _MOST - 1)


def _unpack(packed: int) -> float | None:
    if packed == _ABSENT:
        return None
    return _LEAST_S * math.exp((packed - 1) * _STEP) if packed else 0.0
