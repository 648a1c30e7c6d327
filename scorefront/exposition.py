"""Prometheus text for `/metrics`: counts of router workers, scaling decisions, replicas.

The only module that imports `prometheus_client`.
"""

import asyncio
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from autoscaler.policy import Direction
from cluster.link import WorkerMetrics
from controlplane.endpoint_metrics import ProblemMetrics, ScalingMetrics
from scorefront.frontend_scaling import FrontEndFigures
from scorefront.worker_totals import HISTOGRAMS, BucketTotals, DeclaredSeries, WorkerTotals
from serving.endpoint import VersionKey
from serving.replica import ReplicaState
from telemetry.ring import PayloadCounts

MAX_ENDED_WORKERS = 32
"""Ended workers with separate counts; those of older ones are merged."""

_LABELS = ("endpoint", "version")
_FAILURES = (502, 503, 504)
"""Codes with a series before the first such response: a rate over a counter that appears at 40 misses these 40."""


@dataclass(frozen=True, slots=True)
class _OwnFigures:
    """Figures of the control process."""

    front_end: FrontEndFigures | None
    gauges: Mapping[str, float]
    counters: Mapping[str, int]


class Exposition:
    """Renders metrics; keeps the counts of ended workers, so that counters never decrease."""

    def __init__(
        self,
        front_end: Callable[[], FrontEndFigures] | None = None,
        routers_elsewhere: bool = False,
        gauges: Callable[[], Mapping[str, float]] = dict,
        counters: Callable[[], Mapping[str, int]] = dict,
        payloads: Callable[[], Mapping[VersionKey, PayloadCounts]] = dict,
        accesses: Callable[[], Mapping[str, PayloadCounts]] = dict,
    ) -> None:
        """An exposition without counts.

        front_end: figures of front end scaling; None: not exposed.
        routers_elsewhere: True if routers are scraped themselves; default False. Slots and requests are then omitted.
        gauges: further gauges of this process by short name; default: none.
        counters: further counters of this process by short name; default: none.
        payloads: collected payloads by version; default: none.
        accesses: access records exported (`stored`) and dropped, by endpoint; default: none.
        """
        self._gauges = gauges
        self._counters = counters
        self._payloads = payloads
        self._accesses = accesses
        self._front_end = front_end
        self._routers_elsewhere = routers_elsewhere
        self._counting = threading.Lock()
        self._last: dict[str, WorkerMetrics] = {}
        self._ended = WorkerTotals()
        self._process = ProcessCollector(registry=None)

    async def render(
        self, workers: Sequence[WorkerMetrics], scaling: ScalingMetrics, problems: ProblemMetrics
    ) -> bytes:
        """One scrape.

        workers: metrics of the live workers.
        scaling: of every declared version.
        problems: of versions and endpoints, now.
        """
        # With thousands of versions the text takes a second to make: in a thread, and only what is this thread's own.
        own = _OwnFigures(self._front_end and self._front_end(), dict(self._gauges()), dict(self._counters()))
        return await asyncio.to_thread(self._rendered, workers, scaling, problems, own)

    def _rendered(
        self, workers: Sequence[WorkerMetrics], scaling: ScalingMetrics, problems: ProblemMetrics, own: "_OwnFigures"
    ) -> bytes:
        """The text. Arguments of `render`; `own`: figures of this process."""
        desired = scaling.desired
        declared = DeclaredSeries(desired)
        totals = self._counts(workers, declared)
        totals.counters.update(own.counters)
        families = [
            *(_counters(totals) if self._routers_elsewhere else _counted(totals, desired)),
            *(() if self._routers_elsewhere else _slots(workers, desired)),
            *_scaling(scaling.replicas, desired, scaling.decisions),
            *_problems(problems),
            *(() if self._routers_elsewhere else _workers(workers, totals)),
            *(_front_end(own.front_end) if own.front_end is not None else ()),
            _collected(self._payloads(), declared),
            _exported(self._accesses(), declared),
            *(_gauge(short_name, value) for short_name, value in sorted(own.gauges.items())),
        ]
        return self._text(families)

    async def render_router(
        self,
        workers: Sequence[WorkerMetrics],
        declared: Collection[VersionKey],
        gauges: Mapping[str, tuple[str, float]],
    ) -> bytes:
        """One scrape of a router in a cluster; the leader exposes replicas and decisions.

        workers: metrics of the live workers.
        declared: the declared versions.
        gauges: name -> help text and value.
        """
        return await asyncio.to_thread(self._rendered_router, workers, dict.fromkeys(declared, 0), gauges)

    def _rendered_router(
        self,
        workers: Sequence[WorkerMetrics],
        known: Mapping[VersionKey, int],
        gauges: Mapping[str, tuple[str, float]],
    ) -> bytes:
        """The text. Arguments of `render_router`, with the declared versions as keys."""
        totals = self._counts(workers, DeclaredSeries(known))
        families = [*_counted(totals, known), *_slots(workers, known), *_workers(workers, totals)]
        families.append(_collected(self._payloads(), DeclaredSeries(known)))
        families.append(_exported(self._accesses(), DeclaredSeries(known)))
        for name, (meaning, value) in gauges.items():
            gauge = GaugeMetricFamily(name, meaning)
            gauge.add_metric((), value)
            families.append(gauge)
        return self._text(families)

    def _text(self, families: Sequence[Metric]) -> bytes:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Families(families))
        registry.register(self._process)
        return generate_latest(registry)

    def _counts(self, workers: Sequence[WorkerMetrics], declared: DeclaredSeries) -> WorkerTotals:
        """The counts of live and ended workers, of declared versions. `workers`: those that live."""
        with self._counting:  # the thread of a scrape that was broken off goes on
            self._remember(workers)
            self._ended.keep(declared)
            totals = self._totals()
        totals.keep(declared)
        return totals

    def _remember(self, workers: Sequence[WorkerMetrics]) -> None:
        alive = {worker.worker: worker for worker in workers}
        ended = {name: last for name, last in self._last.items() if name not in alive}
        for name in list(ended)[: max(len(ended) - MAX_ENDED_WORKERS, 0)]:
            self._ended.add(ended.pop(name))
        self._last = {**ended, **alive}

    def _totals(self) -> WorkerTotals:
        totals = WorkerTotals()
        for worker in self._last.values():
            totals.add(worker)
        totals.merge(self._ended)
        return totals


