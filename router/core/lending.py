"""The owner's side of one version: loans to peers, and the queued asks of peers.

A loan counts as in flight in the owner's ledger, so the rules for requests hold for loans: a replica is never used
beyond its slots, keeps its loans when it vanishes and returns, and is drained once nothing is in flight.

Two more kinds of slots count as in flight without a known user:
- unaccounted: a peer may hold it. A new owner knows only declared slots; all slots that it does not use itself are
  unaccounted until every member has declared (learning). A declared one is a loan from then on, free once returned.
  After a change of view, a loan that its holder does not declare is unaccounted, too: the holder may have returned it
  to an owner of a view that this worker skipped.
- quarantined: a dead worker used it, and the replica may still be busy with the request.
"""

import math
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from router.core.borrower_knowledge import BorrowerKnowledge, Place
from router.core.declared_leases import DeclaredLeases, PeerAsk
from router.core.ledger import ReplicaSlots
from router.core.slot_messages import Recall, SlotGranted

if TYPE_CHECKING:
    from router.core.peer_group import PeerGroup
    from router.core.version_queue import Grant, VersionQueue


class PeerQueue:
    """Queued asks of one peer by number, in order. Removal from the middle is O(1)."""

    __slots__ = ("_fifo", "_retries")

    def __init__(self) -> None:
        self._retries: OrderedDict[int, float] = OrderedDict()
        self._fifo: OrderedDict[int, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._retries) + len(self._fifo)

    def __iter__(self) -> Iterator[int]:
        yield from list(self._retries)
        yield from list(self._fifo)

    def add(self, number: int, ask: PeerAsk) -> None:
        """Insert an ask by its arrival: at the end, unless it was delayed."""
        fifo = self._retries if ask.retry else self._fifo
        late = bool(fifo) and ask.since < next(reversed(fifo.values()))
        fifo[number] = ask.since
        if late:
            for other, _ in sorted(fifo.items(), key=lambda item: item[1]):
                fifo.move_to_end(other)

    def remove(self, number: int) -> bool:
        """Remove an ask; False if it was not queued."""
        return self._retries.pop(number, None) is not None or self._fifo.pop(number, None) is not None

    def head(self) -> tuple[Place, int]:
        """Place and number of the oldest ask. The queue must not be empty."""
        fifo = self._retries or self._fifo
        number, since = next(iter(fifo.items()))
        return (0 if self._retries else 1, since), number


