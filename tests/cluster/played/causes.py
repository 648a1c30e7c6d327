"""Table of messages for each cause that keeps a version from its pods, and for each missing right.

    python -m tests.cluster.played.causes [--rights] [--only REGEX]

KUBECONFIG: an API server with controller-manager and scheduler, and no node. Causes: quota, LimitRange, missing image,
crash loop, HorizontalPodAutoscaler, each with four clients that wait. With `--rights`, in their place: each verb that
deploy/base grants, taken away in turn while endpoints are declared, scaled, changed and removed; before that, the
process is killed if it needs the right for its start. A second endpoint has a client all the time: its failed requests
are counted; a router that is killed loses those on it. `--only`: causes whose name matches.
"""

import argparse
import asyncio
import contextlib
import re
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from scorefront.doctor import rights
from tests.cluster.played.cli import doctor, scorefront
from tests.cluster.played.kube import Kube, Object
from tests.cluster.played.kubectl import Refused, kubectl
from tests.cluster.played.patience import until
from tests.cluster.played.site import ADMIN_PORT, HOME, REST_PORT, Shape, Site, site

WELL, ADOPTED = "well", "stateful"
LEAST, MOST, CLIENTS = 1, 4, 4
SAID_S, LOOK_S = 8.0, 0.2
READS = ("get", "list", "watch")
ROLES = "/apis/rbac.authorization.k8s.io/v1"
GOOD = {"Ready": "True", "Progressing": "False"}


@dataclass(frozen=True, slots=True)
class Right:
    """One verb on one resource for one process, in all its roles."""

    process: str
    group: str
    resource: str
    verb: str

    def __str__(self) -> str:
        return f"{self.process}: {self.verb} {self.resource}{'.' + self.group if self.group else ''}"


def every_right() -> list[Right]:
    """Those that deploy/base grants, each once."""
    found: dict[Right, None] = {}
    for rules in (rights.AT_HOME, rights.OF_ENDPOINTS):
        for process in rights.PROCESSES:
            for rule in rules[process]:
                for resource in rule.resources:
                    found |= {Right(process, rule.group, resource, verb): None for verb in rule.verbs}
    return list(found)


@contextlib.asynccontextmanager
async def without(kube: Kube, right: Right) -> AsyncIterator[None]:
    """Take a right away from all roles of its process. Raises ApiFailure."""
    paths = (
        f"{ROLES}/namespaces/{HOME}/roles/scorefront-{right.process}",
        f"{ROLES}/clusterroles/scorefront-{right.process}-endpoints",
    )
    before = {path: (await kube.get(path))["rules"] for path in paths}
    try:
        for path, rules in before.items():
            await kube.patch(path, {"rules": list(fewer(rules, right))})
        yield
    finally:
        for path, rules in before.items():
            await kube.patch(path, {"rules": rules})


def fewer(rules: list[Object], right: Right) -> list[Object]:
    """The rules without a right; a rule of several resources keeps it for the others."""
    found = []
    for rule in rules:
        if right.group not in rule["apiGroups"] or right.resource not in rule["resources"]:
            found.append(rule)
            continue
        others = [each for each in rule["resources"] if each != right.resource]
        verbs = [each for each in rule["verbs"] if each != right.verb]
        found += [{**rule, "resources": others}] if others else []
        found += [{**rule, "resources": [right.resource], "verbs": verbs}] if verbs else []
    return found


@dataclass(slots=True)
class Said:
    """What each place says about a cause."""

    cause: str
    conditions: str = ""
    events: str = ""
    state: str = ""
    why: str = ""
    doctor: str = ""
    ready: str = ""
    """`/readyz` of processes that are not."""
    pods: int = 0
    """Most pods of the endpoint at a time."""
    failed: int = 0
    """Requests to the other endpoint."""
    texts: list[str] = field(default_factory=list)

    def row(self) -> str:
        """Of a table in Markdown."""
        cells = (self.cause, self.conditions, self.events, self.state, self.why, self.doctor, self.ready)
        return " | ".join(("", *(each or "–" for each in cells), f"{self.pods}", f"{self.failed}", "")).strip()


