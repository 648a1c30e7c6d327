"""One worker: a real dispatcher in a model of the shell."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from router.core.dispatcher import Dispatcher, Grant, Ticket, VersionQueue
from router.core.health import Failure, HealthSign, Standing, ejection_seconds
from router.core.health_watch import HealthProbe
from router.core.ledger import Lease
from router.core.router_errors import RouterError
from router.core.slot_messages import PeerMessage
from router.core.view import View
from serving.endpoint import VersionKey
from serving.replica import Replica
from tests.sim.failures import PromiseBroken

if TYPE_CHECKING:
    from tests.sim.world import World

CONNECT_S = 0.002
"""Time until a connection to a stopped replica is refused."""
HEALTH_S = 0.002
"""Time until the health path of a replica answers."""
HEALTH_TIMEOUT_S = 0.2
"""Time after which a health request is given up."""


TUNNEL_TIMEOUTS = 4
"""Duration of a tunnel, in scoring timeouts."""


class Request(Ticket):
    """A request of a client."""

    __slots__ = ("arrived", "attempts", "key", "number", "outcome", "retry", "tunnel", "work_s", "worker")

    def __init__(self, number: int, key: VersionKey, work_s: float, worker: str, now: float) -> None:
        super().__init__()
        self.number = number
        self.key = key
        self.work_s = work_s
        self.worker = worker
        self.arrived = now
        self.attempts = 0
        self.retry = False
        self.tunnel = False
        self.outcome = ""
        """Outcome; "" while it runs."""

    def __repr__(self) -> str:
        return f"#{self.number}@{self.worker}"


class SimWorker:
    """A worker process. While paused it handles nothing; all events wait."""

    def __init__(self, name: str, dispatcher: Dispatcher, world: "World") -> None:
        self.name = name
        self.dispatcher = dispatcher
        self.view: View | None = None
        self.alive = True
        self.paused = False
        self.leaving = False
        self.using: dict[Request, Lease] = {}
        """Row of the in-flight table: requests in flight."""
        self.waiting: dict[Request, None] = {}
        self._world = world
        self._clock = world.clock
        self._deferred: list[tuple[Callable[..., object], tuple[object, ...]]] = []
        self._next_tick = float("inf")

    # ---- steps

    def do(self, action: Callable[..., object], *args: object) -> None:
        """Handle an event: now, after the pause, or never."""
        if not self.alive:
            return
        if self.paused:
            self._deferred.append((action, args))
            return
        self._step(action, args)

    def go_on(self) -> None:
        """End a pause; handle all waiting events."""
        self.paused = False
        deferred, self._deferred = self._deferred, []
        for action, args in deferred:
            if self.alive:
                self._step(action, args)

    def _step(self, action: Callable[..., object], args: Iterable[object]) -> None:
        action(*args)
        dispatcher = self.dispatcher
        if dispatcher.outbox:
            outbox = list(dispatcher.outbox)
            dispatcher.outbox.clear()
            self._world.network.send(self.name, outbox)
        if dispatcher.drained:
            drained = list(dispatcher.drained)
            dispatcher.drained.clear()
            for replica_id in drained:
                self._world.supervisor.drained(self.name, replica_id)
        dispatcher.starved.clear()
        dispatcher.unpooled.clear()
        probes, dispatcher.probes = dispatcher.probes, []
        for probe in probes:
            self._clock.after(HEALTH_S, self._health_path_answers, probe, self._clock.now + HEALTH_TIMEOUT_S)
        if dispatcher.lapsed:
            lapsed = list(dispatcher.lapsed)
            dispatcher.lapsed.clear()
            for lease in lapsed:
                self.do(self._lapse, lease)
        for queue in dispatcher.queues.values():
            if queue.waiting and queue.ledger.has_free():
                raise PromiseBroken(f"{queue.waiting} wait at {self.name}, which may use a slot of {queue.key}")
            suspects = [one.id for one in queue.ledger.idle_first() if one.standing is not Standing.SERVING]
            if suspects:
                raise PromiseBroken(f"{self.name} would use {suspects}, which it knows as suspect")
        due = dispatcher.due()
        if due is not None and due < self._next_tick:
            self._next_tick = due
            self._clock.at(due, self.do, self._tick, due)

    def _tick(self, planned: float) -> None:
        if planned != self._next_tick:
            return
        self._next_tick = float("inf")
        self._granted(self.dispatcher.tick(self._clock.now))

    # ---- events from the world

    def see(self, view: View) -> None:
        """Enter a view; an older one is skipped."""
        if self.view is not None and view.epoch <= self.view.epoch:
            return
        self.view = view
        self._world.note(self.name, "sees", view)
        self._granted(self.dispatcher.enter(view, self._clock.now))
        self._world.network.meet(self.name)

    def hear_replica(self, replica: Replica) -> None:
        """Discovery: add or update a replica."""
        queue = self.dispatcher.queue(replica.key)
        known = queue.replicas.get(replica.id)
        if queue.lender is not None and (known is None or not known.present):
            self._world.site.replicas[replica.id].doubted = None  # reports that came before it are void
        self._world.note(self.name, "replica", replica.id, str(replica.state), replica.slots)
        self._granted(self.dispatcher.upsert(replica, self._clock.now))

    def hear_removal(self, replica_id: str) -> None:
        """Discovery: remove a replica."""
        self._world.note(self.name, "replica removed", replica_id)
        self._world.site.replicas[replica_id].doubted = None  # it is listed again once the provider sees it answer
        self.dispatcher.remove(replica_id)

    # ---- events from the network

    def knows(self, peer: str) -> bool:
        """True if a peer is in its view."""
        return self.view is not None and any(member.name == peer for member in self.view.members)

    def link_up(self, peer: str) -> None:
        """A session begins."""
        self._world.note(self.name, "link up", peer)
        self._granted(self.dispatcher.link_up(peer, self._clock.now))

    def link_down(self, peer: str) -> None:
        """A session has ended."""
        self._world.note(self.name, "link down", peer)
        self.dispatcher.link_down(peer, self._clock.now)

    def receive(self, peer: str, message: PeerMessage) -> None:
        """A message of the session."""
        self._world.note(self.name, "receives", peer, message)
        self._granted(self.dispatcher.receive(peer, message, self._clock.now))

    # ---- requests

    def arrive(self, request: Request) -> None:
        """A complete request arrives."""
        now = self._clock.now
        request.arrived = now  # it waited in the kernel's queue during a pause
        self._world.note(self.name, "request", request)
        queue = self.dispatcher.queue(request.key)
        try:
            lease = queue.enqueue(request, now)
        except RouterError:
            self._end(request, "refused")
            return
        if lease is not None:
            self._begin(request, lease)
        else:
            self._wait(request, queue)

    def client_leaves(self, request: Request) -> None:
        """The client of a request has gone, in any state of the request."""
        if request.outcome:
            return
        self._world.note(self.name, "client leaves", request)
        lease = self.using.get(request)
        if lease is not None:
            self._world.site_end(request, lease)
            self._give_up(request, lease, Failure.ABANDONED)
            self._finish(request, lease, "left")
        elif self.dispatcher.queue(request.key).abandon(request):
            self._end(request, "left")
        else:
            raise PromiseBroken(f"{request} neither waits nor has a slot")

    def _wait(self, request: Request, queue: VersionQueue) -> None:
        self.waiting[request] = None
        self._world.judge.waits(request, self._clock.now)
        self._clock.after(queue.queue_wait_s, self.do, self._expire, queue)

    def _expire(self, queue: VersionQueue) -> None:
        for ticket, error in queue.expire(self._clock.now):
            assert isinstance(ticket, Request)
            self._end(ticket, type(error).__name__)

    def _granted(self, grants: Iterable[Grant]) -> None:
        for grant in grants:
            request = grant.ticket
            assert isinstance(request, Request)
            if request not in self.waiting:
                raise PromiseBroken(f"{request} is granted {grant.lease.id} but does not wait")
            self._begin(request, grant.lease)

    def _begin(self, request: Request, lease: Lease) -> None:
        """The request has a slot and is sent to the replica at once."""
        if request in self.using or request.outcome:
            raise PromiseBroken(f"{request} is granted a second slot")
        self.waiting.pop(request, None)
        self.using[request] = lease
        world, now = self._world, self._clock.now
        world.note(self.name, "starts", request, lease.replica.id, lease.id)
        world.judge.served(request, now)
        request.attempts += 1
        if world.site.replicas[lease.replica.id].down:
            self._clock.after(CONNECT_S, self.do, self._unreachable, request, lease)
            return
        world.site_start(request, lease)
        queue = self.dispatcher.queue(request.key)
        work_s = min(request.work_s, queue.scoring_timeout_s)
        if request.tunnel:
            lease.exempt_from_timeout()
            work_s = TUNNEL_TIMEOUTS * queue.scoring_timeout_s
        self._clock.at(now + work_s, self._answered, request, lease)

    def _answered(self, request: Request, lease: Lease) -> None:
        """The replica has sent its response, unless it hangs."""
        if self._world.site.replicas[lease.replica.id].hung and not request.tunnel:
            deadline = lease.granted_at + self.dispatcher.queue(request.key).scoring_timeout_s
            self._clock.at(max(deadline, self._clock.now), self._overdue, request, lease)
            return
        if self._world.site_end(request, lease):
            self.do(self._finish, request, lease, "served")

    def _overdue(self, request: Request, lease: Lease) -> None:
        """The scoring timeout is over; the replica ends the request, too."""
        if self._world.site_end(request, lease):
            self.do(self._time_out, request, lease)

    def _time_out(self, request: Request, lease: Lease) -> None:
        if not request.outcome:
            self._give_up(request, lease, Failure.TIMEOUT)
            self._finish(request, lease, "timed out")

    def _give_up(self, request: Request, lease: Lease, failure: Failure) -> None:
        if lease.replica.present:  # one removed is listed again once the provider sees it answer
            self._world.site.replicas[lease.replica.id].doubt(self.name, self._clock.now)
        self.dispatcher.queue(request.key).health.failed(lease.replica, failure, self._clock.now)

    def _health_path_answers(self, probe: HealthProbe, deadline: float) -> None:
        """The replica handles a health request; a hung one later, or never."""
        one, now = self._world.site.replicas[probe.replica.id], self._clock.now
        if one.hung and now < deadline:
            self._clock.after(HEALTH_S, self._health_path_answers, probe, deadline)
            return
        sign = HealthSign.NONE if one.hung or one.down else HealthSign.WELL
        if sign is HealthSign.WELL and probe.turn == probe.replica.turn and self.alive:
            # one that fails again and again is ejected for a while although it answers
            failures = probe.replica.failures
            one.trust(now + (ejection_seconds(failures - 1) if failures > 1 else 0.0))
        self.do(self._health_answered, probe, sign)

    def _health_answered(self, probe: HealthProbe, sign: HealthSign) -> None:
        self._world.note(self.name, "hears of", probe.replica.id, sign.value)
        self._granted(probe.queue.health.answered(probe, sign, self._clock.now))

    def _finish(self, request: Request, lease: Lease, outcome: str) -> None:
        if request.outcome:
            return
        self._end(request, outcome)
        if outcome == "served":
            lease.replica.failures = 0
        grant = self.dispatcher.queue(request.key).release(lease, self._clock.now)
        if grant is not None:
            self._granted((grant,))

    def _lapse(self, lease: Lease) -> None:
        """End a tunnel on a slot of an unreachable owner."""
        request = lease.holder
        assert isinstance(request, Request)
        self._world.site_end(request, lease)
        self._finish(request, lease, "lapsed")

    def _unreachable(self, request: Request, lease: Lease) -> None:
        if request.outcome:
            return
        queue, now = self.dispatcher.queue(request.key), self._clock.now
        self._world.note(self.name, "cannot reach", lease.replica.id, request)
        del self.using[request]
        if request.attempts >= 3:
            self.using[request] = lease
            queue.health.failed(lease.replica, Failure.UNREACHABLE, now)
            self._finish(request, lease, "ReplicaFailed")
            return
        request.retry = True
        self._wait(request, queue)
        queue.health.failed(lease.replica, Failure.UNREACHABLE, now)
        grant = queue.requeue(lease, now)
        if grant is not None:
            self._granted((grant,))

    def _end(self, request: Request, outcome: str) -> None:
        self._world.note(self.name, outcome, request)
        request.outcome = outcome
        self.waiting.pop(request, None)
        self.using.pop(request, None)
        self._world.judge.ended(request, self._clock.now)
