"""The cost of a borrowed slot: ask, grant, use, return, with every frame encoded and decoded.

Two dispatchers in this process say to each other what they would over a link; one message a frame, which is the worst
case: under load the messages of one turn of the loop share a frame, and a slot serves several requests.
"""

import timeit
from collections.abc import Callable

from loadtests.bench.figures import Table
from router.core.dispatcher import Dispatcher, Ticket
from router.core.slot_messages import PeerMessage
from router.core.view import Member, View
from router.peers.frames import Batch, decode, encode
from serving.endpoint import VersionKey
from serving.replica import Replica, ReplicaState

KEY = VersionKey("bench", "blue")
REPLICAS = 8
NAMES = ("w0-0123abcd-0", "w1-0123abcd-1")
LENGTH_BYTES = 4
REPEATS, LOOPS = 5, 5000
NOW = 0.0


class Pair:
    """The owner of a version, and another worker."""

    def __init__(self) -> None:
        view = View(1, tuple(Member(name, f"unix:/{name}") for name in NAMES))
        self._numbers = dict.fromkeys(NAMES, 0)
        self._by_name = {name: Dispatcher(name, number, keep_s=0.0) for number, name in enumerate(NAMES)}
        for dispatcher in self._by_name.values():
            for number in range(REPLICAS):
                dispatcher.upsert(Replica(f"r{number}", *KEY, "127.0.0.1", 80, ReplicaState.READY, 1), NOW)
            dispatcher.enter(view, NOW)
        for name, dispatcher in self._by_name.items():
            dispatcher.link_up(next(other for other in NAMES if other != name), NOW)
        self.settle()
        owner = view.owner(KEY)
        self.owner = self._by_name[owner].queue(KEY)
        self.borrower = self._by_name[next(name for name in NAMES if name != owner)].queue(KEY)

    def settle(self) -> None:
        """Deliver messages until there are none."""
        while any(dispatcher.outbox for dispatcher in self._by_name.values()):
            for name, dispatcher in self._by_name.items():
                said, dispatcher.outbox[:] = list(dispatcher.outbox), []
                for peer, message in said:
                    self._carry(name, peer, message)

    def _carry(self, name: str, peer: str, message: PeerMessage) -> None:
        self._numbers[name] += 1
        frame = decode(memoryview(encode(Batch(1 << 63, self._numbers[name], (message,))))[LENGTH_BYTES:])
        assert isinstance(frame, Batch)
        for each in frame.messages:
            self._by_name[peer].receive(name, each, NOW)

    def borrow(self) -> None:
        """A request at the worker that has to ask."""
        ticket = Ticket()
        assert self.borrower.enqueue(ticket, NOW) is None
        self.settle()
        assert ticket.lease is not None
        self.borrower.release(ticket.lease, NOW)
        self.settle()

    def take(self) -> None:
        """A request at the owner."""
        lease = self.owner.enqueue(Ticket(), NOW)
        assert lease is not None
        self.owner.release(lease, NOW)


def cost_us(part: Callable[[], object], loops: int = LOOPS) -> float:
    """Microseconds of one: the best of some repetitions, as `timeit` recommends."""
    return 1e6 * min(timeit.repeat(part, number=loops, repeat=REPEATS)) / loops


def table(borrowed_us: float, own_us: float) -> Table:
    """Both ways to have a slot."""
    rows = (
        ("a slot of another worker: ask, grant, return", f"{borrowed_us:.1f}"),
        ("a slot of its own: take, give back", f"{own_us:.1f}"),
    )
    return Table(("", "µs"), rows)


def measured() -> tuple[float, float]:
    """Microseconds of a borrowed slot, and of one at its owner."""
    pair = Pair()
    return cost_us(pair.borrow), cost_us(pair.take)
