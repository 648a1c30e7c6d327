"""The borrower's side of one version: asks to the owner, and the reuse of borrowed slots.

After use, a slot goes to this worker's oldest ticket unless an older one waits elsewhere; else back to the owner if any
ticket waits; else it is kept for `keep_s` for the next request. So a worker under load waits for no message between two
requests, and an idle one hoards no slot.

A borrowed slot is used for a new request only while the owner's last answer is valid (one lease length). After a longer
silence the owner reclaims it, once the requests begun before must have ended.
"""

from typing import TYPE_CHECKING, NamedTuple

from router.core.health import Failure, Standing
from router.core.ledger import Lease, ReplicaSlots
from router.core.slot_messages import Ask, Failed, Forget, Holding, Recall, Return, SlotGranted

if TYPE_CHECKING:
    from router.core.peer_group import PeerGroup
    from router.core.version_queue import Grant, Ticket, VersionQueue


class Spare(NamedTuple):
    """A borrowed slot not in use."""

    lease: int
    replica: ReplicaSlots
    since: float


class Borrower:
    """Role of a worker that does not own the version."""

    __slots__ = (
        "_asks",
        "_expiring",
        "_failed",
        "_group",
        "_lifecycle",
        "_liveness",
        "_others_since",
        "_queue",
        "_spares",
        "_tickets",
        "blocked",
        "owner",
    )

    def __init__(self, queue: "VersionQueue", group: "PeerGroup", owner: str) -> None:
        """`queue`: the version. `group`: the other workers. `owner`: name of the owner, "" for none."""
        self.owner = owner
        """"" if no member is eligible."""
        self.blocked: set[str] = set()
        """Replicas that get no further request: recalled or failed."""
        self._queue = queue
        self._group = group
        self._lifecycle = queue.lifecycle
        self._liveness = group.liveness
        self._asks: dict[Ticket, int] = {}
        self._tickets: dict[int, Ticket] = {}
        # Arrival of the oldest ticket of other workers, by the owner's last message; None: none waits.
        self._others_since: float | None = None
        # A stack: the most recent spare is used first, so that the others expire.
        self._spares: list[Spare] = []
        self._expiring = False
        # Replicas reported as failed to the owner, and not yet reported as answering again.
        self._failed: set[str] = set()

    # ---- asks

    @property
    def open_asks(self) -> int:
        """Tickets that the owner was asked for."""
        return len(self._asks)

    @property
    def is_linked(self) -> bool:
        """True if there is a session with the owner."""
        return self.owner in self._group.linked

    def request_slot(self, ticket: "Ticket", retry: bool, now: float) -> bool:
        """Ask the owner for a slot for `ticket`; False if the owner is not linked. `retry`: see `Ask`."""
        if self.owner not in self._group.linked:
            return False
        self._group.send(self.owner, self._ask(ticket, retry, now))
        return True

    def cancel_ask(self, ticket: "Ticket") -> None:
        """Cancel the ask of a ticket that was served otherwise or left."""
        number = self._asks.pop(ticket, None)
        if number is not None:
            del self._tickets[number]
            self._group.send(self.owner, Forget((number,)))

    def ask_again(self, now: float) -> None:
        """Ask for all tickets without an open ask: their grants arrived too late."""
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

    # ---- slots

    def granted(self, message: SlotGranted, now: float) -> "Grant | None":
        """Use a slot that the owner lends; returned at once if the owner's last answer is too old."""
        ticket = self._tickets.pop(message.ask, None)
        if ticket is not None:
            self._queue.changed = True
            del self._asks[ticket]
        self._set_others(message.others_age_s, now)
        if not self._liveness.is_valid(self.owner, now):
            self._group.counters["late_grants"] += 1
            self._return_slot(message.lease)
            self._group.ask_again_when_valid(self)
            return None
        replica = self._lifecycle.ensure_replica(message.replica, message.host, message.port)
        self.blocked.discard(replica.id)
        if replica.standing is not Standing.SERVING:
            self._queue.health.clear(replica)
        if ticket is not None:
            return self._queue.assign(ticket, self._use(ticket, message.lease, replica, now))
        return self._reassign(message.lease, replica, now)

    def released(self, lease: Lease, now: float) -> "Grant | None":
        """Reassign, keep or return the slot of a request that has ended."""
        replica = lease.replica
        if replica.id in self._failed and not replica.failures:
            self._failed.discard(replica.id)
            self._group.send(self.owner, Failed(self._queue.key, replica.id, ""))
        if not self._liveness.is_valid(self.owner, now):
            self._return_slot(lease.id)
            return None
        return self._reassign(lease.id, replica, now)

    def reuse_spare(self, ticket: "Ticket", now: float) -> Lease | None:
        """A lease on a spare for a new request, or None."""
        while self._spares:
            spare = self._spares.pop()
            if self._liveness.is_valid(self.owner, now):
                return self._use(ticket, spare.lease, spare.replica, now)
            self._return_slot(spare.lease)
        return None

    def _reassign(self, lease: int, replica: ReplicaSlots, now: float) -> "Grant | None":
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

    # ---- spares

    def _keep(self, spare: Spare) -> None:
        self._spares.append(spare)
        if not self._expiring:
            self._expiring = True
            self._group.timers.at(spare.since + self._group.keep_s, self._return_expired)

    def _return_expired(self, now: float) -> "list[Grant]":
        self._expiring = False
        late = [spare for spare in self._spares if spare.since + self._group.keep_s <= now]
        self._spares = self._spares[len(late) :]
        for spare in late:
            self._return_slot(spare.lease)
        if self._spares:
            self._expiring = True
            self._group.timers.at(self._spares[0].since + self._group.keep_s, self._return_expired)
        return []

    def return_spares(self, replica_id: str = "") -> None:
        """Return all spares, or those of one replica."""
        kept = [spare for spare in self._spares if replica_id and spare.replica.id != replica_id]
        for spare in self._spares:
            if spare not in kept:
                self._return_slot(spare.lease)
        self._spares = kept

    # ---- messages of the owner, reports to it

    def recalled(self, message: Recall, now: float) -> None:
        """Return spares: others wait, or a replica goes out of service."""
        if message.replica:
            self.blocked.add(message.replica)
        else:
            self._set_others(message.others_age_s, now)
        self.return_spares(message.replica)

    def _set_others(self, others_age_s: float | None, now: float) -> None:
        self._others_since = None if others_age_s is None else now - others_age_s

    def replica_failed(self, replica: ReplicaSlots, failure: Failure) -> None:
        """Report a failure to the owner, which decides on its standing; blocked here until granted again."""
        self.blocked.add(replica.id)
        if failure is not Failure.ABANDONED:
            self._failed.add(replica.id)
        self._group.send(self.owner, Failed(self._queue.key, replica.id, failure.value))
        self.return_spares(replica.id)

    def forget_replica(self, replica_id: str) -> None:
        """Delete the state of a removed replica with nothing in flight."""
        self.blocked.discard(replica_id)
        self._failed.discard(replica_id)

    def declare(self, now: float) -> Holding:
        """Everything this worker has of the version; each waiting ticket gets a new ask."""
        queue = self._queue
        self._drop_asks()
        self._others_since = None
        return Holding(
            queue.key,
            tuple((lease.id, lease.replica.id) for lease in queue.ledger.leases.values()),
            tuple(self._ask(ticket, retry, now) for ticket, retry in queue.tickets()),
            queue.lifecycle.retired(),
            queue.health.suspects(),
        )

    def link_lost(self) -> None:
        """Drop asks and spares with the session; the next one starts with a Declare."""
        self._drop_asks()
        self._spares.clear()

    def _drop_asks(self) -> None:
        self._queue.changed = True
        self._asks.clear()
        self._tickets.clear()
