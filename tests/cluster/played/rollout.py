"""Everything is replaced under load: the pods of a version, the routers, the leader; and the API server goes away.

    python -m tests.cluster.played.rollout [--away 60] [--kill-every 30] [--clients 4] [--quick] [--check]

KUBECONFIG: an API server with controller-manager and scheduler, and no node. CLUSTER_CONTROL: a command that is
called
as `$CLUSTER_CONTROL stop apiserver` and `… start apiserver`; without it the API server stays. Three routers and two
control processes; 1 slot per pod, 100 ms of work, min 1, max 20, target 70 %. Clients in a closed loop: four of them
always want at least six pods, and twelve at the most (⌈(4 + 4) ÷ 0.7⌉: all wait for a moment while the mean of busy
slots still has all earlier ones). Every other number is a fault. Nobody is on a process that is killed: the leader
has no requests, and routers and pods are ended as Kubernetes ends them.
"""

import argparse
import asyncio
import contextlib
import math
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from loadtests.bench.figures import Promise, Table, judged
from loadtests.closedloop import Tally
from loadtests.witness import Span, over
from tests.cluster.played import judge, records
from tests.cluster.played.journal import Entry
from tests.cluster.played.kube import ApiFailure
from tests.cluster.played.kubectl import kubectl
from tests.cluster.played.patience import until
from tests.cluster.played.records import Lead, Scale, leads, scales
from tests.cluster.played.site import HOME, LEASE, Shape, Site, site, without_api_server

AWAY_S, KILL_S, CLIENTS = 60.0, 30.0, 4
QUICK_AWAY_S, QUICK_KILL_S = 12.0, 8.0
TARGET = 0.7
MOST, STEADY_S, AFTER_S = 20, 10.0, 20.0
SURGE = 1
"""A rolling update makes one pod before it takes one away."""
NAME = "river"
PODS = f"{HOME}/{NAME}-"
AWAY = "API server away"


@dataclass(frozen=True, slots=True)
class Phase:
    """Something that was done, and when; monotonic seconds."""

    name: str
    since_s: float
    until_s: float


@dataclass(slots=True)
class Run:
    """Measured values."""

    least: int
    """Pods that the clients want at any time."""
    most: int
    phases: list[Phase] = field(default_factory=list)
    kills: list[float] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    scales: Sequence[Scale] = ()
    leads: Sequence[Lead] = ()
    entries: Sequence[Entry] = ()
    spans: Sequence[Span] = ()


class Course:
    """One after the other, with the leader killed now and then all the while."""

    def __init__(self, site: Site, run: Run, kill_s: float) -> None:
        self._site = site
        self._run = run
        self._kill_s = kill_s
        self._leader = ""

    @contextlib.asynccontextmanager
    async def phase(self, name: str) -> AsyncIterator[None]:
        """Note when it was."""
        since_s = time.monotonic()
        yield
        self._run.phases.append(Phase(name, since_s, time.monotonic()))

    async def kill_leaders(self) -> None:
        """Kill the leader now and then, until cancelled; without a known leader, the last known one."""
        while True:
            await asyncio.sleep(self._kill_s)
            with contextlib.suppress(ApiFailure):
                self._leader = await self._site.holder() or self._leader
            if self._leader and self._site.signal(self._leader, signal.SIGKILL):
                self._run.kills.append(time.monotonic())

    async def update(self) -> None:
        """Another image for every pod of the version."""
        await declare(self._site, tag="2")

        async def done() -> bool:
            pods = await self._site.pods(NAME)
            new = all(each["spec"]["containers"][0]["image"].endswith(":2") for each in pods)
            return new and await settled(self._site, self._run)

        await until(done, "the rolling update", 180)

    async def restart_routers(self) -> None:
        """As a user does."""
        await kubectl("-n", HOME, "rollout", "restart", "deployment/scorefront-router")
        await kubectl("-n", HOME, "rollout", "status", "deployment/scorefront-router", "--timeout=110s")
        await self._site.installed()

    async def outage(self, away_s: float) -> None:
        """The API server goes, and comes back."""
        async with without_api_server():
            await asyncio.sleep(away_s)


async def declare(site: Site, tag: str) -> None:
    """The endpoint, with this image."""
    scaler = {"minReplicas": 1, "maxReplicas": MOST}
    await site.apply(NAME, site.version(tag=tag, autoScaler=scaler, maxQueueWaitMs=10_000))


async def settled(site: Site, run: Run) -> bool:
    """True if the pods are as many as wanted, all of them Ready, and as many as the load needs."""
    path = f"/apis/apps/v1/namespaces/{HOME}/deployments"
    (told,) = await site.kube.items(path, labelSelector=f"scorefront.io/endpoint={NAME}")
    pods = await site.pods(NAME)
    wanted: int = told["spec"]["replicas"]
    return run.least <= wanted and wanted == len(pods) == told["status"].get("readyReplicas", 0)


