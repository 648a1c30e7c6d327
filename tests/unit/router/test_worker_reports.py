"""The answer to a scrape: bounded parts, together every version once."""

from types import SimpleNamespace
from typing import Any, cast

from cluster.link import Metrics, MetricsPart, VersionMetrics
from router.core.dispatcher import Dispatcher
from router.core.health import Failure
from router.metrics import WorkerStats
from router.proxy.connection_handoff import ConnectionHandoff
from router.proxy.gateway import Gateway
from router.worker.worker_reports import SCRAPED_AT_ONCE, WorkerReports
from serving.endpoint import VersionKey
from tests.unit.router.records import replica, version

BLUE, NO_VERSION = VersionKey("iris", "blue"), VersionKey("", "")


class Worker:
    """A worker without connections: its versions and counters. `parts`: of the last scrape."""

    def __init__(self, endpoints: int = 1) -> None:
        self.stats = WorkerStats()
        self.dispatcher = Dispatcher()
        for number in range(endpoints):
            self.dispatcher.configure(f"endpoint-{number}", version())
        gateway = SimpleNamespace(
            dispatcher=self.dispatcher,
            stats=self.stats,
            handoff=ConnectionHandoff(),
            access_log=SimpleNamespace(dropped=0),
            effects=SimpleNamespace(),
        )
        self.reports = WorkerReports(cast(Gateway, gateway), "w1", lambda message: None)
        self.parts: list[Metrics | MetricsPart] = []

    def scrape(self) -> Metrics:
        self.parts = list(self.reports.scrape(7, 3, {"late_grants": 2}))
        last = self.parts[-1]
        assert isinstance(last, Metrics)
        return last

    def versions(self) -> list[VersionMetrics]:
        found = [part.metrics.versions if isinstance(part, Metrics) else part.versions for part in self.parts]
        return [each for versions in found for each in versions]


async def test_no_part_of_a_scrape_has_more_than_a_bounded_number_of_versions() -> None:
    worker = Worker(endpoints=1000)
    worker.stats.version(NO_VERSION).requests[404] += 1
    worker.scrape()
    sizes = [len(part.metrics.versions if isinstance(part, Metrics) else part.versions) for part in worker.parts]
    assert max(sizes) == SCRAPED_AT_ONCE and sum(sizes) == 1001
    assert [type(part) for part in worker.parts[:-1]] == [MetricsPart] * (len(sizes) - 1)
    assert {part.request for part in worker.parts} == {7}
    names = [(each.endpoint, each.version) for each in worker.versions()]
    assert sorted(names) == sorted({NO_VERSION, *worker.dispatcher.queues})


async def test_a_part_has_the_counts_of_its_time() -> None:
    worker = Worker(endpoints=2 * SCRAPED_AT_ONCE)
    first, *_, last = worker.dispatcher.queues
    parts = worker.reports.scrape(1, 0, {})
    one = next(parts)
    assert isinstance(one, MetricsPart)
    for key in (first, last):
        worker.stats.version(key).requests[200] += 1
    worker.parts = [one, *parts]
    counted = {VersionKey(each.endpoint, each.version): each.requests for each in worker.versions()}
    assert (counted[first], counted[last]) == ({}, {200: 1})


async def test_a_version_that_is_removed_between_two_parts_is_left_out() -> None:
    worker = Worker(endpoints=SCRAPED_AT_ONCE)
    for key in (NO_VERSION, BLUE):
        worker.stats.version(key).requests[404] += 1
    parts = worker.reports.scrape(1, 0, {})
    one = next(parts)
    worker.stats.forget(BLUE)
    worker.parts = [one, *parts]
    assert len(worker.versions()) == SCRAPED_AT_ONCE + 1 and BLUE not in worker.stats.versions


async def test_a_scrape_has_slots_exclusions_and_the_cost_of_the_process() -> None:
    worker = Worker(endpoints=0)
    worker.dispatcher.configure("iris", version())
    for name in ("a", "b", "c"):
        worker.dispatcher.upsert(replica(name, slots=2), 0.0)
    queue = worker.dispatcher.queue(BLUE)
    queue.health.failed(queue.replicas["a"], Failure.UNREACHABLE, 1.0)
    queue.health.failed(queue.replicas["b"], Failure.BROKEN, 1.0)
    told = worker.scrape().metrics
    (blue,) = told.versions
    assert (blue.busy, blue.total, blue.waiting, blue.ejected, blue.suspected) == (0, 6, 0, 1, 1)
    assert (told.worker, told.counters["log_dropped"], told.counters["late_grants"]) == ("w1", 3, 2)
    assert told.cpu_s > 0 and told.resident_bytes > 1_000_000 and told.tasks == 1


async def test_counters_exist_before_their_first_event() -> None:
    counters: dict[str, Any] = Worker().scrape().metrics.counters
    assert {"retries", "connections_handed_off", "client_gone"} <= {
        name for name, count in counters.items() if not count
    }
