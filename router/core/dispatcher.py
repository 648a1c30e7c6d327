"""Late binding: requests wait in one FIFO per version and get a slot the moment one is free. Events in, leases out.

Arrival and departure share one rule: a free slot goes to the oldest ticket. So no ticket ever waits while a slot of its
version is free. What the shell must be told besides leases (a withdrawn replica is idle, a version is starved) collects
in `Dispatcher.drained` and `Dispatcher.starved`.
"""

import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from router.core.errors import NoReadyReplicas, Overloaded, RouterError
from router.core.ledger import Lease, Ledger, ReplicaSlots
from serving.endpoint import Version, VersionKey
from serving.replica import Replica, ReplicaState

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
        "changed",
        "key",
        "ledger",
        "queue_wait_s",
        "replicas",
        "scoring_timeout_s",
        "starved",
    )

    def __init__(self, key: VersionKey, dispatcher: "Dispatcher") -> None:
        self.key = key
        self.ledger = Ledger()
        self.replicas: dict[str, ReplicaSlots] = {}
        self.queue_wait_s = 0.5
        self.scoring_timeout_s = 60.0
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
        """Tickets that wait now."""
        return len(self._retries) + len(self._fifo)

    # ---- requests

    def enqueue(self, ticket: Ticket, now: float) -> Lease | None:
        """A lease at once, or None: the ticket waits. Raises Overloaded when too many wait already."""
        self.changed = True
        ticket.queue = self
        ticket.enqueued_at = now
        lease = self.ledger.take(ticket, now)
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
        if self.ledger.give_back(lease, now):
            return self._match(now)
        replica = lease.replica
        if replica.withdrawn and not replica.busy and not again:
            self._drained(replica)
        return None

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
        slots = self.replicas.get(replica.id)
        if slots is None:
            slots = self.replicas[replica.id] = ReplicaSlots(replica.id, replica.host, replica.port)
        slots.present = True
        slots.host, slots.port = replica.host, replica.port
        if slots.slots != replica.slots:
            self.ledger.resize(slots, replica.slots)
        if replica.state is ReplicaState.READY:
            # A retired replica is on its way out: an echo of its READY state must not bring it back.
            if slots.id not in self._dispatcher.retired:
                slots.withdrawn = False
                self.ledger.enter(slots)
        else:
            self.withdraw(slots, tell=replica.state is ReplicaState.DRAINING)
        return self.match_all(now)

    def withdraw(self, replica: ReplicaSlots, tell: bool = True) -> None:
        """The replica takes no new request; with `tell`, `drained` says when nothing is in flight on it."""
        self.changed = True
        replica.withdrawn = True
        self.ledger.leave(replica)
        if tell:
            self._dispatcher.retired.add(replica.id)
            if not replica.busy:
                self._drained(replica)

    def retire(self, count: int) -> list[str]:
        """Withdraw up to `count` replicas in service: idle ones first, then those with the fewest in flight.

        Among equals one that is left alone goes first, then the one that has been as idle as it is for the longest.
        """
        candidates = dict.fromkeys([*self.ledger.idle_first(), *self.replicas.values()])
        in_service = [replica for replica in candidates if replica.in_service]
        in_service.sort(key=lambda replica: (replica.busy, not replica.held))
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

    def hold(self, replica: ReplicaSlots) -> None:
        """Leave the replica alone until `unhold`."""
        self.ledger.hold(replica, True)

    def unhold(self, replica: ReplicaSlots, now: float) -> list[Grant]:
        """Stop leaving it alone."""
        self.ledger.hold(replica, False)
        return self.match_all(now)

    def others_in_service(self, replica: ReplicaSlots) -> bool:
        """Whether another replica could take what this one cannot."""
        return any(other.in_service and not other.held for other in self.replicas.values() if other is not replica)

    def match_all(self, now: float) -> list[Grant]:
        """Give every free slot to the oldest tickets."""
        grants = []
        while (grant := self._match(now)) is not None:
            grants.append(grant)
        return grants

    # ---- inside

    def _wait(self, ticket: Ticket, line: OrderedDict[Ticket, None], now: float) -> None:
        ticket.enqueued_at = now
        ticket.waiting = True
        line[ticket] = None
        if not self.starved:
            self.starved = True
            self._dispatcher.starved.append(self)

    def _match(self, now: float) -> Grant | None:
        line = self._retries or self._fifo
        if not line:
            return None
        ticket = next(iter(line))
        lease = self.ledger.take(ticket, now)
        if lease is None:
            return None
        del line[ticket]
        ticket.waiting = False
        ticket.lease = lease
        return Grant(ticket, lease)

    def _refusal(self) -> RouterError:
        if any(replica.in_service for replica in self.replicas.values()):
            return Overloaded(self.key.endpoint)
        return NoReadyReplicas(self.key.endpoint)

    def _drained(self, replica: ReplicaSlots) -> None:
        if replica.id in self._dispatcher.retired:
            self._dispatcher.drained.append(replica.id)
        self._forget(replica)

    def _forget(self, replica: ReplicaSlots) -> None:
        if not replica.present and not replica.busy:
            self.replicas.pop(replica.id, None)