class Lender:
    """Role of the owner of one version."""

    __slots__ = (
        "_group",
        "_knowledge",
        "_liveness",
        "_loans",
        "_quarantined",
        "_unaccounted",
        "learned",
        "peer_queues",
        "queue",
    )

    def __init__(self, queue: "VersionQueue", group: "PeerGroup", learned: bool) -> None:
        """`queue`: the version. `group`: the other workers. `learned`: True if no peer can hold unknown slots."""
        self.learned = learned
        """True once every member has declared since this worker owns the version."""
        self.peer_queues: dict[str, PeerQueue] = {}
        """Queued asks, by peer; no empty queues."""
        self.queue = queue
        self._group = group
        self._liveness = group.liveness
        self._loans: dict[str, dict[int, ReplicaSlots]] = {}
        self._unaccounted: dict[ReplicaSlots, int] = {}
        self._quarantined: dict[ReplicaSlots, int] = {}
        self._knowledge = BorrowerKnowledge()

    # ---- asks

    @property
    def queue_length(self) -> int:
        """Queued asks of all peers."""
        return sum(len(asks) for asks in self.peer_queues.values())

    def ask(self, peer: str, number: int, ask: PeerAsk, now: float) -> "list[Grant]":
        """Queue the `ask` of `peer` under its `number`, and grant free slots."""
        self._enqueue(peer, number, ask)
        self._liveness.start_probing(now)
        grants = self.queue.match_all(now)
        if (peer, number) in self._group.peer_asks:
            self.queue.mark_starved()
        self.inform_borrowers(now)
        return grants

    def forget(self, peer: str, number: int) -> bool:
        """Remove an ask; False if it was not queued."""
        asks = self.peer_queues.get(peer)
        if asks is None or not asks.remove(number):
            return False
        del self._group.peer_asks[peer, number]
        if not asks:
            del self.peer_queues[peer]
        self.queue.changed = True
        return True

    def drop_peer_queue(self, peer: str) -> None:
        """Remove all asks of a peer; it repeats those that still wait."""
        for number in self.peer_queues.get(peer, ()):
            self.forget(peer, number)

    def match(self, now: float) -> "Grant | None":
        """Grant free slots to the oldest tickets until one of them is this worker's own, or none is left."""
        own, skipped = self.queue.head(), set[str]()
        while heads := [(asks.head(), peer) for peer, asks in self.peer_queues.items() if peer not in skipped]:
            (place, number), peer = min(heads)
            if own is not None and own <= place:
                return self.queue.match_own(now)
            if not self.queue.ledger.has_free():
                return None
            if not self._liveness.is_responsive(peer, now):
                skipped.add(peer)
            elif (replica := self.queue.ledger.reserve()) is not None:
                self._grant(peer, number, replica, now)
        return self.queue.match_own(now) if own is not None else None

    def inform_borrowers(self, now: float) -> None:
        """Update borrowers that would else delay a slot.

        Those that know of no other ticket return idle slots; the one with the oldest ticket of all uses its next slot.
        """
        for peer in self._knowledge.unaware():
            others_age_s = self._tell(peer, now)
            if others_age_s is not None:
                self._group.send(peer, Recall(self.queue.key, "", others_age_s))
        if self.peer_queues:
            (place, _), first = min((asks.head(), peer) for peer, asks in self.peer_queues.items())
            own = self.queue.head()
            if (own is None or place < own) and self._knowledge.needs_update(first, place, now):
                self._group.send(first, Recall(self.queue.key, "", self._tell(first, now)))

    def _grant(self, peer: str, number: int, replica: ReplicaSlots, now: float) -> None:
        self.forget(peer, number)
        lease = next(self._group.lease_ids)
        self._add_loan(peer, lease, replica)
        key, others_age_s = self.queue.key, self._tell(peer, now)
        self._group.send(peer, SlotGranted(key, number, lease, replica.id, replica.host, replica.port, others_age_s))

    def _enqueue(self, peer: str, number: int, ask: PeerAsk) -> None:
        asks = self.peer_queues.get(peer)
        if asks is None:
            asks = self.peer_queues[peer] = PeerQueue()
        asks.add(number, ask)
        self.queue.changed = True
        self._group.peer_asks[peer, number] = self

    def _tell(self, peer: str, now: float) -> float | None:
        """Age of the oldest ticket of any other worker, None if there is none, for a message: `peer` knows it then."""
        own = self.queue.head()
        arrivals = [asks.head()[0][1] for other, asks in self.peer_queues.items() if other != peer]
        if own is not None:
            arrivals.append(own[1])
        since = min(arrivals, default=math.inf)
        self._knowledge.told(peer, since)
        return max(0.0, now - since) if arrivals else None

    # ---- loans

    def returned(self, peer: str, lease: int) -> bool:
        """End a loan; False if the peer does not hold it. The caller grants the free slot."""
        loans = self._loans.get(peer)
        if loans is None or lease not in loans:
            return False
        self.queue.vacate(self._remove_loan(peer, lease))
        return True

    def declared(self, peer: str, declared: DeclaredLeases, first: bool) -> None:
        """Replace loans and asks of a peer by its declaration. The caller grants free slots.

        `peer`: name of the sender. `declared`: its declaration. `first`: True for its first in this view.
        """
        key = self.queue.key
        self._replace_loans(peer, declared.leases.get(key, {}), first)
        self.drop_peer_queue(peer)
        for number, ask in declared.asks.get(key, {}).items():
            self._enqueue(peer, number, ask)
        for replica_id in declared.retired.get(key, ()):
            self.queue.lifecycle.retire_declared(replica_id)
        for replica_id in declared.suspects.get(key, ()):
            self.queue.health.doubt_declared(replica_id)
        for replica in dict.fromkeys(self._loans.get(peer, {}).values()):
            if replica.disabled or replica.barred or replica.busy > replica.slots:
                self._group.send(peer, Recall(key, replica.id, None))

    def _replace_loans(self, peer: str, declared: Mapping[int, str], first: bool) -> None:
        for lease in [lease for lease in self._loans.get(peer, ()) if lease not in declared]:
            replica = self._remove_loan(peer, lease)
            if first:
                self._unaccounted[replica] = self._unaccounted.get(replica, 0) + 1
            else:
                self.queue.vacate(replica)
        known = self._loans.get(peer, {})
        for lease, replica_id in declared.items():
            if lease not in known:
                replica = self.queue.lifecycle.ensure_replica(replica_id)
                if first and self._unaccounted.get(replica):
                    self._unaccounted[replica] -= 1
                else:
                    self.queue.ledger.occupy(replica)
                self._add_loan(peer, lease, replica)
        if self._loans.get(peer):
            self._knowledge.told(peer, math.inf)

    def recall_replica(self, replica: ReplicaSlots) -> None:
        """Tell borrowers to begin no further request on slots of a replica."""
        for peer, loans in self._loans.items():
            if replica in loans.values():
                self._group.send(peer, Recall(self.queue.key, replica.id, None))

    def reclaim(self, peer: str, sure: bool) -> None:
        """End all loans of a peer out of reach for so long that no request on them can still run.

        `sure`: False if the peer has not declared in this view; its slots are unaccounted then.
        """
        self._replace_loans(peer, {}, first=not sure)

    def _add_loan(self, peer: str, lease: int, replica: ReplicaSlots) -> None:
        loans = self._loans.get(peer)
        if loans is None:
            loans = self._loans[peer] = {}
        loans[lease] = replica
        self._group.loans[peer, lease] = self

    def _remove_loan(self, peer: str, lease: int) -> ReplicaSlots:
        loans = self._loans[peer]
        replica = loans.pop(lease)
        if not loans:
            del self._loans[peer]
            self._knowledge.drop(peer)
        del self._group.loans[peer, lease]
        return replica

    # ---- views

    def open(self) -> None:
        """Start owning the version, with the requests in flight in this worker."""
        for replica in list(self.queue.replicas.values()):
            self.start_quarantine(replica)
            if not self.learned:
                self._add_unaccounted(replica, 0)
            if not replica.disabled:
                self.queue.ledger.enable(replica)
            self.queue.health.resume(replica)

    def close(self) -> None:
        """Stop owning the version; loans pass to the new owner."""
        for peer, loans in self._loans.items():
            for lease in loans:
                del self._group.loans[peer, lease]
        self._loans.clear()
        for peer in list(self.peer_queues):
            self.drop_peer_queue(peer)

    def change_view(self, members: Collection[str], dead: Iterable[str]) -> None:
        """Own the version in a new view, too. Every member declares and asks anew.

        `members`: the peers of the view; loans of others are unaccounted until learning ends. `dead`: members newly in
        quarantine.
        """
        for peer in list(self.peer_queues):
            self.drop_peer_queue(peer)
        for peer in [peer for peer in self._loans if peer not in members]:
            self._replace_loans(peer, {}, first=True)
        for replica in list(self.queue.replicas.values()):
            self.start_quarantine(replica, dead)

    def finish_learning(self) -> None:
        """Free unaccounted slots: every member has declared. The caller grants them."""
        self.learned = True
        unaccounted, self._unaccounted = self._unaccounted, {}
        for replica, count in unaccounted.items():
            for _ in range(count):
                self.queue.ledger.vacate(replica)
        for replica in list(self.queue.replicas.values()):
            self.queue.lifecycle.check_drained(replica)

    # ---- replicas

    def replica_resized(self, replica: ReplicaSlots, largest_before: int) -> None:
        """Recall loans above the new slot count. While learning, peers may already use new slots.

        `largest_before`: the most slots that the replica had before.
        """
        if replica.busy > replica.slots:
            self.recall_replica(replica)
        if not self.learned:
            self._add_unaccounted(replica, largest_before)

    def _add_unaccounted(self, replica: ReplicaSlots, largest_before: int) -> None:
        accounted = max(largest_before, replica.busy - self._quarantined.get(replica, 0))
        if replica.largest > accounted:
            count = replica.largest - accounted
            self._unaccounted[replica] = self._unaccounted.get(replica, 0) + count
            self.queue.ledger.occupy(replica, count)

    def start_quarantine(self, replica: ReplicaSlots, names: Iterable[str] | None = None) -> None:
        """Reserve the slots of a replica that dead members used, and doubt it: these requests are abandoned.

        `names`: only of these; default all in quarantine."""
        members = self._group.quarantine.members
        for name in members if names is None else names:
            dead = members.get(name)
            count = dead.in_flight.get(replica.id, 0) if dead is not None and dead.in_flight is not None else 0
            if dead is not None and count:
                self._quarantined[replica] = self._quarantined.get(replica, 0) + count
                self.queue.ledger.occupy(replica, count)
                self.queue.health.doubt(replica)
                self._group.timers.at(dead.until, self._end_quarantine, replica, count)

    def _end_quarantine(self, replica: ReplicaSlots, count: int, now: float) -> "list[Grant]":
        if self.queue.lender is not self:
            return []
        self.queue.health.doubt(replica)  # it may be at work for longer than a lease
        self._quarantined[replica] -= count
        if not self._quarantined[replica]:
            del self._quarantined[replica]
        for _ in range(count):
            self.queue.vacate(replica)
        return self.queue.match_all(now)
