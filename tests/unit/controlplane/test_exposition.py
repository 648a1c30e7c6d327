import asyncio
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from autoscaler.policy import Direction
from cluster.link import Histogram, VersionMetrics, WorkerMetrics
from cluster.provider import Problem
from controlplane.endpoint_metrics import ProblemMetrics, ScalingMetrics
from scorefront.exposition import MAX_ENDED_WORKERS, Exposition
from serving.endpoint import VersionKey
from serving.replica import ReplicaState

BLUE = VersionKey("iris", "blue")
LABELS = {"endpoint": "iris", "version": "blue"}


def version(
    requests: dict[int, int] | None = None,
    busy: int = 0,
    total: int = 0,
    waiting: int = 0,
    counts: tuple[int, ...] = (1, 2, 0),
    name: str = "blue",
) -> VersionMetrics:
    histogram = Histogram((0.1, 1.0), counts, 0.5)
    return VersionMetrics("iris", name, requests or {200: 3}, histogram, histogram, histogram, busy, total, waiting)


def worker(
    name: str, *versions: VersionMetrics, violations: int = 0, lag: float = 0.0, counters: dict[str, int] | None = None
) -> WorkerMetrics:
    return WorkerMetrics(name, versions, 7, violations, lag, counters or {})


def scraped(
    workers: list[WorkerMetrics],
    exposition: Exposition | None = None,
    desired: dict[VersionKey, int] | None = None,
    replicas: dict[VersionKey, Any] | None = None,
    decisions: dict[tuple[VersionKey, Direction], int] | None = None,
    problems: ProblemMetrics | None = None,
) -> dict[Any, float]:
    desired = {BLUE: 2} if desired is None else desired
    scaling = ScalingMetrics(replicas or {}, desired, decisions or {})
    body = asyncio.run((exposition or Exposition()).render(workers, scaling, problems or ProblemMetrics()))
    samples = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            samples[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return samples


def value(samples: dict[Any, float], name: str, **labels: str) -> float:
    return samples[name, tuple(sorted(labels.items()))]


def test_requests_are_summed_over_workers_by_code() -> None:
    samples = scraped([worker("a", version({200: 3, 503: 1})), worker("b", version({200: 4}))])
    assert value(samples, "scorefront_requests_total", **LABELS, code="200") == 7
    assert value(samples, "scorefront_requests_total", **LABELS, code="503") == 1


@pytest.mark.parametrize("name", ["request_duration_seconds", "queue_wait_seconds", "routing_seconds"])
def test_histograms_are_cumulative_and_summed_over_workers(name: str) -> None:
    samples = scraped([worker("a", version(counts=(1, 2, 0))), worker("b", version(counts=(0, 1, 5)))])
    buckets = [value(samples, f"scorefront_{name}_bucket", **LABELS, le=le) for le in ("0.1", "1.0", "+Inf")]
    assert buckets == [1, 4, 9]
    assert value(samples, f"scorefront_{name}_count", **LABELS) == 9
    assert value(samples, f"scorefront_{name}_sum", **LABELS) == 1.0


def test_slots_are_gauges_and_utilization_is_busy_over_total() -> None:
    samples = scraped([worker("a", version(busy=2, total=4, waiting=1)), worker("b", version(busy=1, total=0))])
    names = ("busy_slots", "total_slots", "waiting_requests", "utilization_ratio")
    assert [value(samples, f"scorefront_{name}", **LABELS) for name in names] == [3, 4, 1, 0.75]


def test_a_declared_version_that_no_worker_speaks_of_is_idle_not_absent() -> None:
    samples = scraped([])
    assert value(samples, "scorefront_utilization_ratio", **LABELS) == 0
    assert value(samples, "scorefront_slot_violations_total") == 0
    assert value(samples, "scorefront_connections") == 0


def test_counters_do_not_go_backwards_when_a_worker_is_restarted() -> None:
    exposition = Exposition()
    first = [worker("a", version({200: 30}), violations=1, counters={"retries": 4}), worker("b", version({200: 5}))]
    scraped(first, exposition)
    samples = scraped([worker("a2", version({200: 1})), worker("b", version({200: 6}))], exposition)
    assert value(samples, "scorefront_requests_total", **LABELS, code="200") == 37
    assert value(samples, "scorefront_slot_violations_total") == 1
    assert value(samples, "scorefront_retries_total") == 4


def test_a_worker_that_misses_a_scrape_is_not_counted_twice() -> None:
    exposition = Exposition()
    scraped([worker("a", version({200: 30}))], exposition)
    scraped([], exposition)
    samples = scraped([worker("a", version({200: 31}))], exposition)
    assert value(samples, "scorefront_requests_total", **LABELS, code="200") == 31


def test_workers_that_ended_long_ago_still_count() -> None:
    exposition = Exposition()
    for number in range(2 * MAX_ENDED_WORKERS):
        samples = scraped([worker(f"w{number}", version({200: 1}))], exposition)
    assert value(samples, "scorefront_requests_total", **LABELS, code="200") == 2 * MAX_ENDED_WORKERS
    assert value(samples, "scorefront_routing_seconds_count", **LABELS) == 2 * MAX_ENDED_WORKERS * 3


def test_an_ended_workers_busy_slots_are_gone() -> None:
    exposition = Exposition()
    scraped([worker("a", version(busy=1, total=1))], exposition)
    assert value(scraped([], exposition), "scorefront_busy_slots", **LABELS) == 0


def test_desired_replicas_and_decisions_are_exposed_by_version() -> None:
    samples = scraped(
        [],
        replicas={BLUE: {ReplicaState.READY: 2, ReplicaState.FAILED: 1}},
        decisions={(BLUE, Direction.UP): 3},
    )
    assert value(samples, "scorefront_replicas", **LABELS, state="ready") == 2
    assert value(samples, "scorefront_replicas", **LABELS, state="failed") == 1
    assert value(samples, "scorefront_desired_replicas", **LABELS) == 2
    assert value(samples, "scorefront_scale_decisions_total", **LABELS, direction="up") == 3
    assert value(samples, "scorefront_scale_decisions_total", **LABELS, direction="down") == 0


def test_the_worst_loop_lag_and_all_connections_are_exposed() -> None:
    samples = scraped([worker("a", lag=0.01), worker("b", lag=0.2)])
    assert value(samples, "scorefront_worker_loop_lag_seconds") == 0.2
    assert value(samples, "scorefront_connections") == 14


def test_requests_without_a_version_are_counted_under_an_empty_name() -> None:
    samples = scraped([worker("a", version({404: 2}, name=""))])
    assert value(samples, "scorefront_requests_total", endpoint="iris", version="", code="404") == 2


def test_counters_of_ended_workers_end_with_the_version() -> None:
    exposition, other = Exposition(), {VersionKey("wine", "blue"): 1}
    for number in range(2 * MAX_ENDED_WORKERS):
        scraped([worker(f"w{number}", version({200: 1}), version({404: 1}, name=""))], exposition)
    assert not [labels for _, labels in scraped([], exposition, other) if ("endpoint", "iris") in labels]
    assert exposition._ended.requests == {} and exposition._ended.histograms == {}


def test_a_router_exposes_its_workers_and_not_the_leaders_decisions() -> None:
    one = worker("a", version({200: 3}, busy=1, total=2))
    text = asyncio.run(Exposition().render_router([one], [BLUE], {"up": ("Is", 1.0)}))
    samples = {line.split(" ")[0]: line.split(" ")[1] for line in text.decode().splitlines() if line[0] != "#"}
    assert samples['scorefront_requests_total{code="200",endpoint="iris",version="blue"}'] == "3.0"
    assert samples['scorefront_utilization_ratio{endpoint="iris",version="blue"}'] == "0.5"
    assert samples["up"] == "1.0"
    assert b"scorefront_desired_replicas" not in text


def test_problems_and_degraded_endpoints_are_exposed_while_they_last() -> None:
    problems = ProblemMetrics({BLUE: (Problem.LIMITED, Problem.FAILING)}, frozenset({"wine"}))
    samples = scraped([], problems=problems)
    assert value(samples, "scorefront_version_problem", **LABELS, problem="limited") == 1
    assert value(samples, "scorefront_version_problem", **LABELS, problem="failing") == 1
    assert value(samples, "scorefront_endpoint_degraded", endpoint="wine") == 1
    assert not [
        name for name, _ in scraped([]) if name in ("scorefront_version_problem", "scorefront_endpoint_degraded")
    ]


def test_codes_of_failures_exist_before_the_first_one() -> None:
    samples = scraped([worker("a", version({200: 3, 503: 1}))])
    codes = {code: value(samples, "scorefront_requests_total", **LABELS, code=code) for code in ("502", "503", "504")}
    assert codes == {"502": 0, "503": 1, "504": 0}


def test_exclusions_and_the_cpu_time_of_ended_workers_still_count() -> None:
    exposition, excluded = Exposition(), msgspec.structs.replace(version(), ejected=1, suspected=2)
    for number in range(2 * MAX_ENDED_WORKERS):
        one = msgspec.structs.replace(worker(f"w{number}", excluded), cpu_s=0.5, resident_bytes=7)
        samples = scraped([one], exposition)
    assert value(samples, "scorefront_replica_exclusions_total", **LABELS, standing="ejected") == 2 * MAX_ENDED_WORKERS
    assert value(samples, "scorefront_replica_exclusions_total", **LABELS, standing="suspect") == 4 * MAX_ENDED_WORKERS
    assert value(samples, "scorefront_worker_cpu_seconds_total") == MAX_ENDED_WORKERS
    assert value(samples, "scorefront_worker_resident_memory_bytes") == 7
