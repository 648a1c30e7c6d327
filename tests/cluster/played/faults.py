"""Faults of a cluster, by their number in the project's table, each with its own pass criteria.

    python -m tests.cluster.played.faults [9 10 12 17 19] [--quick]

KUBECONFIG: an API server with controller-manager and scheduler, and no node; 17 needs CLUSTER_CONTROL (see rollout).
Two routers, two control processes, pods with one slot and 20 ms of work; 30 requests a second at random times.
"""

import argparse
import asyncio
import contextlib
import math
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from loadtests import witness
from loadtests.bench.figures import percentile, poisson
from loadtests.faults.clock import HOUR_S, WallClock
from loadtests.faults.site import Verdict
from loadtests.http1 import post
from loadtests.installation import manifest
from loadtests.openloop import Generator, Outcomes
from tests.cluster.played import journal, judge, records
from tests.cluster.played.kube import ApiFailure
from tests.cluster.played.kubectl import Refused, kubectl
from tests.cluster.played.patience import until, until_so
from tests.cluster.played.records import leads, scales
from tests.cluster.played.site import ADMIN_PORT, ENDPOINTS, HOME, LEASE, Shape, Site, site, without_api_server

NAME = "victim"
PODS = f"{HOME}/{NAME}-"
WORK_MS, RATE = 20, 30.0
SEED = 5
P99_TIMES, STALL_S, VISIBLE_S, RECOVERED_S = 2.0, 0.05, 1.0, 5.0
JUMP_S = 5.0
"""Between two jumps: a lease is renewed several times in this time."""


NOBODY = "192.0.2.1"
"""An address of a network that is for documentation."""


@dataclass(slots=True)
class Load:
    """Requests at random times, RATE a second: in a thread, so that nothing here delays them."""

    site: Site
    task: "asyncio.Task[Outcomes] | None" = None

    async def run(self, seconds: float) -> Outcomes:
        """All of it."""
        sent = post(f"/api/v1/service/{NAME}/score", await self.site.key(NAME))
        arrivals = poisson(RATE, max(1, round(RATE * seconds)), SEED)
        generator = Generator(self.site.service.address[1], [sent] * len(arrivals), arrivals)
        return await asyncio.to_thread(generator.run)

    def start(self, seconds: float) -> None:
        """Start in the background."""
        self.task = asyncio.create_task(self.run(seconds), name="load")

    async def stop(self) -> Outcomes:
        """Stop; return the result."""
        assert self.task is not None
        return await self.task


async def declare(site: Site, replicas: int, tag: str = "1") -> None:
    """The endpoint with a fixed number of pods."""
    await site.apply(NAME, site.version(work_ms=WORK_MS, tag=tag, numReplicas=replicas, maxQueueWaitMs=10_000))


def nowhere() -> dict[str, Any]:
    """A version at an address without a listener: known, and nothing more."""
    return {"name": "blue", "replica": {"static": [f"{NOBODY}:9"]}}


def told(outcomes: Outcomes) -> str:
    """In figures."""
    late = 1000 * percentile(outcomes.latencies_s, 0.99)
    return f"{len(outcomes.arrivals_s)} requests, {outcomes.failed} lost, p99 {late:.0f} ms"


async def updating(site: Site, quick: bool) -> Verdict:
    """9: a rolling update of three pods"""
    seconds = 20.0 if quick else 40.0
    await declare(site, 3)
    await site.ready(NAME, 3)
    load = Load(site)
    steady = await load.run(seconds)
    load.start(seconds)
    await declare(site, 3, tag="2")

    async def replaced() -> bool:
        pods = await site.pods(NAME)
        return len(pods) == 3 and all(each["spec"]["containers"][0]["image"].endswith(":2") for each in pods)

    took_s = await until(replaced, "three new pods", 120)
    during = await load.stop()
    before_s, after_s = (percentile(each.latencies_s, 0.99) for each in (steady, during))
    overlaps = witness.over(site.spans(), 1)
    passed = not during.failed and after_s <= P99_TIMES * before_s and not overlaps
    return Verdict(
        passed, f"{told(during)} (steady {1000 * before_s:.0f} ms), replaced in {took_s:.0f} s, {overlaps} overlaps"
    )


async def swinging(site: Site, quick: bool) -> Verdict:
    """10: ten pods, one, ten … every five seconds"""
    swings = 6 if quick else 60
    await declare(site, 1)
    await site.ready(NAME, 1)
    load = Load(site)
    load.start(5.0 * swings)
    for number in range(swings):
        began_s = time.monotonic()
        await declare(site, 1 if number % 2 else 10)
        await asyncio.sleep(max(0.0, 5.0 - (time.monotonic() - began_s)))
    outcomes = await load.stop()
    overlaps = witness.over(site.spans(), 1)
    late = sum(each.late > 0 for each in judge.removals(site.journal(), site.spans(), 0.0, PODS))
    passed = not outcomes.failed and not overlaps
    return Verdict(passed, f"{told(outcomes)}, {overlaps} overlaps, {late} pods had work when they were deleted")


