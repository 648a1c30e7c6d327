"""The slots of one version: who holds which, which are free, and which free one is given next. Exact by construction.

A replica stays in the ledger as long as a lease on it is out, even when it is removed meanwhile: one that vanishes and
returns under the same id still carries what runs on it.

What others have of a replica (a slot lent to another worker, or one that must not be given yet) counts as in flight on
it, without a lease here: `reserve` and `occupy` begin that, `vacate` ends it.

Placement: the replica with the fewest requests in flight; among equals the one that became free last. With one slot per
replica that is a stack of idle replicas, so those at its bottom stay idle, which is what scaling down wants.
"""

from collections.abc import Iterable, Iterator
from itertools import count
from typing import Protocol


class Lease:
    """The right to have one request in flight on a replica. Given back exactly once; a second time is counted."""

    __slots__ = ("granted_at", "holder", "id", "released", "replica")

    def __init__(self, lease_id: int, replica: "ReplicaSlots", holder: object, granted_at: float) -> None:
        self.id = lease_id
        self.replica = replica
        self.holder = holder
        self.granted_at = granted_at
        """math.inf once the scoring timeout does not hold for it any more."""
        self.released = False


class ReplicaSlots:
    """One replica as the ledger sees it. It is given out only while `in_service` and busy < slots."""

    __slots__ = (
        "busy",
        "disabled",
        "ejected",
        "failures",
        "host",
        "id",
        "in_service",
        "largest",
        "port",
        "present",
        "slots",
        "static",
        "table_index",
    )

    def __init__(self, replica_id: str, host: str, port: int) -> None:
        self.id = replica_id
        self.host = host
        self.port = port
        self.static = False
        """Its address was declared, and is judged before it is connected to."""
        self.slots = 0
        self.largest = 0
        """Most slots that it ever had."""
        self.busy = 0
        """In flight: the leases of this ledger, and what others have."""
        self.present = True
        self.disabled = True
        """Not READY, draining or retired: takes no new request."""
        self.ejected = False
        """Left alone for a while after failures (passive health)."""
        self.in_service = False
        self.failures = 0
        self.table_index = -1
        """Where the flight board has it (`router.inflight_table`); kept here because this is looked up for each
        request.
        """

    def __repr__(self) -> str:
        flags = "".join(name[0] for name in ("present", "disabled", "ejected") if getattr(self, name))
        return f"<{self.id} {self.busy}/{self.slots} {flags}>"


class InflightRecorder(Protocol):
    """Hears of every lease of this worker: the shell writes down what would be in flight if it ended now."""

    def started(self, replica: ReplicaSlots) -> None:
        """A lease on it has begun."""

    def ended(self, replica: ReplicaSlots) -> None:
        """A lease on it has ended."""


