"""From 8 pods to 1 while requests of a second trickle in: is anything lost, and was each pod idle when it was deleted?

    python -m tests.cluster.played.down [--times 20] [--clients 1] [--quick] [--check]

KUBECONFIG: an API server with controller-manager and scheduler, and no node. 1 slot per pod, 1 s of work, min 1, max 8,
target 100 %, window 5 s. A pod was idle if the replica's own log has no request that ended, or began, after its node
saw the deletion: a request that ended in the milliseconds between the deletion and the news of it is not seen. With one
client one pod is enough, so seven go each time.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.bench.figures import Promise, Table, judged, middle
from loadtests.witness import over
from tests.cluster.played import judge
from tests.cluster.played.judge import Removal
from tests.cluster.played.patience import until
from tests.cluster.played.site import HOME, Shape, Site, site

TIMES, QUICK = 20, 2
MOST, WORK_MS, WINDOW_S = 8, 1000, 5
CROWD = 10
GONE_S = 60.0
NAME = "tide"
PODS = f"{HOME}/{NAME}-"


@dataclass(frozen=True, slots=True)
class Ebb:
    """One way down."""

    took_s: float
    removed: Sequence[Removal]
    requests: int
    failed: int


async def ebb(site: Site, trickle: int) -> Ebb:
    """Up under a crowd, down under a trickle."""
    crowd = await site.clients(NAME, CROWD)
    crowd.start()
    await site.ready(NAME, MOST)
    high = await crowd.stop()
    began_s = time.monotonic()
    few = await site.clients(NAME, trickle)
    few.start()

    async def one_is_left() -> bool:
        return len(await site.pods(NAME)) <= trickle

    took_s = await until(one_is_left, f"{trickle} pods", GONE_S)
    low = await few.stop()
    removed = judge.removals(site.journal(), site.spans(), began_s, PODS)
    requests = high.statuses.total() + low.statuses.total()
    return Ebb(took_s, removed, requests, len(high.failures) + len(low.failures))


async def measure(times: int, trickle: int) -> tuple[list[Ebb], int]:
    """Run every kind of removal; return the overlaps of requests on a pod over all of them."""
    async with site(Shape()) as installed:
        scaler = {
            **{"minReplicas": 1, "maxReplicas": MOST},
            **{"targetUtilization": 100, "scaleDownWindowInSeconds": WINDOW_S},
        }
        version = installed.version(work_ms=WORK_MS, autoScaler=scaler, maxQueueWaitMs=60_000)
        await installed.apply(NAME, version)
        await installed.ready(NAME, 1)
        ebbs = [await ebb(installed, trickle) for _ in range(times)]
        return ebbs, over(installed.spans(), 1)


def table(ebbs: Sequence[Ebb]) -> Table:
    """A row for each."""
    rows = [
        (
            f"{number}",
            f"{each.took_s:.1f}",
            f"{len(each.removed)}",
            f"{_busy(each)}",
            f"{each.requests}",
            f"{each.failed}",
        )
        for number, each in enumerate(ebbs, 1)
    ]
    return Table(("", "s until gone", "removed", "not idle", "requests", "failed"), tuple(rows))


def _busy(each: Ebb) -> int:
    return sum(removal.late > 0 for removal in each.removed)


def promises(ebbs: Sequence[Ebb], overlaps: int, trickle: int) -> list[Promise]:
    """The promises of the product with their measured values."""
    fewest = min(len(each.removed) for each in ebbs)
    return [
        Promise("requests that failed", sum(each.failed for each in ebbs), 0, at_least=False, digits=0),
        Promise("pods removed that were not idle", sum(map(_busy, ebbs)), 0, at_least=False, digits=0),
        Promise("pods removed each time, at the least", fewest, MOST - trickle, digits=0),
        Promise("requests that overlapped", overlaps, 0, at_least=False, digits=0),
    ]


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.played.down")
    parser.add_argument("--times", type=int, default=TIMES)
    parser.add_argument("--clients", type=int, default=1, help="of the trickle, each with one request at a time")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} times")
    parser.add_argument("--check", action="store_true", help="exit status 1 when a promise is not kept")
    arguments = parser.parse_args()
    ebbs, overlaps = asyncio.run(measure(QUICK if arguments.quick else arguments.times, arguments.clients))
    print(table(ebbs).text())
    print(f"gone after a median of {middle([each.took_s for each in ebbs]):.1f} s (window {WINDOW_S} s)\n")
    return judged(promises(ebbs, overlaps, arguments.clients), arguments.check)


if __name__ == "__main__":
    raise SystemExit(main())
