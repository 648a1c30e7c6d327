"""A thousand endpoints and five thousand pods: times of a router to start and to see a changed pod.

    python -m tests.cluster.played.scale [--endpoints 1000] [--pods 5] [--starts 3] [--changes 200] [--quick]
[--check]

KUBECONFIG: an API server with controller-manager and scheduler, and no node. Endpoints and pods are objects only,
with
a status that is written here, on a node that is told of and plays nothing; all of the pods' addresses (127.0.0.0/8)
are
answered by one process. The control plane is scaled to nothing meanwhile, so that it does not make pods of its own.
Start: from the start of the router's process to the first 200 of /readyz. Change: a request waits at an endpoint
without a ready pod; the clock runs from the sending of the status that says Ready to the last byte of the answer.
"""

import argparse
import asyncio
import contextlib
import hashlib
import itertools
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import aiohttp
import psutil

from loadtests.bench.figures import Promise, Table, judged, middle, percentile
from loadtests.installation import REPLICA, manifest
from tests.cluster.played import journal
from tests.cluster.played.images import MODEL
from tests.cluster.played.kube import STRATEGIC, Kube, Object
from tests.cluster.played.kubectl import kubectl
from tests.cluster.played.node import Node
from tests.cluster.played.patience import until, until_so
from tests.cluster.played.site import ADMIN_PORT, ENDPOINTS, HOME, Shape, Site, named, site

ENDPOINT_COUNT, PODS_EACH, STARTS, CHANGES = 1000, 5, 3, 200
QUICK = (100, 5, 1, 20)
READY_S, SEEN_S = 20.0, 1.0
AT_ONCE, CHANGES_AT_ONCE = 20, 4
REST_S, STILL_S = 30.0, 10.0
PAPER, KEY, VERSION = "paper", "a-key-of-all-of-them-for-this-measurement", "blue"
LABEL = "scale.loadtests.scorefront.io"
PODS_PATH = f"/api/v1/namespaces/{HOME}/pods"


@dataclass(frozen=True, slots=True)
class Size:
    """Size of the cluster and number of trials."""

    endpoints: int
    pods: int
    """Of each endpoint."""
    starts: int
    changes: int
    rest_s: float = REST_S


@dataclass(slots=True)
class Measured:
    """Seconds, bytes, and cores."""

    size: Size
    filled_s: float = 0.0
    ready_s: list[float] = field(default_factory=list)
    seen_s: list[float] = field(default_factory=list)
    early: int = 0
    """Requests that were answered although no pod of the endpoint had been ready for a second."""
    resident: int = 0
    cores: float = 0.0


def endpoint_name(number: int) -> str:
    """Of one of them."""
    return f"crowd-{number}"


def address(endpoint: int, pod: int) -> str:
    """Of a pod; 127.251.0.1 and up: no played node gives these."""
    number = endpoint * 8 + pod
    return f"127.{251 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}"


def endpoint_object(number: int, port: int) -> Object:
    """As it is created; one slot per pod."""
    version = {
        "name": VERSION,
        "replica": {"image": f"{MODEL}:1", "port": port},
        "numReplicas": PODS_EACH,
        "maxQueueWaitMs": 30_000,
    }
    made = manifest(endpoint_name(number), [version])
    made["metadata"]["labels"] = {LABEL: "true"}
    return made


def endpoint_status(pods: int) -> Object:
    """As a leader would have written it."""
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    told = {"name": VERSION, "ready": pods, "desired": pods, "busy": 0, "waiting": 0}
    return {"defaultVersion": VERSION, "versions": [told], "keys": {"primarySha256": digest, "secondarySha256": digest}}


def pod_object(endpoint: int, pod: int, port: int) -> Object:
    """As a Deployment's pod is, on the node that plays nothing."""
    labels = {"scorefront.io/endpoint": endpoint_name(endpoint), "scorefront.io/version": VERSION, LABEL: "true"}
    container = {"name": "model", "image": f"{MODEL}:1", "ports": [{"containerPort": port}]}
    spec = {"nodeName": PAPER, "automountServiceAccountToken": False, "containers": [container]}
    return {"metadata": {"name": f"{endpoint_name(endpoint)}-{pod}", "labels": labels}, "spec": spec}


