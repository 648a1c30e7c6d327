"""Dispatchers joined by a network in memory, in virtual time; each step is checked against what replicas see."""

from collections import Counter, deque
from collections.abc import Iterable

from router.core.dispatcher import Dispatcher, Grant, Ticket, VersionQueue
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
    """A name that owns BLUE from the moment on when it joins these members."""
    names = (f"n{number}" for number in range(1000))
    return next(name for name in names if owner_of(BLUE, (*members, name)) == name)


def follower(*members: str) -> str:
    """A name that leaves BLUE to whoever of these members owns it."""
    names = (f"n{number}" for number in range(1000))
    return next(name for name in names if owner_of(BLUE, (*members, name)) != name)


class Workers:
    """A group of workers. `view` is the newest one; `see` lets a worker enter it, or another one."""

    def __init__(self, *names: str, slots: int = 1, replicas: Iterable[Replica] = ()) -> None:
        self.now = 1000.0
        self.slots = slots
        self.dispatchers: dict[str, Dispatcher] = {}
        self.running: dict[Ticket, tuple[str, Lease]] = {}
        self.ghosts: Counter[str] = Counter()
        """Requests of dead workers that replicas are still at work on."""
        self.drained: list[tuple[str, str]] = []
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
        """A new worker, which knows the replicas, and has no view."""
        dispatcher = Dispatcher(name, incarnation=len(self.dispatchers) + 1, lease_s=LEASE_S, keep_s=KEEP_S)
        self.dispatchers[name] = dispatcher
        dispatcher.configure("iris", version())
        for replica in self.replicas.values():
            dispatcher.upsert(replica, self.now)
        return dispatcher

    def publish(self, *names: str, departed: Iterable[Departed] = (), leaving: Iterable[str] = ()) -> View:
        """A new view that nobody has seen yet."""
        members = tuple(Member(name, f"unix:{name}", name not in leaving) for name in names)
        self.view = View(self.view.epoch + 1, members, tuple(departed))
        return self.view

    def see(self, *names: str, view: View | None = None) -> None:
        """These workers enter a view."""
        for name in names:
            self.did(name, self.dispatchers[name].enter(view or self.view, self.now))

    def see_all(self) -> None:
        """Everybody enters the newest view, and everything that follows from it happens."""
        self.see(*self.dispatchers)
        self.flow()

    def connect(self, one: str, other: str) -> None:
        """A new session; whatever was under way in the last one is lost."""
        self.cut(one, other)
        for name, peer in ((one, other), (other, one)):
            self.wires[name, peer] = deque()
        for name, peer in ((one, other), (other, one)):
            self.did(name, self.dispatchers[name].link_up(peer, self.now))

    def cut(self, one: str, other: str) -> None:
        """The session ends at both sides."""
        for name, peer in ((one, other), (other, one)):
            if self.wires.pop((name, peer), None) is not None:
                self.dispatchers[name].link_down(peer, self.now)

    def kill(self, name: str) -> dict[str, int]:
        """The process ends; replicas go on with its requests. Returns what it had in flight."""
        for peer in [peer for one, peer in self.wires if one == name]:
            self.cut(name, peer)
        del self.dispatchers[name]
        mine = [ticket for ticket, (one, _) in self.running.items() if one == name]
        held = Counter(self.running.pop(ticket)[1].replica.id for ticket in mine)
        self.ghosts += held
        return dict(held)

    @property
    def owner(self) -> str:
        """Who owns BLUE in the newest view."""
        return self.view.owner(BLUE)

    def queue(self, name: str) -> VersionQueue:
        """The queue of BLUE in a worker."""
        return self.dispatchers[name].queue(BLUE)

    # ---- messages

    def did(self, name: str, grants: list[Grant]) -> None:
        """What follows a step of a worker."""
        for grant in grants:
            self._begin(name, grant.ticket, grant.lease)
        dispatcher = self.dispatchers[name]
        for peer, message in dispatcher.outbox:
            self.sent[type(message).__name__] += 1
            self.wires[name, peer].append(message)
        dispatcher.outbox.clear()
        self.drained += [(name, replica_id) for replica_id in dispatcher.drained]
        dispatcher.drained.clear()

    def deliver(self, sender: str, receiver: str, count: int = 1) -> None:
        """The next messages of one direction arrive."""
        for _ in range(count):
            message = self.wires[sender, receiver].popleft()
            self.did(receiver, self.dispatchers[receiver].receive(sender, message, self.now))

    def say(self, sender: str, receiver: str, message: PeerMessage) -> None:
        """A message that no worker would send."""
        self.did(receiver, self.dispatchers[receiver].receive(sender, message, self.now))

    def flow(self, *held_back: tuple[str, str]) -> None:
        """Everything that is under way arrives, but for the directions that are held back."""
        while wires := [wire for wire, messages in self.wires.items() if messages and wire not in held_back]:
            for sender, receiver in wires:
                if self.wires.get((sender, receiver)):
                    self.deliver(sender, receiver)

    def pass_time(self, seconds: float, *asleep: str) -> None:
        """Time passes and messages flow; those who are asleep neither tick nor hear."""
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
        """A request comes to a worker; it runs, or waits."""
        ticket = Ticket()
        lease = self.queue(name).enqueue(ticket, self.now)
        if lease is not None:
            self._begin(name, ticket, lease)
        self.did(name, [])
        return ticket

    def end(self, ticket: Ticket) -> None:
        """A request that runs ends."""
        name, lease = self.running.pop(ticket)
        ticket.lease = None
        grant = self.queue(name).release(lease, self.now)
        self.did(name, [] if grant is None else [grant])

    def runs(self, *tickets: Ticket) -> list[bool]:
        """Which of these run."""
        return [ticket in self.running for ticket in tickets]

    def ran_at(self, ticket: Ticket) -> str:
        """The replica that a running request is on."""
        return self.running[ticket][1].replica.id

    def _begin(self, name: str, ticket: Ticket, lease: Lease) -> None:
        assert ticket not in self.running, "it has a slot already"
        self.running[ticket] = (name, lease)
        replica = self.replicas[lease.replica.id]
        count = self.in_flight(replica.id)
        assert count <= replica.slots, f"{count} in flight on {replica.id}, which has {replica.slots} slots"

    def in_flight(self, replica_id: str) -> int:
        """What the replica sees."""
        mine = sum(lease.replica.id == replica_id for _, lease in self.running.values())
        return mine + self.ghosts[replica_id]

    # ---- replicas

    def tell(self, replica: Replica, *names: str) -> None:
        """News of a replica reach these workers, or all."""
        self.replicas[replica.id] = replica
        for name in names or tuple(self.dispatchers):
            self.did(name, self.dispatchers[name].upsert(replica, self.now))
