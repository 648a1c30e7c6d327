"""On a cluster with nodes: pods come, go, are killed and replaced under a modest load, and no request may fail.

    python -m tests.cluster.live --model IMAGE [--overlay FOLDER] [--address HOST:PORT] [--clients 4] [--check]

KUBECONFIG: a cluster that runs pods; scorefront is installed in it (docs/kubernetes.md), or `--overlay` names the
kustomization to install. `--model`: the image of examples/iris/Dockerfile; it hosts a model of 100 ms a request,
`--address`: the Service `scorefront` as reachable from here; without it, its cluster IP. Two
routers and two control processes are wanted in any case, since one alone has no successor. Clients in a closed
loop, each on a connection that it keeps: one that is closed without notice counts as a failure, too; and two more
that
make a new connection for every request. Only a request on the replica with the killed
processes may fail. The endpoint is removed in the end, nothing else.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests.bench.figures import Promise, Table, judged
from loadtests.closedloop import Clients, Failure, Tally
from loadtests.http1 import post
from loadtests.installation import manifest
from tests.cluster.played.kube import Object
from tests.cluster.played.kubectl import Refused, apply, apply_object, kubectl
from tests.cluster.played.patience import until
from tests.cluster.played.podstatus import is_ready
from tests.cluster.played.site import HOME, LEASE

NAME, MODEL_MAP, PORT = "live-trial", "live-trial-model", 5001
LEAST, MOST, WINDOW_S = 1, 3, 5
CLIENTS = 4
LOOK_S, STEADY_S, STEP_S = 0.5, 10.0, 180.0
FRESH, FRESH_THINK_S = 2, 0.2
"""Clients with a new connection for every request: a router that is not ready, or gone, may not get one."""
THINK_S = 0.5
"""Between the requests of the one client that is left in the end."""
SCORE = Path(__file__).with_name("slow_score.py")
ROUTER = "scorefront.io/component=router"
MINE = f"scorefront.io/endpoint={NAME}"
ON_THE_KILLED = 1
"""Requests that a replica with one slot has on it."""

KILL = """
import os, signal
for pid in filter(str.isdigit, os.listdir('/proc')):
    if b'gunicorn' in open(f'/proc/{pid}/cmdline', 'rb').read():
        os.kill(int(pid), signal.SIGKILL)
