"""Five clients in a closed loop come from rest upon one pod: time until the cluster knows that more are wanted.

    python -m tests.cluster.played.step [--trials 30] [--quick] [--check]

KUBECONFIG: an API server with controller-manager and scheduler, and no node. Every trial has an endpoint of its own,
one after the other: 1 slot per pod, 100 ms of work, min 1, max 6, target 70 %, queue wait 10 s. The clock starts when
the clients send: one request takes the slot, the next one waits. It ends when a watch of the Deployments has the
new number, later than the acceptance of the patch by the API server. A pod counts as Ready once its node sends
that status, earlier than the API server has it. So both figures are upper bounds.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.bench.figures import Promise, Table, judged, middle, percentile
from loadtests.witness import over
from tests.cluster.played import judge
from tests.cluster.played.records import Record, Scale, scales
from tests.cluster.played.site import HOME, Shape, Site, site

TRIALS, QUICK = 30, 3
CLIENTS, MOST = 5, 6
LOAD_S, REST_S = 6.0, 2.5
"""A pod is there 2 to 3 s after it was wanted."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Times of one trial in seconds."""

    asked_after_s: float
    wanted: int
    first_s: Sequence[float]
    """Of each further pod: from Ready to its first request."""
    requests: int
    failed: int
    overlaps: int


async def trial(site: Site, number: int, seen: Record[Scale]) -> Trial:
    """One endpoint, from its creation to its end."""
    name = f"step-{number}"
    scaler = {"minReplicas": 1, "maxReplicas": MOST}
    await site.apply(name, site.version(autoScaler=scaler, maxQueueWaitMs=10_000))
    await site.ready(name, 1)
    clients = await site.clients(name, CLIENTS)
    await clients.connect()
    await asyncio.sleep(REST_S)
    began_s = time.monotonic()
    clients.start()
    await asyncio.sleep(LOAD_S)
    tally = await clients.stop()
    mine = [each for each in seen.seen if each.workload.startswith(name)]
    entries = site.journal()
    spans = judge.of(site.spans(), entries, f"{HOME}/{name}-")
    first_s = judge.first_request_s(entries, spans, began_s)
    wanted = max(each.replicas for each in mine)
    asked_s = judge.raised_after_s(mine, began_s)
    await site.remove(name)
    return Trial(asked_s, wanted, first_s, tally.statuses.total(), len(tally.failures), over(spans, 1))


async def measure(trials: int) -> list[Trial]:
    """One after the other, so that each has the machine for itself."""
    async with site(Shape()) as installed, scales(installed.kube, HOME) as seen:
        return [await trial(installed, number, seen) for number in range(trials)]


def table(trials: Sequence[Trial]) -> Table:
    """Milliseconds."""
    asked = [1000 * each.asked_after_s for each in trials]
    first = [1000 * value for each in trials for value in each.first_s]
    rows = [
        (
            what,
            str(len(values)),
            *(f"{figure:.0f}" for figure in (middle(values), percentile(values, 0.99), max(values))),
        )
        for what, values in (("first waiting request → more wanted", asked), ("Ready → first request", first))
        if values
    ]
    return Table(("", "number", "median ms", "p99 ms", "max ms"), tuple(rows))


def promises(trials: Sequence[Trial]) -> list[Promise]:
    """The promises of the product with their measured values."""
    asked = [each.asked_after_s for each in trials]
    first = [value for each in trials for value in each.first_s]
    return [
        Promise("first waiting request → more wanted, median s", middle(asked), 0.5, at_least=False, digits=3),
        Promise("first waiting request → more wanted, p99 s", percentile(asked, 0.99), 1.0, at_least=False, digits=3),
        Promise("Ready → first request, median ms", 1000 * middle(first), 100, at_least=False, digits=0),
        Promise("pods wanted at the least", min(each.wanted for each in trials), MOST, digits=0),
        Promise("requests that failed", sum(each.failed for each in trials), 0, at_least=False, digits=0),
        Promise("requests that overlapped", sum(each.overlaps for each in trials), 0, at_least=False, digits=0),
    ]


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.played.step")
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} trials")
    parser.add_argument("--check", action="store_true", help="exit status 1 when a promise is not kept")
    arguments = parser.parse_args()
    trials = asyncio.run(measure(QUICK if arguments.quick else arguments.trials))
    print(table(trials).text())
    print(f"{sum(each.requests for each in trials):,} requests in {len(trials)} trials\n")
    return judged(promises(trials), arguments.check)


if __name__ == "__main__":
    raise SystemExit(main())
