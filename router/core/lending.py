"""The owner's side of one version: what is lent to whom, and the tickets of peers, which wait in one line with its own.

A slot that is lent is in flight in the owner's ledger, so everything that holds for requests holds for loans: a replica
is never given beyond its slots, carries what is out on it when it vanishes and returns, and is drained when nothing is.

Two more kinds of slots count as in flight although nobody is known to use them:
- *limbo*: somebody may have it. A new owner knows of a slot only what is declared to it, so all that it does not use
  itself are in limbo until every member has declared (learning). One that is declared is a loan from then on, and free
  once it comes back. After a change of view, so is a loan that its holder does not declare: the holder may have given
  it to one who owned the version meanwhile, in a view that this worker skipped.
- *embargo*: a worker that has died used it. The replica may still be at work on the request.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from router.core.declared_leases import DeclaredLeases, PeerAsk
from router.core.ledger import ReplicaSlots
from router.core.slot_messages import Recall, SlotGranted

if TYPE_CHECKING:
    from router.core.peer_group import PeerGroup
    from router.core.version_queue import Grant as LocalGrant
    from router.core.version_queue import VersionQueue

Place = tuple[int, float]
"""Where a ticket stands among all: those that had a slot first (0 before 1), then by arrival."""


class PeerQueue:
    """The tickets of one peer, by number, in order. One in the middle leaves in O(1)."""

    __slots__ = ("_fifo", "_retries")

    def __init__(self) -> None:
        self._retries: OrderedDict[int, float] = OrderedDict()
        self._fifo: OrderedDict[int, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._retries) + len(self._fifo)

    def __iter__(self) -> Iterator[int]:
        yield from list(self._retries)
        yield from list(self._fifo)

    def add(self, number: int, peer_ask: PeerAsk) -> None:
        """A ticket takes its place: the last one, unless it comes late."""
        line = self._retries if peer_ask.retry else self._fifo
        late = bool(line) and peer_ask.since < next(reversed(line.values()))
        line[number] = peer_ask.since
        if late:
            for other, _ in sorted(line.items(), key=lambda item: item[1]):
                line.move_to_end(other)

    def remove(self, number: int) -> bool:
        """The ticket waits no longer. False if it did not."""
        return self._retries.pop(number, None) is not None or self._fifo.pop(number, None) is not None

    def head(self) -> tuple[Place, int]:
        """Place and number of the oldest. The line must not be empty."""
        line = self._retries or self._fifo
        number, since = next(iter(line.items()))
        return (0 if self._retries else 1, since), number


class Lender:
    """Owner of one version."""

    __slots__ = ("_group", "_loans", "_quarantined", "_unaccounted", "_unaware", "learned", "peer_queues", "queue")

    def __init__(self, queue: "VersionQueue", group: "PeerGroup", learned: bool) -> None:
        self.learned = learned
        """Every member has declared at least once since this worker owns the version."""
        self.peer_queues: dict[str, PeerQueue] = {}
        """Tickets of each peer that has any."""
        self.queue = queue
        self._group = group
        self._loans: dict[str, dict[int, ReplicaSlots]] = {}
        self._unaccounted: dict[ReplicaSlots, int] = {}
        self._quarantined: dict[ReplicaSlots, int] = {}
        # Peers with loans that believe that nobody else waits.
        self._unaware: dict[str, None] = {}

    # ---- tickets

    @property
    def queue_length(self) -> int:
        """Tickets of peers that wait for a slot."""
        return sum(len(line) for line in self.peer_queues.values())

    def recall_idle(self, now: float) -> None:
        """A ticket of this worker's own has begun to wait."""
        self._recall(now)

    def ask(self, peer: str, number: int, peer_ask: PeerAsk, now: float) -> "list[LocalGrant]":
        """A ticket of a peer waits. It may be granted at once."""
        self._enter_line(peer, number, peer_ask)
        self._group.start_probing(now)
        grants = self.queue.match_all(now)
        if (peer, number) in self._group.peer_asks:
            self.queue.mark_starved()
        self._recall(now)
        return grants

    def forget(self, peer: str, number: int) -> bool:
        """A ticket of a peer does not wait any more. False if it did not."""
        line = self.peer_queues.get(peer)
        if line is None or not line.remove(number):
            return False
        del self._group.peer_asks[peer, number]
        if not line:
            del self.peer_queues[peer]
        self.queue.changed = True
        return True

    def drop_peer_queue(self, peer: str) -> None:
        """Its tickets do not count any more: those that still wait are asked for anew."""
        for number in self.peer_queues.get(peer, ()):
            self.forget(peer, number)

    def match(self, now: float) -> "LocalGrant | None":
        """Grant free slots to the oldest tickets, until one of them is this worker's own, or nothing is left."""
        own, skipped = self.queue.head(), set[str]()
        while lines := [(line.head(), peer) for peer, line in self.peer_queues.items() if peer not in skipped]:
            (place, number), peer = min(lines)
            if own is not None and own <= place:
                return self.queue.match_own(now)
            if not self.queue.ledger.has_free():
                return None
            if not self._group.is_responsive(peer, now):
                skipped.add(peer)
            elif (replica := self.queue.ledger.reserve()) is not None:
                self._grant(peer, number, replica, now)
        return self.queue.match_own(now) if own is not None else None

    def _grant(self, peer: str, number: int, replica: ReplicaSlots, now: float) -> None:
        self.forget(peer, number)
        lease = self._group.next_lease()
        self._lend(peer, lease, replica)
        others_age_s = self._others_age_s(peer, now)
        if others_age_s is None:
            self._unaware[peer] = None
        else:
            self._unaware.pop(peer, None)
        key = self.queue.key
        self._group.send(peer, SlotGranted(key, number, lease, replica.id, replica.host, replica.port, others_age_s))

    def _enter_line(self, peer: str, number: int, peer_ask: PeerAsk) -> None:
        line = self.peer_queues.get(peer)
        if line is None:
            line = self.peer_queues[peer] = PeerQueue()
        line.add(number, peer_ask)
        self.queue.changed = True
        self._group.peer_asks[peer, number] = self

    def _others_age_s(self, peer: str, now: float) -> float | None:
        """How long the oldest ticket that is not this peer's waits; None: there is none."""
        own = self.queue.head()
        arrivals = [line.head()[0][1] for other, line in self.peer_queues.items() if other != peer]
        if own is not None:
            arrivals.append(own[1])
        return max(0.0, now - min(arrivals)) if arrivals else None

    def _recall(self, now: float) -> None:
        """Somebody waits: who has loans and does not know is told, once."""
        for peer in list(self._unaware):
            others_age_s = self._others_age_s(peer, now)
            if others_age_s is not None:
                del self._unaware[peer]
                self._group.send(peer, Recall(self.queue.key, "", others_age_s))

    # ---- loans

    def returned(self, peer: str, lease: int) -> bool:
        """A slot comes back; the caller lets it be given on. False: it was not this peer's."""
        loans = self._loans.get(peer)
        if loans is None or lease not in loans:
            return False
        self.queue.vacate(self._unlend(peer, lease))
        return True

    def declared(self, peer: str, account: DeclaredLeases, first: bool) -> None:
        """All that the peer has of this version; `first`: in this view. The caller lets what is free be given on."""
        key = self.queue.key
        self._replace_loans(peer, account.leases.get(key, {}), first)
        self.drop_peer_queue(peer)
        for number, peer_ask in account.asks.get(key, {}).items():
            self._enter_line(peer, number, peer_ask)
        for replica_id in account.retired.get(key, ()):
            self.queue.retire_declared(replica_id)
        for replica in dict.fromkeys(self._loans.get(peer, {}).values()):
            if replica.disabled or replica.ejected or replica.busy > replica.slots:
                self._group.send(peer, Recall(key, replica.id, None))

    def _replace_loans(self, peer: str, declared: Mapping[int, str], first: bool) -> None:
        for lease in [lease for lease in self._loans.get(peer, ()) if lease not in declared]:
            replica = self._unlend(peer, lease)
            if first:
                self._unaccounted[replica] = self._unaccounted.get(replica, 0) + 1
            else:
                self.queue.vacate(replica)
        known = self._loans.get(peer, {})
        for lease, replica_id in declared.items():
            if lease not in known:
                replica = self.queue.ensure_replica(replica_id)
                if first and self._unaccounted.get(replica):
                    self._unaccounted[replica] -= 1
                else:
                    self.queue.ledger.occupy(replica)
                self._lend(peer, lease, replica)
        if self._loans.get(peer):
            self._unaware[peer] = None

    def recall_replica(self, replica: ReplicaSlots) -> None:
        """It takes no new request for now: whoever has a slot of it shall use it for no other."""
        for peer, loans in self._loans.items():
            if replica in loans.values():
                self._group.send(peer, Recall(self.queue.key, replica.id, None))

    def reclaim(self, peer: str, sure: bool) -> None:
        """The peer has been out of reach for so long that nothing of its loans can run; `sure`: nor ever will."""
        self._replace_loans(peer, {}, first=not sure)

    def _lend(self, peer: str, lease: int, replica: ReplicaSlots) -> None:
        loans = self._loans.get(peer)
        if loans is None:
            loans = self._loans[peer] = {}
        loans[lease] = replica
        self._group.loans[peer, lease] = self

    def _unlend(self, peer: str, lease: int) -> ReplicaSlots:
        loans = self._loans[peer]
        replica = loans.pop(lease)
        if not loans:
            del self._loans[peer]
            self._unaware.pop(peer, None)
        del self._group.loans[peer, lease]
        return replica

    # ---- views

    def open(self) -> None:
        """Take over the version, with what is in flight here."""
        for replica in list(self.queue.replicas.values()):
            self.replica_added(replica)
            if not self.learned:
                self._learn_of(replica, 0)
            if not replica.disabled:
                self.queue.ledger.enable(replica)

    def close(self) -> None:
        """Another member owns the version now: what is lent is its affair."""
        for peer, loans in self._loans.items():
            for lease in loans:
                del self._group.loans[peer, lease]
        self._loans.clear()
        for peer in list(self.peer_queues):
            self.drop_peer_queue(peer)

    def change_view(self, members: Collection[str], buried: Iterable[str]) -> None:
        """Still the owner. Everybody declares anew, and asks anew; what the dead had is in limbo until then."""
        for peer in list(self.peer_queues):
            self.drop_peer_queue(peer)
        for peer in [peer for peer in self._loans if peer not in members]:
            self._replace_loans(peer, {}, first=True)
        for replica in list(self.queue.replicas.values()):
            self._bury(replica, buried)

    def finish_learning(self) -> None:
        """Everybody has declared: what nobody has is free. The caller lets it be given on."""
        self.learned = True
        limbo, self._unaccounted = self._unaccounted, {}
        for replica, count in limbo.items():
            for _ in range(count):
                self.queue.ledger.vacate(replica)
        for replica in list(self.queue.replicas.values()):
            self.queue.check_drained(replica)

    # ---- replicas

    def replica_added(self, replica: ReplicaSlots) -> None:
        """A replica is new here; a worker that died lately may have used it."""
        self._bury(replica, self._group.dead_members)

    def replica_resized(self, replica: ReplicaSlots, largest_before: int) -> None:
        """What is lent beyond its slots shall come home. Of slots that are new, others may have heard before."""
        if replica.busy > replica.slots:
            self.recall_replica(replica)
        if not self.learned:
            self._learn_of(replica, largest_before)

    def _learn_of(self, replica: ReplicaSlots, largest_before: int) -> None:
        accounted = max(largest_before, replica.busy - self._quarantined.get(replica, 0))
        if replica.largest > accounted:
            count = replica.largest - accounted
            self._unaccounted[replica] = self._unaccounted.get(replica, 0) + count
            self.queue.ledger.occupy(replica, count)

    def _bury(self, replica: ReplicaSlots, names: Iterable[str]) -> None:
        for name in names:
            grave = self._group.dead_members.get(name)
            count = grave.held.get(replica.id, 0) if grave is not None and grave.held is not None else 0
            if grave is not None and count:
                self._quarantined[replica] = self._quarantined.get(replica, 0) + count
                self.queue.ledger.occupy(replica, count)
                self._group.timers.at(grave.until, self._lift, replica, count)

    def _lift(self, replica: ReplicaSlots, count: int, now: float) -> "list[LocalGrant]":
        if self.queue.lender is not self:
            return []
        self._quarantined[replica] -= count
        if not self._quarantined[replica]:
            del self._quarantined[replica]
        for _ in range(count):
            self.queue.vacate(replica)
        return self.queue.match_all(now)