async def changing(site: Site, quick: bool) -> Verdict:
    """12: a hundred endpoints come, change and go, ten a second"""
    count = 20 if quick else 100
    await declare(site, 3)
    await site.ready(NAME, 3)
    load = Load(site)
    load.start(3 * count / 10 + 5)
    path, chance = ENDPOINTS.format(HOME), random.Random(SEED)
    seen_s: list[float] = []
    await _lag(site)
    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            began_s = time.monotonic()
            name = f"guest-{number}"
            await site.kube.create(path, manifest(name, [nowhere()]))
            if number % 10 == 0:
                tasks.create_task(_visible(site, name, seen_s), name=f"look for {name}")
            await asyncio.sleep(max(0.0, 0.1 - (time.monotonic() - began_s)))
    for number in range(count):
        wait_ms = chance.randint(100, 1000)
        version = nowhere() | {"maxQueueWaitMs": wait_ms}
        await site.kube.patch(f"{path}/guest-{number}", {"spec": {"versions": [version]}})
        await asyncio.sleep(0.1)
    for number in range(count):
        await site.kube.delete(f"{path}/guest-{number}")
        await asyncio.sleep(0.1)
    outcomes = await load.stop()
    stall_s = await _lag(site)
    passed = not outcomes.failed and max(seen_s) <= VISIBLE_S and stall_s < STALL_S
    return Verdict(passed, f"{told(outcomes)}, visible after ≤ {max(seen_s):.2f} s, loop lag ≤ {1000 * stall_s:.0f} ms")


async def _visible(site: Site, name: str, seen_s: list[float]) -> None:
    """Until every router knows it: without a key, that is told by 401 in place of 404."""
    began_s = time.monotonic()
    addresses = list(site.service.behind)

    async def known() -> bool:
        async with aiohttp.ClientSession() as session:
            for host, port in addresses:
                async with session.get(f"http://{host}:{port}/api/v1/service/{name}/score") as answer:
                    if answer.status == 404:
                        return False
        return True

    await until(known, name, 10)
    seen_s.append(time.monotonic() - began_s)


async def _lag(site: Site) -> float:
    """The largest that any router tells since it was asked last."""
    lags: list[float] = []
    async with aiohttp.ClientSession() as session:
        for each in await site.routers():
            async with session.get(f"http://{each['status']['podIP']}:{ADMIN_PORT}/metrics") as answer:
                lines = (await answer.text()).splitlines()
            lags += [float(line.split()[-1]) for line in lines if line.startswith("scorefront_worker_loop_lag_seconds")]
    return max(lags, default=math.nan)


async def without_api(site: Site, quick: bool) -> Verdict:
    """17: the API server is away for ten minutes"""
    if not os.environ.get("CLUSTER_CONTROL"):
        return Verdict(True, "CLUSTER_CONTROL is not set", skipped=True)
    away_s = 20.0 if quick else 600.0
    await declare(site, 3)
    await site.ready(NAME, 3)
    load = Load(site)
    async with scales(site.kube, HOME) as seen:
        await until_so(lambda: bool(seen.seen), "the number of replicas")
        load.start(away_s + 20)
        await asyncio.sleep(2)
        async with without_api_server():
            await asyncio.sleep(away_s)
        recovered_s = await _recovered(site)
        outcomes = await load.stop()
        steps = records.steps(seen.seen, seen.seen[0].workload)
    listed = await lists(site)
    passed = not outcomes.failed and len(steps) == 1 and recovered_s <= RECOVERED_S
    figures = f"{told(outcomes)}, {len(steps) - 1} scale actions, recovered {recovered_s:.1f} s after the return"
    return Verdict(passed, f"{figures}, {listed} lists of endpoints since")


async def _recovered(site: Site) -> float:
    """Seconds until routers know an endpoint that is made now."""
    seen_s: list[float] = []
    name = f"news-{int(time.monotonic())}"
    await site.kube.create(ENDPOINTS.format(HOME), manifest(name, [nowhere()]))
    try:
        await _visible(site, name, seen_s)
    except TimeoutError:
        return math.inf
    finally:
        await site.kube.delete(f"{ENDPOINTS.format(HOME)}/{name}")
    return seen_s[0]


async def lists(site: Site) -> int:
    """Number of lists of endpoints since the start of the API server, from its metrics; -1: unknown."""
    try:
        text = await kubectl("get", "--raw", "/metrics")
    except Refused:
        return -1
    lines = [line for line in text.splitlines() if line.startswith("apiserver_request_total{")]
    wanted = [line for line in lines if 'resource="scoringendpoints"' in line and 'verb="LIST"' in line]
    return int(sum(float(line.split()[-1]) for line in wanted))


