"""Cost of collected payloads: CPU of the router, and latency in an open loop."""

import json
import re
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psutil

from loadtests.bench import wrk
from loadtests.bench.figures import Table, middle, percentile, poisson, rotated
from loadtests.installation import manifest
from loadtests.openloop import Generator
from loadtests.peers import nginx
from loadtests.peers.rig import ROOT, Rig, Target, cpu_seconds
from loadtests.peers.scorefront import Product, compiled_tree, routed

BODY = json.dumps({"data": "x" * 1011}).encode()
"""1 KB."""
RATE = 2000
"""Requests per second in the open loop."""
SETTLE_S = 30.0
CPU_LIMITS = {"0 %": 1.01, "1 %": 1.01, "100 %": 1.10}
"""CPU of the worker per request, by share of the requests, over that without collection."""
P99_LIMIT = 1.05
OFF, AGAIN = "off", "off again"
_count = re.compile(r'scorefront_payloads_total\{endpoint="(\w+)",result="(\w+)",version="blue"\} (\S+)')


@dataclass(slots=True)
class Way:
    """One way to collect, and its results."""

    name: str
    percent: float | None
    """Sampled share of the requests, in percent; None: nothing is collected."""
    endpoint: str
    target: Target
    runs: list[wrk.Run] = field(default_factory=list)
    p50_s: list[float] = field(default_factory=list)
    p99_s: list[float] = field(default_factory=list)
    failed: int = 0


class CollectingProduct:
    """One installation with an endpoint for each way, and the process of its collector."""

    def __init__(self, rig: Rig, ways: dict[str, float | None], compiled: bool) -> None:
        """`ways`: name -> percentage. `compiled`: measure the build of `make compiled`."""
        tree = compiled_tree() if compiled else ROOT
        if tree is None:
            raise SystemExit("no compiled build of these sources: run make compiled")
        port = nginx.start_backend(rig).port
        documents = [
            manifest(f"cost{number}", [routed("blue", [port], **_collection(percent))])
            for number, percent in enumerate(ways.values())
        ]
        self.product = Product(rig, *documents, tree=tree)
        self.ways = [
            Way(name, percent, f"cost{number}", self.product.target(f"cost{number}"))
            for number, (name, percent) in enumerate(ways.items())
        ]

    def counts(self) -> dict[str, dict[str, int]]:
        """Endpoint -> its payloads by result."""
        found: dict[str, dict[str, int]] = {}
        with urllib.request.urlopen(f"{self.product.control_url}/metrics", timeout=10) as answer:
            for endpoint, result, count in _count.findall(answer.read().decode()):
                found.setdefault(endpoint, {})[result] = int(float(count))
        return found

    def settled(self, requests: dict[str, int]) -> dict[str, dict[str, int]]:
        """The counts once all requests are counted, or after SETTLE_S. `requests`: endpoint -> their number."""
        deadline = time.monotonic() + SETTLE_S
        while True:
            found = self.counts()
            missing = [name for name, count in requests.items() if sum(found.get(name, {}).values()) < count]
            if not missing:
                return found
            if time.monotonic() > deadline:
                raise SystemExit(f"no figures: payloads of {missing} are not counted: {found}")
            time.sleep(0.2)  # interval of the polls

    def collector(self) -> int:
        """Process id of the collector, once it has started."""
        deadline = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline:
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    if "collector" in process.cmdline():
                        return process.pid
            time.sleep(0.1)  # interval of the looks
        raise SystemExit("no figures: there is no collector")


def _collection(percent: float | None) -> dict[str, Any]:
    return {} if percent is None else {"dataCollection": {"storageEnabled": True, "samplingPercent": percent}}


@contextmanager
def _measured(ways: dict[str, float | None], compiled: bool) -> Iterator[tuple[Rig, CollectingProduct]]:
    with Rig() as rig:
        yield rig, CollectingProduct(rig, ways, compiled)


