"""Usage reports of router workers: the slots of versions, and the work of the worker."""

from dataclasses import dataclass
from typing import NamedTuple

from serving.endpoint import VersionKey


@dataclass(frozen=True, slots=True)
class VersionUsage:
    """Slots of one version in one worker."""

    endpoint: str
    version: str
    busy: int
    """Slots used by requests of this worker now, own or borrowed."""
    total: int
    """Slots of ready replicas, in the owner's report; 0 in all others."""
    waiting: int
    """Queued requests now: the owner reports those of all workers; other workers only those the owner does not know
    of."""
    busy_slot_seconds: float
    """Exact time integral of `busy` since the start of the worker; a mean over a period is a difference of two of
    these."""
    busy_by_replica: dict[str, int]
    """Replica id -> slots in use, only those above 0."""
    suspects: tuple[str, ...] = ()
    """Replicas that get no request until their health path answers, in the owner's report."""

    @property
    def key(self) -> VersionKey:
        """The version of these slots."""
        return VersionKey(self.endpoint, self.version)


@dataclass(frozen=True, slots=True)
class UsageReport:
    """The counts of one worker at one instant. Versions that are absent have not changed since the last report."""

    worker: str
    """Unique per start of a worker process: the integrals of a restarted worker begin at 0 under a new name."""
    at_s: float
    """The worker's monotonic clock."""
    versions: tuple[VersionUsage, ...]
    starved: tuple[VersionKey, ...] = ()
    """Versions without a free slot for a request since the last report: to be scaled at once."""


class Work(NamedTuple):
    """Cumulative work of a worker up to one beat of its event loop. The difference of two is the load in between."""

    at_s: float
    """Time of the beat on the machine's monotonic clock."""
    beats: float
    """Number of beats so far."""
    late_s: float
    """Sum of the lateness of the event loop, sampled at every beat."""
    cpu_s: float
    """Processor time of the process."""
    routed: float
    """Requests completed."""
    routing_s: float
    """Time inside the router of all completed requests, without waiting for a slot and for the replica."""


class RecentTraffic(NamedTuple):
    """Requests of a version over the last minute."""

    seconds: float
    requests: int
    failures: int
    """Those answered with a status code from 400 on."""
    server_failures: int
    """Those answered with a status code from 500 on."""
    p95_s: float | None
    """95th percentile of the durations in the newest interval with requests; None without any."""
