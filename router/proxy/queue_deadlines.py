"""Timers of the version queues: one per version for waiting tickets, one for running requests, set for the oldest."""

import asyncio
import logging
from collections.abc import Callable

from router.core.dispatcher import Dispatcher, VersionQueue
from router.core.ledger import Lease
from router.metrics import WorkerStats
from router.proxy.core_effects import CoreEffects
from router.proxy.exchange import Exchange
from serving.endpoint import Version

_log = logging.getLogger("scorefront.router")

STUCK_S = 2.0
"""A slot held this long after its scoring timeout is stuck: its timer has failed."""


class QueueDeadlines:
    """Enforces the queue wait and the scoring timeout of all versions."""

    def __init__(
        self, dispatcher: Dispatcher, effects: CoreEffects, stats: WorkerStats, now: Callable[[], float]
    ) -> None:
        """`now`: monotonic seconds."""
        self._dispatcher = dispatcher
        self._effects = effects
        self._stats = stats
        self._now = now
        self._waiting: dict[VersionQueue, asyncio.TimerHandle] = {}
        self._running: dict[VersionQueue, asyncio.TimerHandle] = {}

    def watch_waiting(self, queue: VersionQueue) -> None:
        """A ticket waits in the queue: ensure a timer, and report it."""
        if queue not in self._waiting:
            self._arm_waiting(queue)
        self._effects.note_waiting()

    def _arm_waiting(self, queue: VersionQueue) -> None:
        deadline = queue.next_deadline()
        if deadline is not None and queue not in self._waiting:
            delay = max(0.0, deadline - self._now())
            self._waiting[queue] = asyncio.get_running_loop().call_later(delay, self._expire, queue)

    def _expire(self, queue: VersionQueue) -> None:
        del self._waiting[queue]
        for ticket, error in queue.expire(self._now()):
            assert isinstance(ticket, Exchange)
            ticket.refuse(error)
        self._effects.carry_out(None)
        self._arm_waiting(queue)

    def watch_running(self, queue: VersionQueue) -> None:
        """A request of the queue got a slot: ensure a timer for its scoring timeout."""
        if queue not in self._running:
            self._arm_running(queue)

    def _arm_running(self, queue: VersionQueue) -> None:
        deadline = queue.next_overdue()
        if deadline is not None and queue not in self._running:
            delay = max(0.001, deadline - self._now())
            self._running[queue] = asyncio.get_running_loop().call_later(delay, self._time_out, queue)

    def _time_out(self, queue: VersionQueue) -> None:
        del self._running[queue]
        for lease in queue.overdue(self._now()):
            exchange = lease.holder
            assert isinstance(exchange, Exchange)
            self._stats.counters["scoring_timeouts"] += 1
            exchange.timed_out()
        self._arm_running(queue)

    def configure(self, endpoint: str, version: Version) -> None:
        """Set queue wait and scoring timeout of a version; its timers are set anew. `endpoint`: its name."""
        queue = self._dispatcher.configure(endpoint, version)
        for timers, arm in ((self._waiting, self._arm_waiting), (self._running, self._arm_running)):
            handle = timers.pop(queue, None)
            if handle is not None:
                handle.cancel()
                arm(queue)

    def end_stuck(self, now: float) -> None:
        """End requests with a stuck slot. `now`: monotonic seconds."""
        for queue in self._dispatcher.queues.values():
            for lease in queue.overdue(now - STUCK_S):
                self._end_stuck(lease, now)

    def _end_stuck(self, lease: Lease, now: float) -> None:
        exchange = lease.holder
        assert isinstance(exchange, Exchange)
        self._stats.counters["stuck_slots"] += 1
        held_s = now - lease.granted_at
        request_id = exchange.request_id.decode()
        _log.error("request %s: stuck with a slot of %s for %.1f s: ended", request_id, lease.replica.id, held_s)
        exchange.timed_out()

    def close(self) -> None:
        """Cancel all timers."""
        for handle in [*self._waiting.values(), *self._running.values()]:
            handle.cancel()