class Dispatcher:
    """Every version of one worker."""

    def __init__(self) -> None:
        self.queues: dict[VersionKey, VersionQueue] = {}
        self.drained: list[str] = []
        """Withdrawn replicas on which nothing is in flight any more; the shell takes them from here."""
        self.starved: list[VersionQueue] = []
        """Versions for which a request has found no free slot since the shell last looked."""
        self.retired: set[str] = set()
        """Replicas that shall never serve again, though they may still be listed as READY."""
        self._homes: dict[str, VersionKey] = {}
        self._forgotten: set[VersionKey] = set()

    def queue(self, key: VersionKey) -> VersionQueue:
        """The version's queue, made on first use."""
        queue = self.queues.get(key)
        if queue is None:
            queue = self.queues[key] = VersionQueue(key, self)
        return queue

    def configure(self, endpoint: str, version: Version) -> VersionQueue:
        """Take over how long requests may wait and run: new ones, and those that wait or run already."""
        key = VersionKey(endpoint, version.name)
        self._forgotten.discard(key)
        queue = self.queue(key)
        queue.queue_wait_s = version.queue_wait_s
        queue.scoring_timeout_s = version.scoring_timeout_s
        return queue

    def upsert(self, replica: Replica, now: float) -> list[Grant]:
        """A replica is new or has changed."""
        self._homes[replica.id] = replica.key
        return self.queue(replica.key).upsert(replica, now)

    def remove(self, replica_id: str) -> None:
        """A replica is gone; an unknown id is harmless."""
        key = self._homes.pop(replica_id, None)
        self.retired.discard(replica_id)
        if key is not None:
            self.queues[key].remove(replica_id)

    def retire(self, key: VersionKey, count: int) -> list[str]:
        """See VersionQueue.retire."""
        queue = self.queues.get(key)
        return queue.retire(count) if queue else []

    def forget(self, key: VersionKey) -> list[tuple[Ticket, RouterError]]:
        """The version is no longer declared: what waits is answered now, what runs ends as it will."""
        queue = self.queues.get(key)
        if queue is None:
            return []
        self._forgotten.add(key)
        return [(ticket, NoReadyReplicas(key.endpoint)) for ticket in queue.clear()]

    def prune(self) -> None:
        """Drop what is kept of forgotten versions that nothing runs on any more; called from time to time."""
        for key in list(self._forgotten):
            queue = self.queues[key]
            if not queue.replicas and not queue.waiting and not queue.ledger.busy and not queue.ledger.violations:
                self._forgotten.discard(key)
                del self.queues[key]

    def known(self) -> Iterator[str]:
        """Ids of the replicas that were upserted and not removed."""
        yield from list(self._homes)
