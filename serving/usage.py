"""What a router worker tells the control plane: of the slots of a version, and of its own work."""

from dataclasses import dataclass
from typing import NamedTuple

from serving.endpoint import VersionKey


@dataclass(frozen=True, slots=True)
class VersionUsage:
    """Slots of one version as one worker sees them."""

    endpoint: str
    version: str
    busy: int
    """Slots that requests of this worker use now, whoever lent them."""
    total: int
    """Slots of ready replicas, told by the worker that owns them; 0 elsewhere."""
    waiting: int
    """Requests that wait for a slot now: of all workers, told by the one that owns the slots; elsewhere only those of
    which that one cannot hear."""
    busy_slot_seconds: float
    """Exact time integral of `busy` since the worker started; a mean over a period is a difference of two of these."""
    busy_by_replica: dict[str, int]
    """Replica id -> slots in use, only those above 0."""

    @property
    def key(self) -> VersionKey:
        """The version it speaks of."""
        return VersionKey(self.endpoint, self.version)


@dataclass(frozen=True, slots=True)
class UsageReport:
    """One worker's counts at one instant. A version that is absent has not changed since the report before."""

    worker: str
    """Unique per worker process start: a restarted worker's integrals begin again at 0 under a new name."""
    at_s: float
    """The worker's monotonic clock."""
    versions: tuple[VersionUsage, ...]
    starved: tuple[VersionKey, ...] = ()
    """Versions for which a request found no free slot since the report before: scale now, whatever the period."""


class Work(NamedTuple):
    """What a worker has done from its start to one beat of its loop. Two of them tell its load in between."""

    at_s: float
    """When the loop beat, on the clock of the machine (monotonic)."""
    beats: float
    """As often it had beaten."""
    late_s: float
    """How long what came in had to wait until the loop saw it: a sample at every beat, added up."""
    cpu_s: float
    """Processor time of the process."""
    routed: float
    """Requests that had ended."""
    routing_s: float
    """Time inside the router, less waiting for a slot and for the replica, of all of them."""
