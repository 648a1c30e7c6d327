"""Slot ownership in a group of workers: views, sessions and the dispatch of peer messages.

Exactness. Slots pass only between two workers in the same view: an owner grants only to peers that have declared in
its view, and a borrower accepts grants only for asks of its own view. A worker that enters a view in which another
member owns a version gives up its free slots of it and declares its used ones. A new owner uses a slot only after every
member has declared in that very view; members missing from the view have ended. Until then (learning) it grants only
slots that are returned to it.
"""

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

from router.core.borrowing import Borrower
from router.core.declared_leases import DeclaredLeases, LeaseUpdate, peer_ask
from router.core.lending import Lender
from router.core.peer_liveness import PINGS_PER_LEASE, PeerLiveness
from router.core.quarantine import Quarantine
from router.core.slot_messages import (
    Ask,
    Declare,
    Failed,
    Forget,
    PeerMessage,
    Ping,
    Pong,
    Recall,
    Return,
    SlotGranted,
)
from router.core.timers import Timers
from router.core.view import View

if TYPE_CHECKING:
    from router.core.dispatcher import Dispatcher
    from router.core.version_queue import Grant, VersionQueue

RECLAIM_MARGIN_S = 0.25
"""Added to the scoring timeout before a loan is reclaimed: a timeout fires only as fast as the loop gets to it."""


