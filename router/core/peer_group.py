"""The group of workers that share the slots: views, sessions, who owns what, and what is said to whom.

Why it is exact. Slots pass from one worker to another only between two that are in the same view: an owner grants only
to peers that have declared in its view, and a borrower takes grants only for asks of its own view. Whoever enters a
view in which another member owns a version gives up what it had free, and says what it has in use. A new owner makes
slots its own only when every member has said so in that very view; and that view's members are all there are, since
whoever is missing from it has ended. Until then it passes on what comes back to it, and nothing else.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from router.core.borrowing import Borrower
from router.core.declared_leases import DeclaredLeases, LeaseUpdate, peer_ask
from router.core.health import Failure
from router.core.lending import Lender
from router.core.slot_messages import Ask, Declare, Failed, Forget, PeerMessage, Ping, Pong, Recall, Return, SlotGranted
from router.core.timers import Timers
from router.core.view import Departed, View

if TYPE_CHECKING:
    from router.core.dispatcher import Dispatcher
    from router.core.version_queue import Grant as LocalGrant
    from router.core.version_queue import VersionQueue

PINGS_PER_LEASE = 3
"""Two may be lost before a borrower must stop (doorman: refresh more often than leases run out)."""
SILENCES_PER_LEASE = 8
"""Who has said nothing for this part of a lease is granted nothing until it is heard again: a worker that is stopped
would take every free slot with it, one for each of its tickets. Who has tickets is asked for a sign of life before."""
PROBES_PER_SILENCE = 4
"""Who is there has half of that time, a sixteenth of a lease, to say so."""
RECLAIM_MARGIN_S = 0.25
"""Requests end at their scoring timeout as fast as a loop gets to it; a slot is taken back only after that."""
_FAILURES = {failure.value: failure for failure in Failure}


@dataclass(frozen=True, slots=True)
class DeadMember:
    """What is left of a member that died lately."""

    held: Mapping[str, int] | None
    until: float


class PeerGroup:
    """What one worker knows of the others. Without a view it is alone and owns everything."""

    def __init__(self, dispatcher: "Dispatcher", me: str, lease_s: float, keep_s: float) -> None:
        self.keep_s = keep_s
        self.timers = Timers()
        self.dead_members: dict[str, DeadMember] = {}
        """Members that died less than a lease ago."""
        self.loans: dict[tuple[str, int], Lender] = {}
        """Who has lent what: by peer and lease."""
        self.peer_asks: dict[tuple[str, int], Lender] = {}
        """Who has the tickets of peers: by peer and number."""
        self._dispatcher = dispatcher
        self._me = me
        self._lease_s = lease_s
        self._view: View | None = None
        self._others: tuple[str, ...] = ()
        # Members that have not declared in this view, and whether everything is known that had to be learned.
        self._missing: set[str] = set()
        self._settled = True
        self._newest_epoch = -1
        self._buried: set[str] = set()
        self._up: dict[str, None] = {}
        self._early: dict[str, DeclaredLeases] = {}
        # Asks before these are void (`Declare`).
        self._first_asks: dict[str, int] = {}
        self._asks = 0
        # Pings: when each round was sent; until when a peer's answers allow to begin anything; when it was heard last.
        self._rounds: dict[int, float] = {}
        self._round = 0
        self._pinging = False
        self._valid_until: dict[str, float] = {}
        self._heard: dict[str, float] = {}
        self._lost: set[str] = set()
        # Peers that could have been granted something, had they been heard lately.
        self._passed_over: set[str] = set()
        self._probing = False
        # Borrowers with tickets that have to be asked for again, once their owner answers.
        self._too_late: dict[Borrower, None] = {}

    # ---- what lenders and borrowers need

    @property
    def alone(self) -> bool:
        """There is no group. A worker with a name belongs to one, even before it has seen whom it consists of."""
        return not self._me and self._view is None

    def send(self, peer: str, message: PeerMessage) -> None:
        """Put it in the outbox. Without a session it is dropped: the next one begins with the whole truth."""
        if peer in self._up:
            self._dispatcher.outbox.append((peer, message))

    def count(self, what: str) -> None:
        """Something happened that is worth a number."""
        self._dispatcher.counters[what] += 1

    def is_up(self, peer: str) -> bool:
        """Whether there is a session with the peer."""
        return peer in self._up

    def is_valid(self, peer: str, now: float) -> bool:
        """Whether something may be begun on a slot of the peer's: it has answered what was sent within the lease."""
        return now <= self._valid_until.get(peer, -1.0)

    def is_responsive(self, peer: str, now: float) -> bool:
        """Whether something may be granted to the peer now. If not, it is when the peer is heard next."""
        if now <= self._heard.get(peer, now) + self._lease_s / SILENCES_PER_LEASE:
            return True
        if peer not in self._passed_over:
            self._passed_over.add(peer)
            self._ping((peer,), now)
        return False

    def start_probing(self, now: float) -> None:
        """A peer waits: from now on see to it that it is known whether it is there when its turn comes."""
        if not self._probing:
            self._probing = True
            self.timers.at(now + self._lease_s / SILENCES_PER_LEASE / PROBES_PER_SILENCE, self._probe)

    def _probe(self, now: float) -> "list[LocalGrant]":
        self._probing = False
        quiet_since = now - self._lease_s / SILENCES_PER_LEASE / PROBES_PER_SILENCE
        waiting = dict.fromkeys(peer for peer, _ in self.peer_asks)
        if waiting:
            self._ping(tuple(peer for peer in waiting if self._heard.get(peer, now) <= quiet_since), now)
            self.start_probing(now)
        return []

    def next_ask(self) -> int:
        """A number that no ask of this worker has had."""
        self._asks += 1
        return self._asks

    def next_lease(self) -> int:
        """An id that no lease of any worker has."""
        return next(self._dispatcher.lease_ids)

    def ask_again_when_valid(self, borrower: Borrower) -> None:
        """What the owner grants cannot be used until it answers: asking again at once would go round in circles."""
        self._too_late[borrower] = None

    # ---- views

    def enter(self, view: View, now: float) -> "list[LocalGrant]":
        """A view, newer than the last one; others are ignored."""
        if self._view is not None and view.epoch <= self._view.epoch:
            return []
        self._view = view
        names = view.names()
        # Who is not a member (any more) owns nothing, and nobody listens to it.
        self._others = tuple(name for name in names if name != self._me) if self._me in names else ()
        self._missing = set(self._others)
        self._settled = False
        buried = self._bury(view.departed, now)
        self._meet(now)
        for queue in self._queues():
            self._assign(queue, buried)
        for peer in self._others:
            self._declare(peer, now)
        grants = self._settle(now)
        for peer, account in list(self._early.items()):
            if account.epoch <= view.epoch:
                del self._early[peer]
                if account.epoch == view.epoch and peer in self._missing:
                    grants += self._apply(peer, account, now)
        return grants + self._match(now)

    def add_queue(self, queue: "VersionQueue") -> None:
        """A version that this worker has not known before."""
        if self._view is not None:
            self._assign(queue, ())

    def _queues(self) -> "list[VersionQueue]":
        return list(self._dispatcher.queues.values())

    def _lenders(self) -> Iterator[Lender]:
        return (queue.lender for queue in self._queues() if queue.lender is not None)

    def _assign(self, queue: "VersionQueue", buried: tuple[str, ...]) -> None:
        view = self._view
        assert view is not None
        owner = view.owner(queue.key) if self._me in view.names() else ""
        if queue.borrower is not None:
            queue.borrower.return_spares()
        if owner != self._me:
            queue.become_borrower(owner, self)
        elif queue.lender is not None:
            queue.lender.change_view(self._others, buried)
        else:
            queue.become_owner(self, self._settled)

    def _bury(self, departed: tuple[Departed, ...], now: float) -> tuple[str, ...]:
        """Note who has died; returns those of whom this worker has not known."""
        new = [one for one in departed if one.name not in self._buried]
        self._buried = {one.name for one in departed} | set(self.dead_members)
        for one in new:
            until = now + max(0.0, self._lease_s - one.age_s)
            if until > now:
                self.dead_members[one.name] = DeadMember(one.held, until)
                self._buried.add(one.name)
                self.timers.at(until, self._forget_grave, one.name)
        return tuple(one.name for one in new)

    def _forget_grave(self, name: str, now: float) -> "list[LocalGrant]":
        del self.dead_members[name]
        return self._settle(now)

    def _meet(self, now: float) -> None:
        for peer in self._others:
            self._heard.setdefault(peer, now)
        for known in (self._heard, self._valid_until, self._first_asks):
            for peer in [peer for peer in known if peer not in self._others]:
                del known[peer]
        self._lost.intersection_update(self._others)
        self._ping(tuple(peer for peer in self._others if peer not in self._valid_until), now)
        if self._others and not self._pinging:
            self._pinging = True
            self.timers.at(now + self._lease_s / PINGS_PER_LEASE, self._look_around, now)

    def _settle(self, now: float) -> "list[LocalGrant]":
        """Everything is known once every member has declared, and nobody has died of whom nothing is known."""
        if self._settled or self._missing or any(grave.held is None for grave in self.dead_members.values()):
            return []
        self._settled = True
        for lender in list(self._lenders()):
            lender.finish_learning()
        return self._match(now)

    def _match(self, now: float) -> "list[LocalGrant]":
        """What has become free goes to who waits; who has loans hears of those who go on waiting."""
        grants = []
        for queue in self._queues():
            if queue.lender is not None and (queue.waiting or queue.lender.peer_queues):
                grants += queue.match_all(now)
                queue.lender.recall_idle(now)
        return grants

    # ---- sessions

    def link_up(self, peer: str, now: float) -> "list[LocalGrant]":
        """A new session; one that was there before is over."""
        self.link_down(peer, now)
        self._up[peer] = None
        if peer in self._others:
            self._ping((peer,), now)  # before anything that makes it grant: its answer comes first, too
            self._declare(peer, now)
        return []

    def link_down(self, peer: str, now: float) -> None:
        """The session is over. Who is a member does not depend on it."""
        self._up.pop(peer, None)
        self._early.pop(peer, None)
        self._passed_over.discard(peer)
        for queue in self._queues():
            if queue.lender is not None:
                queue.lender.drop_peer_queue(peer)
            elif queue.borrower is not None and queue.borrower.owner == peer:
                queue.borrower.link_lost()

    def _declare(self, peer: str, now: float) -> None:
        if peer not in self._up:
            return
        assert self._view is not None
        self._first_asks[peer] = self._asks + 1
        holdings = [
            queue.borrower.declare(now)
            for queue in self._queues()
            if queue.borrower is not None and queue.borrower.owner == peer
        ]
        worth_telling = tuple(each for each in holdings if each.leases or each.asks or each.retired)
        self.send(peer, Declare(self._view.epoch, worth_telling))

    # ---- messages

    def receive(self, peer: str, message: PeerMessage, now: float) -> "list[LocalGrant]":
        """Whatever a peer says. Returns grants to tickets of this worker."""
        if peer not in self._up:
            self.count("messages_without_session")
            return []
        self._heard[peer] = now
        grants = self._take(peer, message, now)
        if peer in self._passed_over:
            self._passed_over.discard(peer)
            grants += self._match(now)
        return grants

    def _take(self, peer: str, message: PeerMessage, now: float) -> "list[LocalGrant]":
        match message:
            case Ping(number):
                self.send(peer, Pong(number))
            case Pong(number):
                self._answered(peer, number, now)
            case SlotGranted():
                return self._granted(peer, message, now)
            case Recall():
                queue = self._dispatcher.queue_for_peer(message.key)
                if queue.borrower is not None and queue.borrower.owner == peer:
                    queue.borrower.recalled(message, now)
            case Declare():
                return self._declared(peer, message, now)
            case _:
                return self._told(peer, message, now)
        return []

    def _granted(self, peer: str, message: SlotGranted, now: float) -> "list[LocalGrant]":
        queue = self._dispatcher.queue_for_peer(message.key)
        borrower = queue.borrower
        if borrower is None or borrower.owner != peer or message.ask < self._first_asks.get(peer, 0):
            self.count("stale_grants")  # void by this worker's Declare: not even given back
            return []
        grant = borrower.granted(message, now)
        return [] if grant is None else [grant]

    def _declared(self, peer: str, declare: Declare, now: float) -> "list[LocalGrant]":
        epoch = -1 if self._view is None else self._view.epoch
        self._newest_epoch = max(self._newest_epoch, declare.epoch)
        if declare.epoch > epoch:
            self._early[peer] = DeclaredLeases(declare, now)
            return []
        if declare.epoch < epoch or peer not in self._others:
            return []
        return self._apply(peer, DeclaredLeases(declare, now), now) + self._match(now)

    def _apply(self, peer: str, account: DeclaredLeases, now: float) -> "list[LocalGrant]":
        for key in account.versions():
            self._dispatcher.queue_for_peer(key)
        first = peer in self._missing
        for lender in self._lenders():
            lender.declared(peer, account, first)
        self.start_probing(now)
        self._missing.discard(peer)
        return self._settle(now)

    def _told(self, peer: str, message: LeaseUpdate, now: float) -> "list[LocalGrant]":
        if peer in self._early:
            self._early[peer].update(message, now)
            return []
        if isinstance(message, Return):
            return self._returned(peer, message, now)
        if peer in self._missing or peer not in self._others:
            return []  # it is in an older view, and will say it again in this one
        match message:
            case Ask():
                lender = self._dispatcher.queue_for_peer(message.key).lender
                if lender is not None:
                    return lender.ask(peer, message.ask, peer_ask(message, now), now)
            case Forget():
                for ask in message.asks:
                    if (peer, ask) in self.peer_asks:
                        self.peer_asks[peer, ask].forget(peer, ask)
            case Failed():
                self._failed(message, now)
        return []

    def _returned(self, peer: str, message: Return, now: float) -> "list[LocalGrant]":
        queues: dict[VersionQueue, None] = {}
        for lease in message.leases:
            lender = self.loans.get((peer, lease))
            if lender is None or not lender.returned(peer, lease):
                self.count("double_returns")
            else:
                queues[lender.queue] = None
        return list(chain.from_iterable(queue.match_all(now) for queue in queues))

    def _failed(self, message: Failed, now: float) -> None:
        queue = self._dispatcher.queue_for_peer(message.key)
        replica = queue.replicas.get(message.replica)
        if queue.lender is None or replica is None:
            return
        if not message.failure:
            replica.failures = 0
        elif message.failure in _FAILURES:
            queue.replica_failed(replica, _FAILURES[message.failure], now)

    # ---- pings, and who has been silent for too long

    def _ping(self, peers: tuple[str, ...], now: float) -> None:
        self._round += 1
        self._rounds = {number: sent for number, sent in self._rounds.items() if sent >= now - self._lease_s}
        self._rounds[self._round] = now
        for peer in peers:
            self.send(peer, Ping(self._round))

    def _answered(self, peer: str, number: int, now: float) -> None:
        sent = self._rounds.get(number)
        if sent is not None and peer in self._others:
            self._valid_until[peer] = max(sent + self._lease_s, self._valid_until.get(peer, 0.0))
            self._lost.discard(peer)
        if self.is_valid(peer, now):
            for borrower in [borrower for borrower in self._too_late if borrower.owner == peer]:
                del self._too_late[borrower]
                borrower.ask_again(now)

    def _look_around(self, last: float, now: float) -> "list[LocalGrant]":
        if not self._others:
            self._pinging = False
            return []
        pause_s = self._lease_s / PINGS_PER_LEASE
        slept_s = now - last - pause_s
        if slept_s > pause_s:  # it was this worker that was silent: what others said meanwhile is still to be read
            self._heard = {peer: min(now, heard + slept_s) for peer, heard in self._heard.items()}
        self._ping(self._others, now)
        self.timers.at(now + pause_s, self._look_around, now)
        self._lose_tunnels(now)
        return self._reclaim(now)

    def _reclaim(self, now: float) -> "list[LocalGrant]":
        assert self._view is not None
        silent = [peer for peer in self._others if now > self._heard[peer] + self._lease_s]
        if not silent or self._newest_epoch > self._view.epoch:
            return []  # with an older view than others it cannot tell who may use what
        for queue in self._queues():
            for peer in silent if queue.lender is not None else ():
                over = self._heard[peer] + self._lease_s + queue.scoring_timeout_s + RECLAIM_MARGIN_S
                if now > over and queue.lender is not None:
                    queue.lender.reclaim(peer, sure=peer not in self._missing)
        return self._match(now)

    def _lose_tunnels(self, now: float) -> None:
        """Tunnels know no scoring timeout; on slots of an owner that does not answer they get one all the same."""
        for peer in self._others:
            lost_at = self._valid_until.get(peer, -1.0)
            if now > lost_at and peer not in self._lost:
                self._lost.add(peer)
                for queue in self._queues():
                    if queue.borrower is not None and queue.borrower.owner == peer and queue.ledger.busy:
                        self.timers.at(max(now, lost_at + queue.scoring_timeout_s), self._lapse, queue, peer)

    def _lapse(self, queue: "VersionQueue", peer: str, now: float) -> "list[LocalGrant]":
        if queue.borrower is not None and queue.borrower.owner == peer and not self.is_valid(peer, now):
            self._dispatcher.lapsed += queue.tunnels()
        return []