HEAD = "| cause | conditions | Events | `scorefront get` | `why` | `doctor` | `/readyz` | most pods | failed |"


class Trial:
    """One cause after the other on one installation."""

    def __init__(self, installed: Site) -> None:
        self.site = installed
        self.kube = installed.kube
        self._most = 0

    def version(self, replica: Object | None = None, **fields: Any) -> Object:
        """A version that scales; `replica`: in the place of the usual one."""
        scaler = {"minReplicas": LEAST, "maxReplicas": MOST, "scaleDownWindowInSeconds": 2}
        made = self.site.version(work_ms=100, autoScaler=scaler, maxQueueWaitMs=3000, scoringTimeoutMs=2000, **fields)
        return {**made, **({"replica": replica} if replica else {})}

    @contextlib.asynccontextmanager
    async def watched(self, name: str, namespace: str, said: Said) -> AsyncIterator[None]:
        """Note the most pods of an endpoint, with clients that wait."""

        async def look() -> None:
            while True:
                with contextlib.suppress(Exception):
                    pods = await self.site.pods(name, namespace)
                    alive = [each for each in pods if not each["metadata"].get("deletionTimestamp")]
                    said.pods = max(said.pods, len(alive))
                await asyncio.sleep(LOOK_S)  # interval of looks at the pods

        async def ask() -> None:
            while True:
                with contextlib.suppress(Exception):
                    await self.site.score(name, namespace=namespace)
                await asyncio.sleep(LOOK_S)  # between two requests of a client

        tasks = [asyncio.create_task(look()), *(asyncio.create_task(ask()) for _ in range(CLIENTS))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def collect(self, name: str, namespace: str, said: Said) -> None:
        """Read all places."""
        with contextlib.suppress(Exception):
            told = (await self.site.endpoint(name, namespace)).get("status", {}).get("conditions", ())
            odd = [each for each in told if each["status"] != GOOD.get(each["type"], "False")]
            said.conditions = ", ".join(f"{each['type']} {each['status']} {each['reason']}" for each in odd)
            said.texts += [f"{each['type']}: {each['message']}" for each in odd if each["message"]]
        about = ("--field-selector", f"involvedObject.name={name}", "-o", "jsonpath={.items[*].reason}")
        described = await _text(kubectl("-n", namespace, "get", "events", *about))
        said.events = ", ".join(sorted(set(described.split()) - {"Created", "Scaled"}))
        shown, why, (_, examined) = await asyncio.gather(
            _text(scorefront(self.site, "get", name)), _text(scorefront(self.site, "why", name)), doctor()
        )
        lines = shown.splitlines()
        said.state = re.split(r"\s{2,}", lines[1].strip())[-1] if len(lines) > 1 else shown[:80]
        said.texts += [f"get: {line.strip()}" for line in lines[2:]]
        outcomes = re.findall(r"(?:asked for \d+: \w+|rule: \w+|\bfailing\b|\broom\b)", why)
        said.why = outcomes[-1] if outcomes else ("" if "\n" in why else why[:60])
        bad = [line.strip() for line in examined.splitlines() if line.strip() and " ok " not in f" {line} "]
        named = [
            found[0] for line in bad if (found := re.search(r"may not [^;]*?(?= in )|is not ready|pods? .*", line))
        ]
        said.doctor = "; ".join(dict.fromkeys(named))[:120]
        said.texts += [f"doctor: {line}" for line in bad]
        said.ready = await self.unready()

    async def unready(self) -> str:
        """What processes that are not ready wait for."""
        found: list[str] = []
        connector = aiohttp.TCPConnector(ssl=False)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=2)) as session:
            for part, pods, url in (
                ("control", await self.site.controls(), f"https://{{}}:{REST_PORT}/readyz"),
                ("router", await self.site.routers(), f"http://{{}}:{ADMIN_PORT}/readyz"),
            ):
                for pod in pods:
                    with contextlib.suppress(aiohttp.ClientError, TimeoutError, KeyError):
                        async with session.get(url.format(pod["status"]["podIP"])) as answer:
                            if answer.status != 200:
                                text = (await answer.text()).strip()
                                waiting = re.search(r'"waitingFor": \[(.*)\]', text)
                                found.append(f"{part}: {(waiting[1] if waiting else text)[:90]}")
        return "; ".join(dict.fromkeys(found))

    async def cause(self, said: Said, make: "Cause") -> None:
        """A cause in a namespace of its own."""
        namespace = name = re.sub(r"\W+", "-", said.cause.lower())
        await self.kube.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
        try:
            async with make(self, namespace) as version, self.watched(name, namespace, said):
                await self.site.apply(name, version, namespace=namespace)
                if said.cause.startswith("Horizontal"):
                    await until(lambda: self.site.answers(name, namespace), "a pod")
                    await kubectl("-n", name, "autoscale", f"deployment/{name}-blue", "--min=1", "--max=2")
                await asyncio.sleep(SAID_S)  # of waiting requests
                await self.collect(name, namespace, said)
        finally:
            await self.site.remove(name, namespace)
            await self.kube.delete(f"/api/v1/namespaces/{namespace}")

    # ---- rights

    async def right(self, right: Right, number: int, said: Said) -> None:
        """One right is missing while everything is done."""
        name = f"trial-{number}"
        steady = await self.site.clients(WELL, 1, think_s=0.1)
        steady.start()
        version = self.version()
        try:
            async with without(self.kube, right):
                if right.verb in READS or right.process == "router":
                    await self.kill(right.process)
                async with self.watched(name, HOME, said):
                    with contextlib.suppress(Refused):
                        await self.site.apply(name, version)
                    await asyncio.sleep(SAID_S / 2)  # of waiting requests
                    with contextlib.suppress(Refused):
                        await self.site.apply(name, {**version, "replica": self.site.version(tag="2")["replica"]})
                        await self.adopt(1 + number % 2)
                    await asyncio.sleep(SAID_S / 2)  # for the change
                await asyncio.gather(*(_text(scorefront(self.site, *each)) for each in _by_hand(name)))
                await self.collect(name, HOME, said)
        finally:
            await self.site.installed()
            await self.site.remove(name)
            said.failed = len((await steady.stop()).failures)

    async def kill(self, process: str) -> None:
        """kill -9 of the leader, or of one router; returns once another leads, or the router has begun again."""
        if process == "router":
            pod = str((await self.site.routers())[0]["metadata"]["name"])
            assert self.site.signal(pod, signal.SIGKILL)
            await asyncio.sleep(2.0)  # of its start
            return
        old = await self.site.holder()
        assert self.site.signal(old, signal.SIGKILL)

        async def another() -> bool:
            return await self.site.holder() not in ("", old)

        with contextlib.suppress(TimeoutError):
            await until(another, "another leader", 15)

    async def adopt(self, replicas: int) -> None:
        """Declare the endpoint on the StatefulSet. Raises Refused."""
        reference = {"workloadRef": {"kind": "StatefulSet", "name": ADOPTED}, "port": 5001}
        await self.site.apply(ADOPTED, {"name": "blue", "replica": reference, "numReplicas": replicas})

    async def prepare(self) -> None:
        """The endpoint with a client, and the StatefulSet."""
        await self.site.apply(WELL, self.site.version(work_ms=20, numReplicas=2, maxQueueWaitMs=10_000))
        await self.site.ready(WELL, 2)
        container = {"name": "model", "image": "registry.example/model:1", "ports": [{"containerPort": 5001}]}
        template = {
            "metadata": {"labels": {"app": ADOPTED}},
            "spec": {"automountServiceAccountToken": False, "containers": [container]},
        }
        spec = {"replicas": 1, "selector": {"matchLabels": {"app": ADOPTED}}, "template": template, "serviceName": "x"}
        path = f"/apis/apps/v1/namespaces/{HOME}/statefulsets"
        await self.kube.create(path, {"metadata": {"name": ADOPTED}, "spec": spec})
        await self.adopt(1)


