"""Requests of 5 s and 60 s on pods that answer nothing else meanwhile, their probes included: is a pod restarted?

    python -m tests.cluster.played.long_requests [--minutes 10] [--check]

KUBECONFIG: an API server with controller-manager and scheduler, and no node. The server of examples/iris with one sync
worker: while it scores, its health path is silent. Two endpoints with two pods each, as made from `image` but for the
entry script; as many clients in a closed loop as pods. Their liveness is the strictest that one can declare.
"""

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.bench.figures import Promise, Table, judged
from loadtests.closedloop import Clients, Tally
from loadtests.http1 import post
from tests.cluster.played.images import ROOT
from tests.cluster.played.kube import Object
from tests.cluster.played.podstatus import is_ready
from tests.cluster.played.site import Shape, Site, site

WORK_S = (5, 60)
PODS, PORT = 2, 5001
TIMEOUT_MS = 90_000
LOOK_S = 0.5
PROBE = {"periodSeconds": 2, "initialDelaySeconds": 1, "timeoutSeconds": 1, "failureThreshold": 2}


@dataclass(frozen=True, slots=True)
class Course:
    """Measured values of one endpoint."""

    work_s: int
    tally: Tally
    restarts: int
    pods: int
    """Different pods that there were."""
    unready: int
    """Looks that found a pod not ready."""


def version(work_s: int) -> Object:
    """Pods with the model that sleeps; `work_s`: name of the version."""
    script = str(ROOT / "tests" / "cluster" / "slow_score.py")
    container = {
        "name": "model",
        "image": "registry.example/scorefront-iris:1",
        "env": [{"name": "AZUREML_ENTRY_SCRIPT", "value": script}],
        "ports": [{"containerPort": PORT}],
    }
    return {
        "name": f"for-{work_s}",
        "replica": {"podTemplate": {"spec": {"containers": [container]}}, "port": PORT},
        "numReplicas": PODS,
        "scoringTimeoutMs": TIMEOUT_MS,
        "maxQueueWaitMs": TIMEOUT_MS,
        "livenessProbeRequirements": PROBE,
    }


async def course(installed: Site, work_s: int, seconds: float) -> Course:
    """One endpoint under load for so long, until the last request has ended."""
    name = f"slow-{work_s}"
    await installed.apply(name, version(work_s))
    await installed.ready(name, PODS)
    request = post(f"/api/v1/service/{name}/score", await installed.key(name), b'{"work_ms": %d}' % (1000 * work_s))
    clients = Clients(installed.service.address, request, PODS, patience_s=2 * TIMEOUT_MS / 1000)
    uids: set[str] = set()
    restarts = unready = 0
    clients.start()
    end_s = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end_s:
        pods = await installed.pods(name)
        uids |= {each["metadata"]["uid"] for each in pods}
        statuses = [status for each in pods for status in each["status"].get("containerStatuses", ())]
        restarts = max(restarts, sum(status["restartCount"] for status in statuses))
        unready += not all(map(is_ready, pods))
        await asyncio.sleep(LOOK_S)  # interval of looks at the pods
    return Course(work_s, await clients.stop(), restarts, len(uids), unready)


async def measure(minutes: float) -> list[Course]:
    """Both endpoints at the same time."""
    async with site(Shape(routers=2, controls=2)) as installed:
        courses = (course(installed, each, 60 * minutes) for each in WORK_S)
        return list(await asyncio.gather(*courses))


def table(found: Sequence[Course]) -> Table:
    """A row for each."""
    rows = tuple(
        (
            f"{each.work_s} s",
            f"{each.tally.statuses[200]}",
            f"{len(each.tally.failures)}",
            f"{each.restarts}",
            f"{each.pods - PODS}",
            f"{each.unready}",
        )
        for each in found
    )
    return Table(("requests of", "answered", "failed", "restarts", "pods replaced", "looks with a pod not ready"), rows)


def promises(found: Sequence[Course]) -> list[Promise]:
    """The promises of the product with their measured values."""
    return [
        Promise("restarts", sum(each.restarts for each in found), 0, at_least=False, digits=0),
        Promise("pods replaced", sum(each.pods - PODS for each in found), 0, at_least=False, digits=0),
        Promise("failed requests", sum(len(each.tally.failures) for each in found), 0, at_least=False, digits=0),
    ]


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.played.long_requests")
    parser.add_argument("--minutes", type=float, default=10.0, help="of load (10)")
    parser.add_argument("--check", action="store_true", help="exit status 1 when a promise is not kept")
    arguments = parser.parse_args()
    found = asyncio.run(measure(arguments.minutes))
    print(table(found).text())
    for each in found:
        for failure in each.tally.failures[:5]:
            print(f"{each.work_s} s: {failure.status} {failure.why}")
    return judged(promises(found), arguments.check)


if __name__ == "__main__":
    raise SystemExit(main())
