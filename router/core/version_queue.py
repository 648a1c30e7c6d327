"""The queue of one version in one worker: waiting tickets and the slots assigned to them. Events in, leases out.

Arrival and departure share one rule: a free slot goes to the oldest ticket, so no ticket waits while a slot of its
version is free. In a group each version has one owner, which lends slots to the other workers.
"""

import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from router.core.borrower_knowledge import Place
from router.core.borrowing import Borrower
from router.core.health import UNCERTAIN
from router.core.health_watch import HealthWatch
from router.core.ledger import Lease, Ledger, ReplicaSlots
from router.core.lending import Lender
from router.core.replica_lifecycle import ReplicaLifecycle
from router.core.retry_budget import RetryBudget
from router.core.router_errors import NoReadyReplicas, Overloaded, RouterError
from serving.endpoint import VersionKey

if TYPE_CHECKING:
    from router.core.dispatcher import Dispatcher
    from router.core.peer_group import PeerGroup

MAX_WAITING = 10_000
"""Most waiting tickets per version; more are refused at once. The queue is bounded in count as well as in time."""


class Ticket:
    """A request for a slot. The shell's exchange extends it; `lease` is set while it holds one."""

    __slots__ = ("enqueued_at", "lease", "queue", "waiting")

    def __init__(self) -> None:
        self.queue: VersionQueue | None = None
        self.lease: Lease | None = None
        self.enqueued_at = 0.0
        self.waiting = False


@dataclass(frozen=True, slots=True)
class Grant:
    """Assignment of a lease to a ticket that was waiting."""

    ticket: Ticket
    lease: Lease