class _Families:
    """A collector of prometheus_client."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)


def _counted(totals: WorkerTotals, declared: Collection[VersionKey]) -> list[Metric]:
    requests = CounterMetricFamily("scorefront_requests_total", "Requests answered", labels=(*_LABELS, "code"))
    series = {(key, code): 0 for key in declared for code in _FAILURES} | totals.requests
    for (key, code), count in sorted(series.items()):
        requests.add_metric((*key, str(code)), count)
    exclusions = CounterMetricFamily(
        "scorefront_replica_exclusions_total",
        "Times a replica was ejected, or was suspect until its health path answered",
        labels=(*_LABELS, "standing"),
    )
    for (key, standing), count in sorted(totals.exclusions.items()):
        exclusions.add_metric((*key, standing), count)
    violations = CounterMetricFamily("scorefront_slot_violations_total", "Times a replica had more requests than slots")
    violations.add_metric((), totals.slot_violations)
    families: list[Metric] = [requests, exclusions, violations]
    for name, (_, help_text) in HISTOGRAMS.items():
        histogram = HistogramMetricFamily(name, help_text, labels=_LABELS)
        for (of, key), sum_ in sorted(totals.histograms.items(), key=lambda item: item[0]):
            if of == name:
                histogram.add_metric(tuple(key), _cumulative(sum_), sum_.sum_s)
        families.append(histogram)
    return [*families, *_counters(totals)]


def _counters(totals: WorkerTotals) -> list[Metric]:
    families: list[Metric] = []
    for short_name, count in sorted(totals.counters.items()):
        counter = CounterMetricFamily(f"scorefront_{short_name}_total", f"Times counted: {short_name}")
        counter.add_metric((), count)
        families.append(counter)
    return families


def _collected(payloads: Mapping[VersionKey, PayloadCounts], declared: DeclaredSeries) -> Metric:
    counter = CounterMetricFamily(
        "scorefront_payloads_total",
        "Requests of versions that collect payloads, and data of their scripts",
        labels=(*_LABELS, "result"),
    )
    for key, counts in sorted(payloads.items()):
        if key in declared:
            for result, count in counts._asdict().items():
                counter.add_metric((*key, result), count)
    return counter


def _exported(accesses: Mapping[str, PayloadCounts], declared: DeclaredSeries) -> Metric:
    counter = CounterMetricFamily(
        "scorefront_telemetry_records_total",
        "Requests of endpoints with telemetry, by the fate of their request record and span",
        labels=("endpoint", "result"),
    )
    for endpoint, counts in sorted(accesses.items()):
        if VersionKey(endpoint, "") in declared:
            counter.add_metric((endpoint, "exported"), counts.stored)
            counter.add_metric((endpoint, "dropped"), counts.dropped)
    return counter


def _gauge(short_name: str, value: float) -> Metric:
    gauge = GaugeMetricFamily(f"scorefront_{short_name}", f"Now: {short_name}")
    gauge.add_metric((), value)
    return gauge


def _cumulative(sum_: BucketTotals) -> list[tuple[str, float]]:
    buckets, running = [], 0
    for bound, count in zip((*map(str, sum_.bounds_s), "+Inf"), sum_.counts, strict=True):
        running += count
        buckets.append((bound, float(running)))
    return buckets


def _slots(workers: Sequence[WorkerMetrics], declared: Mapping[VersionKey, int]) -> list[Metric]:
    now: dict[VersionKey, tuple[int, int, int]] = dict.fromkeys(declared, (0, 0, 0))
    for worker in workers:
        for each in worker.versions:
            key = VersionKey(each.endpoint, each.version)
            if key in now:
                busy, total, waiting = now[key]
                now[key] = (busy + each.busy, total + each.total, waiting + each.waiting)
    gauges = (
        GaugeMetricFamily("scorefront_busy_slots", "Slots in use", labels=_LABELS),
        GaugeMetricFamily("scorefront_total_slots", "Slots of ready replicas", labels=_LABELS),
        GaugeMetricFamily("scorefront_waiting_requests", "Requests that wait for a slot", labels=_LABELS),
        GaugeMetricFamily("scorefront_utilization_ratio", "Slots in use / slots of ready replicas", labels=_LABELS),
    )
    for key, (busy, total, waiting) in sorted(now.items()):
        for gauge, value in zip(gauges, (busy, total, waiting, busy / total if total else 0.0), strict=True):
            gauge.add_metric(tuple(key), value)
    return list(gauges)


def _scaling(
    replicas: Mapping[VersionKey, Mapping[ReplicaState, int]],
    desired: Mapping[VersionKey, int],
    decisions: Mapping[tuple[VersionKey, Direction], int],
) -> list[Metric]:
    states = GaugeMetricFamily("scorefront_replicas", "Replicas by state", labels=(*_LABELS, "state"))
    for key, counts in sorted(replicas.items()):
        for state, count in counts.items():
            states.add_metric((*key, state.value), count)
    wanted = GaugeMetricFamily("scorefront_desired_replicas", "Replicas that should run", labels=_LABELS)
    for key, count in sorted(desired.items()):
        wanted.add_metric(tuple(key), count)
    decided = CounterMetricFamily(
        "scorefront_scale_decisions_total", "Scaling decisions recorded", labels=(*_LABELS, "direction")
    )
    # Every series exists from the start: a rate over a counter that appears at 1 misses the first decision.
    series = {(key, direction): 0 for key in desired for direction in Direction} | dict(decisions)
    for (key, direction), count in sorted(series.items()):
        decided.add_metric((*key, direction.value), count)
    return [states, wanted, decided]


def _problems(problems: ProblemMetrics) -> list[Metric]:
    problem = GaugeMetricFamily(
        "scorefront_version_problem", "1 while a version has this problem", labels=(*_LABELS, "problem")
    )
    for key, words in sorted(problems.versions.items()):
        for word in words:
            problem.add_metric((*key, word.value), 1)
    endpoint = GaugeMetricFamily(
        "scorefront_endpoint_degraded", "1 while an endpoint does not run as declared", labels=("endpoint",)
    )
    for name in sorted(problems.degraded):
        endpoint.add_metric((name,), 1)
    return [problem, endpoint]


def _workers(workers: Sequence[WorkerMetrics], totals: WorkerTotals) -> list[Metric]:
    connections = GaugeMetricFamily("scorefront_connections", "Open connections of clients")
    connections.add_metric((), sum(worker.connections for worker in workers))
    lag = GaugeMetricFamily(
        "scorefront_worker_loop_lag_seconds", "Longest lateness of any worker's event loop since the last scrape"
    )
    lag.add_metric((), max((worker.loop_lag_s for worker in workers), default=0.0))
    tasks = GaugeMetricFamily("scorefront_worker_tasks", "asyncio tasks of the router workers that are alive")
    tasks.add_metric((), sum(worker.tasks for worker in workers))
    cpu = CounterMetricFamily("scorefront_worker_cpu_seconds_total", "CPU time of the router workers")
    cpu.add_metric((), totals.cpu_s)
    memory = GaugeMetricFamily(
        "scorefront_worker_resident_memory_bytes", "Memory of the router workers; shared pages count for each"
    )
    memory.add_metric((), sum(worker.resident_bytes for worker in workers))
    expiry = GaugeMetricFamily(
        "scorefront_tls_certificate_expiry_timestamp_seconds", "When the first of the certificates in use ends"
    )
    ends = [worker.certificate_expires_unix for worker in workers if worker.certificate_expires_unix]
    if ends:
        expiry.add_metric((), min(ends))
    return [connections, lag, tasks, cpu, memory, expiry]


def _front_end(figures: FrontEndFigures) -> list[Metric]:
    serving = GaugeMetricFamily("scorefront_router_workers", "Router workers that serve")
    serving.add_metric((), figures.workers)
    desired = GaugeMetricFamily("scorefront_desired_router_workers", "Router workers that there should be")
    desired.add_metric((), figures.desired)
    decided = CounterMetricFamily(
        "scorefront_frontend_decisions_total",
        "Decisions recorded on the number of router workers",
        labels=("direction",),
    )
    for direction in Direction:
        decided.add_metric((direction.value,), figures.decisions.get(direction, 0))
    return [serving, desired, decided]
