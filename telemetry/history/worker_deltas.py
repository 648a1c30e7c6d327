"""Growth of the counters of router workers between two scrapes. Pure."""

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cluster.link import Histogram, VersionMetrics, WorkerMetrics
from serving.endpoint import VersionKey

COUNT = "Q"
"""Array type of counts."""


@dataclass(slots=True)
class BucketSums:
    """Counts per bucket (not cumulative) and the sum of the values."""

    bounds_s: tuple[float, ...] = ()
    counts: "array[int]" = field(default_factory=lambda: array(COUNT))
    sum_s: float = 0.0

    def add(self, more: "BucketSums | Histogram") -> None:
        """Add the counts of another. Other bounds (a router of another release) replace this one."""
        if more.bounds_s != self.bounds_s:
            self.bounds_s, self.counts, self.sum_s = more.bounds_s, array(COUNT, more.counts), more.sum_s
            return
        for place, count in enumerate(more.counts):
            if count:
                self.counts[place] += count
        self.sum_s += more.sum_s

    def total(self) -> int:
        """Number of values."""
        return sum(self.counts)


@dataclass(slots=True)
class VersionDelta:
    """One version between two scrapes, summed over workers."""

    requests: dict[int, int] = field(default_factory=dict)
    """Status code -> requests answered."""
    duration: BucketSums = field(default_factory=BucketSums)
    queue_wait: BucketSums = field(default_factory=BucketSums)
    busy: int = 0
    """Slots in use at the second scrape."""
    total: int = 0
    """Slots at the second scrape."""

    def add(self, more: "VersionDelta") -> None:
        """Add a later delta; slots are those of the later one."""
        for code, count in more.requests.items():
            self.requests[code] = self.requests.get(code, 0) + count
        self.duration.add(more.duration)
        self.queue_wait.add(more.queue_wait)
        self.busy, self.total = more.busy, more.total


class WorkerDeltas:
    """Last counters of every worker. Versions without requests take no room."""

    def __init__(self) -> None:
        self._last: dict[str, dict[VersionKey, _Counters]] = {}

    def advance(self, workers: Iterable[WorkerMetrics]) -> Mapping[VersionKey, VersionDelta]:
        """Growth since the last call; counters that have fallen belong to a restarted worker and count from 0.

        workers: metrics of the live workers; ended ones are forgotten.
        """
        found: dict[VersionKey, VersionDelta] = {}
        now: dict[str, dict[VersionKey, _Counters]] = {}
        for worker in workers:
            before = self._last.get(worker.worker, {})
            seen = now[worker.worker] = {}
            for version in worker.versions:
                key = VersionKey(version.endpoint, version.version)
                delta = found.setdefault(key, VersionDelta())
                delta.busy += version.busy
                delta.total += version.total
                if version.requests:
                    seen[key] = counters = _Counters.of(version)
                    _grow(delta, version, before.get(key), counters)
        self._last = now
        return found


@dataclass(frozen=True, slots=True)
class _Counters:
    """Counters of one version in one worker."""

    requests: dict[int, int]
    duration: "array[int]"
    duration_s: float
    queue_wait: "array[int]"
    queue_wait_s: float

    @classmethod
    def of(cls, version: VersionMetrics) -> "_Counters":
        duration, wait = version.duration, version.queue_wait
        return cls(
            version.requests, array(COUNT, duration.counts), duration.sum_s, array(COUNT, wait.counts), wait.sum_s
        )

    def continues(self, before: "_Counters") -> bool:
        """True if no counter has fallen since `before`."""
        return (
            all(self.requests.get(code, 0) >= count for code, count in before.requests.items())
            and _continues(self.duration, before.duration)
            and _continues(self.queue_wait, before.queue_wait)
        )


def _continues(now: "array[int]", before: "array[int]") -> bool:
    return len(now) == len(before) and all(map(int.__ge__, now, before))


def _grow(delta: VersionDelta, version: VersionMetrics, before: _Counters | None, now: _Counters) -> None:
    """Add the growth of one version in one worker.

    delta: receives it.
    version: the counters as scraped.
    before: the counters at the last scrape; None: none.
    now: the counters as kept.
    """
    if before is not None and before.requests == now.requests:
        return
    if before is None or not now.continues(before):
        growth = VersionDelta(
            now.requests,
            BucketSums(version.duration.bounds_s, now.duration, now.duration_s),
            BucketSums(version.queue_wait.bounds_s, now.queue_wait, now.queue_wait_s),
        )
    else:
        requests = {
            code: more for code, count in now.requests.items() if (more := count - before.requests.get(code, 0))
        }
        growth = VersionDelta(
            requests,
            _difference(version.duration.bounds_s, now.duration, before.duration, now.duration_s - before.duration_s),
            _difference(
                version.queue_wait.bounds_s, now.queue_wait, before.queue_wait, now.queue_wait_s - before.queue_wait_s
            ),
        )
    for code, count in growth.requests.items():
        delta.requests[code] = delta.requests.get(code, 0) + count
    delta.duration.add(growth.duration)
    delta.queue_wait.add(growth.queue_wait)


def _difference(bounds_s: tuple[float, ...], now: "array[int]", before: "array[int]", sum_s: float) -> BucketSums:
    """Growth of one histogram.

    bounds_s: upper bounds of its buckets.
    now, before: counts per bucket.
    sum_s: growth of the sum.
    """
    return BucketSums(bounds_s, array(COUNT, map(int.__sub__, now, before)), max(sum_s, 0.0))
