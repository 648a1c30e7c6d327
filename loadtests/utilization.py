"""One replica with one slot behind four workers: its busy share while clients wait.

    python -m loadtests.utilization [--workers 4] [--clients 8] [--work-ms 20] [--seconds 20] [--check]

A closed loop: whoever was answered asks again at once, so somebody always waits and every moment in which the replica
does nothing is lost between an answer and the next request: the end reaches the worker that had the slot, the slot
passes to the worker whose client is next, the request goes out. Every worker has as many clients as the others. The
replica writes down when it worked.
"""

import argparse
import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from loadtests.bench.figures import Promise, Table, judged, percentile
from loadtests.closedloop import Clients, Tally
from loadtests.crew import alone
from loadtests.http1 import post
from loadtests.peers import replicas, scorefront
from loadtests.peers.replicas import Job
from loadtests.peers.rig import Rig, Target
from loadtests.tail import overlapping

WORKERS, CLIENTS, WORK_MS, SECONDS = 4, 8, 20.0, 20.0
WARM_UP_S = 1.0
BOUND = 0.97


@dataclass(frozen=True, slots=True)
class Measured:
    """The result of one run; seconds."""

    share: float
    gaps_s: Sequence[float]
    """Between the end of a request and the next one."""
    overlaps: int
    tally: Tally

    @property
    def fairness(self) -> float:
        """Requests of the client that got the fewest over those of the one with the most."""
        served = self.tally.served.values()
        return min(served, default=0) / max(served, default=1)


def busy_share(jobs: Sequence[Job]) -> float:
    """Busy share of a single replica between the first beginning and the last end."""
    return sum(job.work_s for job in jobs) / (jobs[-1].ended_s - jobs[0].began_s) if jobs else float("nan")


def gaps(jobs: Sequence[Job]) -> list[float]:
    """Idle times between two requests."""
    return [after.came_s - before.ended_s for before, after in itertools.pairwise(jobs)]


def measure(workers: int, clients: int, work_ms: float, seconds: float) -> Measured:
    """One run."""
    with Rig() as rig:
        ports, witness = replicas.start(rig, 1)
        target = scorefront.start(rig, ports, slots=1, workers=workers)
        tally, since_s, until_s = asyncio.run(_drive(target, clients, work_ms, seconds))
        jobs = sorted(replicas.read(witness), key=lambda job: job.began_s)
        counted = [job for job in jobs if since_s <= job.began_s and job.ended_s <= until_s]
        return Measured(busy_share(counted), gaps(counted), overlapping(jobs), tally)


async def _drive(target: Target, count: int, work_ms: float, seconds: float) -> tuple[Tally, float, float]:
    """The results of clients, and the measured period."""
    key = dict(target.fields)["Authorization"].removeprefix("Bearer ")
    load = Clients(("127.0.0.1", target.port), post(target.path, key, replicas.body(0, work_ms / 1000)), count)
    share = -(-count // len(target.pids))
    for number, pid in enumerate(target.pids):
        with alone(pid, target.pids):
            await load.connect(number * share, share)
    load.start()
    await asyncio.sleep(WARM_UP_S)
    since_s = time.monotonic()
    await asyncio.sleep(seconds)
    until_s = time.monotonic()
    return await load.stop(), since_s, until_s


def table(measured: Measured) -> Table:
    """One row; microseconds between two requests."""
    columns = ("busy", "gap mean µs", "p50", "p99", "requests", "failed", "overlaps", "fewest/most of a client")
    gaps_us = [1e6 * gap for gap in measured.gaps_s] or [float("nan")]
    row = (
        f"{measured.share:.4f}",
        f"{fmean(gaps_us):.0f}",
        f"{percentile(gaps_us, 0.5):.0f}",
        f"{percentile(gaps_us, 0.99):.0f}",
        f"{measured.tally.statuses[200]:,}",
        str(len(measured.tally.failures)),
        str(measured.overlaps),
        f"{measured.fairness:.2f}",
    )
    return Table(columns, (row,), words=())


def promises(measured: Measured) -> list[Promise]:
    """The promises of the product."""
    wrong = len(measured.tally.failures) + measured.overlaps
    return [
        Promise("busy share of the replica", measured.share, BOUND, digits=4),
        Promise("overlaps and failures", wrong, 0, at_least=False, digits=0),
    ]


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.utilization")
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--work-ms", type=float, default=WORK_MS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--check", action="store_true", help="exit status 1 when a promise is not kept")
    arguments = parser.parse_args()
    measured = measure(arguments.workers, arguments.clients, arguments.work_ms, arguments.seconds)
    print(table(measured).text(), end="\n\n")
    return judged(promises(measured), arguments.check)


if __name__ == "__main__":
    raise SystemExit(main())