class PeerGroup:
    """The other workers as seen by this one. Without a view this worker is alone and owns every version."""

    def __init__(self, dispatcher: "Dispatcher", me: str, lease_s: float, keep_s: float) -> None:
        """`dispatcher`: of this worker. `me`: its name in views. `lease_s`, `keep_s`: see `Dispatcher`."""
        self.keep_s = keep_s
        self.timers = Timers()
        self.counters = dispatcher.counters
        self.lease_ids = dispatcher.lease_ids
        self.linked: dict[str, None] = {}
        """Peers with an open session."""
        self.loans: dict[tuple[str, int], Lender] = {}
        """Lender of each loan, by peer and lease."""
        self.peer_asks: dict[tuple[str, int], Lender] = {}
        """Lender of each queued ask of a peer, by peer and number."""
        self.liveness = PeerLiveness(lease_s, self.timers, self.send, self.peer_asks)
        self.quarantine = Quarantine(lease_s, self.timers, self._finish_learning)
        self._dispatcher = dispatcher
        self._me = me
        self._lease_s = lease_s
        self._view: View | None = None
        self._peers: tuple[str, ...] = ()
        # Members that have not declared in this view, and True once learning has ended in it.
        self._undeclared: set[str] = set()
        self._learned = True
        self._newest_epoch = -1
        self._early: dict[str, DeclaredLeases] = {}
        # Asks before these are void (`Declare`).
        self._first_asks: dict[str, int] = {}
        self._asks = 0
        self._pinging = False
        # Of `liveness`, for one lookup less per message.
        self._last_heard = self.liveness.last_heard
        self._skipped = self.liveness.skipped
        # Borrowers with tickets to be asked for again once their owner answers.
        self._ask_again: dict[Borrower, None] = {}

    # ---- services for lenders and borrowers

    @property
    def alone(self) -> bool:
        """True without a group. A named worker belongs to one even before its first view."""
        return not self._me and self._view is None

    def send(self, peer: str, message: PeerMessage) -> None:
        """Append to the outbox. Dropped without a session: the next session starts with a full Declare."""
        if peer in self.linked:
            self._dispatcher.outbox.append((peer, message))

    def next_ask(self) -> int:
        """Number of a new ask, never used before by this worker."""
        self._asks += 1
        return self._asks

    def ask_again_when_valid(self, borrower: Borrower) -> None:
        """Ask again for unserved tickets at the owner's next answer; asking at once would loop."""
        self._ask_again[borrower] = None

    # ---- views

    def enter(self, view: View, now: float) -> "list[Grant]":
        """Enter a newer view; others are ignored."""
        if self._view is not None and view.epoch <= self._view.epoch:
            return []
        self._view = view
        names = view.names()
        # A worker that is not a member (any more) owns nothing and has no peers.
        self._peers = tuple(name for name in names if name != self._me) if self._me in names else ()
        self._undeclared = set(self._peers)
        self._learned = False
        dead = self.quarantine.add(view.departed, now)
        self._update_peers(now)
        for queue in self._queues():
            self._assign_role(queue, dead)
        for peer in self._peers:
            self._declare(peer, now)
        grants = self._finish_learning(now)
        for peer, declared in list(self._early.items()):
            if declared.epoch <= view.epoch:
                del self._early[peer]
                if declared.epoch == view.epoch and peer in self._undeclared:
                    grants += self._apply_declaration(peer, declared, now)
        return grants + self._match(now)

    def add_queue(self, queue: "VersionQueue") -> None:
        """Assign the role of this worker for a new version."""
        if self._view is not None:
            self._assign_role(queue, ())

    def _queues(self) -> "list[VersionQueue]":
        return list(self._dispatcher.queues.values())

    def _lenders(self) -> Iterator[Lender]:
        return (queue.lender for queue in self._queues() if queue.lender is not None)

    def _assign_role(self, queue: "VersionQueue", dead: tuple[str, ...]) -> None:
        view = self._view
        assert view is not None
        owner = view.owner(queue.key) if self._me in view.names() else ""
        if queue.borrower is not None:
            queue.borrower.return_spares()
        if owner != self._me:
            queue.become_borrower(owner, self)
        elif queue.lender is not None:
            queue.lender.change_view(self._peers, dead)
        else:
            queue.become_owner(self, self._learned)

    def _update_peers(self, now: float) -> None:
        self.liveness.set_peers(self._peers, now)
        for peer in [peer for peer in self._first_asks if peer not in self._peers]:
            del self._first_asks[peer]
        if self._peers and not self._pinging:
            self._pinging = True
            self.timers.at(now + self._lease_s / PINGS_PER_LEASE, self._ping_round, now)

    def _finish_learning(self, now: float) -> "list[Grant]":
        """End learning once every member has declared and the use of every dead member is known."""
        if self._learned or self._undeclared or self.quarantine.unknown_use:
            return []
        self._learned = True
        for lender in list(self._lenders()):
            lender.finish_learning()
        return self._match(now)

    def _match(self, now: float) -> "list[Grant]":
        """Grant free slots of every owned version; recall loans where tickets still wait."""
        grants = []
        for queue in self._queues():
            if queue.lender is not None and (queue.waiting or queue.lender.peer_queues):
                grants += queue.match_all(now)
                queue.lender.inform_borrowers(now)
        return grants

    # ---- sessions

    def link_up(self, peer: str, now: float) -> "list[Grant]":
        """Start a session; a previous one has ended."""
        self.link_down(peer, now)
        self.linked[peer] = None
        if peer in self._peers:
            self.liveness.ping((peer,), now)  # before the Declare, so that the answer arrives before any grant
            self._declare(peer, now)
        return []

    def link_down(self, peer: str, now: float) -> None:
        """End the session. Membership does not depend on it."""
        self.linked.pop(peer, None)
        self._early.pop(peer, None)
        self._skipped.discard(peer)
        for queue in self._queues():
            if queue.lender is not None:
                queue.lender.drop_peer_queue(peer)
            elif queue.borrower is not None and queue.borrower.owner == peer:
                queue.borrower.link_lost()

    def _declare(self, peer: str, now: float) -> None:
        if peer not in self.linked:
            return
        assert self._view is not None
        self._first_asks[peer] = self._asks + 1
        holdings = [
            queue.borrower.declare(now)
            for queue in self._queues()
            if queue.borrower is not None and queue.borrower.owner == peer
        ]
        nonempty = tuple(each for each in holdings if each.leases or each.asks or each.retired or each.suspects)
        self.send(peer, Declare(self._view.epoch, nonempty))

    # ---- messages

    def receive(self, peer: str, message: PeerMessage, now: float) -> "list[Grant]":
        """Handle one `message` of `peer`; returns grants to tickets of this worker."""
        if peer not in self.linked:
            self.counters["messages_without_session"] += 1
            return []
        self._last_heard[peer] = now
        grants = self._handle(peer, message, now)
        if peer in self._skipped:
            self._skipped.discard(peer)
            grants += self._match(now)
        return grants

    def _handle(self, peer: str, message: PeerMessage, now: float) -> "list[Grant]":
        match message:
            case Ping(number):
                self.send(peer, Pong(number))
            case Pong(number):
                if self.liveness.answered(peer, number, now):
                    for borrower in [borrower for borrower in self._ask_again if borrower.owner == peer]:
                        del self._ask_again[borrower]
                        borrower.ask_again(now)
            case SlotGranted():
                return self._granted(peer, message, now)
            case Recall():
                self._dispatcher.recalled(peer, message, now)
            case Declare():
                return self._declared(peer, message, now)
            case _:
                return self._updated(peer, message, now)
        return []

    def _granted(self, peer: str, message: SlotGranted, now: float) -> "list[Grant]":
        queue = self._dispatcher.queue_for_peer(message.key)
        borrower = queue.borrower
        if borrower is None or borrower.owner != peer or message.ask < self._first_asks.get(peer, 0):
            self.counters["stale_grants"] += 1  # void by this worker's Declare: not even returned
            return []
        grant = borrower.granted(message, now)
        return [] if grant is None else [grant]

    def _declared(self, peer: str, declare: Declare, now: float) -> "list[Grant]":
        epoch = -1 if self._view is None else self._view.epoch
        self._newest_epoch = max(self._newest_epoch, declare.epoch)
        if declare.epoch > epoch:
            self._early[peer] = DeclaredLeases(declare, now)
            return []
        if declare.epoch < epoch or peer not in self._peers:
            return []
        return self._apply_declaration(peer, DeclaredLeases(declare, now), now) + self._match(now)

    def _apply_declaration(self, peer: str, declared: DeclaredLeases, now: float) -> "list[Grant]":
        for key in declared.versions():
            self._dispatcher.queue_for_peer(key)
        first = peer in self._undeclared
        for lender in self._lenders():
            lender.declared(peer, declared, first)
        self.liveness.start_probing(now)
        self._undeclared.discard(peer)
        return self._finish_learning(now)

    def _updated(self, peer: str, message: LeaseUpdate, now: float) -> "list[Grant]":
        if peer in self._early:
            self._early[peer].update(message, now)
            return []
        if isinstance(message, Return):
            return self._returned(peer, message, now)
        if peer in self._undeclared or peer not in self._peers:
            return []  # the peer is in an older view and repeats this in its next Declare
        match message:
            case Ask():
                lender = self._dispatcher.queue_for_peer(message.key).lender
                if lender is not None:
                    return lender.ask(peer, message.ask, peer_ask(message, now), now)
            case Forget():
                for ask in message.asks:
                    lender = self.peer_asks.get((peer, ask))
                    if lender is not None:
                        lender.forget(peer, ask)
                        lender.inform_borrowers(now)
            case Failed():
                self._dispatcher.queue_for_peer(message.key).health.reported(message, now)
        return []

    def _returned(self, peer: str, message: Return, now: float) -> "list[Grant]":
        queues: dict[VersionQueue, None] = {}
        for lease in message.leases:
            lender = self.loans.get((peer, lease))
            if lender is None or not lender.returned(peer, lease):
                self.counters["double_returns"] += 1
            else:
                queues[lender.queue] = None
        return list(chain.from_iterable(queue.match_all(now) for queue in queues))

    # ---- silent peers

    def _ping_round(self, last: float, now: float) -> "list[Grant]":
        if not self._peers:
            self._pinging = False
            return []
        self.liveness.ping_round(last, now)
        self.timers.at(now + self._lease_s / PINGS_PER_LEASE, self._ping_round, now)
        self._limit_tunnels(now)
        return self._reclaim(now)

    def _reclaim(self, now: float) -> "list[Grant]":
        """Reclaim loans of peers silent for a lease, the scoring timeout and a margin."""
        assert self._view is not None
        silent = self.liveness.silent(now)
        if not silent or self._newest_epoch > self._view.epoch:
            return []  # with a newer view elsewhere, this worker may no longer own the slots
        for queue in self._queues():
            for peer in silent if queue.lender is not None else ():
                over = self._last_heard[peer] + self._lease_s + queue.scoring_timeout_s + RECLAIM_MARGIN_S
                if now > over and queue.lender is not None:
                    queue.lender.reclaim(peer, sure=peer not in self._undeclared)
        return self._match(now)

    def _limit_tunnels(self, now: float) -> None:
        """Give tunnels on slots of an unreachable owner a deadline: the scoring timeout from the end of validity."""
        for peer, ended_at in self.liveness.newly_expired(now):
            for queue in self._queues():
                if queue.borrower is not None and queue.borrower.owner == peer and queue.ledger.busy:
                    self.timers.at(max(now, ended_at + queue.scoring_timeout_s), self._lapse, queue, peer)

    def _lapse(self, queue: "VersionQueue", peer: str, now: float) -> "list[Grant]":
        if queue.borrower is not None and queue.borrower.owner == peer and not self.liveness.is_valid(peer, now):
            self._dispatcher.lapsed += queue.ledger.tunnels()
        return []
