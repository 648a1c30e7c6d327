"""Reports of one worker: usage of its versions, and metrics on request."""

import asyncio
from collections.abc import Callable, Mapping

from cluster.link import Usage, WorkerMetrics
from router.core.dispatcher import VersionQueue
from router.proxy.gateway import Gateway
from serving.usage import UsageReport, VersionUsage

REPORT_S = 0.2
STARVED_REPORT_S = 0.01
"""Least time between two reports for starved versions: a burst of 1,000 requests makes one report."""


class WorkerReports:
    """Sends usage of changed versions every REPORT_S, and at once when a version has no free slot."""

    def __init__(self, gateway: Gateway, name: str, send: Callable[[Usage], None]) -> None:
        """`name`: of the worker. `send`: sends a message to the supervisor."""
        self._gateway = gateway
        self._name = name
        self._send = send
        self._starved_handle: asyncio.TimerHandle | None = None
        gateway.effects.on_starved = self._starved

    async def run(self) -> None:
        """Send reports until cancelled."""
        try:
            while True:
                await asyncio.sleep(REPORT_S)
                self._send_report()
        finally:
            if self._starved_handle is not None:
                self._starved_handle.cancel()

    def _starved(self) -> None:
        if self._starved_handle is None:
            loop = asyncio.get_running_loop()
            # The first one goes out with this turn of the loop; those right behind it share the next report.
            loop.call_soon(self._send_report)
            self._starved_handle = loop.call_later(STARVED_REPORT_S, self._starved_again)

    def _starved_again(self) -> None:
        self._starved_handle = None
        if self._gateway.dispatcher.starved:
            self._send_report()

    def _send_report(self) -> None:
        dispatcher, now = self._gateway.dispatcher, self._gateway.now()
        starved = [queue for queue in dispatcher.starved if queue.queue_length]
        dispatcher.starved.clear()
        for queue in starved:
            queue.changed = True
        usages = []
        for queue in dispatcher.queues.values():
            queue.starved = False
            if queue.changed:
                queue.changed = False
                usages.append(_usage(queue, now))
        self._send(Usage(UsageReport(self._name, now, tuple(usages), tuple(queue.key for queue in starved))))

    def metrics(self, logs_dropped: int, counters: Mapping[str, int]) -> WorkerMetrics:
        """The metrics now. `logs_dropped`: lost lines of the program log. `counters`: of the peer links."""
        queues = self._gateway.dispatcher.queues
        stats = self._gateway.stats
        ledgers = [queue.ledger for queue in queues.values()]
        stats.counters["double_releases"] = sum(ledger.double_releases for ledger in ledgers)
        stats.counters["access_log_dropped"] = self._gateway.access_log.dropped
        stats.counters["log_dropped"] = logs_dropped
        stats.counters.update(counters)
        stats.tasks = len(asyncio.all_tasks())
        return stats.snapshot(
            self._name,
            {key: (queue.ledger.busy, queue.ledger.total, queue.waiting) for key, queue in queues.items()},
            sum(ledger.violations for ledger in ledgers),
        )


def _usage(queue: VersionQueue, now: float) -> VersionUsage:
    ledger = queue.ledger
    return VersionUsage(
        endpoint=queue.key.endpoint,
        version=queue.key.version,
        busy=ledger.busy,
        total=ledger.total,
        waiting=queue.queue_length,
        busy_slot_seconds=ledger.busy_slot_seconds(now),
        busy_by_replica=queue.ledger.busy_by_replica(),
        suspects=queue.health.reported_suspects(now),
    )