def _by_hand(name: str) -> tuple[tuple[str, ...], ...]:
    return ("logs", name), ("keys", name, "--regenerate", "primary"), ("token", name)


async def _text(asked: "Any") -> str:
    """The output, or the complaint."""
    try:
        return str(await asked)
    except (AssertionError, Refused) as error:
        return str(error).strip().splitlines()[-1] if str(error).strip() else "refused"


# ---- causes


@contextlib.asynccontextmanager
async def quota(trial: Trial, namespace: str) -> AsyncIterator[Object]:
    """One pod only."""
    body = {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "1"}}}
    await trial.kube.create(f"/api/v1/namespaces/{namespace}/resourcequotas", body)
    yield trial.version()


@contextlib.asynccontextmanager
async def limit_range(trial: Trial, namespace: str) -> AsyncIterator[Object]:
    """No container with this much memory."""
    limits = [{"type": "Container", "max": {"memory": "10Mi"}}]
    body = {"metadata": {"name": "small"}, "spec": {"limits": limits}}
    await trial.kube.create(f"/api/v1/namespaces/{namespace}/limitranges", body)
    yield trial.version()


@contextlib.asynccontextmanager
async def missing_image(trial: Trial, _: str) -> AsyncIterator[Object]:
    """A pull that fails."""
    yield trial.version({"image": "registry.example/unknown:1"})


