"""Slot ledger of one version: replicas, leases, free slots and placement. Exact by construction.

A replica stays in the ledger while a lease on it exists, even if it is removed meanwhile: a replica that vanishes and
returns under the same id keeps its requests in flight.

Slots used without a lease of this worker (loans, unaccounted and quarantined slots) count as in flight: `reserve` and
`occupy` begin such a use, `vacate` ends it.

Placement: the replica with the fewest requests in flight; among equals the one that became free last. With one slot per
replica that is a stack: replicas at its bottom stay idle and can be scaled down.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Protocol

from router.core.health import Standing


class Lease:
    """One slot of a replica, held by one request until released. A second release is counted and has no effect."""

    __slots__ = ("granted_at", "holder", "id", "released", "replica")

    def __init__(self, lease_id: int, replica: "ReplicaSlots", holder: object, granted_at: float) -> None:
        self.id = lease_id
        self.replica = replica
        self.holder = holder
        self.granted_at = granted_at
        """math.inf for a tunnel or a stream, which has no scoring timeout."""
        self.released = False

    def exempt_from_timeout(self) -> None:
        """Exclude the lease from the scoring timeout: it carries a tunnel, or a stream with limits of its own."""
        self.granted_at = math.inf


class ReplicaSlots:
    """Slots of one replica. It gets requests only while `in_service`, not `barred`, and busy < slots."""

    __slots__ = (
        "barred",
        "busy",
        "disabled",
        "doubted_at",
        "failures",
        "host",
        "id",
        "in_service",
        "largest",
        "port",
        "present",
        "probed_at",
        "slots",
        "standing",
        "static",
        "table_index",
        "turn",
        "unanswered",
    )

    def __init__(self, replica_id: str, host: str, port: int) -> None:
        self.id = replica_id
        self.host = host
        self.port = port
        self.static = False
        """Address declared by the user; checked before connecting."""
        self.slots = 0
        self.largest = 0
        """Highest slot count so far."""
        self.busy = 0
        """Requests in flight: leases of this ledger and slots used by others."""
        self.present = True
        self.disabled = True
        """Not READY, draining or retired: gets no new request."""
        self.barred = False
        """At the owner: not used, because its standing is not SERVING."""
        self.in_service = False
        self.failures = 0
        """Failed requests in a row, without abandoned ones."""
        self.standing = Standing.SERVING
        self.turn = 0
        """Number of changes of its standing."""
        self.doubted_at = 0.0
        """Start of the first health request since it is suspect."""
        self.probed_at = 0.0
        """Start of the last health request."""
        self.unanswered = 0
        """Health requests without a sign of life in a row."""
        self.table_index = -1
        """Index in the in-flight table (`router.inflight_table`); kept here for a lookup per request."""

    def __repr__(self) -> str:
        flags = "".join(name[0] for name in ("present", "disabled") if getattr(self, name))
        return f"<{self.id} {self.busy}/{self.slots} {flags} {self.standing}>"


class InflightRecorder(Protocol):
    """Observer of all leases of this worker; the shell writes them to the in-flight table."""

    def started(self, replica: ReplicaSlots) -> None:
        """A lease on the replica has begun."""

    def ended(self, replica: ReplicaSlots) -> None:
        """A lease on the replica has ended."""


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
        """`ids`: source of lease ids, default 1, 2, 3 … `flights`: observer of leases, default none."""
        self.leases: dict[int, Lease] = {}
        """Unreleased leases, oldest first."""
        self.busy = 0
        """Number of unreleased leases."""
        self.total = 0
        """Slots of the replicas in service, including those that are barred."""
        self._ids = count(1) if ids is None else ids
        self._flights = flights
        self.violations = 0
        self.double_releases = 0
        self._accrued = 0.0
        # _levels[b]: replicas with b requests in flight and a free slot, in the order of reaching that level.
        self._levels: list[dict[ReplicaSlots, None]] = [{}]
        self._lowest = 0

    def busy_slot_seconds(self, now: float) -> float:
        """Exact integral of `busy` over time, in slot-seconds: sum of the durations of all leases up to `now`."""
        return self._accrued + self.busy * now

    def acquire(self, holder: object, now: float) -> Lease | None:
        """Lease a slot of the best replica for `holder`; None if none is free."""
        replica = self.reserve()
        return None if replica is None else self.adopt(next(self._ids), replica, holder, now)

    def reserve(self) -> ReplicaSlots | None:
        """Occupy a slot of the best replica without a lease; None if none is free. The caller ends it (`vacate`)."""
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
        """Create a lease for a slot already occupied (`reserve`, `occupy`).

        `lease_id`: unique among all workers. `replica`: replica of the slot. `holder`: user of the slot.
        """
        lease = self.leases[lease_id] = Lease(lease_id, replica, holder, now)
        self.busy += 1
        self._accrued -= now
        if self._flights is not None:
            self._flights.started(replica)
        return lease

    def release(self, lease: Lease, now: float) -> bool:
        """End a lease; True if its replica has a free slot now. A second release is only counted."""
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
        """Free one occupied slot; True if the replica has a free slot now."""
        level = replica.busy
        replica.busy = level - 1
        if replica.in_service and not replica.barred:
            if level < replica.slots:
                self._levels[level].pop(replica, None)
            if level <= replica.slots:
                self._levels[level - 1][replica] = None
                if level - 1 < self._lowest:
                    self._lowest = level - 1
                return True
        return False

    def occupy(self, replica: ReplicaSlots, count: int = 1) -> None:
        """Add `count` requests in flight, default 1, even beyond the replica's slots."""
        self._leave_levels(replica)
        replica.busy += count
        if replica.in_service:
            self.enable(replica)

    def recount(self, replicas: Iterable[ReplicaSlots]) -> None:
        """Take replicas out of service and count only leases of this ledger: another worker owns the slots."""
        for replica in replicas:
            self.disable(replica)
            replica.busy = 0
        for lease in self.leases.values():
            lease.replica.busy += 1

    def enable(self, replica: ReplicaSlots) -> None:
        """Put the replica in service, with the requests in flight that it has."""
        self._leave_levels(replica)
        while len(self._levels) < max(1, replica.slots):
            self._levels.append({})
        if not replica.in_service:
            replica.in_service = True
            self.total += replica.slots
        if not replica.barred and replica.busy < replica.slots:
            self._levels[replica.busy][replica] = None
            self._lowest = min(self._lowest, replica.busy)

    def disable(self, replica: ReplicaSlots) -> None:
        """Take the replica out of service; requests in flight continue."""
        self._leave_levels(replica)
        if replica.in_service:
            replica.in_service = False
            self.total -= replica.slots

    def resize(self, replica: ReplicaSlots, slots: int) -> None:
        """Change the number of slots; below the number busy, none is free until enough are released."""
        in_service = replica.in_service
        self.disable(replica)
        replica.slots = slots
        replica.largest = max(replica.largest, slots)
        if in_service:
            self.enable(replica)

    def bar(self, replica: ReplicaSlots) -> None:
        """Assign no request to the replica until `readmit`."""
        replica.barred = True
        self._leave_levels(replica)

    def readmit(self, replica: ReplicaSlots) -> None:
        """Assign requests to the replica again, after all others with as many in flight."""
        replica.barred = False
        if replica.in_service:
            self.enable(replica)
            if replica.busy < replica.slots:
                self._levels[replica.busy] = {replica: None, **self._levels[replica.busy]}

    def has_free(self) -> bool:
        """True if a slot is free."""
        return any(self._levels)

    def idle_first(self) -> Iterator[ReplicaSlots]:
        """Replicas with a free slot: fewest in flight first, among equals longest unchanged first."""
        for level in self._levels:
            yield from list(level)

    def busy_by_replica(self) -> dict[str, int]:
        """Leases by replica id."""
        return dict(Counter(lease.replica.id for lease in self.leases.values()))

    def tunnels(self) -> list[Lease]:
        """Leases without a scoring timeout."""
        return [lease for lease in self.leases.values() if lease.granted_at == math.inf]

    def _leave_levels(self, replica: ReplicaSlots) -> None:
        if replica.busy < len(self._levels):
            self._levels[replica.busy].pop(replica, None)