async def measure(away_s: float, kill_s: float, count: int) -> Run:
    """The whole course."""
    run = Run(math.ceil(round(count / TARGET, 9)), math.ceil(round(2 * count / TARGET, 9)))
    async with (
        site(Shape(routers=3, controls=2)) as installed,
        scales(installed.kube, HOME) as scaled,
        leads(installed.kube, HOME) as led,
    ):
        await declare(installed, tag="1")
        await installed.ready(NAME, 1)
        clients = await installed.clients(NAME, count)
        clients.start()
        await until(lambda: settled(installed, run), "as many pods as the clients want")
        course = Course(installed, run, kill_s)
        async with course.phase("steady"):
            await asyncio.sleep(STEADY_S)
        killing = asyncio.create_task(course.kill_leaders(), name="kill leaders")
        try:
            await _go(course, away_s)
        finally:
            killing.cancel()
            await asyncio.gather(killing, return_exceptions=True)
            run.tally = await clients.stop()
        run.scales, run.leads = list(scaled.seen), [each for each in led.seen if each.lease == LEASE]
        run.entries, run.spans = installed.journal(), installed.spans()
    return run


async def _go(course: Course, away_s: float) -> None:
    async with course.phase("rolling update"):
        await course.update()
    async with course.phase("routers restarted"):
        await course.restart_routers()
    if os.environ.get("CLUSTER_CONTROL"):
        async with course.phase(AWAY):
            await course.outage(away_s)
    async with course.phase("afterwards"):
        await asyncio.sleep(AFTER_S)


def table(run: Run) -> Table:
    """A row for each phase."""
    rows = []
    for each in run.phases:
        failed = sum(each.since_s < failure.at_s <= each.until_s for failure in run.tally.failures)
        rows.append(
            (
                each.name,
                f"{each.until_s - each.since_s:.0f}",
                f"{sum(each.since_s < span.ended_s <= each.until_s for span in run.spans):,}",
                f"{failed}",
                f"{records.lowest(run.scales, each.since_s, each.until_s)}",
                f"{records.highest(run.scales, each.since_s, each.until_s)}",
                f"{judge.most_alive(run.entries, each.since_s, each.until_s, PODS)}",
                f"{sum(each.since_s < at_s <= each.until_s for at_s in run.kills)}",
            )
        )
    columns = ("", "s", "answered", "failed", "wanted min", "wanted max", "pods at once", "leaders killed")
    return Table(columns, tuple(rows))


def promises(run: Run) -> list[Promise]:
    """The promises of the product with their measured values."""
    since_s, until_s = run.phases[0].since_s, run.phases[-1].until_s
    lowest, highest = (find(run.scales, since_s, until_s) for find in (records.lowest, records.highest))
    alive = judge.most_alive(run.entries, since_s, until_s, PODS)
    return [
        Promise("requests and connections that failed", len(run.tally.failures), 0, at_least=False, digits=0),
        Promise("pods wanted, at the least", lowest, run.least, digits=0),
        Promise("pods wanted, at the most", highest, run.most, at_least=False, digits=0),
        Promise("pods at once, at the most", alive, run.most + SURGE, at_least=False, digits=0),
        *_of_the_outage(run),
        Promise("writes with an older fence", records.fallen_back(run.scales), 0, at_least=False, digits=0),
        Promise("leads without a transition", records.at_once(run.leads), 0, at_least=False, digits=0),
        Promise("requests that overlapped", over(run.spans, 1), 0, at_least=False, digits=0),
    ]


def _of_the_outage(run: Run) -> list[Promise]:
    for each in run.phases:
        if each.name == AWAY:
            before, lowest = (records.lowest(run.scales, each.since_s, end_s) for end_s in (each.since_s, each.until_s))
            return [Promise("pods wanted less because of the outage", before - lowest, 0, at_least=False, digits=0)]
    return []


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.played.rollout")
    parser.add_argument("--away", type=float, default=AWAY_S, help="seconds without the API server")
    parser.add_argument("--kill-every", type=float, default=KILL_S, help="seconds between two kills of the leader")
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK_AWAY_S:g} s away, a kill every {QUICK_KILL_S:g} s"
    )
    parser.add_argument("--check", action="store_true", help="exit status 1 when a promise is not kept")
    arguments = parser.parse_args()
    away_s, kill_s = (QUICK_AWAY_S, QUICK_KILL_S) if arguments.quick else (arguments.away, arguments.kill_every)
    run = asyncio.run(measure(away_s, kill_s, arguments.clients))
    print(table(run).text())
    for failure in run.tally.failures[:10]:
        print(f"failed after {failure.at_s - run.phases[0].since_s:.1f} s: {failure.status} {failure.why}")
    if not os.environ.get("CLUSTER_CONTROL"):
        print("CLUSTER_CONTROL is not set: the API server stayed")
    print(f"{run.tally.statuses.total():,} requests\n")
    return judged(promises(run), arguments.check)


if __name__ == "__main__":
    raise SystemExit(main())
