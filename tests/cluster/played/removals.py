"""`kubectl delete namespace` and `kubectl delete -k` with endpoints in it, under load: how long, and what does it cost?

    python -m tests.cluster.played.removals [--times 3] [--check]

KUBECONFIG: an API server with controller-manager and scheduler, and no node. An endpoint with two pods of one slot in
the namespace that is deleted, two clients in a closed loop with requests of 1 s, and two requests of 3 s that are sent
1 s before the deletion. The grace periods are those that are shipped: requests of 60 s, routers that drain for 60 s.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.bench.figures import Promise, Table, judged
from loadtests.http1 import exchange, post
from tests.cluster.played.kubectl import apply, kubectl
from tests.cluster.played.patience import until
from tests.cluster.played.site import HOME, Shape, Site, site

NAME, TEAM = "leaver", "team-a"
BEGUN, BEGUN_MS, WORK_MS = 2, 3000, 1000
LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Removal:
    """One deletion."""

    kind: str
    took_s: float
    begun: Sequence[int]
    """Statuses of the requests that were sent before it; 0: no answer."""
    left: int
    """Objects that remain: endpoints, namespaces."""


async def status_of(installed: Site, request: bytes) -> int:
    """The status of one request on a connection of its own; 0 without an answer."""
    try:
        reader, writer = await asyncio.open_connection(*installed.service.address)
        try:
            return (await exchange(reader, writer, request)).status
        finally:
            writer.close()
    except (OSError, asyncio.IncompleteReadError):
        return 0


async def under_load(installed: Site, kind: str, namespace: str, *command: str) -> Removal:
    """The deletion by `kubectl` with `command`, with an endpoint in the namespace."""
    version = installed.version(work_ms=WORK_MS, numReplicas=2, maxQueueWaitMs=10_000)
    await installed.apply(NAME, version, namespace=namespace)
    await installed.ready(NAME, 2, namespace=namespace)
    path, key = f"/api/v1/service/{NAME}/score", await installed.key(NAME, namespace=namespace)
    long = post(path, key, b'{"work_ms": %d}' % BEGUN_MS)
    begun = [asyncio.create_task(status_of(installed, long), name=f"begun {number}") for number in range(BEGUN)]
    await asyncio.sleep(1.0)  # into these requests
    load = [asyncio.create_task(_load(installed, post(path, key)), name=f"load {number}") for number in range(2)]
    began_s = time.monotonic()
    try:
        await kubectl(*command, f"--timeout={2 * LIMIT_S:.0f}s")
    finally:
        for task in load:
            task.cancel()
        await asyncio.gather(*load, return_exceptions=True)
    took_s = time.monotonic() - began_s
    print(f"{kind} deleted after {took_s:.1f} s", flush=True)
    namespaces = {each["metadata"]["name"] for each in await installed.kube.items("/api/v1/namespaces")}
    return Removal(kind, took_s, await asyncio.gather(*begun), int(namespace in namespaces))


async def _load(installed: Site, request: bytes) -> None:
    while True:
        await status_of(installed, request)
        await asyncio.sleep(0.05)  # between two requests of a client


async def measure(times: int) -> list[Removal]:
    """Both kinds of deletion, so many times each."""
    found: list[Removal] = []
    shape = Shape(2, 2, components=("all-namespaces",), settings=("SCOREFRONT_NAMESPACES=*",))
    async with site(shape) as installed:
        overlay = str(installed.folder / "overlay")
        for _ in range(times):
            await installed.kube.create("/api/v1/namespaces", {"metadata": {"name": TEAM}})
            found.append(await under_load(installed, "namespace", TEAM, "delete", "namespace", TEAM))
            found.append(await under_load(installed, "installation", HOME, "delete", "-k", overlay))
            await until(lambda: _is_applied(overlay), "the installation")
            await installed.installed()
    return found


async def _is_applied(overlay: str) -> bool:
    await apply("-k", overlay)
    return True


def table(found: Sequence[Removal]) -> Table:
    """A row for each."""
    rows = tuple((each.kind, f"{each.took_s:.1f}", " ".join(map(str, each.begun)), f"{each.left}") for each in found)
    return Table(("deleted", "s", "requests begun before", "left"), rows)


def promises(found: Sequence[Removal]) -> list[Promise]:
    """The promises of the product with their measured values."""
    lost = sum(status != 200 for each in found for status in each.begun)
    return [
        Promise("longest deletion, s", max(each.took_s for each in found), LIMIT_S, at_least=False),
        Promise("begun requests without an answer", lost, 0, at_least=False, digits=0),
        Promise("namespaces that are left", sum(each.left for each in found), 0, at_least=False, digits=0),
    ]


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.played.removals")
    parser.add_argument("--times", type=int, default=3, help="of each kind (3)")
    parser.add_argument("--check", action="store_true", help="exit status 1 when a promise is not kept")
    arguments = parser.parse_args()
    found = asyncio.run(measure(arguments.times))
    print(table(found).text())
    return judged(promises(found), arguments.check)


if __name__ == "__main__":
    raise SystemExit(main())
