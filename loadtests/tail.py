"""Eight replicas with one slot each against one ideal queue that is fed the very same arrivals and the very same work.

    python -m loadtests.tail [--loads 0.8,0.9] [--workers 1] [--skew] [--requests 20000] [--seed 1] [--peers] [--check]

Arrivals are Poisson and open loop, work is exponential with a mean of 20 ms; both are drawn in advance from the seed.
The replicas write down how long each request really worked: that, and not what was asked for, is what the ideal FIFO
gets. A request overlaps when it reached a replica that was still working.

"Idle" is the time from the end of a replica's work to the next request, if that one was waiting: what the ideal does
not have. Its median is the proxy's and the kernel's (compare HAProxy, --peers); its mean has the stalls of the machine,
too, if others run on the same cores. "At p50" is the ratio of p99 if every idle time were the median.

A single worker has a core of its own. Several (--workers 1,2,4) share that core, of which some 400 requests a second
take little: with cores of their own they would take time from the load on a machine with two. Their connections are
opened beforehand, and every worker has as many; with --skew there are rows, too, where one worker has all of them: the
one that grants the slots, and one that has to ask for each.
"""

import argparse
import heapq
import math
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from loadtests.bench.figures import Promise, Table, judged, percentile, poisson
from loadtests.openloop import Generator, Outcomes
from loadtests.peers import envoy, haproxy, replicas, scorefront
from loadtests.peers.replicas import Job
from loadtests.peers.rig import Rig, Target
from loadtests.placing import Place, placed, share_of_busiest

REPLICAS = 8
MEAN_WORK_S = 0.020
WARM_UP = 200
SETTLE_S = 0.2
"""A replica writes its line after its answer."""
OURS = "scorefront"
BOUND = 1.05
BOUND_OF_SEVERAL = 1.10
"""Workers have to ask each other for slots there."""
IDLE_S = 600.0
"""Connections opened beforehand stay open while others are used."""

Starter = Callable[[Rig, Sequence[int]], Target]
PEERS: dict[str, Starter] = {
    "HAProxy maxconn 1": lambda rig, ports: haproxy.start(rig, ports, slots=1),
    "HAProxy leastconn": haproxy.start,
    "Envoy least request": envoy.start,
}


def ideal_fifo(arrivals_s: Sequence[float], work_s: Sequence[float], servers: int) -> list[float]:
    """Latency of each request in one FIFO queue for all servers."""
    free_at = [0.0] * servers
    latencies = []
    for arrival, work in zip(arrivals_s, work_s, strict=True):
        ended = max(arrival, free_at[0]) + work
        heapq.heapreplace(free_at, ended)
        latencies.append(ended - arrival)
    return latencies


def overlapping(jobs: Iterable[Job]) -> int:
    """Requests that reached a replica still at work on another."""
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
    """Lateness of the load itself; it is part of the latencies, but caused by the machine alone."""
    overlaps: int
    failed: int
    bound: float | None = None
    """Limit of the ratio of p99; of one worker that of the mean, too."""
    on_busiest: float = float("nan")
    """Share of the connections that one worker had at the end."""
    idle_s: Sequence[float] = ()
    """Times for which a replica stood idle although its next request was waiting."""
    p99_ratio_at_p50: float = float("nan")
    """Ratio of p99 of an ideal queue with the median of `idle_s` between two requests."""

    @property
    def mean_ratio(self) -> float:
        """Mean latency over the ideal's."""
        return fmean(self.latencies_s) / fmean(self.ideal_s) if self.latencies_s else float("nan")

    @property
    def p99_ratio(self) -> float:
        """p99 over the ideal's."""
        return percentile(self.latencies_s, 0.99) / percentile(self.ideal_s, 0.99)


def idle_times_s(jobs: Iterable[Job], arrived_s: Callable[[int], float]) -> list[float]:
    """Times from the end of a request at a replica to the next one there, if that one was waiting by then.

    `arrived_s`: intended moment of a request by its index, on the clock of the jobs.
    """
    ended: dict[int, float] = {}
    found = []
    for job in sorted(jobs, key=lambda job: job.came_s):
        before = ended.get(job.replica)
        if before is not None and arrived_s(job.index) < before <= job.came_s:
            found.append(job.came_s - before)
        ended[job.replica] = job.ended_s
    return found


def row(case: "Case", load: float, outcomes: Outcomes, jobs: Sequence[Job], on_busiest: float) -> Row:
    """Compare the measurement with the ideal over the same requests: those that reached a replica."""
    worked = sorted(jobs, key=lambda job: job.index)
    arrivals = [outcomes.arrivals_s[job.index] for job in worked]
    work = [job.work_s for job in worked]
    ideal = ideal_fifo(arrivals, work, REPLICAS)
    idle = idle_times_s(jobs, lambda index: outcomes.began_s + outcomes.arrivals_s[index])
    usual = median(idle) if idle else 0.0
    at_p50 = percentile(ideal_fifo(arrivals, [each + usual for each in work], REPLICAS), 0.99) / percentile(ideal, 0.99)
    counts = overlapping(jobs), outcomes.failed
    measured = outcomes.latencies_s, ideal, outcomes.lateness_s, *counts
    return Row(case.name, load, *measured, case.bound, on_busiest, idle, at_p50)


@dataclass(frozen=True, slots=True)
class Case:
    """One case of the measurement."""

    name: str
    start: Starter
    bound: float | None = None
    place: Place | None = None
    """Owner of the connections' clients; None: the first to accept them."""


