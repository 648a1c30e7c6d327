"""A rival that applies its number of pods every 3 s, under load: how often is it fought, and what does it cost?

    python -m tests.cluster.played.rivals [--seconds 120] [--check]

KUBECONFIG: an API server with controller-manager and scheduler, and no node. One version with 1 to 6 pods, one slot and
100 ms of work; five clients in a closed loop. The rival is a server-side apply of one replica, as Argo CD makes it.
"""

import argparse
import asyncio
import itertools
import time
from dataclasses import dataclass

from loadtests.bench.figures import Promise, judged
from loadtests.witness import over
from tests.cluster.played.kube import Object
from tests.cluster.played.records import Scale, scales, steps
from tests.cluster.played.site import HOME, Shape, Site, site

NAME, VERSION = "fought", "blue"
WORKLOAD = f"{NAME}-{VERSION}"
RIVAL = "argocd"
PERIOD_S, MOST, CLIENTS, WORK_MS = 3.0, 6, 5, 100
SETTLED_S = 1.0
"""A pod that the rival has removed ends its request in this time."""


@dataclass(frozen=True, slots=True)
class Fight:
    """Measured values; `named_s`: from the first change of the rival to the condition, -1: never."""

    raised: int
    """Times that the number was set back."""
    named_s: float
    message: str
    requests: int
    failed_before: int
    failed_after: int
    """Requests that failed later than SETTLED_S after the condition."""
    overlaps: int


async def apply_number(installed: Site, workload: str, replicas: int) -> None:
    """Server-side apply of a manifest with the number. Raises ApiFailure."""
    body: Object = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": workload, "namespace": HOME},
        "spec": {"replicas": replicas},
    }
    await installed.kube.apply(f"/apis/apps/v1/namespaces/{HOME}/deployments/{workload}", body, RIVAL)


async def fight(installed: Site, seconds: float) -> Fight:
    """The rival at work for so long."""
    scaler = {"minReplicas": 1, "maxReplicas": MOST, "scaleDownWindowInSeconds": 5}
    await installed.apply(NAME, installed.version(work_ms=WORK_MS, autoScaler=scaler, maxQueueWaitMs=10_000))
    await installed.ready(NAME, 1)
    clients = await installed.clients(NAME, CLIENTS)
    clients.start()
    await installed.ready(NAME, MOST)
    async with scales(installed.kube, HOME) as scaled:
        began_s = time.monotonic()
        named_s, message = -1.0, ""
        while time.monotonic() - began_s < seconds:
            await apply_number(installed, WORKLOAD, 1)
            next_s = time.monotonic() + PERIOD_S
            while time.monotonic() < next_s:
                told = await installed.condition(NAME, "ScalingConflict")
                if named_s < 0 and told.get("status") == "True":
                    named_s, message = time.monotonic() - began_s, told["message"]
                await asyncio.sleep(0.1)  # interval of looks at the condition
        tally = await clients.stop()
        raised = raises(steps(scaled.seen, WORKLOAD))
    calm_s = began_s + named_s + SETTLED_S if named_s >= 0 else float("inf")
    after = sum(each.at_s > calm_s for each in tally.failures)
    before = len(tally.failures) - after
    return Fight(raised, named_s, message, tally.statuses.total(), before, after, over(installed.spans(), 1))


def raises(seen: list[Scale]) -> int:
    """Times that the number of the rival was replaced by a higher one."""
    return sum(after.replicas > before.replicas for before, after in itertools.pairwise(seen))


async def measure(seconds: float) -> Fight:
    """Install, measure, remove."""
    async with site(Shape(routers=2, controls=2)) as installed:
        return await fight(installed, seconds)


def promises(found: Fight) -> list[Promise]:
    """The promises of the product with their measured values."""
    return [
        Promise("times that the number was set back", found.raised, 3, at_least=False, digits=0),
        Promise("the rival is named (1: yes)", found.named_s >= 0 and RIVAL in found.message, 1, digits=0),
        Promise("requests that failed after that", found.failed_after, 0, at_least=False, digits=0),
        Promise("requests that overlapped", found.overlaps, 0, at_least=False, digits=0),
    ]


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.played.rivals")
    parser.add_argument("--seconds", type=float, default=120.0, help="of the rival (120)")
    parser.add_argument("--check", action="store_true", help="exit status 1 when a promise is not kept")
    arguments = parser.parse_args()
    found = asyncio.run(measure(arguments.seconds))
    print(f"named {found.named_s:.1f} s after the rival's first change: {found.message}")
    print(f"{found.requests:,} requests, {found.failed_before} failed before that, {found.failed_after} after\n")
    return judged(promises(found), arguments.check)


if __name__ == "__main__":
    raise SystemExit(main())
