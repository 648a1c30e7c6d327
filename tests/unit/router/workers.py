"""Dispatchers connected by an in-memory network in virtual time; each step is checked against the replicas."""

from collections import Counter, deque
from collections.abc import Iterable

from router.core.dispatcher import Dispatcher, Grant, Ticket, VersionQueue
from router.core.health import HealthSign
from router.core.ledger import Lease
from router.core.slot_messages import PeerMessage
from router.core.view import Departed, Member, View, owner_of
from serving.endpoint import VersionKey
from serving.replica import Replica
from tests.unit.router.records import version

BLUE = VersionKey("iris", "blue")
LEASE_S = 2.0
KEEP_S = 0.005


def successor(*members: str) -> str:
    """Name of a member that would own BLUE after joining these members."""
    names = (f"n{number}" for number in range(1000))
    return next(name for name in names if owner_of(BLUE, (*members, name)) == name)


def follower(*members: str) -> str:
    """Name of a member that would not own BLUE after joining these members."""
    names = (f"n{number}" for number in range(1000))
    return next(name for name in names if owner_of(BLUE, (*members, name)) != name)


class Workers:
    """A group of workers. `view`: the newest view; `see`: lets workers enter a view."""

    def __init__(self, *names: str, slots: int = 1, replicas: Iterable[Replica] = ()) -> None:
        self.now = 1000.0
        self.slots = slots
        self.dispatchers: dict[str, Dispatcher] = {}
        self.running: dict[Ticket, tuple[str, Lease]] = {}
        self.ghosts: Counter[str] = Counter()
        """Requests of dead workers still running on replicas."""
        self.drained: list[tuple[str, str]] = []
        self.silent: set[str] = set()
        """Replicas that do not answer health requests."""
        self.wires: dict[tuple[str, str], deque[PeerMessage]] = {}
        self.sent: Counter[str] = Counter()
        self.replicas = {replica.id: replica for replica in replicas}
        self.view = View(0, ())
        for name in names:
            self.start(name)
        self.publish(*names)
        self.see_all()
        for number, name in enumerate(names):
            for other in names[:number]:
                self.connect(name, other)
        self.flow()

    # ---- workers, views, links

    def start(self, name: str) -> Dispatcher:
        """Start a worker with all replicas and no view."""
        dispatcher = Dispatcher(name, incarnation=len(self.dispatchers) + 1, lease_s=LEASE_S, keep_s=KEEP_S)
        self.dispatchers[name] = dispatcher
        dispatcher.configure("iris", version())
        for replica in self.replicas.values():
            dispatcher.upsert(replica, self.now)
        return dispatcher

    def publish(self, *names: str, departed: Iterable[Departed] = (), leaving: Iterable[str] = ()) -> View:
        """Create a new view, not yet entered by any worker."""
        members = tuple(Member(name, f"unix:{name}", name not in leaving) for name in names)
        self.view = View(self.view.epoch + 1, members, tuple(departed))
        return self.view

    def see(self, *names: str, view: View | None = None) -> None:
        """Let workers enter a view."""
        for name in names:
            self.did(name, self.dispatchers[name].enter(view or self.view, self.now))

    def see_all(self) -> None:
        """Let all workers enter the newest view and deliver all messages."""
        self.see(*self.dispatchers)
        self.flow()

    def connect(self, one: str, other: str) -> None:
        """Start a new session; undelivered messages of the last one are lost."""
        self.cut(one, other)
        for name, peer in ((one, other), (other, one)):
            self.wires[name, peer] = deque()
        for name, peer in ((one, other), (other, one)):
            self.did(name, self.dispatchers[name].link_up(peer, self.now))

    def cut(self, one: str, other: str) -> None:
        """End the session at both ends."""
        for name, peer in ((one, other), (other, one)):
            if self.wires.pop((name, peer), None) is not None:
                self.dispatchers[name].link_down(peer, self.now)

    def kill(self, name: str) -> dict[str, int]:
        """End a worker; its requests go on at the replicas. Returns its requests in flight by replica."""
        for peer in [peer for one, peer in self.wires if one == name]:
            self.cut(name, peer)
        del self.dispatchers[name]
        mine = [ticket for ticket, (one, _) in self.running.items() if one == name]
        held = Counter(self.running.pop(ticket)[1].replica.id for ticket in mine)
        self.ghosts += held
        return dict(held)

    @property
    def owner(self) -> str:
        """Owner of BLUE in the newest view."""
        return self.view.owner(BLUE)

    def queue(self, name: str) -> VersionQueue:
        """The queue of BLUE in a worker."""
        return self.dispatchers[name].queue(BLUE)

    # ---- messages

    def did(self, name: str, grants: list[Grant]) -> None:
        """Carry out the effects of a step of a worker; health requests are answered at once, unless silent."""
        for grant in grants:
            self._begin(name, grant.ticket, grant.lease)
        dispatcher = self.dispatchers[name]
        while dispatcher.probes or ((due := dispatcher.due()) is not None and due <= 0.0):  # at once
            probes, dispatcher.probes = dispatcher.probes, []
            grants = [] if probes else dispatcher.tick(self.now)
            for probe in probes:
                sign = HealthSign.NONE if probe.replica.id in self.silent else HealthSign.WELL
                grants += probe.queue.health.answered(probe, sign, self.now)
            for grant in grants:
                self._begin(name, grant.ticket, grant.lease)
        for peer, message in dispatcher.outbox:
            self.sent[type(message).__name__] += 1
            self.wires[name, peer].append(message)
        dispatcher.outbox.clear()
        self.drained += [(name, replica_id) for replica_id in dispatcher.drained]
        dispatcher.drained.clear()

    def deliver(self, sender: str, receiver: str, count: int = 1) -> None:
        """Deliver the next messages of one direction."""
        for _ in range(count):
            message = self.wires[sender, receiver].popleft()
            self.did(receiver, self.dispatchers[receiver].receive(sender, message, self.now))

    def say(self, sender: str, receiver: str, message: PeerMessage) -> None:
        """Inject a message that no worker would send."""
        self.did(receiver, self.dispatchers[receiver].receive(sender, message, self.now))

    def flow(self, *held_back: tuple[str, str]) -> None:
        """Deliver all messages except in the directions held back."""
        while wires := [wire for wire, messages in self.wires.items() if messages and wire not in held_back]:
            for sender, receiver in wires:
                if self.wires.get((sender, receiver)):
                    self.deliver(sender, receiver)

    def pass_time(self, seconds: float, *asleep: str) -> None:
        """Advance the time and deliver messages; workers asleep neither tick nor receive."""
        end = self.now + seconds
        held_back = [wire for wire in self.wires if wire[1] in asleep]
        self.flow(*held_back)
        while True:
            dues = [dispatcher.due() for name, dispatcher in self.dispatchers.items() if name not in asleep]
            due = min((due for due in dues if due is not None), default=end)
            if due > end:
                break
            self.now = max(self.now, due)
            if not self._tick(asleep) and due >= end:
                break
            self.flow(*held_back)
        self.now = end

    def _tick(self, asleep: tuple[str, ...]) -> bool:
        ticked = False
        for name, dispatcher in self.dispatchers.items():
            due = dispatcher.due()
            if name not in asleep and due is not None and due <= self.now:
                ticked = True
                self.did(name, dispatcher.tick(self.now))
        return ticked

    # ---- requests

    def request(self, name: str) -> Ticket:
        """Enqueue a request at a worker."""
        ticket = Ticket()
        lease = self.queue(name).enqueue(ticket, self.now)
        if lease is not None:
            self._begin(name, ticket, lease)
        self.did(name, [])
        return ticket

    def end(self, ticket: Ticket) -> None:
        """End a running request."""
        name, lease = self.running.pop(ticket)
        ticket.lease = None
        grant = self.queue(name).release(lease, self.now)
        self.did(name, [] if grant is None else [grant])

    def runs(self, *tickets: Ticket) -> list[bool]:
        """True for each ticket that runs."""
        return [ticket in self.running for ticket in tickets]

    def ran_at(self, ticket: Ticket) -> str:
        """Replica of a running request."""
        return self.running[ticket][1].replica.id

    def _begin(self, name: str, ticket: Ticket, lease: Lease) -> None:
        assert ticket not in self.running, "it has a slot already"
        self.running[ticket] = (name, lease)
        replica = self.replicas[lease.replica.id]
        count = self.in_flight(replica.id)
        assert count <= replica.slots, f"{count} in flight on {replica.id}, which has {replica.slots} slots"

    def in_flight(self, replica_id: str) -> int:
        """Requests in flight on the replica."""
        mine = sum(lease.replica.id == replica_id for _, lease in self.running.values())
        return mine + self.ghosts[replica_id]

    # ---- replicas

    def tell(self, replica: Replica, *names: str) -> None:
        """Send a replica's record to these workers, or all."""
        self.replicas[replica.id] = replica
        for name in names or tuple(self.dispatchers):
            self.did(name, self.dispatchers[name].upsert(replica, self.now))