def cost(rounds: int, seconds: int, compiled: bool) -> int:
    """Print CPU per request, of the worker alone and with the collector, in interleaved rounds; the exit status.

    rounds, seconds: of each way.
    compiled: measure the build of `make compiled`.
    """
    named: dict[str, float | None] = {OFF: None, AGAIN: None, "0 %": 0, "1 %": 1, "100 %": 100}
    with _measured(named, compiled) as (rig, product):
        ways = product.ways
        collector = product.collector()
        before = cpu_seconds([collector])
        for _, way in [*((0, way) for way in ways), *rotated(ways, rounds)]:
            script = wrk.script(way.target.post(BODY))
            way.runs.append(wrk.drive(way.target, script, rig.directory, seconds))
        if failed := sum(run.failed for way in ways for run in way.runs):
            raise SystemExit(f"no figures: {failed} requests failed")
        requests = {way.endpoint: sum(run.requests for run in way.runs) for way in ways if way.percent is not None}
        counts = product.settled(requests)
        stored = sum(each.get("stored", 0) for each in counts.values())
        collector_ns = 1e9 * (cpu_seconds([collector]) - before) / max(stored, 1)
    print(_cost_table(ways, collector_ns, counts).text())
    print(f"the collector, a process of its own: {collector_ns / 1000:.2f} µs per stored payload")
    return int(any(_ratio(way, ways[0]) > CPU_LIMITS.get(way.name, float("inf")) for way in ways))


def _ratio(way: Way, base: Way) -> float:
    """CPU of the worker per request over that without collection, median over the rounds."""
    pairs = zip(way.runs[1:], base.runs[1:], strict=True)
    return middle([mine.cpu_ns / theirs.cpu_ns for mine, theirs in pairs])


def _cost_table(ways: Sequence[Way], collector_ns: float, counts: dict[str, dict[str, int]]) -> Table:
    rows = []
    for way in ways:
        worker_ns = middle([run.cpu_ns for run in way.runs[1:]])
        both_ns = worker_ns + collector_ns * (way.percent or 0) / 100
        rows.append(
            (
                way.name,
                f"{worker_ns / 1000:.2f}",
                f"{_ratio(way, ways[0]):.3f}",
                f"{CPU_LIMITS[way.name]:.2f}" if way.name in CPU_LIMITS else "",
                f"{both_ns / 1000:.2f}",
                " ".join(f"{result} {count}" for result, count in counts.get(way.endpoint, {}).items() if count),
            )
        )
    columns = ("collected", "worker µs/request", "ratio to off", "promised", "with the collector µs", "payloads")
    return Table(columns, tuple(rows), words=(0, 5))


def tail(rounds: int, seconds: float, compiled: bool) -> int:
    """Print p50 and p99 at RATE in an open loop, with and without collection, in interleaved rounds; the exit status.

    rounds, seconds: of each way.
    compiled: measure the build of `make compiled`.
    """
    named: dict[str, float | None] = {OFF: None, AGAIN: None, "100 %": 100}
    with _measured(named, compiled) as (_, product):
        ways = product.ways
        for way in ways:
            _drive(way, 1.0, 0)
            way.p50_s.clear()
            way.p99_s.clear()
        for number, way in rotated(ways, rounds):
            _drive(way, seconds, 1 + number)
        counts = product.settled({"cost2": round(RATE * (1 + rounds * seconds))})
    rows = [
        (
            way.name,
            *(f"{1000 * middle(values):.3f}" for values in (way.p50_s, way.p99_s)),
            f"{_tail_ratio(way, ways[0]):.3f}",
            str(way.failed),
        )
        for way in ways
    ]
    print(Table(("collected", "p50 ms", "p99 ms", "p99 to off", "failed"), tuple(rows)).text())
    print(f"promised: p99 to off at most {P99_LIMIT}; payloads: {counts['cost2']}")
    return int(_tail_ratio(ways[-1], ways[0]) > P99_LIMIT or any(way.failed for way in ways))


def _drive(way: Way, seconds: float, seed: int) -> None:
    """Requests at random times, the same for each way. `seconds`: their span. `seed`: of the times."""
    arrivals = poisson(RATE, round(RATE * seconds), seed)
    outcomes = Generator(way.target.port, [way.target.post(BODY)] * len(arrivals), arrivals).run()
    way.p50_s.append(percentile(outcomes.latencies_s, 0.5))
    way.p99_s.append(percentile(outcomes.latencies_s, 0.99))
    way.failed += outcomes.failed


def _tail_ratio(way: Way, base: Way) -> float:
    """p99 over that without collection, median over the rounds."""
    return middle([mine / theirs for mine, theirs in zip(way.p99_s, base.p99_s, strict=True)])
