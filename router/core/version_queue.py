"""The requests of one version that wait in this worker, and the slots that they may get. Events in, leases out.

Arrival and departure share one rule: a free slot goes to the oldest ticket. So no ticket ever waits while a slot of its
version is free. In a group of workers each version has one owner, which lends slots to the others; a request meets its
slot the same way everywhere.
"""

import math
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from router.core.borrowing import Borrower
from router.core.health import Failure, ejection_seconds
from router.core.ledger import Lease, Ledger, ReplicaSlots
from router.core.lending import Lender, Place
from router.core.router_errors import NoReadyReplicas, Overloaded, RouterError
from serving.endpoint import VersionKey
from serving.replica import Replica, ReplicaState

if TYPE_CHECKING:
    from router.core.dispatcher import Dispatcher
    from router.core.peer_group import PeerGroup

MAX_WAITING = 10_000
"""Tickets that may wait for one version; more are refused at once: a queue is bounded in count as well as in time."""


class Ticket:
    """A request that wants a slot. The shell's exchange extends it; `lease` is set while it holds one."""

    __slots__ = ("enqueued_at", "lease", "queue", "waiting")

    def __init__(self) -> None:
        self.queue: VersionQueue | None = None
        self.lease: Lease | None = None
        self.enqueued_at = 0.0
        self.waiting = False


@dataclass(frozen=True, slots=True)
class Grant:
    """This ticket now holds this lease."""

    ticket: Ticket
    lease: Lease


