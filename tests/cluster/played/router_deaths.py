"""Sudden deaths of routers under load: what they cost requests that were not on the router.

    python -m tests.cluster.played.router_deaths [--kills 20] [--loop 60]

KUBECONFIG: an API server with controller-manager and scheduler, and no node. Two routers, five pods with one slot and
100 ms of work, four clients with 150 ms between requests, which connect anew after some requests, so that both routers
are in use. `kills` single deaths of a router, each once both are Ready; then the first router is killed whenever it
runs, for `loop` seconds, so that its container is held back.
"""

import argparse
import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from loadtests import witness
from loadtests.bench.figures import percentile
from loadtests.http1 import exchange, post
from tests.cluster.played.patience import until
from tests.cluster.played.podstatus import is_ready
from tests.cluster.played.site import Shape, Site, site

NAME = "victim"
PODS, CLIENTS, WORK_MS, THINK_S = 5, 4, 100, 0.15
PER_CONNECTION = 6
"""Requests per connection."""
LATEST_S = 1.0
"""After a death: no request fails later, and 99 of 100 others take no longer within this time."""
CALM_S = 1.0
AGAIN_S = 0.02
LOST = 0


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request. Monotonic seconds; `status` LOST: without a whole answer."""

    began_s: float
    ended_s: float
    status: int


@dataclass(slots=True)
class Callers:
    """Clients on persistent connections, each with one request after the other."""

    address: tuple[str, int]
    request: bytes
    seen: list[Exchange] = field(default_factory=list)
    _tasks: list["asyncio.Task[None]"] = field(default_factory=list)

    def start(self, count: int) -> None:
        """Begin."""
        self._tasks = [asyncio.create_task(self._call(), name=f"caller {number}") for number in range(count)]

    async def stop(self) -> None:
        """End at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _call(self) -> None:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._converse()
            await asyncio.sleep(AGAIN_S)

    async def _converse(self) -> None:
        """One connection, until it is lost. Raises OSError, IncompleteReadError."""
        began_s, status = time.monotonic(), LOST
        writer = None
        try:
            reader, writer = await asyncio.open_connection(*self.address)
            for _ in range(PER_CONNECTION):
                began_s, status = time.monotonic(), LOST
                status = (await exchange(reader, writer, self.request)).status
                self.seen.append(Exchange(began_s, time.monotonic(), status))
                await asyncio.sleep(THINK_S)
        except (OSError, asyncio.IncompleteReadError):
            if status == LOST:
                self.seen.append(Exchange(began_s, time.monotonic(), LOST))
            raise
        finally:
            if writer is not None:
                writer.transport.abort()


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one death."""

    lost: int
    """Requests without an answer: on the dead router, or sent to it before the Service knew."""
    refused: int
    """Requests answered by a router, not with 200."""
    late: int
    """Requests that failed later than LATEST_S after the death."""
    p99_s: float
    """Of the requests answered 200 that began within LATEST_S after the death."""

    @property
    def passed(self) -> bool:
        """True if it cost no more than it may."""
        return not self.late and self.p99_s <= LATEST_S

    def __str__(self) -> str:
        return f"{self.lost} lost, {self.refused} refused, {self.late} late, p99 {1000 * self.p99_s:.0f} ms"


def cost(seen: Sequence[Exchange], died_s: float) -> Cost:
    """The cost of a death at `died_s`, of the requests `seen` until the next one."""
    after = [each for each in seen if each.ended_s >= died_s]
    failed = [each for each in after if each.status != 200]
    good = [each.ended_s - each.began_s for each in after if each.status == 200 and each.began_s <= died_s + LATEST_S]
    return Cost(
        sum(each.status == LOST for each in failed),
        sum(each.status != LOST for each in failed),
        sum(each.ended_s > died_s + LATEST_S for each in failed),
        percentile(good, 0.99),
    )


@contextlib.asynccontextmanager
async def load(installed: Site, name: str) -> AsyncIterator[Callers]:
    """An endpoint with PODS pods under load."""
    await installed.apply(name, installed.version(work_ms=WORK_MS, numReplicas=PODS))
    await installed.ready(name, PODS)
    await settled(installed)
    callers = Callers(installed.service.address, post(f"/api/v1/service/{name}/score", await installed.key(name)))
    callers.start(CLIENTS)
    try:
        await asyncio.sleep(CALM_S)
        yield callers
    finally:
        await callers.stop()


async def settled(installed: Site) -> None:
    """Once every router is Ready and takes connections. Raises TimeoutError."""

    async def ready() -> bool:
        routers = await installed.routers()
        return len(routers) == installed.shape.routers and all(map(is_ready, routers))

    await until(ready, "routers")
    await installed.routed(installed.shape.routers)


async def one_death(installed: Site, callers: Callers, pod: str) -> Cost:
    """Kill the router in a pod; the cost until both are Ready again."""
    began = len(callers.seen)
    died_s = time.monotonic()
    assert installed.signal(pod, signal.SIGKILL), f"no process in {pod}"
    await asyncio.sleep(2 * LATEST_S)
    await settled(installed)
    await asyncio.sleep(CALM_S)
    return cost(callers.seen[began:], died_s)


async def crash_loop(installed: Site, callers: Callers, pod: str, seconds: float) -> Cost:
    """Kill the router in a pod whenever it runs; the cost from the first death until it may run again."""
    began = len(callers.seen)
    died_s = time.monotonic()
    while time.monotonic() < died_s + seconds:
        installed.signal(pod, signal.SIGKILL)
        await asyncio.sleep(0.2)  # interval of the kills, not a wait for a condition
    return cost(callers.seen[began:], died_s)


async def measure(kills: int, loop_s: float) -> int:
    """Number of deaths that cost too much."""
    failed = 0
    async with site(Shape(routers=2, controls=1)) as installed, load(installed, NAME) as callers:
        routers = sorted(each["metadata"]["name"] for each in await installed.routers())
        for number in range(kills + bool(loop_s)):
            if number < kills:
                title, found = f"death {number + 1}", await one_death(installed, callers, routers[number % 2])
            else:
                title, found = f"crash loop, {loop_s:g} s", await crash_loop(installed, callers, routers[0], loop_s)
            failed += not found.passed
            print(f"{'pass' if found.passed else 'FAIL'} {title}: {found}", flush=True)
        await callers.stop()
        overlaps = witness.over(installed.spans(), 1)
        print(f"{len(callers.seen)} requests, {overlaps} overlaps")
    return failed + overlaps


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.played.router_deaths", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="single deaths (20)")
    parser.add_argument("--loop", type=float, default=60.0, metavar="SECONDS", help="of a crash loop (60), 0: none")
    arguments = parser.parse_args()
    return 1 if asyncio.run(measure(arguments.kills, arguments.loop)) else 0


if __name__ == "__main__":
    raise SystemExit(main())