def pod_status(endpoint: int, pod: int, ready: bool) -> Object:
    """Running, and Ready or not."""
    ip, status = address(endpoint, pod), str(ready)
    conditions = [{"type": kind, "status": status} for kind in ("ContainersReady", "Ready")]
    return {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": conditions}


async def many(calls: Iterable[Callable[[], Awaitable[Any]]], at_once: int) -> None:
    """All of them, so many at a time."""
    left = iter(calls)

    async def some() -> None:
        for call in left:
            await call()

    async with asyncio.TaskGroup() as tasks:
        for number in range(at_once):
            tasks.create_task(some(), name=f"calls {number}")


class Crowd:
    """The objects."""

    def __init__(self, kube: Kube, size: Size, port: int) -> None:
        self._kube = kube
        self._size = size
        self._port = port

    async def create(self) -> None:
        """All of them."""
        numbers = range(self._size.endpoints)
        await many((partial(self._endpoint, number) for number in numbers), AT_ONCE)
        pods = itertools.product(numbers, range(self._size.pods))
        await many((partial(self._pod, number, pod) for number, pod in pods), AT_ONCE)

    async def _endpoint(self, number: int) -> None:
        path = ENDPOINTS.format(HOME)
        await self._kube.create(path, endpoint_object(number, self._port))
        status = {"status": endpoint_status(self._size.pods)}
        await self._kube.patch(f"{path}/{endpoint_name(number)}/status", status)

    async def _pod(self, endpoint: int, pod: int) -> None:
        await self._kube.create(PODS_PATH, pod_object(endpoint, pod, self._port))
        await self.set(endpoint, pod, True)

    async def set(self, endpoint: int, pod: int, ready: bool) -> None:
        """Set the Ready condition of a pod."""
        path = f"{PODS_PATH}/{endpoint_name(endpoint)}-{pod}/status"
        await self._kube.patch(path, {"status": pod_status(endpoint, pod, ready)}, STRATEGIC)

    async def remove(self) -> None:
        """All of them."""
        await self._kube.clear(PODS_PATH, labelSelector=f"{LABEL}=true")
        await self._kube.clear(ENDPOINTS.format(HOME), labelSelector=f"{LABEL}=true")


@contextlib.asynccontextmanager
async def answering() -> AsyncIterator[int]:
    """One process that answers at every address of 127.0.0.0/8; its port."""
    with socket.socket() as free:
        free.bind(("0.0.0.0", 0))
        port: int = free.getsockname()[1]
    command = (
        sys.executable,
        str(REPLICA),
        "--host",
        "0.0.0.0",
        "--port",
        str(port),
        "--work-ms",
        "1",
        "--slots",
        "999",
    )
    process = await asyncio.create_subprocess_exec(*command)
    try:
        yield port
    finally:
        process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def paper(kube: Kube, pods: int) -> AsyncIterator[None]:
    """A node that is told of."""
    node = Node(kube, PAPER, pods)
    await node.join()
    beating = asyncio.create_task(node.beat(), name="heartbeat of paper")
    try:
        yield
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
        await node.leave()


async def start(site: Site) -> float:
    """Delete the router's pod; seconds from the start of the next one's process to its readiness."""
    before = named(await site.routers())
    await kubectl("-n", HOME, "delete", "pod", *before, "--wait=false")

    def born() -> journal.Entry | None:
        began = [each for each in site.journal() if each.what == journal.STARTED and each.container == "router"]
        return began[-1] if began[-1].pod.partition("/")[2] not in before else None

    await until_so(lambda: born() is not None, "another router", 120)
    entry = born()
    assert entry is not None
    async with aiohttp.ClientSession() as session:

        async def ready() -> bool:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"http://{entry.ip}:{ADMIN_PORT}/readyz") as answer:
                    return answer.status == 200
            return False

        await until(ready, "a ready router", 120)
    return time.monotonic() - entry.at_s