class Ledger:
    """Free and used slots of one version."""

    __slots__ = (
        "_accrued",
        "_flights",
        "_ids",
        "_levels",
        "_lowest",
        "busy",
        "double_releases",
        "leases",
        "total",
        "violations",
    )

    def __init__(self, ids: Iterator[int] | None = None, flights: InflightRecorder | None = None) -> None:
        """`ids`: where the ids of leases come from; 1, 2, 3 … without."""
        self.leases: dict[int, Lease] = {}
        """Every lease that is out, oldest grant first."""
        self.busy = 0
        """Leases that are out."""
        self.total = 0
        """Slots of the replicas in service, held ones included: they exist, they are only left alone for a moment."""
        self._ids = count(1) if ids is None else ids
        self._flights = flights
        self.violations = 0
        self.double_releases = 0
        self._accrued = 0.0
        # _levels[b] holds the replicas with b requests in flight that can take one more, in the order they got there.
        self._levels: list[dict[ReplicaSlots, None]] = [{}]
        self._lowest = 0

    def busy_slot_seconds(self, now: float) -> float:
        """Exact integral of `busy` over time: end - start of past leases, now - start of current ones."""
        return self._accrued + self.busy * now

    def acquire(self, holder: object, now: float) -> Lease | None:
        """A free slot on the best replica, or None."""
        replica = self.reserve()
        return None if replica is None else self.adopt(next(self._ids), replica, holder, now)

    def reserve(self) -> ReplicaSlots | None:
        """The best replica, with one more in flight, or None where no slot is free. Who calls it ends that."""
        levels = self._levels
        level = self._lowest
        while not levels[level]:
            level += 1
            if level == len(levels):
                self._lowest = 0
                return None
        self._lowest = level
        replica, _ = levels[level].popitem()
        replica.busy = busy = level + 1
        if busy < replica.slots:
            levels[busy][replica] = None
        elif busy > replica.slots:
            self.violations += 1
        return replica

    def adopt(self, lease_id: int, replica: ReplicaSlots, holder: object, now: float) -> Lease:
        """A lease for what is in flight on the replica already (`reserve`, `occupy`)."""
        lease = self.leases[lease_id] = Lease(lease_id, replica, holder, now)
        self.busy += 1
        self._accrued -= now
        if self._flights is not None:
            self._flights.started(replica)
        return lease

    def release(self, lease: Lease, now: float) -> bool:
        """End a lease; returns whether its replica has a free slot now. A second time is counted, no more."""
        if lease.released:
            self.double_releases += 1
            return False
        lease.released = True
        del self.leases[lease.id]
        self.busy -= 1
        self._accrued += now
        replica = lease.replica
        if self._flights is not None:
            self._flights.ended(replica)
        return self.vacate(replica)

    def vacate(self, replica: ReplicaSlots) -> bool:
        """One less is in flight; returns whether the replica has a free slot now."""
        level = replica.busy
        replica.busy = level - 1
        if replica.in_service and not replica.ejected:
            if level < replica.slots:
                self._levels[level].pop(replica, None)
            if level <= replica.slots:
                self._levels[level - 1][replica] = None
                if level - 1 < self._lowest:
                    self._lowest = level - 1
                return True
        return False

    def occupy(self, replica: ReplicaSlots, count: int = 1) -> None:
        """So many more are in flight on the replica, whether it has the slots or not."""
        self._leave_levels(replica)
        replica.busy += count
        if replica.in_service:
            self.enable(replica)

    def recount(self, replicas: Iterable[ReplicaSlots]) -> None:
        """What others have of these replicas is theirs from now on: they leave, and only leases count."""
        for replica in replicas:
            self.disable(replica)
            replica.busy = 0
        for lease in self.leases.values():
            lease.replica.busy += 1

    def enable(self, replica: ReplicaSlots) -> None:
        """Make the replica available, with whatever is already in flight on it."""
        self._leave_levels(replica)
        while len(self._levels) < max(1, replica.slots):
            self._levels.append({})
        if not replica.in_service:
            replica.in_service = True
            self.total += replica.slots
        if not replica.ejected and replica.busy < replica.slots:
            self._levels[replica.busy][replica] = None
            self._lowest = min(self._lowest, replica.busy)

    def disable(self, replica: ReplicaSlots) -> None:
        """Take the replica out of service; what is in flight on it ends as it will."""
        self._leave_levels(replica)
        if replica.in_service:
            replica.in_service = False
            self.total -= replica.slots

    def resize(self, replica: ReplicaSlots, slots: int) -> None:
        """Change the number of slots; with fewer than are busy, none is given until enough have come back."""
        in_service = replica.in_service
        self.disable(replica)
        replica.slots = slots
        replica.largest = max(replica.largest, slots)
        if in_service:
            self.enable(replica)

    def set_ejected(self, replica: ReplicaSlots, ejected: bool) -> None:
        """Leave a replica alone (`ejected`), or stop leaving it alone."""
        replica.ejected = ejected
        if replica.in_service:
            self.enable(replica)

    def has_free(self) -> bool:
        """Whether `acquire` would succeed."""
        return any(self._levels)

    def idle_first(self) -> Iterator[ReplicaSlots]:
        """Replicas with a free slot: fewest in flight first, and among equals the one that has been so the longest."""
        for level in self._levels:
            yield from list(level)

    def _leave_levels(self, replica: ReplicaSlots) -> None:
        if replica.busy < len(self._levels):
            self._levels[replica.busy].pop(replica, None)
