"""Eight replicas with one slot each against one ideal queue that is fed the very same arrivals and the very same work.

    python -m loadtests.tail [--loads 0.8,0.9] [--requests 20000] [--seed 1] [--peers] [--check]

Arrivals are Poisson and open loop, work is exponential with a mean of 20 ms; both are drawn in advance from the seed.
The replicas write down how long each request really worked: that, and not what was asked for, is what the ideal FIFO
gets. A request overlaps when it reached a replica that was still working.
"""

import argparse
import heapq
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from loadtests.bench.figures import Promise, Table, judged, percentile
from loadtests.openloop import Generator, Outcomes, poisson
from loadtests.peers import envoy, haproxy, replicas, scorefront
from loadtests.peers.replicas import Job
from loadtests.peers.rig import Rig, Target

REPLICAS = 8
MEAN_WORK_S = 0.020
WARM_UP = 200
SETTLE_S = 0.2
"""A replica writes its line after its answer."""
OURS = "scorefront"
BOUND = 1.05

Starter = Callable[[Rig, Sequence[int]], Target]
PEERS: dict[str, Starter] = {
    "HAProxy maxconn 1": lambda rig, ports: haproxy.start(rig, ports, slots=1),
    "HAProxy leastconn": haproxy.start,
    "Envoy least request": envoy.start,
}


def ideal_fifo(arrivals_s: Sequence[float], work_s: Sequence[float], servers: int) -> list[float]:
    """Latency of each request in one queue for all servers: whoever came first gets the first server that is free."""
    free_at = [0.0] * servers
    latencies = []
    for arrival, work in zip(arrivals_s, work_s, strict=True):
        ended = max(arrival, free_at[0]) + work
        heapq.heapreplace(free_at, ended)
        latencies.append(ended - arrival)
    return latencies


def overlapping(jobs: Iterable[Job]) -> int:
    """Requests that reached a replica which was still working on another."""
    busy_until: dict[int, float] = {}
    count = 0
    for job in sorted(jobs, key=lambda job: job.came_s):
        count += job.came_s < busy_until.get(job.replica, 0.0)
        busy_until[job.replica] = max(job.ended_s, busy_until.get(job.replica, 0.0))
    return count


@dataclass(frozen=True, slots=True)
class Row:
    """One proxy at one offered load; seconds."""

    name: str
    load: float
    latencies_s: Sequence[float]
    ideal_s: Sequence[float]
    lateness_s: Sequence[float]
    """How late the load itself was; that is part of the latencies, but nobody's fault but the machine's."""
    overlaps: int
    failed: int

    @property
    def mean_ratio(self) -> float:
        """Mean latency over the ideal's."""
        return fmean(self.latencies_s) / fmean(self.ideal_s) if self.latencies_s else float("nan")

    @property
    def p99_ratio(self) -> float:
        """p99 over the ideal's."""
        return percentile(self.latencies_s, 0.99) / percentile(self.ideal_s, 0.99)


def row(name: str, load: float, outcomes: Outcomes, jobs: Sequence[Job]) -> Row:
    """Compare what was measured with the ideal, over the same requests: those that a replica has worked on."""
    worked = sorted(jobs, key=lambda job: job.index)
    arrivals = [outcomes.arrivals_s[job.index] for job in worked]
    ideal = ideal_fifo(arrivals, [job.work_s for job in worked], REPLICAS)
    return Row(name, load, outcomes.latencies_s, ideal, outcomes.lateness_s, overlapping(jobs), outcomes.failed)


def measure(name: str, start: Starter, load: float, requests: int, seed: int) -> Row:
    """One run, with processes of its own."""
    with Rig() as rig:
        ports, witness = replicas.start(rig, REPLICAS)
        target = start(rig, ports)
        drive(target, 0.5, WARM_UP, seed)
        time.sleep(SETTLE_S)
        before = len(replicas.read(witness))
        outcomes = drive(target, load, requests, seed)
        time.sleep(SETTLE_S)
        return row(name, load, outcomes, replicas.read(witness)[before:])


def drive(target: Target, load: float, requests: int, seed: int) -> Outcomes:
    """Offer this share of what the replicas can do."""
    chance = random.Random(seed)
    work = [chance.expovariate(1 / MEAN_WORK_S) for _ in range(requests)]
    bodies = [target.post(replicas.body(index, work_s)) for index, work_s in enumerate(work)]
    return Generator(target.port, bodies, poisson(load * REPLICAS / MEAN_WORK_S, requests, seed + 1)).run()


def table(rows: Sequence[Row]) -> Table:
    """A row for each; milliseconds."""
    columns = (
        "",
        "load",
        "mean ms",
        "ideal mean",
        "ratio",
        "p99 ms",
        "ideal p99",
        "ratio",
        "sent late",
        "overlaps",
        "failed",
    )
    lines = []
    for each in rows:
        mean, ideal_mean = fmean(each.latencies_s or [float("nan")]), fmean(each.ideal_s)
        p99, ideal_p99 = percentile(each.latencies_s, 0.99), percentile(each.ideal_s, 0.99)
        cells = (f"{1000 * mean:.2f}", f"{1000 * ideal_mean:.2f}", f"{each.mean_ratio:.3f}")
        tails = (f"{1000 * p99:.2f}", f"{1000 * ideal_p99:.2f}", f"{each.p99_ratio:.3f}")
        late = f"{1000 * fmean(each.lateness_s):.2f}"
        lines.append((each.name, f"{each.load:g}", *cells, *tails, late, f"{each.overlaps:,}", f"{each.failed:,}"))
    return Table(columns, tuple(lines))


def promises(rows: Sequence[Row]) -> list[Promise]:
    """What the product promises."""
    promised = []
    for each in rows:
        if each.name == OURS:
            at = f"at load {each.load:g}"
            promised += [
                Promise(f"mean latency over the ideal {at}", each.mean_ratio, BOUND, at_least=False, digits=3),
                Promise(f"p99 over the ideal {at}", each.p99_ratio, BOUND, at_least=False, digits=3),
                Promise(f"overlaps and failures {at}", each.overlaps + each.failed, 0, at_least=False, digits=0),
            ]
    return promised


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.tail")
    parser.add_argument("--loads", default="0.8,0.9", help="offered loads, separated by commas")
    parser.add_argument("--requests", type=int, default=20_000, help="of each run; 20,000 take about a minute")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--peers", action="store_true", help="HAProxy and Envoy as well")
    parser.add_argument("--check", action="store_true", help="exit status 1 when a promise is not kept")
    arguments = parser.parse_args()
    starters: dict[str, Starter] = {OURS: lambda rig, ports: scorefront.start(rig, ports, slots=1)}
    if arguments.peers:
        installed = {"HAProxy": haproxy.version(), "Envoy": envoy.version()}
        starters |= {name: start for name, start in PEERS.items() if installed[name.split(" ")[0]]}
    rows = []
    for load in map(float, arguments.loads.split(",")):
        for name, start in starters.items():
            rows.append(measure(name, start, load, arguments.requests, arguments.seed))
            print(f"{name} at {load:g}: mean {rows[-1].mean_ratio:.3f}, p99 {rows[-1].p99_ratio:.3f}", flush=True)
    print("", table(rows).text(), "", sep="\n")
    return judged(promises(rows), arguments.check)


if __name__ == "__main__":
    raise SystemExit(main())