"""


@dataclass(frozen=True, slots=True)
class Step:
    """Something that was done under load; monotonic seconds. `may_fail`: requests that it may cost."""

    name: str
    since_s: float
    until_s: float
    may_fail: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """Measured values. `said_s`: from the declaration to the first answer of the model."""

    said_s: float
    steps: Sequence[Step]
    answered: Sequence[int]
    """For each step."""
    stuck: str
    """The missing event; the course ended there."""
    tally: Tally


# ---- declarations


def endpoint(image: str, revision: int) -> Object:
    """The model in one version; another `revision` is another pod template, so a rolling update."""
    container = {
        "name": "model",
        "image": image,
        "env": [
            {"name": "AZUREML_ENTRY_SCRIPT", "value": f"/etc/model/{SCORE.name}"},
            {"name": "REVISION", "value": str(revision)},
        ],
        "ports": [{"containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1, "timeoutSeconds": 2},
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "model", "mountPath": "/etc/model"}],
    }
    pod = {
        # The first process of a container cannot be killed from within, unless another one is the first.
        "shareProcessNamespace": True,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "model", "configMap": {"name": MODEL_MAP}}],
    }
    scaler = {"minReplicas": LEAST, "maxReplicas": MOST, "scaleDownWindowInSeconds": WINDOW_S}
    version = {
        "name": "blue",
        "replica": {"podTemplate": {"spec": pod}, "port": PORT},
        "autoScaler": scaler,
        "maxQueueWaitMs": 20_000,
    }
    return manifest(NAME, [version])


def model_map() -> Object:
    """The model's source."""
    data = {SCORE.name: SCORE.read_text()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": MODEL_MAP}, "data": data}


# ---- objects


async def shown(*arguments: str) -> Object:
    """`kubectl get … -o json` in the product's namespace. Raises Refused."""
    told: Object = json.loads(await kubectl("-n", HOME, "get", *arguments, "-o", "json"))
    return told


async def pods(selector: str) -> list[Object]:
    """Of a selector. Raises Refused."""
    items: list[Object] = (await shown("pods", "-l", selector))["items"]
    return items


def steady(found: Sequence[Object], count: int, without: str = "") -> bool:
    """True if this many pods exist, all Ready and none leaving. `without`: uid of a pod that must be gone."""
    whole = all(is_ready(each) and not each["metadata"].get("deletionTimestamp") for each in found)
    return whole and len(found) == count and all(each["metadata"]["uid"] != without for each in found)


def restarts(pod: Object) -> int:
    """Number of restarts of its containers."""
    return sum(each["restartCount"] for each in pod["status"].get("containerStatuses", ()))


def first(found: Sequence[Object]) -> tuple[str, str]:
    """Name and uid of the first pod by name."""
    told = min((each["metadata"] for each in found), key=lambda metadata: str(metadata["name"]))
    return told["name"], told["uid"]


async def eventually(happened: Callable[[], Awaitable[bool]], what: str) -> float:
    """Seconds until it has; kubectl may fail meanwhile. Raises TimeoutError."""

    async def looked() -> bool:
        await asyncio.sleep(LOOK_S)
        try:
            return await happened()
        except Refused:
            return False

    return await until(looked, what, STEP_S)


async def all_ready(selector: str, count: int, without: str = "") -> None:
    """Until they are. Raises TimeoutError."""

    async def there() -> bool:
        return steady(await pods(selector), count, without)

    await eventually(there, f"{count} ready pods of {selector}")


async def holder() -> str:
    """The leader's pod. Raises Refused."""
    return str((await shown("lease", LEASE))["spec"].get("holderIdentity") or "").rpartition("_")[0]


# ---- actions


async def roll_model(image: str) -> None:
    """Another pod template for every replica."""
    before = {each["metadata"]["uid"] for each in await pods(MINE)}
    await apply_object(endpoint(image, 2), namespace=HOME)

    async def replaced() -> bool:
        found = await pods(MINE)
        return steady(found, MOST) and not before & {each["metadata"]["uid"] for each in found}

    await eventually(replaced, "the rolling update")


async def delete_one(selector: str, count: int) -> None:
    """A pod goes as `kubectl delete pod` lets it go; another takes its place."""
    name, uid = first(await pods(selector))
    await kubectl("-n", HOME, "delete", "pod", name, "--wait=false")
    await all_ready(selector, count, without=uid)


async def kill_one() -> None:
    """kill -9 of all processes of a replica: the kubelet starts its container again."""
    name, uid = first(await pods(MINE))
    with contextlib.suppress(Refused):  # the killer of the container need not live to report it
        await kubectl("-n", HOME, "exec", name, "--", "python", "-c", KILL)

    async def again() -> bool:
        found = await pods(MINE)
        return steady(found, MOST) and any(each["metadata"]["uid"] == uid and restarts(each) for each in found)

    await eventually(again, "the container's return")


async def roll_routers() -> None:
    """As a user does."""
    await kubectl("-n", HOME, "rollout", "restart", "deployment/scorefront-router")
    await kubectl("-n", HOME, "rollout", "status", "deployment/scorefront-router", "--timeout=110s")
    await all_ready(ROUTER, 2)


async def delete_leader() -> None:
    """Another one leads."""
    leader = await holder()
    await kubectl("-n", HOME, "delete", "pod", leader, "--wait=false")

    async def another() -> bool:
        return await holder() not in ("", leader)

    await eventually(another, "another leader")


class Crowd:
    """Several groups of clients."""

    def __init__(self, *groups: Clients) -> None:
        self._all = groups

    @property
    def answered(self) -> int:
        """Requests answered 200 so far."""
        return sum(each.tally.statuses[200] for each in self._all)

    @contextlib.asynccontextmanager
    async def at_work(self, seen: list[Tally]) -> AsyncIterator[None]:
        """Run clients; add their observations to `seen` at the end."""
        for each in self._all:
            each.start()
        try:
            yield
        finally:
            for each in self._all:
                seen.append(await each.stop())


class Course:
    """One step after the other."""

    def __init__(self, image: str, address: tuple[str, int], count: int) -> None:
        self._image = image
        self._address = address
        self._count = count
        self._steps: list[Step] = []
        self._answered: list[int] = []
        self._seen: list[Tally] = []

    @contextlib.asynccontextmanager
    async def step(self, name: str, crowd: Crowd, may_fail: int = 0) -> AsyncIterator[None]:
        """One step of the run: its time, answered and permitted failed requests."""
        since_s, before = time.monotonic(), crowd.answered
        print(f"{name} …", flush=True)
        try:
            yield
        finally:
            self._steps.append(Step(name, since_s, time.monotonic(), may_fail))
            self._answered.append(crowd.answered - before)

    async def run(self) -> Run:
        """The whole course. Raises Refused, TimeoutError."""
        for part in ("router", "control"):
            await kubectl("-n", HOME, "scale", f"deployment/scorefront-{part}", "--replicas=2")
            await kubectl("-n", HOME, "rollout", "status", f"deployment/scorefront-{part}", "--timeout=110s")
        await apply_object(model_map(), namespace=HOME)
        await apply_object(endpoint(self._image, 1), namespace=HOME)
        asked, said_s = await self._first_answer()
        return Run(said_s, self._steps, self._answered, await self._course(asked), merged(self._seen))

    async def _course(self, asked: bytes) -> str:
        """Why it did not come to its end."""
        loyal = Clients(self._address, asked, self._count)
        fresh = Clients(self._address, asked, FRESH, FRESH_THINK_S, fresh=True)
        one = Clients(self._address, asked, 1, THINK_S)
        many, few = Crowd(loyal, fresh), Crowd(one)
        try:
            async with many.at_work(self._seen):
                await self._under_load(many)
            async with few.at_work(self._seen), self.step("one client is left: 3 replicas to 1", few):
                await all_ready(MINE, LEAST)
        except TimeoutError as error:
            return str(error)
        return ""

    async def _first_answer(self) -> tuple[bytes, float]:
        asked = b""

        async def answered() -> bool:
            nonlocal asked
            secret = await shown("secret", "scorefront-keys")
            entry = secret.get("data", {}).get(f"{HOME}.{NAME}", "")
            if not entry:
                return False
            key = json.loads(base64.b64decode(entry))["primaryKey"]
            asked = post(f"/api/v1/service/{NAME}/score", key)
            return await Clients(self._address, asked, 1).once()

        said_s = await eventually(answered, "the first answer")
        return asked, said_s

    async def _under_load(self, crowd: Crowd) -> None:
        async with self.step(f"{self._count} clients: 1 replica to 3", crowd):
            await all_ready(MINE, MOST)
        async with self.step("nothing happens", crowd):
            await asyncio.sleep(STEADY_S)
        async with self.step("rolling update of the model", crowd):
            await roll_model(self._image)
        async with self.step("kubectl delete pod of a replica", crowd):
            await delete_one(MINE, MOST)
        async with self.step("kill -9 of a replica", crowd, ON_THE_KILLED):
            await kill_one()
        async with self.step("kubectl delete pod of a router", crowd):
            await delete_one(ROUTER, 2)
        async with self.step("routers replaced one by one", crowd):
            await roll_routers()
        async with self.step("kubectl delete pod of the leader", crowd):
            await delete_leader()
        async with self.step("nothing happens any more", crowd):
            await asyncio.sleep(STEADY_S)


def merged(seen: Sequence[Tally]) -> Tally:
    """The observations of all clients together."""
    whole = Tally()
    for each in seen:
        whole.statuses += each.statuses
        whole.failures += each.failures
        whole.asked_to_leave += each.asked_to_leave
        whole.connected += each.connected
    return whole


# ---- judgement


def failed(step: Step, failures: Sequence[Failure]) -> int:
    """Of the requests, and connections, of one step."""
    return sum(step.since_s < each.at_s <= step.until_s for each in failures)


def table(run: Run) -> Table:
    """A row for each step."""
    rows = tuple(
        (step.name, f"{step.until_s - step.since_s:.1f}", f"{answered:,}", f"{failed(step, run.tally.failures)}")
        for step, answered in zip(run.steps, run.answered, strict=True)
    )
    return Table(("", "s", "answered", "failed"), rows)


def promises(run: Run) -> list[Promise]:
    """The promises of the product with their measured values."""
    told = [
        Promise(f"{step.name}: failed", failed(step, run.tally.failures), step.may_fail, at_least=False, digits=0)
        for step in run.steps
    ]
    between = len(run.tally.failures) - sum(failed(step, run.tally.failures) for step in run.steps)
    silent = sum(not each for each in run.answered)
    return [
        *told,
        Promise("failed between the steps", between, 0, at_least=False, digits=0),
        Promise("steps that did not end", int(bool(run.stuck)), 0, at_least=False, digits=0),
        Promise("steps without an answer", silent, 0, at_least=False, digits=0),
    ]


async def measure(arguments: argparse.Namespace) -> Run:
    """Install if asked to, go the course, remove the endpoint. Raises Refused, TimeoutError."""
    if arguments.overlay:
        await apply("-k", arguments.overlay)
    host, _, port = arguments.address.rpartition(":")
    if not host:
        host, port = (await shown("service", "scorefront"))["spec"]["clusterIP"], "80"
    try:
        return await Course(arguments.model, (host, int(port)), arguments.clients).run()
    finally:
        for kind, name in (("scoringendpoint", NAME), ("configmap", MODEL_MAP)):
            await kubectl("-n", HOME, "delete", kind, name, "--ignore-not-found", "--timeout=90s")


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.live")
    parser.add_argument("--model", required=True, help="the image of examples/iris/Dockerfile")
    parser.add_argument("--overlay", default="", help="a kustomization that is applied first")
    parser.add_argument("--address", default="", help="HOST:PORT of the Service scorefront, as seen from here")
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--check", action="store_true", help="exit status 1 when a promise is not kept")
    arguments = parser.parse_args()
    run = asyncio.run(measure(arguments))
    print(table(run).text())
    for each in run.tally.failures[:10]:
        print(f"failed after {each.at_s - run.steps[0].since_s:.1f} s: {each.status} {each.why}")
    if run.stuck:
        print(f"ended early: {run.stuck}")
    print(f"first answer {run.said_s:.1f} s after the declaration; {run.tally.statuses.total():,} requests\n")
    return judged(promises(run), arguments.check)


if __name__ == "__main__":
    raise SystemExit(main())