class VersionQueue:
    """Ledger and FIFO of one version."""

    __slots__ = (
        "_dispatcher",
        "_fifo",
        "_retries",
        "borrower",
        "changed",
        "health",
        "health_path",
        "health_timeout_s",
        "host_header",
        "key",
        "ledger",
        "lender",
        "lifecycle",
        "queue_wait_s",
        "replicas",
        "retry_budget",
        "scoring_timeout_s",
        "starved",
        "static",
        "stream_idle_timeout_s",
    )

    def __init__(self, key: VersionKey, dispatcher: "Dispatcher") -> None:
        self.key = key
        self.ledger = Ledger(dispatcher.lease_ids, dispatcher.flights)
        self.lifecycle = ReplicaLifecycle(self, dispatcher)
        self.health = HealthWatch(self, dispatcher)
        self.lender: Lender | None = None
        self.borrower: Borrower | None = None
        """At most one of the two is set; neither while this worker is alone."""
        self.replicas: dict[str, ReplicaSlots] = {}
        self.retry_budget = RetryBudget()
        self.queue_wait_s = 0.5
        self.scoring_timeout_s = 60.0
        self.stream_idle_timeout_s: float | None = None
        """Longest gap of a streamed response; None: the scoring timeout applies to its end."""
        self.health_path = "/"
        self.host_header = ""
        """Host of health requests; "" for the address of the replica."""
        self.health_timeout_s = 2.0
        self.static = False
        """True if the addresses of its replicas are declared."""
        self.changed = True
        """True if figures have changed since the last report."""
        self.starved = False
        self._dispatcher = dispatcher
        # Ordered by arrival; removal from the middle is O(1).
        self._fifo: OrderedDict[Ticket, None] = OrderedDict()
        # Tickets whose replica was unreachable; ahead of all others.
        self._retries: OrderedDict[Ticket, None] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Waiting tickets of this worker."""
        return len(self._retries) + len(self._fifo)

    @property
    def queue_length(self) -> int:
        """Tickets without a slot that this worker accounts for: an owner its own and its peers', a borrower only those
        that the owner does not know of.

        A ticket on its way to the owner may find a free slot there: if it counted at once, every request to a borrower
        would raise the demand by one.
        """
        if self.borrower is not None:
            return self.waiting - self.borrower.open_asks
        return self.waiting + (self.lender.queue_length if self.lender is not None else 0)

    # ---- requests

    def enqueue(self, ticket: Ticket, now: float) -> Lease | None:
        """Assign a lease at once, or queue the ticket and return None. Raises Overloaded if the queue is full."""
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
        """Release the lease and assign its slot to the oldest ticket, if any. A second release has no effect."""
        self.changed = True
        again = lease.released
        if self.ledger.release(lease, now):
            return self._match(now)
        if again:
            return None
        grant = self.borrower.released(lease, now) if self.borrower is not None else None
        if lease.replica.disabled:
            self.lifecycle.check_drained(lease.replica)
        return grant

    def requeue(self, lease: Lease, now: float) -> Grant | None:
        """Release the lease of an unreachable replica and put its ticket at the front, with a new queue wait.

        Returns a grant to this or another ticket. Call `HealthWatch.failed` before: else the same replica is
        chosen again.
        """
        ticket = lease.holder
        assert isinstance(ticket, Ticket)
        ticket.lease = None
        self._wait(ticket, self._retries, now)
        return self.release(lease, now) or self._match(now)

    def abandon(self, ticket: Ticket) -> bool:
        """Remove a waiting ticket; False if it was not waiting."""
        if not ticket.waiting:
            return False
        ticket.waiting = False
        del (self._retries if ticket in self._retries else self._fifo)[ticket]
        self.changed = True
        if self.borrower is not None:
            self.borrower.cancel_ask(ticket)
        return True

    def expire(self, now: float) -> list[tuple[Ticket, RouterError]]:
        """Remove tickets past the queue wait; returns each with its error."""
        late = []
        for fifo in (self._retries, self._fifo):
            for ticket in fifo:
                if ticket.enqueued_at + self.queue_wait_s > now:
                    break
                late.append(ticket)
        if not late:
            return []
        refusal = self._refusal()
        return [(ticket, refusal) for ticket in late if self.abandon(ticket)]

    def clear(self) -> list[Ticket]:
        """Remove every waiting ticket."""
        return [ticket for ticket in (*self._retries, *self._fifo) if self.abandon(ticket)]

    def next_deadline(self) -> float | None:
        """End of the earliest queue wait, or None."""
        heads = [next(iter(fifo)).enqueued_at for fifo in (self._retries, self._fifo) if fifo]
        return min(heads) + self.queue_wait_s if heads else None

    def overdue(self, now: float) -> list[Lease]:
        """Leases older than the scoring timeout. They stay in the ledger until released."""
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
        """Time at which the oldest lease exceeds the scoring timeout, or None."""
        granted_at = (lease.granted_at for lease in self.ledger.leases.values())
        oldest = next((moment for moment in granted_at if moment != math.inf), None)
        return None if oldest is None else oldest + self.scoring_timeout_s

    def match_all(self, now: float) -> list[Grant]:
        """Assign free slots to the oldest tickets until one of the two runs out."""
        grants = []
        while (grant := self._match(now)) is not None:
            grants.append(grant)
        return grants

    def mark_starved(self) -> None:
        """Record that a ticket found no free slot, for an immediate report to the autoscaler."""
        self.changed = True
        if not self.starved:
            self.starved = True
            self._dispatcher.starved.append(self)

    # ---- services for lender and borrower

    def head(self) -> Place | None:
        """Place of the oldest ticket of this worker among those of all workers; None if none waits."""
        fifo = self._retries or self._fifo
        return (0 if self._retries else 1, next(iter(fifo)).enqueued_at) if fifo else None

    def oldest(self) -> Ticket:
        """The oldest ticket; at least one must wait."""
        return next(iter(self._retries or self._fifo))

    def tickets(self) -> Iterator[tuple[Ticket, bool]]:
        """Waiting tickets in order, each with True if it is a retry."""
        yield from ((ticket, True) for ticket in self._retries)
        yield from ((ticket, False) for ticket in self._fifo)

    def match_own(self, now: float) -> Grant | None:
        """Assign a free slot to the oldest ticket of this worker."""
        fifo = self._retries or self._fifo
        if not fifo:
            return None
        ticket = next(iter(fifo))
        lease = self.ledger.acquire(ticket, now)
        if lease is None and self.borrower is not None:
            lease = self.borrower.reuse_spare(ticket, now)
            if lease is not None:
                self.borrower.cancel_ask(ticket)
        return None if lease is None else self.assign(ticket, lease)

    def assign(self, ticket: Ticket, lease: Lease) -> Grant:
        """Assign the lease to a waiting ticket."""
        del (self._retries if ticket in self._retries else self._fifo)[ticket]
        ticket.waiting = False
        ticket.lease = lease
        self.changed = True
        return Grant(ticket, lease)

    def vacate(self, replica: ReplicaSlots) -> None:
        """End the use of a slot without a lease of this worker."""
        self.ledger.vacate(replica)
        if replica.disabled:
            self.lifecycle.check_drained(replica)

    # ---- roles

    def become_owner(self, group: "PeerGroup", learned: bool) -> None:
        """Own the version from now on. `learned`: True if no peer can hold unknown slots of it."""
        self.changed = True
        self.borrower = None
        self.lender = Lender(self, group, learned)
        self.lender.open()

    def become_borrower(self, owner: str, group: "PeerGroup") -> None:
        """Borrow slots of the version from another member from now on, "" for none; loans pass to that member."""
        if self.borrower is not None and self.borrower.owner == owner:
            return
        self.changed = True
        if self.lender is not None:
            self.lender.close()
            self.lender = None
        self.borrower = Borrower(self, group, owner)
        self.ledger.recount(self.replicas.values())
        for replica in list(self.replicas.values()):
            self.lifecycle.drop_if_gone(replica)

    # ---- inside

    def _wait(self, ticket: Ticket, fifo: OrderedDict[Ticket, None], now: float) -> None:
        ticket.enqueued_at = now
        ticket.waiting = True
        fifo[ticket] = None
        if self.borrower is not None and self.borrower.request_slot(ticket, fifo is self._retries, now):
            return  # only the owner knows of free slots
        self.mark_starved()
        if self.lender is not None:
            self.lender.inform_borrowers(now)

    def _match(self, now: float) -> Grant | None:
        lender = self.lender
        if lender is None or not lender.peer_queues:
            return self.match_own(now)
        grant = lender.match(now)
        lender.inform_borrowers(now)
        return grant

    def _refusal(self) -> RouterError:
        replicas = self.replicas.values()
        learning = self.lender is not None and not self.lender.learned
        cut_off = self.borrower is not None and not self.borrower.is_linked
        if learning or cut_off or all(replica.disabled or replica.standing in UNCERTAIN for replica in replicas):
            return NoReadyReplicas(self.key.endpoint)  # between two owners there is no slot to wait for
        return Overloaded(self.key.endpoint)
