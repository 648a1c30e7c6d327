"""Counters of the hot path: plain integers and fixed buckets; snapshots and sums are made on request."""

from bisect import bisect_left
from collections import defaultdict

from cluster.link import Histogram, VersionMetrics, WorkerMetrics
from router.request_trace import RequestTrace, trim
from serving.endpoint import VersionKey

DURATION_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
WAIT_BOUNDS_S = (0.0, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
COUNTERS = (
    *("client_gone", "connections_evicted", "connections_handed_off", "half_heads_shed", "retries"),
    *("scoring_timeouts", "stale_connections", "stuck_slots", "tls_handshakes_failed"),
)
"""Counters that exist before their first event: a rate over a counter that appears at 1 misses that one."""
ROUTING_BOUNDS_S = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1)


class HistogramBuckets:
    """Histogram with fixed bounds: 0.2 µs per observation."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds

    def snapshot(self) -> Histogram:
        """The counts as a message."""
        return Histogram(self.bounds, tuple(self.counts), self.sum)


class VersionStats:
    """Counters and histograms of one version."""

    __slots__ = ("_recent", "duration", "queue_wait", "requests", "routing", "trace")

    def __init__(self, recent: list[float] | None = None) -> None:
        """`recent`: list shared by all versions; each routing time (s) is appended (`WorkerStats.tally`)."""
        self._recent = [] if recent is None else recent
        self.requests: dict[int, int] = defaultdict(int)
        self.duration = HistogramBuckets(DURATION_BOUNDS_S)
        self.queue_wait = HistogramBuckets(WAIT_BOUNDS_S)
        self.routing = HistogramBuckets(ROUTING_BOUNDS_S)
        self.trace = RequestTrace()

    @property
    def ended(self) -> int:
        """Requests counted since the start."""
        return sum(self.requests.values())

    def observe(self, status: int, duration_s: float, waited_s: float, routing_s: float) -> None:
        """Count one request: 0.6 µs.

        `status`: HTTP status or 499. `duration_s`: from its start to its end. `waited_s`: in the queue. `routing_s`: in
        the router itself.
        """
        self.requests[status] += 1
        self.duration.observe(duration_s)
        if waited_s:
            self.queue_wait.observe(waited_s)
        else:
            self.queue_wait.counts[0] += 1  # most requests do not wait: no search for the bucket of 0
        self.routing.observe(routing_s)
        # Two totals kept here would be 48 ns, summing over 6,000 versions at every beat 2 ms; this is 13 ns.
        self._recent.append(routing_s)

    def snapshot(
        self, key: VersionKey, busy: int = 0, total: int = 0, waiting: int = 0, ejected: int = 0, suspected: int = 0
    ) -> VersionMetrics:
        """The counters as a message.

        `busy`, `total`: slots. `waiting`: queued requests. `ejected`, `suspected`: times a replica became so.
        """
        return VersionMetrics(
            endpoint=key.endpoint,
            version=key.version,
            requests=dict(self.requests),
            duration=self.duration.snapshot(),
            queue_wait=self.queue_wait.snapshot(),
            routing=self.routing.snapshot(),
            busy=busy,
            total=total,
            waiting=waiting,
            ejected=ejected,
            suspected=suspected,
        )


class WorkerStats:
    """All counters of one worker. Requests that reached no version are counted under version ""."""

    def __init__(self) -> None:
        self.versions: dict[VersionKey, VersionStats] = {}
        self.counters: dict[str, int] = defaultdict(int, dict.fromkeys(COUNTERS, 0))
        self.connections = 0
        self.loop_lag_s = 0.0
        """Longest loop lag since the last snapshot."""
        self.late_s = 0.0
        """Sum of the sampled delays between arrival of input and its handling: one sample per beat since the start."""
        self.routed = 0
        """Completed requests of all versions as of the last `tally`; so is `routing_s`."""
        self.routing_s = 0.0
        self._recent: list[float] = []
        self.certificate_expires_unix = 0
        self.tasks = 0

    def version(self, key: VersionKey) -> VersionStats:
        """The counters of one version, created on first use."""
        stats = self.versions.get(key)
        if stats is None:
            stats = self.versions[key] = VersionStats(self._recent)
        return stats

    def tally(self) -> None:
        """Add the requests since the last call to `routed` and `routing_s`. Called at every beat."""
        self.routed += len(self._recent)
        self.routing_s += sum(self._recent)
        self._recent.clear()

    def trim_traces(self, now: float) -> None:
        """Keep the traces of all versions within their bounds. `now`: monotonic seconds."""
        trim([stats.trace for stats in self.versions.values()], now)

    def forget(self, key: VersionKey) -> None:
        """Drop the counters of a version that is no longer declared."""
        self.versions.pop(key, None)

    def snapshot(
        self, worker: str, versions: tuple[VersionMetrics, ...], violations: int, cpu_s: float, resident_bytes: int
    ) -> WorkerMetrics:
        """The counters as a message. Resets the longest loop lag.

        `worker`: its name. `versions`: counters of versions. `violations`: slot violations of all ledgers. `cpu_s`,
        `resident_bytes`: CPU time and memory of the process.
        """
        lag, self.loop_lag_s = self.loop_lag_s, 0.0
        return WorkerMetrics(
            worker=worker,
            versions=versions,
            connections=self.connections,
            slot_violations=violations,
            loop_lag_s=lag,
            counters=dict(self.counters),
            certificate_expires_unix=self.certificate_expires_unix,
            tasks=self.tasks,
            cpu_s=cpu_s,
            resident_bytes=resident_bytes,
        )