async def hanging_leader(site: Site, quick: bool) -> Verdict:
    """19: the leader stands still, and goes on when another leads"""
    hang_s = 20.0 if quick else 40.0
    await declare(site, 3)
    await site.ready(NAME, 3)
    load = Load(site)
    async with scales(site.kube, HOME) as scaled, leads(site.kube, HOME) as led:
        load.start(hang_s + 15)
        old = await site.holder()
        pid = site.process(old)
        os.kill(pid, signal.SIGSTOP)
        try:
            taken_s = await until(lambda: _other(site, old), "another leader", hang_s)
            await declare(site, 4)  # something that both would write
            await asyncio.sleep(max(0.0, hang_s - taken_s))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        left_s = await until_so(lambda: _ended(site, pid), "the end of the old leader", 15)
        outcomes = await load.stop()
        late = records.fallen_back(scaled.seen)
        twice = records.at_once([each for each in led.seen if each.lease == LEASE])
        steps = [each.replicas for each in records.steps(scaled.seen, scaled.seen[0].workload)]
    passed = not outcomes.failed and not late and not twice and steps == [3, 4]
    words = f"another leads after {taken_s:.1f} s, the old one left {left_s:.1f} s after it went on"
    return Verdict(passed, f"{told(outcomes)}, {words}, replicas {steps}, {late} late writes")


async def _other(site: Site, old: str) -> bool:
    return await site.holder() not in ("", old)


def _ended(site: Site, pid: int) -> bool:
    return any(entry.what == journal.ENDED and entry.pid == pid for entry in site.journal())


async def jumping_clocks(site: Site, quick: bool) -> Verdict:
    """19: the wall clocks of all processes jump by an hour, to and fro"""
    jumps = 2 if quick else 6
    clock = WallClock(Path(site.shape.modules))
    await declare(site, 3)
    await site.ready(NAME, 3)
    load = Load(site)
    async with scales(site.kube, HOME) as scaled, leads(site.kube, HOME) as led:
        load.start(jumps * 3 * JUMP_S)
        for _ in range(jumps):
            for offset_s in (HOUR_S, -HOUR_S, 0.0):
                clock.jump(offset_s)
                await asyncio.sleep(JUMP_S)
        outcomes = await load.stop()
        clock.jump(HOUR_S)
        await declare(site, 4)
        await site.ready(NAME, 4)
        clock.jump(0.0)
        leaders = {(each.holder, each.fence) for each in led.seen if each.lease == LEASE}
        steps = [each.replicas for each in records.steps(scaled.seen, scaled.seen[0].workload)]
    passed = not outcomes.failed and len(leaders) == 1 and steps == [3, 4]
    return Verdict(passed, f"{told(outcomes)}, {3 * jumps} jumps, {len(leaders)} leader, replicas {steps}")


SCENARIOS: dict[int, Sequence[Callable[[Site, bool], Coroutine[Any, Any, Verdict]]]] = {
    9: (updating,),
    10: (swinging,),
    12: (changing,),
    17: (without_api,),
    19: (hanging_leader, jumping_clocks),
}


async def measure(numbers: Sequence[int], quick: bool) -> int:
    """Number of failed requests."""
    failed = 0
    async with contextlib.AsyncExitStack() as stack:
        clock = stack.enter_context(tempfile.TemporaryDirectory(prefix="clock-"))
        WallClock(Path(clock))  # before anybody looks at it
        installed = await stack.enter_async_context(
            site(Shape(routers=2, controls=2, modules=clock, settings=(f"SCOREFRONT_STATIC_CIDRS={NOBODY}/32",)))
        )
        for number, scenario in [(each, scenario) for each in numbers for scenario in SCENARIOS[each]]:
            began_s = time.monotonic()
            try:
                verdict = await scenario(installed, quick)
            except (TimeoutError, ApiFailure, Refused) as error:
                verdict = Verdict(False, repr(error))
            failed += not verdict.passed
            title = (scenario.__doc__ or "").split(": ", 1)[1].strip()
            word = "skip" if verdict.skipped else "pass" if verdict.passed else "FAIL"
            print(f"{word} {number:3} {title}", flush=True)
            print(f"         {verdict.figures} ({time.monotonic() - began_s:.0f} s)", flush=True)
            await installed.remove(NAME)
    return failed


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.played.faults")
    parser.add_argument("numbers", type=int, nargs="*", metavar="NUMBER", help=f"of {list(SCENARIOS)}; all if none")
    parser.add_argument("--quick", action="store_true", help="some seconds each")
    arguments = parser.parse_args()
    unknown = set(arguments.numbers) - set(SCENARIOS)
    if unknown:
        parser.error(f"no scenario {sorted(unknown)}; there are {list(SCENARIOS)}")
    return 1 if asyncio.run(measure(arguments.numbers or list(SCENARIOS), arguments.quick)) else 0


if __name__ == "__main__":
    raise SystemExit(main())