def cases(workers: Sequence[int], skew: bool, peers: bool) -> list[Case]:
    """The product with these numbers of workers, and the peers that are installed."""
    wanted = [Case(OURS, lambda rig, ports: scorefront.start(rig, ports, slots=1), BOUND)] if 1 in workers else []
    for count in workers:
        if count > 1:
            wanted += [_of_several(count, place) for place in (Place if skew else (Place.ALL,))]
    if peers:
        installed = {"HAProxy": haproxy.version(), "Envoy": envoy.version()}
        wanted += [Case(name, start) for name, start in PEERS.items() if installed[name.split(" ")[0]]]
    return wanted


def _of_several(count: int, place: Place) -> Case:
    def start(rig: Rig, ports: Sequence[int]) -> Target:
        return scorefront.start(rig, ports, slots=1, workers=count, idle_s=IDLE_S)

    whose = "" if place is Place.ALL else f", clients at {'the owner' if place is Place.OWNER else 'a borrower'}"
    return Case(f"{OURS}, {count} workers{whose}", start, BOUND_OF_SEVERAL, place)


def measure(case: Case, load: float, requests: int, seed: int) -> Row:
    """One run, with processes of its own."""
    with Rig() as rig:
        ports, witness = replicas.start(rig, REPLICAS)
        target = case.start(rig, ports)
        offered(target, 0.5, WARM_UP, seed).run()
        time.sleep(SETTLE_S)
        before = len(replicas.read(witness))
        outcomes, on_busiest = drive(case, target, offered(target, load, requests, seed))
        time.sleep(SETTLE_S)
        return row(case, load, outcomes, replicas.read(witness)[before:], on_busiest)


def offered(target: Target, load: float, requests: int, seed: int) -> Generator:
    """Offers this share of the replicas' capacity."""
    chance = random.Random(seed)
    work = [chance.expovariate(1 / MEAN_WORK_S) for _ in range(requests)]
    bodies = [target.post(replicas.body(index, work_s)) for index, work_s in enumerate(work)]
    return Generator(target.port, bodies, poisson(load * REPLICAS / MEAN_WORK_S, requests, seed + 1))


def drive(case: Case, target: Target, generator: Generator) -> tuple[Outcomes, float]:
    """The outcomes, and the largest share of the connections on one worker at the end."""
    if case.place is None:
        return generator.run(), float("nan")
    shares: list[float] = []
    with placed(generator, target, case.place):
        outcomes = generator.run(then=lambda: shares.append(share_of_busiest(generator, target)))
    return outcomes, shares[0]


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
        "idle p50 µs",
        "mean",
        "at p50",
        "sent late",
        "overlaps",
        "failed",
        "on one worker",
    )
    lines = []
    for each in rows:
        mean, ideal_mean = fmean(each.latencies_s or [float("nan")]), fmean(each.ideal_s)
        p99, ideal_p99 = percentile(each.latencies_s, 0.99), percentile(each.ideal_s, 0.99)
        cells = (f"{1000 * mean:.2f}", f"{1000 * ideal_mean:.2f}", f"{each.mean_ratio:.3f}")
        tails = (f"{1000 * p99:.2f}", f"{1000 * ideal_p99:.2f}", f"{each.p99_ratio:.3f}")
        late = f"{1000 * fmean(each.lateness_s):.2f}"
        on_one = "" if math.isnan(each.on_busiest) else f"{each.on_busiest:.0%}"
        idle = each.idle_s or [float("nan")]
        idles = (f"{1e6 * median(idle):.0f}", f"{1e6 * fmean(idle):.0f}", f"{each.p99_ratio_at_p50:.3f}")
        ends = (late, f"{each.overlaps:,}", f"{each.failed:,}", on_one)
        lines.append((each.name, f"{each.load:g}", *cells, *tails, *idles, *ends))
    return Table(columns, tuple(lines))


def promises(rows: Sequence[Row]) -> list[Promise]:
    """The promises of the product."""
    promised = []
    for each in rows:
        if each.bound is not None:
            at = f"at load {each.load:g}{each.name.removeprefix(OURS)}"
            if each.name == OURS:
                mean = f"mean latency over the ideal {at}"
                promised.append(Promise(mean, each.mean_ratio, each.bound, at_least=False, digits=3))
            promised += [
                Promise(f"p99 over the ideal {at}", each.p99_ratio, each.bound, at_least=False, digits=3),
                Promise(f"overlaps and failures {at}", each.overlaps + each.failed, 0, at_least=False, digits=0),
            ]
    return promised


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.tail")
    parser.add_argument("--loads", default="0.8,0.9", help="offered loads, separated by commas")
    parser.add_argument("--workers", default="1", help="numbers of router workers, separated by commas")
    parser.add_argument("--skew", action="store_true", help="also with all clients at one of several workers")
    parser.add_argument("--requests", type=int, default=20_000, help="of each run; 20,000 take about a minute")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--peers", action="store_true", help="HAProxy and Envoy as well")
    parser.add_argument("--check", action="store_true", help="exit status 1 when a promise is not kept")
    arguments = parser.parse_args()
    wanted = cases([int(count) for count in arguments.workers.split(",")], arguments.skew, arguments.peers)
    rows = []
    for load in map(float, arguments.loads.split(",")):
        for case in wanted:
            rows.append(measure(case, load, arguments.requests, arguments.seed))
            print(f"{case.name} at {load:g}: mean {rows[-1].mean_ratio:.3f}, p99 {rows[-1].p99_ratio:.3f}", flush=True)
    print("", table(rows).text(), "", sep="\n")
    return judged(promises(rows), arguments.check)


if __name__ == "__main__":
    raise SystemExit(main())