async def change(site: Site, crowd: Crowd, size: Size, endpoint: int, measured: Measured) -> None:
    """One pod turns Ready while a request waits for it."""
    for pod in range(size.pods):
        await crowd.set(endpoint, pod, False)
    await asyncio.sleep(SEEN_S)
    asked = asyncio.create_task(site.score(endpoint_name(endpoint), key=KEY), name="a request that waits")
    await asyncio.sleep(0.1)
    measured.early += asked.done()
    began_s = time.monotonic()
    await crowd.set(endpoint, 0, True)
    status, _, _ = await asked
    measured.seen_s.append(time.monotonic() - began_s if status == 200 else float("inf"))
    for pod in range(1, size.pods):
        await crowd.set(endpoint, pod, True)


async def rest(pid: int, seconds: float) -> tuple[int, float]:
    """(bytes resident, cores used) of a process and all its children; shared pages count for each of them."""
    tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]

    def used_s() -> float:
        return sum(sum(each.cpu_times()[:2]) for each in tree)

    before_s, began_s = used_s(), time.monotonic()
    await asyncio.sleep(seconds)
    cores = (used_s() - before_s) / (time.monotonic() - began_s)
    return sum(each.memory_info().rss for each in tree), cores


async def measure(size: Size) -> Measured:
    """All figures."""
    measured = Measured(size)
    total = size.endpoints * size.pods
    async with (
        site(Shape()) as installed,
        answering() as port,
        paper(installed.kube, total + 10),
    ):
        crowd = Crowd(installed.kube, size, port)
        await kubectl("-n", HOME, "scale", "deployment/scorefront-control", "--replicas=0")
        began_s = time.monotonic()
        try:
            await crowd.create()
            measured.filled_s = time.monotonic() - began_s
            for _ in range(size.starts):
                measured.ready_s.append(await start(installed))
                await installed.routed(1)
            chosen = [number % size.endpoints for number in range(size.changes)]
            changes = (partial(change, installed, crowd, size, number, measured) for number in chosen)
            await many(changes, CHANGES_AT_ONCE)
            await asyncio.sleep(STILL_S)
            (router,) = named(await installed.routers())
            measured.resident, measured.cores = await rest(installed.process(router), size.rest_s)
        finally:
            await crowd.remove()
    return measured


def table(measured: Measured) -> Table:
    """Figures."""
    seen = [1000 * value for value in measured.seen_s]
    rows = (
        ("objects made in, s", f"{measured.filled_s:.0f}"),
        ("router ready after its start, s", " ".join(f"{each:.1f}" for each in measured.ready_s)),
        ("change of a pod seen, median ms", f"{middle(seen):.0f}"),
        ("change of a pod seen, p99 ms", f"{percentile(seen, 0.99):.0f}"),
        ("change of a pod seen, max ms", f"{max(seen):.0f}"),
        ("memory at rest, MB", f"{measured.resident / 1e6:.0f}"),
        ("CPU at rest, % of a core", f"{100 * measured.cores:.1f}"),
    )
    size = measured.size
    return Table((f"{size.endpoints:,} endpoints, {size.endpoints * size.pods:,} pods", ""), rows)


def promises(measured: Measured) -> list[Promise]:
    """The promises of the product with their measured values."""
    return [
        Promise("router ready after its start, s", max(measured.ready_s), READY_S, at_least=False),
        Promise("change of a pod seen, p99 s", percentile(measured.seen_s, 0.99), SEEN_S, at_least=False),
        Promise("answers of pods that were not ready", measured.early, 0, at_least=False, digits=0),
    ]


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.played.scale")
    parser.add_argument("--endpoints", type=int, default=ENDPOINT_COUNT)
    parser.add_argument("--pods", type=int, default=PODS_EACH, help="of each endpoint, at most 8")
    parser.add_argument("--starts", type=int, default=STARTS)
    parser.add_argument("--changes", type=int, default=CHANGES)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK[0]} endpoints")
    parser.add_argument("--check", action="store_true", help="exit status 1 when a promise is not kept")
    arguments = parser.parse_args()
    size = Size(arguments.endpoints, arguments.pods, arguments.starts, arguments.changes)
    measured = asyncio.run(measure(Size(*QUICK, rest_s=5.0) if arguments.quick else size))
    print(table(measured).text(), end="\n\n")
    return judged(promises(measured), arguments.check)


if __name__ == "__main__":
    raise SystemExit(main())
