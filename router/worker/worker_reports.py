"""Reports of one worker: usage of its versions, and metrics on request."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping

from cluster.link import Metrics, MetricsPart, Usage, VersionMetrics
from router.core.dispatcher import VersionQueue
from router.proxy.gateway import Gateway
from serving.usage import UsageReport, VersionUsage

REPORT_S = 0.2
STARVED_REPORT_S = 0.01
"""Least time between two reports for starved versions: a burst of 1,000 requests makes one report."""


SCRAPED_AT_ONCE = 64
"""Most versions in one part of a scrape: 0.3 ms. 6,000 versions at once would hold up requests for 25 to 45 ms."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


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

    def scrape(self, request: int, logs_dropped: int, counters: Mapping[str, int]) -> Iterator[Metrics | MetricsPart]:
        """The answer to `Collect` in parts of at most SCRAPED_AT_ONCE versions, each as of its own time.

        `request`: of `Collect`. `logs_dropped`: lost lines of the program log. `counters`: of the peer links.
        """
        queues, stats = self._gateway.dispatcher.queues, self._gateway.stats
        keys = [*queues, *(key for key in stats.versions if key not in queues)]
        violations = double_releases = 0
        versions: list[VersionMetrics] = []
        for key in keys:
            if len(versions) == SCRAPED_AT_ONCE:
                yield MetricsPart(request, tuple(versions))
                versions.clear()
            queue = queues.get(key)
            if queue is not None:
                ledger, health = queue.ledger, queue.health
                violations += ledger.violations
                double_releases += ledger.double_releases
                figures = (ledger.busy, ledger.total, queue.waiting, health.ejected, health.suspected)
                versions.append(stats.version(key).snapshot(key, *figures))
            elif key in stats.versions:  # else it was forgotten meanwhile
                versions.append(stats.versions[key].snapshot(key))
        stats.counters["double_releases"] = double_releases
        stats.counters["access_log_dropped"] = self._gateway.access_log.dropped
        stats.counters["connections_handed_off"] = self._gateway.handoff.passed
        stats.counters["log_dropped"] = logs_dropped
        stats.counters.update(counters)
        stats.tasks = len(asyncio.all_tasks())
        cpu_s, memory_bytes = time.process_time(), _resident_bytes()
        yield Metrics(request, stats.snapshot(self._name, tuple(versions), violations, cpu_s, memory_bytes))


def _resident_bytes() -> int:
    """Resident memory of this process; 0 without /proc."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * PAGE_BYTES
    except OSError:
        return 0


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
