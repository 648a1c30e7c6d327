"""Interpreter of the effects of the core: granted requests, messages to peers, reports to control, timers."""

import asyncio
import math
from collections.abc import Callable
from logging import WARNING

from router.core.dispatcher import Dispatcher, Grant, Ticket, VersionQueue
from router.core.health import Failure, HealthSign
from router.core.health_watch import HealthProbe
from router.core.ledger import Lease
from router.log_limit import LogLimit
from router.metrics import WorkerStats
from router.proxy.exchange import Exchange
from router.proxy.upstream import UpstreamConnection


class CoreEffects:
    """Carries out effects after each call into the core. The hooks do nothing until the worker sets them."""

    def __init__(self, dispatcher: Dispatcher, stats: WorkerStats, now: Callable[[], float]) -> None:
        self._dispatcher = dispatcher
        self._stats = stats
        self._now = now
        self.on_outbox: Callable[[], None] = dispatcher.outbox.clear
        """Sends the messages in `Dispatcher.outbox` to other workers; a worker without peers drops them."""
        self.on_drained: Callable[[str], None] = lambda replica_id: None
        """Reports a drained replica."""
        self.on_starved: Callable[[], None] = lambda: None
        """Reports versions with waiting requests and no slots."""
        self.on_probe: Callable[[HealthProbe], None] = lambda probe: None
        """Sends a health request."""
        self.on_unpooled: Callable[[str, int], None] = lambda replica_id, slots: None
        """Closes the idle connections to a replica with so many slots."""
        self._log_limit = LogLimit(now)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    def carry_out(self, grant: Grant | None) -> None:
        """Start the request of a grant; report drained replicas; send messages."""
        drained = self._dispatcher.drained
        while drained:
            self.on_drained(drained.pop())
        if grant is not None:
            exchange = grant.ticket
            assert isinstance(exchange, Exchange)
            exchange.granted(grant.lease, self._now())
        if self._dispatcher.outbox:
            self.on_outbox()

    def carry_out_all(self, grants: list[Grant]) -> None:
        """Carry out all effects, after a call that may have granted several slots or changed timers of the core."""
        self.carry_out(None)
        if self._dispatcher.starved:
            self.on_starved()
        for grant in grants:
            self.carry_out(grant)
        self._ask_for_health()
        while self._dispatcher.lapsed:
            exchange = self._dispatcher.lapsed.pop().holder
            assert isinstance(exchange, Exchange)
            exchange.close_tunnel("tunnels_lapsed")
        self.arm_timer()

    def note_waiting(self) -> None:
        """A ticket waits: report starved versions, send the ask for a slot."""
        if self._dispatcher.starved:
            self.on_starved()
        if self._dispatcher.outbox:
            self.on_outbox()

    def arm_timer(self) -> None:
        """Set the timer for the next deadline of the core."""
        due = self._dispatcher.due()
        if due is None or due >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = asyncio.get_running_loop().call_later(max(0.0, due - self._now()), self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        self.carry_out_all(self._dispatcher.tick(self._now()))

    def _ask_for_health(self) -> None:
        dispatcher = self._dispatcher
        while dispatcher.unpooled:
            replica_id = dispatcher.unpooled.pop()
            self.on_unpooled(replica_id, dispatcher.slots_of(replica_id))
        while dispatcher.probes:
            self.on_probe(dispatcher.probes.pop())

    def health_answered(self, probe: HealthProbe, sign: HealthSign) -> None:
        """Apply the result of a health request."""
        self.carry_out_all(probe.queue.health.answered(probe, sign, self._now()))

    def replica_failed(self, ticket: Ticket, failure: Failure, reason: str) -> None:
        """Passive health: count the failure and judge the replica, before its slot is free. `reason`: for the log."""
        lease, queue = ticket.lease, ticket.queue
        if lease is None or queue is None:
            return
        self._stats.counters[f"replica_{failure.value}"] += 1
        queue.health.failed(lease.replica, failure, self._now())
        if failure is not Failure.ABANDONED:
            self._log_of_replica(lease, queue, f"{reason}; now {lease.replica.standing}")
        self._ask_for_health()
        self.arm_timer()

    def replica_stalled(self, connection: UpstreamConnection) -> None:
        """A replica is silent on a new connection: idle connections of other workers may keep its threads from it.

        A worker without others has idle connections to a replica only while it needs no new one.
        """
        exchange, dispatcher = connection.exchange, self._dispatcher
        if exchange is None or exchange.queue is None:
            return
        if dispatcher.group.linked or dispatcher.slots_of(connection.replica_id) == 1:
            self._stats.counters["replica_stalled"] += 1
            dispatcher.close_idle(exchange.queue.key, connection.replica_id)
            self.carry_out_all([])

    def note_broken_rule(self, exchange: Exchange, rule: str) -> None:
        """Log a rule of HTTP that a response of the replica breaks and that does not make it invalid."""
        lease, queue = exchange.lease, exchange.queue
        assert lease is not None and queue is not None
        self._log_of_replica(lease, queue, f"in its response {rule}")

    def _log_of_replica(self, lease: Lease, queue: VersionQueue, text: str) -> None:
        """Log a text once a minute and replica: each request may repeat it."""
        self._log_limit.log(f"{lease.replica.id}: {text}", f"replica {lease.replica.id} ({queue.key}): {text}", WARNING)

    def close(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