@contextlib.asynccontextmanager
async def crash_loop(trial: Trial, _: str) -> AsyncIterator[Object]:
    """A server that ends at its start."""
    yield trial.version(env={"WORK_MS": "nonsense"})


@contextlib.asynccontextmanager
async def autoscaler(trial: Trial, _: str) -> AsyncIterator[Object]:
    """A version that another autoscaler scales, once it is there."""
    yield trial.version()


Cause = Callable[[Trial, str], contextlib.AbstractAsyncContextManager[Object]]
CAUSES: dict[str, Cause] = {
    "quota": quota,
    "LimitRange": limit_range,
    "missing image": missing_image,
    "crash loop": crash_loop,
    "HorizontalPodAutoscaler": autoscaler,
}


async def measure(of_rights: bool, only: str) -> int:
    """Print the rows; the number of broken promises: too many pods, failed requests elsewhere."""
    bad = 0
    shape = Shape(2, 2, components=("all-namespaces",), settings=("SCOREFRONT_NAMESPACES=*",))
    async with site(shape) as installed:
        trial = Trial(installed)
        print(f"{HEAD}\n|{'---|' * HEAD.count(' | ')}---|", flush=True)
        notes: list[Said] = []
        if of_rights:
            await trial.prepare()
        tried: list[Right | str] = [*every_right()] if of_rights else [*CAUSES]
        for number, each in enumerate(tried):
            said = Said(str(each))
            if not re.search(only, said.cause):
                continue
            began_s = time.monotonic()
            if isinstance(each, Right):
                await trial.right(each, number, said)
                bad += said.failed if each.process != "router" else 0
            else:
                await trial.cause(said, CAUSES[each])
                bad += said.pods > LEAST + 1 and each != "HorizontalPodAutoscaler"
            said.texts.append(f"{time.monotonic() - began_s:.0f} s")
            notes.append(said)
            print(said.row(), flush=True)
        for said in notes:
            print("\n".join((f"\n# {said.cause}", *said.texts)))
        if of_rights:
            await kubectl("-n", HOME, "delete", "statefulset", ADOPTED)
    return bad


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.played.causes", description=__doc__)
    parser.add_argument("--rights", action="store_true", help="missing rights")
    parser.add_argument("--only", default="", metavar="REGEX", help="causes whose name matches")
    arguments = parser.parse_args()
    return 1 if asyncio.run(measure(arguments.rights, arguments.only)) else 0


if __name__ == "__main__":
    raise SystemExit(main())
