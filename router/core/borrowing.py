"""A borrower's side of one version: tickets that ask another worker for slots, and what becomes of a slot after use.

A slot that is at hand goes to this worker's own oldest ticket, if nobody else is known to have waited for longer; else
back at once if somebody waits; else it is kept for a moment, in case the next request comes at once. So a worker under
load waits for no message between two requests, and one without work hoards nothing.

Nothing is begun on a borrowed slot unless the owner has answered within the lease length: an owner that has heard
nothing for longer takes the slot back, once what was begun before must be over.
"""

from typing import TYPE_CHECKING, NamedTuple

from router.core.health import Failure
from router.core.ledger import Lease, ReplicaSlots
from router.core.slot_messages import Ask, Failed, Forget, Holding, Recall, Return, SlotGranted

if TYPE_CHECKING:
    from router.core.peer_group import PeerGroup
    from router.core.version_queue import Grant as LocalGrant
    from router.core.version_queue import Ticket, VersionQueue


class Spare(NamedTuple):
    """A borrowed slot that is not in use."""

    lease: int
    replica: ReplicaSlots
    since: float


class Borrower:
    """Not the owner of one version."""

    __slots__ = (
        "_asks",
        "_failed",
        "_group",
        "_keeping",
        "_others_since",
        "_queue",
        "_spares",
        "_tickets",
        "blocked",
        "owner",
    )

    def __init__(self, queue: "VersionQueue", group: "PeerGroup", owner: str) -> None:
        self.owner = owner
        """"" where nobody owns the version: no member may."""
        self.blocked: set[str] = set()
        """Replicas that shall be used for nothing more than what runs on them."""
        self._queue = queue
        self._group = group
        self._asks: dict[Ticket, int] = {}
        self._tickets: dict[int, Ticket] = {}
        # When the oldest ticket of others came, as the owner told last; None: nobody else waits.
        self._others_since: float | None = None
        # What was kept last is used first, so that the rest goes home.
        self._spares: list[Spare] = []
        self._keeping = False
        # Replicas whose failure the owner was told of, and not yet that they answer again.
        self._failed: set[str] = set()

    # ---- tickets

    @property
    def open_asks(self) -> int:
        """Tickets of which the owner knows, or soon will."""
        return len(self._asks)

    def request_slot(self, ticket: "Ticket", retry: bool, now: float) -> bool:
        """A ticket has begun to wait: the owner is asked. False: it is out of reach."""
        if not self._group.is_up(self.owner):
            return False
        self._group.send(self.owner, self._ask(ticket, retry, now))
        return True

    def cancel_ask(self, ticket: "Ticket") -> None:
        """A ticket waits no longer, and not because of a grant."""
        number = self._asks.pop(ticket, None)
        if number is not None:
            del self._tickets[number]
            self._group.send(self.owner, Forget((number,)))

    def ask_again(self, now: float) -> None:
        """The owner answers again: ask for those whose grants came too late to be used."""
        if self._queue.borrower is not self:
            return
        for ticket, retry in self._queue.tickets():
            if ticket not in self._asks:
                self.request_slot(ticket, retry, now)

    def _ask(self, ticket: "Ticket", retry: bool, now: float) -> Ask:
        self._queue.changed = True
        number = self._group.next_ask()
        self._asks[ticket] = number
        self._tickets[number] = ticket
        return Ask(self._queue.key, number, now - ticket.enqueued_at, retry)

    # ---- slots that come

    def granted(self, message: SlotGranted, now: float) -> "LocalGrant | None":
        """The owner lends a slot."""
        ticket = self._tickets.pop(message.ask, None)
        if ticket is not None:
            self._queue.changed = True
            del self._asks[ticket]
        self._hear_of_others(message.others_age_s, now)
        if not self._group.is_valid(self.owner, now):
            self._group.count("late_grants")
            self._return_slot(message.lease)
            self._group.ask_again_when_valid(self)
            return None
        replica = self._queue.ensure_replica(message.replica, message.host, message.port)
        self.blocked.discard(replica.id)
        if ticket is not None:
            return self._queue.assign(ticket, self._use(ticket, message.lease, replica, now))
        return self._at_hand(message.lease, replica, now)

    def released(self, lease: Lease, now: float) -> "LocalGrant | None":
        """A request has ended: its slot is at hand."""
        replica = lease.replica
        if replica.id in self._failed and not replica.failures:
            self._failed.discard(replica.id)
            self._group.send(self.owner, Failed(self._queue.key, replica.id, ""))
        if not self._group.is_valid(self.owner, now):
            self._return_slot(lease.id)
            return None
        return self._at_hand(lease.id, replica, now)

    def reuse_spare(self, ticket: "Ticket", now: float) -> Lease | None:
        """A kept slot for a request that has just come, or None."""
        while self._spares:
            spare = self._spares.pop()
            if self._group.is_valid(self.owner, now):
                return self._use(ticket, spare.lease, spare.replica, now)
            self._return_slot(spare.lease)
        return None

    def _at_hand(self, lease: int, replica: ReplicaSlots, now: float) -> "LocalGrant | None":
        others_since = self._others_since
        if replica.disabled or replica.busy >= replica.slots or replica.id in self.blocked:
            self._return_slot(lease)
            return None
        own = self._queue.head()
        if own is not None and (others_since is None or own <= (1, others_since)):
            ticket = self._queue.oldest()
            self.cancel_ask(ticket)
            return self._queue.assign(ticket, self._use(ticket, lease, replica, now))
        if own is None and others_since is None and self._group.keep_s > 0:
            self._keep(Spare(lease, replica, now))
        else:
            self._return_slot(lease)
        return None

    def _use(self, ticket: "Ticket", lease: int, replica: ReplicaSlots, now: float) -> Lease:
        self._queue.ledger.occupy(replica)
        return self._queue.ledger.adopt(lease, replica, ticket, now)

    def _return_slot(self, lease: int) -> None:
        self._group.send(self.owner, Return((lease,)))

    # ---- slots that are kept

    def _keep(self, spare: Spare) -> None:
        self._spares.append(spare)
        if not self._keeping:
            self._keeping = True
            self._group.timers.at(spare.since + self._group.keep_s, self._keep_no_longer)

    def _keep_no_longer(self, now: float) -> "list[LocalGrant]":
        self._keeping = False
        late = [spare for spare in self._spares if spare.since + self._group.keep_s <= now]
        self._spares = self._spares[len(late) :]
        for spare in late:
            self._return_slot(spare.lease)
        if self._spares:
            self._keeping = True
            self._group.timers.at(self._spares[0].since + self._group.keep_s, self._keep_no_longer)
        return []

    def return_spares(self, replica_id: str = "") -> None:
        """Give back what is kept: all, or that of one replica."""
        kept = [spare for spare in self._spares if replica_id and spare.replica.id != replica_id]
        for spare in self._spares:
            if spare not in kept:
                self._return_slot(spare.lease)
        self._spares = kept

    # ---- what the owner says, and hears

    def recalled(self, message: Recall, now: float) -> None:
        """Somebody else waits, or a replica is taken out of service."""
        if message.replica:
            self.blocked.add(message.replica)
        else:
            self._hear_of_others(message.others_age_s, now)
        self.return_spares(message.replica)

    def _hear_of_others(self, others_age_s: float | None, now: float) -> None:
        self._others_since = None if others_age_s is None else now - others_age_s

    def replica_failed(self, replica: ReplicaSlots, failure: Failure) -> None:
        """It is the owner that leaves it alone; from here on this worker does, too, until it is granted again."""
        self.blocked.add(replica.id)
        self._failed.add(replica.id)
        self._group.send(self.owner, Failed(self._queue.key, replica.id, failure.value))
        self.return_spares(replica.id)

    def forget_replica(self, replica_id: str) -> None:
        """It is gone, and nothing of it is in use here."""
        self.blocked.discard(replica_id)
        self._failed.discard(replica_id)

    def declare(self, now: float) -> Holding:
        """All that this worker has of the version; everybody who waits is asked for anew."""
        queue = self._queue
        self._forget_asks()
        self._others_since = None
        return Holding(
            queue.key,
            tuple((lease.id, lease.replica.id) for lease in queue.ledger.leases.values()),
            tuple(self._ask(ticket, retry, now) for ticket, retry in queue.tickets()),
            queue.retired(),
        )

    def link_lost(self) -> None:
        """The session is over: the owner hears in the next one what is still in use and who waits."""
        self._forget_asks()
        self._spares.clear()

    def _forget_asks(self) -> None:
        self._queue.changed = True
        self._asks.clear()
        self._tickets.clear()
