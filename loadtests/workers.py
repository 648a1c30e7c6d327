"""The gain of a second worker: requests per second of two over one, cost of a request and of asking for a slot.

    python -m loadtests.workers [--rounds 3] [--seconds 6] [--check]

wrk, the backend and the workers share the machine, so three answers are given for one and for two workers, in rounds
that take turns:

    half a core each      every worker may use 45 % of the last core (control groups); wrk and the backend have the
                          others for themselves, with room to spare: the workers are the limit, whatever their number
    unique heads          no limits; no two request heads are alike, which costs a worker four times what it costs the
                          load: so two workers on two cores find their limit in themselves, nearly
    everything shared     no limits, heads repeat: on two cores wrk and the backend take what the second worker lacks
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import psutil

from loadtests import lending, quota
from loadtests.bench import wrk
from loadtests.bench.figures import Promise, Table, judged, middle, rotated
from loadtests.bench.throughput import UNIQUE_FIELD
from loadtests.bench.traffic import BODY
from loadtests.installation import manifest
from loadtests.peers import nginx
from loadtests.peers.rig import Rig, Target, cpu_seconds
from loadtests.peers.scorefront import Product, routed

COUNTS = (1, 2)
SHARE = 0.45
GAIN = 1.7
LIMITED, UNIQUE, SHARED = WAYS = ("half a core each", "unique heads", "everything shared")
WARM_UP_S = 2
"""Interval in which workers check the distribution of clients."""


@dataclass(slots=True)
class Measured:
    """One way with one number of workers, a value for each round."""

    way: str
    target: Target
    runs: list[wrk.Run] = field(default_factory=list)
    busiest: list[float] = field(default_factory=list)
    """Share of the workers' CPU that one of them used."""

    @property
    def count(self) -> int:
        """Of workers."""
        return len(self.target.pids)

    @property
    def rate(self) -> float:
        """Median requests per second; nan if the machine does not allow the measurement."""
        return middle([run.rate for run in self.runs])

    @property
    def cpu_us(self) -> float:
        """Median CPU of all workers together per request, microseconds."""
        return middle([run.cpu_ns / 1000 for run in self.runs])


def measure(rounds: int, seconds: int) -> list[Measured]:
    """Two installations in front of one backend; while one is measured the other has nothing to do."""
    with Rig() as rig:
        port = nginx.start_backend(rig).port
        targets = [Product(rig, manifest("bench", [routed("blue", [port])]), workers=n).target() for n in COUNTS]
        measured = [Measured(way, target) for way in WAYS for target in targets]
        for _, each in rotated(measured, rounds):
            _round(rig, each, seconds)
    return measured


def _round(rig: Rig, each: Measured, seconds: int) -> None:
    unique = [UNIQUE_FIELD] if each.way == UNIQUE else []
    script = wrk.script(each.target.head("POST", ("Content-Length", str(len(BODY))), *unique), BODY)
    try:
        with _conditions(rig, each):
            wrk.drive(each.target, script, rig.directory, WARM_UP_S)
            before = [cpu_seconds([pid]) for pid in each.target.pids]
            each.runs.append(wrk.drive(each.target, script, rig.directory, seconds))
            used = [cpu_seconds([pid]) - was for pid, was in zip(each.target.pids, before, strict=True)]
            each.busiest.append(max(used) / sum(used))
    except quota.NoQuota as error:
        print(f"{each.way}: not measured, {error}", file=sys.stderr)


@contextlib.contextmanager
def _conditions(rig: Rig, each: Measured) -> Iterator[None]:
    """Workers on the last core with a share each; or everything on all cores."""
    with contextlib.ExitStack() as stack:
        if each.way == LIMITED:
            for pid in each.target.pids:
                stack.enter_context(quota.limited(pid, SHARE))
        else:
            for pid in (os.getpid(), *_others(each.target)):
                stack.enter_context(_everywhere(pid, rig.cores.proxy | rig.cores.load))
        yield


def _others(target: Target) -> list[int]:
    """The workers; and every other process of this measurement."""
    children = [process.pid for process in psutil.Process().children(recursive=True)]
    return sorted({*target.pids, *children})


@contextlib.contextmanager
def _everywhere(pid: int, cores: frozenset[int]) -> Iterator[None]:
    before = os.sched_getaffinity(pid)
    _set_affinity(pid, cores)
    try:
        yield
    finally:
        _set_affinity(pid, before)


def _set_affinity(pid: int, cores: set[int] | frozenset[int]) -> None:
    """Of every thread of a process."""
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        for thread in psutil.Process(pid).threads():
            os.sched_setaffinity(thread.id, cores)


def of(measured: Sequence[Measured], way: str, count: int) -> Measured:
    """One of them."""
    return next(each for each in measured if (each.way, each.count) == (way, count))


def gain(measured: Sequence[Measured], way: str) -> float:
    """Requests per second of two workers over those of one."""
    return of(measured, way, 2).rate / of(measured, way, 1).rate


def table(measured: Sequence[Measured]) -> Table:
    """A row for each."""
    rows = []
    for each in measured:
        ratio = f"{gain(measured, each.way):.2f}" if each.count == 2 else ""
        failed = sum(run.failed for run in each.runs)
        busiest = f"{middle(each.busiest):.0%}" if each.busiest else ""
        rows.append((each.way, str(each.count), f"{each.rate:,.0f}", f"{each.cpu_us:.1f}", busiest, str(failed), ratio))
    columns = ("", "workers", "requests/s", "CPU µs per request", "the busiest", "failed", "two over one")
    return Table(columns, tuple(rows))


def promises(measured: Sequence[Measured]) -> list[Promise]:
    """The promise of the product, for the case limited by the workers."""
    failed = sum(run.failed for each in measured for run in each.runs)
    dearer = of(measured, SHARED, 2).cpu_us / of(measured, SHARED, 1).cpu_us
    return [
        Promise(f"throughput of two workers over one, {LIMITED}", gain(measured, LIMITED), GAIN),
        Promise("CPU of a request with two workers over one", dearer, round(2 / GAIN, 2), at_least=False),
        Promise("requests that failed", failed, 0, at_least=False, digits=0),
    ]


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.workers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=6, help="of each run")
    parser.add_argument("--check", action="store_true", help="exit status 1 when a promise is not kept")
    parser.add_argument("--asking", action="store_true", help="only what asking costs: no load, no installation")
    arguments = parser.parse_args()
    print(lending.table(*lending.measured()).text(), end="\n\n", flush=True)
    if arguments.asking:
        return 0
    if wrk.version() is None or nginx.version() is None:
        print("wrk and nginx are needed (Debian: apt-get install wrk nginx)", file=sys.stderr)
        return 1
    measured = measure(arguments.rounds, arguments.seconds)
    print(table(measured).text(), end="\n\n")
    return judged(promises(measured), arguments.check)


if __name__ == "__main__":
    raise SystemExit(main())
