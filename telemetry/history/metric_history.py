"""History of every declared version: 10 s points for an hour, 5 min points for a day. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from cluster.link import WorkerMetrics
from serving.endpoint import VersionKey
from serving.recent_rings import RecentRings
from serving.usage import RecentTraffic
from telemetry.history.point_ring import (
    FIRST_FAILURE,
    NO_REPLICAS,
    HistoryPoint,
    PointRing,
    ReplicaNumbers,
    loose_point,
)
from telemetry.history.ring_clock import RingClock
from telemetry.history.worker_deltas import VersionDelta, WorkerDeltas

FINE_S: Final = 10
COARSE_S: Final = 300
FINE_POINTS: Final = 360
COARSE_POINTS: Final = 288
RECENT_POINTS: Final = 6
"""Fine points of a minute."""
RATE_POINTS: Final = 30
FIRST_SERVER_FAILURE: Final = 500
"""Lowest status code of a request that the server has failed."""
MOVES_PER_VERSION: Final = 100
MOST_MOVES: Final = 20_000
"""Most changes of all versions, 8 MB."""
MAX_REASON: Final = 300
"""Characters of a reason that are kept."""
_PER_COARSE: Final = COARSE_S // FINE_S


class ScalingMove(NamedTuple):
    """A scaling decision that changed the number of replicas."""

    time_s: float
    """Unix seconds."""
    previous: int
    desired: int
    reason: str


class HistorySpan(StrEnum):
    """Length of a view."""

    MINUTES = "5m"
    HOUR = "1h"
    DAY = "24h"

    @property
    def seconds(self) -> int:
        """Its length."""
        return {HistorySpan.MINUTES: 300, HistorySpan.HOUR: 3600, HistorySpan.DAY: 86_400}[self]

    @property
    def step_s(self) -> int:
        """Interval of its points."""
        return COARSE_S if self is HistorySpan.DAY else FINE_S


@dataclass(slots=True)
class VersionHistory:
    """Rings of one version, and its coarse interval that has not ended."""

    fine: PointRing = field(default_factory=lambda: PointRing.empty(FINE_POINTS))
    coarse: PointRing = field(default_factory=lambda: PointRing.empty(COARSE_POINTS))
    replicas: ReplicaNumbers = NO_REPLICAS
    delta: VersionDelta | None = None
    utilization: float = 0.0
    """Sum over the scrapes with slots."""
    scrapes: int = 0
    """Scrapes with slots."""

    def mean_utilization(self) -> float | None:
        """Mean utilization of the coarse interval, in [0, 1]; None: no slots."""
        return self.utilization / self.scrapes if self.scrapes else None

    def begin_interval(self) -> None:
        """Start an empty coarse interval."""
        self.delta, self.utilization, self.scrapes = None, 0.0, 0


class MetricHistory:
    """Rings of the declared versions, fed by scrapes of the router workers."""

    def __init__(self, begun_s: float) -> None:
        """A history without points. `begun_s`: unix seconds; the counters of all workers began then or later."""
        self.fine = RingClock.empty(FINE_S, FINE_POINTS)
        self.coarse = RingClock.empty(COARSE_S, COARSE_POINTS)
        self.versions: dict[VersionKey, VersionHistory] = {}
        self.moves: RecentRings[VersionKey, ScalingMove] = RecentRings(MOVES_PER_VERSION, MOST_MOVES)
        self.open_number = -1
        """Number of the coarse interval that has not ended; -1: none."""
        self.open_seconds = 0.0
        self._deltas = WorkerDeltas()
        self._scraped_s = begun_s
        self._recent: dict[VersionKey, RecentTraffic] = {}
        """Sums over the last minute as of the last scrape, made when asked for."""

    def record(
        self,
        now_s: float,
        workers: Iterable[WorkerMetrics],
        replicas: Mapping[VersionKey, ReplicaNumbers],
        moves: Iterable[tuple[VersionKey, ScalingMove]] = (),
    ) -> None:
        """Add a point to every declared version; the history of others ends.

        now_s: unix seconds of the scrape; at most one point every FINE_S.
        workers: metrics of the live workers.
        replicas: of the declared versions.
        moves: changes of the number of replicas since the last scrape, oldest first; default none.
        """
        for key, move in moves:
            if key in replicas:
                self.moves.add(key, move._replace(reason=move.reason[:MAX_REASON]))
        number = int(now_s // FINE_S)
        if now_s < self._scraped_s:
            self._set_back(number)
        if number <= self.fine.newest:
            return
        seconds = max(now_s - self._scraped_s, 0.001)
        self._scraped_s = now_s
        self._begin_coarse(-(-number // _PER_COARSE), seconds)
        for key in self.versions.keys() - replicas.keys():
            del self.versions[key]
            self.moves.forget(key)
        place = self.fine.take(number, seconds)
        deltas = self._deltas.advance(workers)
        for key, numbers in replicas.items():
            _note(self.versions.setdefault(key, VersionHistory()), place, deltas.get(key), numbers)
        self._recent = {}

    def points(self, key: VersionKey, span: HistorySpan) -> list[HistoryPoint]:
        """Points of the newest `span`, oldest first; the last one of a day is that of an interval in progress."""
        version = self.versions.get(key)
        if version is None:
            return []
        day = span is HistorySpan.DAY
        clock, ring = (self.coarse, version.coarse) if day else (self.fine, version.fine)
        until = self.open_number if day else self.fine.newest
        intervals = clock.last(span.seconds // span.step_s, until)
        found = [point for place, time_s, seconds in intervals if (point := ring.get(place, time_s, seconds))]
        if day and self.open_seconds:
            end_s = self.fine.newest * FINE_S
            utilization = version.mean_utilization()
            found.append(loose_point(end_s, self.open_seconds, version.delta, utilization, version.replicas))
        return found

    def moves_of(self, key: VersionKey, span: HistorySpan) -> list[ScalingMove]:
        """Changes of the number of replicas within the newest `span`, oldest first."""
        since_s = self.fine.newest * FINE_S - span.seconds
        return [move for move in self.moves.of(key) if move.time_s >= since_s]

    def recent(self, key: VersionKey) -> RecentTraffic | None:
        """Requests over the last minute; None: no point of the version."""
        known, version = self._recent, self.versions.get(key)
        if version is None:
            return None
        if (found := known.get(key)) is None:
            found = known[key] = self._sum(version.fine)
        return found

    def _sum(self, ring: PointRing) -> RecentTraffic:
        p95_s = None
        seconds, requests, failures, server_failures = 0.0, 0, 0, 0
        for place, _, length in self.fine.last(RECENT_POINTS, self.fine.newest):
            seconds += length
            if count := ring.requests_at(place):
                requests += count
                failures += ring.failures_at(place, FIRST_FAILURE)
                server_failures += ring.failures_at(place, FIRST_SERVER_FAILURE)
                p95_s = ring.p95_at(place)
        return RecentTraffic(seconds, requests, failures, server_failures, p95_s)

    def rates(self, key: VersionKey) -> list[float]:
        """Requests a second in each of the last RATE_POINTS fine intervals, oldest first; 0.0 without a point."""
        rates = [0.0] * RATE_POINTS
        version, newest = self.versions.get(key), self.fine.newest
        if version is not None:
            for place, time_s, seconds in self.fine.last(RATE_POINTS, newest):
                at = RATE_POINTS - 1 - (newest - time_s // FINE_S)
                rates[at] = version.fine.requests_at(place) / seconds if seconds else 0.0
        return rates

    def size_bytes(self) -> int:
        """Size of all columns."""
        return sum(version.fine.size_bytes() + version.coarse.size_bytes() for version in self.versions.values())

    def resume(self, now_s: float) -> None:
        """Go on after a restart. `now_s`: unix seconds; the counters of all workers began then or later."""
        self._scraped_s = now_s
        self._deltas = WorkerDeltas()
        if self.fine.newest > now_s // FINE_S:
            self._set_back(int(now_s // FINE_S))

    def _begin_coarse(self, number: int, seconds: float) -> None:
        """Go on with coarse interval `number`; write the one before if it has ended. `seconds`: of the fine one."""
        if number != self.open_number:
            if self.open_seconds:
                place = self.coarse.take(self.open_number, self.open_seconds)
                for version in self.versions.values():
                    version.coarse.put(place, version.delta, version.mean_utilization(), version.replicas)
                    version.begin_interval()
            self.open_number, self.open_seconds = number, 0.0
        self.open_seconds += seconds

    def _set_back(self, number: int) -> None:
        """Drop the points after fine interval `number`: the wall clock was set back."""
        self.fine.drop_after(number)
        self._scraped_s = min(self._scraped_s, number * FINE_S)
        coarse = -(-number // _PER_COARSE)
        self.coarse.drop_after(coarse - 1)
        if self.open_number > coarse:
            self.open_number, self.open_seconds = -1, 0.0
            for version in self.versions.values():
                version.begin_interval()


def _note(version: VersionHistory, place: int, delta: VersionDelta | None, replicas: ReplicaNumbers) -> None:
    """Add one scrape to a version.

    place: of its fine point.
    delta: requests since the last scrape, and slots; None: no worker knows the version.
    replicas: now.
    """
    utilization = delta.busy / delta.total if delta is not None and delta.total else None
    version.fine.put(place, delta, utilization, replicas)
    version.replicas = replicas
    if utilization is not None:
        version.utilization += utilization
        version.scrapes += 1
    if delta is not None and delta.requests:
        if version.delta is None:
            version.delta = VersionDelta()
        version.delta.add(delta)
