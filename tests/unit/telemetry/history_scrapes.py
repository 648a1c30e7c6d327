"""Made-up scrapes of router workers, and the size of a full history.

`python -m tests.unit.telemetry.history_scrapes --endpoints 1000` prints the memory of the rings with traffic on every
version, the size of the file, and the time of a scrape.
"""

import argparse
import time
from bisect import bisect_left
from collections.abc import Iterable

from cluster.link import Histogram, VersionMetrics, WorkerMetrics
from router.metrics import DURATION_BOUNDS_S, WAIT_BOUNDS_S
from serving.endpoint import VersionKey
from telemetry.history.kept_history import to_bytes
from telemetry.history.metric_history import COARSE_S, FINE_S, MetricHistory
from telemetry.history.point_ring import ReplicaNumbers

KEY = VersionKey("iris", "blue")
ONE = {KEY: ReplicaNumbers(1, 2)}


def histogram(bounds_s: tuple[float, ...], values_s: Iterable[float]) -> Histogram:
    """Counts of the values."""
    counts, sum_s = [0] * (len(bounds_s) + 1), 0.0
    for value_s in values_s:
        counts[bisect_left(bounds_s, value_s)] += 1
        sum_s += value_s
    return Histogram(bounds_s, tuple(counts), sum_s)


def version(
    requests: dict[int, int], duration_s: float = 0.04, wait_s: float = 0.0, key: VersionKey = KEY, busy: int = 1
) -> VersionMetrics:
    """Counters of one version in one worker; each request takes as long as the others."""
    number = sum(requests.values())
    duration = histogram(DURATION_BOUNDS_S, [duration_s] * number)
    return VersionMetrics(
        *key, requests, duration, histogram(WAIT_BOUNDS_S, [wait_s] * number), histogram((0.1,), ()), busy, 4
    )


def worker(*versions: VersionMetrics, name: str = "1") -> WorkerMetrics:
    """One worker."""
    return WorkerMetrics(name, versions, 0, 0, 0.0, {})


def main() -> None:
    """Print the sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", type=int, default=1000)
    parser.add_argument("--versions", type=int, default=6)
    given = parser.parse_args()
    keys = [VersionKey(f"e{n}", f"v{m}") for n in range(given.endpoints) for m in range(given.versions)]
    history, replicas = MetricHistory(0.0), dict.fromkeys(keys, ReplicaNumbers(1, 1))
    before_kb = _memory_kb()
    for number in (1, 2, COARSE_S // FINE_S + 1):
        codes = {200: 90 * number, 500: 5 * number, 503: 5 * number}
        scrape = [worker(*(version(codes, 0.01 * number, key=key) for key in keys))]
        begun = time.process_time()
        history.record(number * FINE_S, scrape, replicas)
        took_ms = (time.process_time() - begun) * 1000
        print(f"scrape {number} of {len(keys)} versions with traffic, 2 failure codes: {took_ms:.0f} ms CPU")
    del scrape
    print(f"columns {history.size_bytes() / 1e6:.1f} MB; process grew by {(_memory_kb() - before_kb) / 1e3:.1f} MB")
    begun = time.process_time()
    size = len(to_bytes(history))
    print(f"file {size / 1e6:.1f} MB, made in {(time.process_time() - begun) * 1000:.0f} ms CPU")


def _memory_kb() -> int:
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


if __name__ == "__main__":
    main()
