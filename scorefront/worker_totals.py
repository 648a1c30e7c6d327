"""Counts of router workers, summed: what `/metrics` exposes of them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.link import Histogram, VersionMetrics, WorkerMetrics
from serving.endpoint import VersionKey

HISTOGRAMS = {
    "scorefront_request_duration_seconds": ("duration", "From the first byte of a request to the end of its response"),
    "scorefront_queue_wait_seconds": ("queue_wait", "Time that requests waited for a slot"),
    "scorefront_routing_seconds": ("routing", "Time inside the router less waiting for a slot and for the replica"),
}
"""Name of a metric -> field of `VersionMetrics`, help text."""


@dataclass(slots=True)
class BucketTotals:
    """Counts per bucket and their sum, over workers."""

    bounds_s: tuple[float, ...]
    counts: list[int]
    sum_s: float = 0.0

    def add(self, more: "Histogram | BucketTotals") -> None:
        """Add the counts of equal buckets. Raises ValueError for others."""
        if more.bounds_s != self.bounds_s:
            # Buckets never change while a router group runs, and different buckets cannot be added.
            raise ValueError(f"histograms with different bounds: {self.bounds_s} and {more.bounds_s}")
        for place, count in enumerate(more.counts):
            self.counts[place] += count
        self.sum_s += more.sum_s


@dataclass(slots=True)
class WorkerTotals:
    """Monotonic counts, summed over workers."""

    requests: Counter[tuple[VersionKey, int]] = field(default_factory=Counter)
    histograms: dict[tuple[str, VersionKey], BucketTotals] = field(default_factory=dict)
    counters: Counter[str] = field(default_factory=Counter)
    exclusions: Counter[tuple[VersionKey, str]] = field(default_factory=Counter)
    """(version, standing) -> times that a replica was excluded."""
    slot_violations: int = 0
    cpu_s: float = 0.0

    def add(self, worker: WorkerMetrics) -> None:
        """Add the counts of one worker."""
        self.slot_violations += worker.slot_violations
        self.cpu_s += worker.cpu_s
        self.counters.update(worker.counters)
        for version in worker.versions:
            self._add_version(VersionKey(version.endpoint, version.version), version)

    def merge(self, other: "WorkerTotals") -> None:
        """Add other totals."""
        self.requests.update(other.requests)
        self.exclusions.update(other.exclusions)
        self.counters.update(other.counters)
        self.cpu_s += other.cpu_s
        self.slot_violations += other.slot_violations
        for (name, key), more in other.histograms.items():
            self._add_histogram(name, key, more)

    def keep(self, declared: "DeclaredSeries") -> None:
        """Drop the versions that are no longer declared."""
        for request in [each for each in self.requests if each[0] not in declared]:
            del self.requests[request]
        for exclusion in [each for each in self.exclusions if each[0] not in declared]:
            del self.exclusions[exclusion]
        for place in [each for each in self.histograms if each[1] not in declared]:
            del self.histograms[place]

    def _add_version(self, key: VersionKey, version: VersionMetrics) -> None:
        for code, count in version.requests.items():
            self.requests[key, code] += count
        if version.version:
            self.exclusions[key, "ejected"] += version.ejected
            self.exclusions[key, "suspect"] += version.suspected
        for name, (attribute, _) in HISTOGRAMS.items():
            self._add_histogram(name, key, getattr(version, attribute))

    def _add_histogram(self, name: str, key: VersionKey, more: Histogram | BucketTotals) -> None:
        total = self.histograms.get((name, key))
        if total is None:
            total = self.histograms[name, key] = BucketTotals(more.bounds_s, [0] * len(more.counts))
        total.add(more)


class DeclaredSeries:
    """Set of exposed series: those of declared versions, and of requests that reached none."""

    def __init__(self, versions: Mapping[VersionKey, int]) -> None:
        self._endpoints = {"", *(key.endpoint for key in versions)}
        self._versions = versions

    def __contains__(self, key: VersionKey) -> bool:
        return key in self._versions or (not key.version and key.endpoint in self._endpoints)
