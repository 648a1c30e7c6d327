"""On a cluster with nodes: what a router's sudden death, its crash loop and the deletion of a namespace cost.

    python -m tests.cluster.live_deaths --model IMAGE --kill COMMAND [--address HOST:PORT] [--kills 10] [--loop 90]

KUBECONFIG: a cluster that runs pods, with scorefront in it for all namespaces. `--model`: as for `tests.cluster.live`.
`--kill`: a command that kills the container whose id follows, e.g. `ctr -n k8s.io tasks kill -s SIGKILL` on the node.
Two routers, five pods with one slot and 100 ms of work, four clients with 150 ms between requests. `kills` deaths, each
once both routers are Ready; then the first one is killed whenever it runs, for `loop` seconds, with the kubelet's own
back-off. In the end an endpoint in a namespace of its own, with requests of 3 s in flight, is deleted with it.
"""

import argparse
import asyncio
import base64
import json
import shlex
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from loadtests.http1 import exchange, post
from tests.cluster.live import ROUTER, all_ready, endpoint, model_map, pods, shown
from tests.cluster.played.kubectl import apply_object, kubectl
from tests.cluster.played.patience import until
from tests.cluster.played.router_deaths import CALM_S, CLIENTS, LATEST_S, PODS, Callers, cost
from tests.cluster.played.site import HOME

NAME, TEAM, BEGUN, BEGUN_MS, LIMIT_S = "mortal", "live-team", 2, 3000, 60.0


class Target:
    """The installation as clients and the node reach it."""

    def __init__(self, address: tuple[str, int], kill: str) -> None:
        self.address = address
        self._kill = shlex.split(kill)

    async def kill(self, pod: str) -> bool:
        """Kill the router in a pod; False if it does not run. Raises Refused."""
        found = await shown("pod", pod)
        for each in found["status"].get("containerStatuses", ()):
            if each["name"] == "router" and "running" in each["state"]:
                command = [*self._kill, each["containerID"].rpartition("/")[2]]
                pipe = asyncio.subprocess.DEVNULL
                process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
                return await process.wait() == 0
        return False

    async def request(self, name: str, namespace: str, body: bytes = b"{}") -> bytes:
        """A request with the endpoint's key, once it has one. Raises TimeoutError."""
        key = ""

        async def is_there() -> bool:
            nonlocal key
            entry = (await shown("secret", "scorefront-keys")).get("data", {}).get(f"{namespace}.{name}", "")
            key = json.loads(base64.b64decode(entry))["primaryKey"] if entry else ""
            return bool(key)

        await until(is_there, "keys")
        return post(f"/api/v1/service/{name}/score", key, body)

    async def status(self, request: bytes) -> int:
        """Status of one request; 0 without an answer."""
        try:
            reader, writer = await asyncio.open_connection(*self.address)
            try:
                return (await exchange(reader, writer, request)).status
            finally:
                writer.close()
        except (OSError, asyncio.IncompleteReadError):
            return 0

    async def answers(self, request: bytes) -> None:
        """Once a model answers. Raises TimeoutError."""

        async def it_does() -> bool:
            return await self.status(request) == 200

        await until(it_does, "an answer", 90)


def document(name: str, image: str, replicas: int) -> dict[str, Any]:
    """The endpoint of the live trial with a fixed number of replicas."""
    made = endpoint(image, 1)
    made["metadata"]["name"] = name
    (version,) = made["spec"]["versions"]
    del version["autoScaler"], version["maxQueueWaitMs"]
    version |= {"numReplicas": replicas, "scoringTimeoutMs": 10_000}
    return made


@asynccontextmanager
async def load(target: Target, image: str) -> AsyncIterator[Callers]:
    """The endpoint under load."""
    await kubectl("-n", HOME, "scale", "deployment/scorefront-router", "--replicas=2")
    await apply_object(model_map(), namespace=HOME)
    await apply_object(document(NAME, image, PODS), namespace=HOME)
    await all_ready(f"scorefront.io/endpoint={NAME}", PODS)
    await all_ready(ROUTER, 2)
    request = await target.request(NAME, HOME)
    await target.answers(request)
    callers = Callers(target.address, request)
    callers.start(CLIENTS)
    try:
        await asyncio.sleep(CALM_S)
        yield callers
    finally:
        await callers.stop()
        await kubectl("-n", HOME, "delete", "sep", NAME, "--timeout=90s")


async def deaths(target: Target, callers: Callers, kills: int, loop_s: float) -> int:
    """Number of deaths that cost too much; prints each."""
    bad = 0
    routers = sorted(each["metadata"]["name"] for each in await pods(ROUTER))
    for number in range(kills + bool(loop_s)):
        began, died_s = len(callers.seen), time.monotonic()
        if number < kills:
            title = f"death {number + 1}"
            assert await target.kill(routers[number % 2])
            died_s = time.monotonic()
            await asyncio.sleep(2 * LATEST_S)
            await all_ready(ROUTER, 2)
        else:
            title, again = f"crash loop of {loop_s:g} s", 0
            while time.monotonic() < died_s + loop_s:
                again += await target.kill(routers[0])
                await asyncio.sleep(0.5)  # interval of looks, not a wait for a condition
            title += f", killed {again} times"
        await asyncio.sleep(CALM_S)
        found = cost(callers.seen[began:], died_s)
        bad += not found.passed
        print(f"{'pass' if found.passed else 'FAIL'} {title}: {found}", flush=True)
    print(f"{len(callers.seen)} requests")
    return bad


async def deletion(target: Target, image: str) -> int:
    """1 if a namespace with an endpoint under load takes too long to go, or loses a begun request."""
    await kubectl("create", "namespace", TEAM)
    for each in (model_map(), document(f"{NAME}-b", image, 2)):
        await apply_object(each, namespace=TEAM)
    long = await target.request(f"{NAME}-b", TEAM, b'{"work_ms": %d}' % BEGUN_MS)
    await target.answers(long)
    begun = [asyncio.create_task(target.status(long), name=f"begun {number}") for number in range(BEGUN)]
    await asyncio.sleep(1.0)  # into these requests
    began_s = time.monotonic()
    await kubectl("delete", "namespace", TEAM, f"--timeout={2 * LIMIT_S:.0f}s")
    took_s, statuses = time.monotonic() - began_s, await asyncio.gather(*begun)
    print(f"namespace deleted in {took_s:.1f} s; requests begun before: {statuses}")
    return int(took_s > LIMIT_S or statuses != [200] * BEGUN)


async def measure(arguments: argparse.Namespace) -> int:
    """Number of failures."""
    host, _, port = arguments.address.rpartition(":")
    if not host:
        host, port = (await shown("service", "scorefront"))["spec"]["clusterIP"], "80"
    target = Target((host, int(port)), arguments.kill)
    async with load(target, arguments.model) as callers:
        bad = await deaths(target, callers, arguments.kills, arguments.loop)
    return bad + await deletion(target, arguments.model)


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.live_deaths", description=__doc__)
    parser.add_argument("--model", required=True, help="the image of examples/iris/Dockerfile")
    parser.add_argument("--kill", required=True, help="command that kills the container whose id follows")
    parser.add_argument("--address", default="", help="HOST:PORT of the Service scorefront, as seen from here")
    parser.add_argument("--kills", type=int, default=10, help="single deaths (10)")
    parser.add_argument("--loop", type=float, default=90.0, metavar="SECONDS", help="of a crash loop (90), 0: none")
    return 1 if asyncio.run(measure(parser.parse_args())) else 0


if __name__ == "__main__":
    raise SystemExit(main())