class VersionQueue:
    """One version: its ledger and its FIFO."""

    __slots__ = (
        "_dispatcher",
        "_fifo",
        "_retries",
        "borrower",
        "changed",
        "key",
        "ledger",
        "lender",
        "queue_wait_s",
        "replicas",
        "scoring_timeout_s",
        "starved",
        "static",
    )

    def __init__(self, key: VersionKey, dispatcher: "Dispatcher") -> None:
        self.key = key
        self.ledger = Ledger(dispatcher.lease_ids, dispatcher.flights)
        self.lender: Lender | None = None
        self.borrower: Borrower | None = None
        """At most one of the two; neither as long as this worker is alone."""
        self.replicas: dict[str, ReplicaSlots] = {}
        self.queue_wait_s = 0.5
        self.scoring_timeout_s = 60.0
        self.static = False
        """Addresses of its replicas are declared."""
        self.changed = True
        """Something worth reporting has happened since the last report."""
        self.starved = False
        self._dispatcher = dispatcher
        # Ordered by arrival; a ticket in the middle leaves in O(1), and nothing of it is kept.
        self._fifo: OrderedDict[Ticket, None] = OrderedDict()
        # Tickets that had a slot whose replica could not be reached keep their place before everybody else.
        self._retries: OrderedDict[Ticket, None] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Tickets of this worker that wait now."""
        return len(self._retries) + len(self._fifo)

    @property
    def queue_length(self) -> int:
        """Tickets for which there is no slot, as far as it is this worker that knows.

        An owner knows of everybody who is in its line. A borrower's ticket that is on its way there may well find a
        slot: counted at once, every request to a borrower would ask for one replica more than there need be.
        """
        if self.borrower is not None:
            return self.waiting - self.borrower.open_asks
        return self.waiting + (self.lender.queue_length if self.lender is not None else 0)

    # ---- requests

    def enqueue(self, ticket: Ticket, now: float) -> Lease | None:
        """A lease at once, or None: the ticket waits. Raises Overloaded when too many wait already."""
        self.changed = True
        ticket.queue = self
        ticket.enqueued_at = now
        lease = self.ledger.acquire(ticket, now)
        if lease is None and self.borrower is not None:
            lease = self.borrower.reuse_spare(ticket, now)
        if lease is not None:
            ticket.lease = lease
            return lease
        if self.waiting >= MAX_WAITING:
            raise Overloaded(self.key.endpoint)
        self._wait(ticket, self._fifo, now)
        return None

    def release(self, lease: Lease, now: float) -> Grant | None:
        """The request has ended. The slot goes to the oldest ticket, if any waits. A second time changes nothing."""
        self.changed = True
        again = lease.released
        if self.ledger.release(lease, now):
            return self._match(now)
        if again:
            return None
        grant = self.borrower.released(lease, now) if self.borrower is not None else None
        self.check_drained(lease.replica)
        return grant

    def requeue(self, lease: Lease, now: float) -> Grant | None:
        """The replica was not reached: the ticket goes to the front of the line (with a new wait), the slot is free.

        Returns a grant for this or another ticket. Call after the replica has been held, else it is chosen again.
        """
        ticket = lease.holder
        assert isinstance(ticket, Ticket)
        ticket.lease = None
        self._wait(ticket, self._retries, now)
        return self.release(lease, now) or self._match(now)

    def abandon(self, ticket: Ticket) -> bool:
        """The client of a waiting ticket is gone. False if it did not wait."""
        if not ticket.waiting:
            return False
        ticket.waiting = False
        del (self._retries if ticket in self._retries else self._fifo)[ticket]
        self.changed = True
        if self.borrower is not None:
            self.borrower.cancel_ask(ticket)
        return True

    def expire(self, now: float) -> list[tuple[Ticket, RouterError]]:
        """Tickets whose wait is over, each with the answer it gets."""
        late = []
        for line in (self._retries, self._fifo):
            for ticket in line:
                if ticket.enqueued_at + self.queue_wait_s > now:
                    break
                late.append(ticket)
        if not late:
            return []
        refusal = self._refusal()
        return [(ticket, refusal) for ticket in late if self.abandon(ticket)]

    def clear(self) -> list[Ticket]:
        """Every ticket that waits leaves."""
        return [ticket for ticket in (*self._retries, *self._fifo) if self.abandon(ticket)]

    def next_deadline(self) -> float | None:
        """When `expire` has something to do, or None."""
        heads = [next(iter(line)).enqueued_at for line in (self._retries, self._fifo) if line]
        return min(heads) + self.queue_wait_s if heads else None

    def overdue(self, now: float) -> list[Lease]:
        """Leases older than the scoring timeout. They stay out until released."""
        horizon = now - self.scoring_timeout_s
        late = []
        for lease in self.ledger.leases.values():
            if lease.granted_at == math.inf:
                continue
            if lease.granted_at > horizon:
                break
            late.append(lease)
        return late

    def next_overdue(self) -> float | None:
        """When the oldest lease passes the scoring timeout, or None."""
        granted_at = (lease.granted_at for lease in self.ledger.leases.values())
        oldest = next((moment for moment in granted_at if moment != math.inf), None)
        return None if oldest is None else oldest + self.scoring_timeout_s

    def exempt(self, lease: Lease) -> None:
        """The lease carries a tunnel from here on: it ends with it, not with the scoring timeout."""
        lease.granted_at = math.inf

    # ---- replicas

    def upsert(self, replica: Replica, now: float) -> list[Grant]:
        """A replica is new or has changed."""
        self.changed = True
        slots = self.ensure_replica(replica.id)
        slots.present = True
        slots.host, slots.port, slots.static = replica.host, replica.port, replica.static
        if slots.slots != replica.slots:
            largest_before = slots.largest
            self.ledger.resize(slots, replica.slots)
            if self.lender is not None:
                self.lender.replica_resized(slots, largest_before)
        if replica.state is ReplicaState.READY:
            # A retired replica is on its way out: an echo of its READY state must not bring it back.
            if slots.id not in self._dispatcher.retired:
                slots.disabled = False
                if self.borrower is None:
                    self.ledger.enable(slots)
        else:
            self.withdraw(slots, tell=replica.state is ReplicaState.DRAINING)
        return self.match_all(now)

    def withdraw(self, replica: ReplicaSlots, tell: bool = True) -> None:
        """The replica takes no new request; with `tell`, `drained` says when nothing is in flight on it."""
        self.changed = True
        replica.disabled = True
        self.ledger.disable(replica)
        self._recall(replica)
        if tell:
            self._dispatcher.retired.add(replica.id)
            self.check_drained(replica)

    def retire(self, count: int) -> list[str]:
        """Withdraw up to `count` replicas in service: idle ones first, then those with the fewest in flight.

        Among equals one that is left alone goes first, then the one that has been as idle as it is for the longest.
        Only an owner that knows what is in use does so.
        """
        if self.borrower is not None or (self.lender is not None and not self.lender.learned):
            return []
        candidates = dict.fromkeys([*self.ledger.idle_first(), *self.replicas.values()])
        in_service = [replica for replica in candidates if replica.in_service]
        in_service.sort(key=lambda replica: (replica.busy, not replica.ejected))
        for replica in in_service[:count]:
            self.withdraw(replica)
        return [replica.id for replica in in_service[:count]]

    def remove(self, replica_id: str) -> None:
        """A replica is gone. Its leases stay out until released."""
        self.changed = True
        replica = self.replicas.get(replica_id)
        if replica is not None:
            replica.present = False
            self.withdraw(replica, tell=False)
            self._forget(replica)

    def replica_failed(self, replica: ReplicaSlots, failure: Failure, now: float) -> float:
        """Passive health: for how many seconds the replica is left alone from now on, 0 if it is not.

        The hold ends by itself (`Dispatcher.tick`). A borrower leaves the decision to the owner.
        """
        replica.failures += 1
        if self.borrower is not None:
            self.borrower.replica_failed(replica, failure)
            return 0.0
        hold_s = ejection_seconds(failure, replica.failures, self.others_in_service(replica))
        if hold_s and not replica.ejected:
            self.eject(replica)
            self._dispatcher.group.timers.at(now + hold_s, self.readmit, replica)
        return hold_s

    def eject(self, replica: ReplicaSlots) -> None:
        """Leave the replica alone until `readmit`."""
        self.ledger.set_ejected(replica, True)
        self._recall(replica)

    def readmit(self, replica: ReplicaSlots, now: float) -> list[Grant]:
        """Stop leaving it alone."""
        self.ledger.set_ejected(replica, False)
        return self.match_all(now)

    def others_in_service(self, replica: ReplicaSlots) -> bool:
        """Whether another replica could take what this one cannot, as far as this worker knows."""
        blocked = self.borrower.blocked if self.borrower is not None else ()
        others = [other for other in self.replicas.values() if other is not replica]
        return any(not other.disabled and not other.ejected and other.id not in blocked for other in others)

    def busy_by_replica(self) -> dict[str, int]:
        """Requests of this worker in flight, by replica."""
        return dict(Counter(lease.replica.id for lease in self.ledger.leases.values()))

    def match_all(self, now: float) -> list[Grant]:
        """Give every free slot to the oldest tickets."""
        grants = []
        while (grant := self._match(now)) is not None:
            grants.append(grant)
        return grants

    def mark_starved(self) -> None:
        """A ticket has found no slot: whoever scales should hear of it at once."""
        self.changed = True
        if not self.starved:
            self.starved = True
            self._dispatcher.starved.append(self)

    # ---- what lender and borrower need

    def head(self) -> Place | None:
        """Where the oldest ticket stands among those of all workers; None: nobody waits here."""
        line = self._retries or self._fifo
        return (0 if self._retries else 1, next(iter(line)).enqueued_at) if line else None

    def oldest(self) -> Ticket:
        """Who has waited longest. Somebody must wait."""
        return next(iter(self._retries or self._fifo))

    def tickets(self) -> Iterator[tuple[Ticket, bool]]:
        """Everybody who waits, in order, and whether they had a slot before."""
        yield from ((ticket, True) for ticket in self._retries)
        yield from ((ticket, False) for ticket in self._fifo)

    def match_own(self, now: float) -> Grant | None:
        """Give a free slot to the oldest ticket of this worker."""
        line = self._retries or self._fifo
        if not line:
            return None
        ticket = next(iter(line))
        lease = self.ledger.acquire(ticket, now)
        if lease is None and self.borrower is not None:
            lease = self.borrower.reuse_spare(ticket, now)
            if lease is not None:
                self.borrower.cancel_ask(ticket)
        return None if lease is None else self.assign(ticket, lease)

    def assign(self, ticket: Ticket, lease: Lease) -> Grant:
        """A waiting ticket has a lease now."""
        del (self._retries if ticket in self._retries else self._fifo)[ticket]
        ticket.waiting = False
        ticket.lease = lease
        self.changed = True
        return Grant(ticket, lease)

    def ensure_replica(self, replica_id: str, host: str = "", port: int = 0) -> ReplicaSlots:
        """The replica's record. One of which only peers have told takes nothing by this worker's own decision."""
        replica = self.replicas.get(replica_id)
        if replica is None:
            replica = self.replicas[replica_id] = ReplicaSlots(replica_id, host, port)
            replica.static = self.static
            if self.lender is not None:
                self.lender.replica_added(replica)
        elif not replica.present and host:
            replica.host, replica.port = host, port
        return replica

    def vacate(self, replica: ReplicaSlots) -> None:
        """One less is in flight that was not a lease of this worker."""
        self.ledger.vacate(replica)
        self.check_drained(replica)

    def check_drained(self, replica: ReplicaSlots) -> None:
        """Nothing may be in flight any more on a replica that takes nothing new: only its owner can say so."""
        if replica.disabled and not replica.busy:
            owned = self.lender is not None or (self.borrower is None and self._dispatcher.group.alone)
            if owned and replica.id in self._dispatcher.retired:
                self._dispatcher.drained.append(replica.id)
            self._forget(replica)

    def retired(self) -> tuple[str, ...]:
        """Replicas that are listed and shall never serve again."""
        retired = self._dispatcher.retired
        return tuple(replica.id for replica in self.replicas.values() if replica.present and replica.id in retired)

    def retire_declared(self, replica_id: str) -> None:
        """A former owner has withdrawn the replica for good."""
        replica = self.replicas.get(replica_id)
        if replica is not None and replica.present and replica_id not in self._dispatcher.retired:
            self.withdraw(replica)

    def tunnels(self) -> list[Lease]:
        """Leases that know no scoring timeout."""
        return [lease for lease in self.ledger.leases.values() if lease.granted_at == math.inf]

    def become_owner(self, group: "PeerGroup", learned: bool) -> None:
        """This worker owns the version from now on."""
        self.changed = True
        self.borrower = None
        self.lender = Lender(self, group, learned)
        self.lender.open()

    def become_borrower(self, owner: str, group: "PeerGroup") -> None:
        """Another member owns the version from now on; what is lent is its affair."""
        if self.borrower is not None and self.borrower.owner == owner:
            return
        self.changed = True
        if self.lender is not None:
            self.lender.close()
            self.lender = None
        self.borrower = Borrower(self, group, owner)
        self.ledger.recount(self.replicas.values())
        for replica in list(self.replicas.values()):
            self._forget(replica)

    # ---- inside

    def _wait(self, ticket: Ticket, line: OrderedDict[Ticket, None], now: float) -> None:
        ticket.enqueued_at = now
        ticket.waiting = True
        line[ticket] = None
        if self.borrower is not None and self.borrower.request_slot(ticket, line is self._retries, now):
            return  # whether there is a slot, the owner knows
        self.mark_starved()
        if self.lender is not None:
            self.lender.recall_idle(now)

    def _match(self, now: float) -> Grant | None:
        if self.lender is not None and self.lender.peer_queues:
            return self.lender.match(now)
        return self.match_own(now)

    def _recall(self, replica: ReplicaSlots) -> None:
        if self.borrower is not None:
            self.borrower.return_spares(replica.id)
        elif self.lender is not None:
            self.lender.recall_replica(replica)

    def _refusal(self) -> RouterError:
        if all(replica.disabled for replica in self.replicas.values()):
            return NoReadyReplicas(self.key.endpoint)
        return Overloaded(self.key.endpoint)

    def _forget(self, replica: ReplicaSlots) -> None:
        if not replica.present and not replica.busy:
            self.replicas.pop(replica.id, None)
            if self.borrower is not None:
                self.borrower.forget_replica(replica.id)
