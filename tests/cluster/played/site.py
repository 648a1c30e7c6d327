"""The product installed in a cluster as a user installs it, on a played node; seen and used from outside."""

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from loadtests import witness
from loadtests.closedloop import Clients
from loadtests.http1 import post
from loadtests.installation import manifest
from tests.cluster.played import journal
from tests.cluster.played.images import MODEL, ROOT
from tests.cluster.played.kube import MERGE, ApiFailure, Kube, Object
from tests.cluster.played.kubectl import Refused, apply, apply_object, kubectl
from tests.cluster.played.kubelet import READY
from tests.cluster.played.patience import until, until_so
from tests.cluster.played.podstatus import is_ready
from tests.cluster.played.service import Service

HOME = "scorefront"
"""The namespace that the overlay names."""
LEASE = "scorefront-control"
BESIDE = ("exit-reporter", "collector")
"""The other containers of a router pod."""
ENDPOINTS = "/apis/scorefront.io/v1alpha1/namespaces/{}/scoringendpoints"
SCORING_PORT, ADMIN_PORT, REST_PORT = 8080, 8082, 8081
START_S, CHANGE_S = 90.0, 60.0
_NOT_ASKED = (401, 404, 503)
_ROUTER, _CONTROL = (f"scorefront.io/component={part}" for part in ("router", "control"))


@dataclass(frozen=True, slots=True)
class Shape:
    """Size of the installation."""

    routers: int = 1
    controls: int = 1
    pods: int = 110
    """Room on the node."""
    overlay: str = "dev-test"
    components: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    """NAME=value, for both processes."""
    grace_s: int = 0
    """Grace period of routers; 0: as shipped. Kubernetes ends a namespace with a pod only after half of it."""
    modules: str = ""
    """A folder from which every process on the node imports first."""


class Site:
    """The running installation and its clients."""

    def __init__(self, shape: Shape, kube: Kube, service: Service, folder: Path) -> None:
        self.shape = shape
        self.kube = kube
        self.service = service
        self.folder = folder
        self.written = folder / "witness"
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=200, ssl=False))
        self._leaving: list[asyncio.Task[None]] = []

    async def close(self) -> None:
        """Wait for the removals under way, and close all connections. Raises their errors."""
        try:
            await self.all_left()
        finally:
            await self._session.close()

    # ---- endpoints

    def version(
        self, name: str = "blue", work_ms: float = 100, slots: int = 1, tag: str = "1", **fields: Any
    ) -> Object:
        """A version with replicas that record their requests. `fields`: of the version; `env`: more for the image."""
        told = {"WORK_MS": work_ms, "SLOTS": slots, "WITNESS": self.written, **fields.pop("env", {})}
        env = {key: str(value) for key, value in told.items()}
        replica = {"image": f"{MODEL}:{tag}", "env": env}
        return {"name": name, "replica": replica, "maxConcurrentRequestsPerContainer": slots, **fields}

    async def apply(self, name: str, *versions: Object, namespace: str = HOME, **spec: Any) -> str:
        """`kubectl apply` of an endpoint. Raises Refused."""
        return await apply_object(manifest(name, versions or [self.version()], **spec), namespace=namespace)

    async def remove(self, name: str, namespace: str = HOME) -> None:
        """`kubectl delete`, until it is gone with its pods. Raises Refused, TimeoutError."""
        await kubectl("-n", namespace, "delete", "scoringendpoint", name, "--ignore-not-found", "--timeout=90s")

        async def no_pod_is_left() -> bool:
            return not await self.pods(name, namespace)

        await until(no_pod_is_left, f"the end of the pods of {name}", START_S)

    def leave(self, name: str, namespace: str = HOME) -> None:
        """Begin to remove an endpoint; its pods need seconds to end, for which the next test need not wait."""
        self.later(self.remove(name, namespace))

    async def all_left(self) -> None:
        """Once nothing is being removed. Raises the errors of removals."""
        leaving, self._leaving = self._leaving, []
        await asyncio.gather(*leaving)

    def later(self, removal: Coroutine[Any, Any, None]) -> None:
        """Have a removal done beside the next tests; an error of it fails the run at its end."""
        self._leaving.append(asyncio.create_task(removal, name="remove what a test has made"))

    async def endpoint(self, name: str, namespace: str = HOME) -> Object:
        """The object. Raises ApiFailure."""
        return await self.kube.get(f"{ENDPOINTS.format(namespace)}/{name}")

    async def condition(self, name: str, kind: str, namespace: str = HOME) -> Object:
        """One condition of its status; empty if it is missing."""
        told = (await self.endpoint(name, namespace)).get("status", {}).get("conditions", ())
        return next((each for each in told if each["type"] == kind), {})

    async def key(self, name: str, kind: str = "primaryKey", namespace: str = HOME) -> str:
        """Key from the Secret of the installation. Raises ApiFailure; status 404 before the first keys."""
        secret = await self.kube.get(f"/api/v1/namespaces/{HOME}/secrets/scorefront-keys")
        encoded = secret.get("data", {}).get(f"{namespace}.{name}")
        if encoded is None:
            raise ApiFailure(404, f"there are no keys of {namespace}/{name} yet")
        entry: dict[str, str] = json.loads(base64.b64decode(encoded))
        return entry[kind]

    async def pods(self, name: str, namespace: str = HOME) -> list[Object]:
        """Of all its versions."""
        path = f"/api/v1/namespaces/{namespace}/pods"
        return await self.kube.items(path, labelSelector=f"scorefront.io/endpoint={name}")

    async def ready(self, name: str, replicas: int, within_s: float = CHANGE_S, namespace: str = HOME) -> None:
        """Once so many pods are Ready, no other is there, and it can be scored. Raises TimeoutError."""

        async def there() -> bool:
            pods = await self.pods(name, namespace)
            return len(pods) == replicas and all(map(is_ready, pods))

        await until(there, f"{replicas} ready pods of {name}", within_s)
        await until(lambda: self.answers(name, namespace), f"an answer of {name}", within_s)

    async def answers(self, name: str, namespace: str = HOME) -> bool:
        """True if a request to it reaches a model."""
        try:
            # For any response of a model to an empty request: it has been asked.
            return (await self.score(name, namespace=namespace))[0] not in _NOT_ASKED
        except (ApiFailure, aiohttp.ClientError):
            return False

    # ---- scoring

    async def score(
        self, name: str, body: Any = None, key: str = "", namespace: str = HOME, **fields: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Through the Service: (status, header, body). `fields`: of the header, `_` for `-`. Raises ClientError."""
        host, port = self.service.address
        bearer = key or await self.key(name, namespace=namespace)
        sent = {"Authorization": f"Bearer {bearer}", **{each.replace("_", "-"): text for each, text in fields.items()}}
        url = f"http://{host}:{port}/api/v1/service/{name}/score"
        async with self._session.post(url, json=body or {}, headers=sent) as answer:
            return answer.status, dict(answer.headers), await answer.read()

    async def clients(self, name: str, count: int, think_s: float = 0.0, work_ms: int = 0) -> Clients:
        """Not started yet. `work_ms`: of their requests; 0: as the replicas are set."""
        body = b'{"work_ms": %d}' % work_ms if work_ms else b"{}"
        path = f"/api/v1/service/{name}/score"
        return Clients(self.service.address, post(path, await self.key(name), body), count, think_s)

    # ---- processes of the product

    async def routers(self) -> list[Object]:
        """Their pods."""
        return await self.kube.items(f"/api/v1/namespaces/{HOME}/pods", labelSelector=_ROUTER)

    async def controls(self) -> list[Object]:
        """Their pods."""
        return await self.kube.items(f"/api/v1/namespaces/{HOME}/pods", labelSelector=_CONTROL)

    async def installed(self) -> None:
        """Once every router and control that is wanted is Ready. Raises TimeoutError."""

        async def there() -> bool:
            routers, controls = await self.routers(), await self.controls()
            wanted = (self.shape.routers, self.shape.controls)
            return (len(routers), len(controls)) == wanted and all(map(is_ready, [*routers, *controls]))

        await until(there, "the product", START_S)
        await self.routed(self.shape.routers)

    async def routed(self, routers: int) -> None:
        """Once the Service has so many routers behind it. Raises TimeoutError."""
        await until_so(lambda: len(self.service.behind) == routers, "the Service", START_S)

    async def holder(self) -> str:
        """The leader's pod; "" while there is none. Raises ApiFailure."""
        lease = await self.kube.get(f"/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases/{LEASE}")
        return str(lease["spec"].get("holderIdentity") or "").rpartition("_")[0]

    def process(self, pod: str, namespace: str = HOME) -> int:
        """The process of the newest main container of a pod, as the played node knows it; 0: none runs."""
        pid = 0
        for entry in self.journal():
            if entry.container in BESIDE or entry.what not in (journal.STARTED, journal.ENDED):
                continue
            if entry.pod == f"{namespace}/{pod}":
                pid = entry.pid if entry.what == journal.STARTED else 0
        return pid

    def signal(self, pod: str, number: signal.Signals) -> bool:
        """Send a signal to the main process of a pod; False if none runs."""
        pid = self.process(pod)
        if not pid:
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    # ---- observations

    def journal(self) -> list[journal.Entry]:
        """Of the played node."""
        return journal.read(self.folder / "journal")

    def spans(self) -> list[witness.Span]:
        """The records of the replicas."""
        return witness.read(self.written)


class CannotStop(Exception):
    """CLUSTER_CONTROL is not set, or failed."""


@contextlib.asynccontextmanager
async def without_api_server() -> AsyncIterator[None]:
    """`$CLUSTER_CONTROL stop apiserver`, and in the end `… start apiserver`, until it is ready. Raises CannotStop."""
    await _api_server("stop")
    try:
        yield
    finally:
        await _api_server("start")
        await until(_is_ready, "the API server")


async def _api_server(verb: str) -> None:
    command = os.environ.get("CLUSTER_CONTROL")
    if not command:
        raise CannotStop("CLUSTER_CONTROL names no command that stops and starts the API server")
    process = await asyncio.create_subprocess_exec(
        *(*command.split(), verb, "apiserver"), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    if await process.wait():
        raise CannotStop(f"{command} {verb} apiserver ended with status {process.returncode}")


async def _is_ready() -> bool:
    try:
        return (await kubectl("get", "--raw", "/readyz")).startswith("ok")
    except Refused:
        return False


@contextlib.asynccontextmanager
async def node(folder: Path, pods: int, modules: str = "") -> AsyncIterator[None]:
    """A played node in a process of its own. Raises RuntimeError with its output."""
    paths = filter(None, (modules, os.environ.get("PYTHONPATH")))
    with (folder / "kubelet.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.cluster.played.kubelet", "--folder", str(folder), "--pods", str(pods)),
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_S):
            line = await process.stdout.readline()
        if READY not in line.decode():
            raise RuntimeError((folder / "kubelet.log").read_text().strip())
        yield
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


def overlay(shape: Shape, folder: Path) -> Path:
    """A kustomization of the shipped overlay with other numbers of pods, as a user would write it."""
    folder.mkdir(exist_ok=True)
    deploy = os.path.relpath(ROOT / "deploy", folder.resolve())
    told: Object = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": HOME,
        "sortOptions": {"order": "fifo"},
        "resources": [f"{deploy}/overlays/{shape.overlay}"],
        "components": [f"{deploy}/components/{each}" for each in shape.components],
        "replicas": [
            {"name": "scorefront-router", "count": shape.routers},
            {"name": "scorefront-control", "count": shape.controls},
        ],
    }
    if shape.grace_s:
        grace = {"op": "replace", "path": "/spec/template/spec/terminationGracePeriodSeconds", "value": shape.grace_s}
        target = {"kind": "Deployment", "name": "scorefront-router"}
        told["patches"] = [{"target": target, "patch": yaml.safe_dump([grace])}]
    if shape.settings:
        merged = {"name": "scorefront-settings", "behavior": "merge", "literals": list(shape.settings)}
        told["configMapGenerator"] = [merged]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(told))
    return folder


@contextlib.asynccontextmanager
async def installed(shape: Shape, kube: Kube, folder: Path) -> AsyncIterator[Site]:
    """Install the product on a node that is played already; remove it. Raises Refused, TimeoutError."""
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(_uninstall, kube, overlay(shape, folder / "overlay"))
        await apply("-k", str(folder / "overlay"))
        service = await stack.enter_async_context(Service(kube, HOME, _ROUTER, SCORING_PORT))
        made = Site(shape, kube, service, folder)
        stack.push_async_callback(made.close)
        await made.installed()
        yield made


@contextlib.asynccontextmanager
async def site(shape: Shape | None = None, keep: Path | None = None) -> AsyncIterator[Site]:
    """Play a node and install everything; remove everything at the end. `keep`: a folder for journal and logs that
    stays.

    Without it the environment's CLUSTER_KEEP names the parent of such a folder. Raises RuntimeError
    if the cluster has nodes of its own, TimeoutError if the product does not come up.
    """
    shape = shape or Shape()
    async with contextlib.AsyncExitStack() as stack:
        beside = os.environ.get("CLUSTER_KEEP")
        folder = keep or Path(tempfile.mkdtemp(prefix="site-", dir=beside))
        if not keep and not beside:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        kube = await stack.enter_async_context(Kube())
        await stack.enter_async_context(node(folder, shape.pods, shape.modules))
        yield await stack.enter_async_context(installed(shape, kube, folder))


async def _uninstall(kube: Kube, folder: Path) -> None:
    """Uninstall like a user; the rest is removed by force, so that the next run begins with nothing."""
    with contextlib.suppress(Refused, TimeoutError):
        await kubectl("delete", "scoringendpoints", "--all", "--all-namespaces", "--timeout=30s")
    with contextlib.suppress(ApiFailure):
        for each in await kube.items("/apis/scorefront.io/v1alpha1/scoringendpoints"):
            path = ENDPOINTS.format(each["metadata"]["namespace"])
            await kube.patch(f"{path}/{each['metadata']['name']}", {"metadata": {"finalizers": None}}, MERGE)
    await remove_pods(kube, HOME)
    await kubectl("delete", "-k", str(folder), "--ignore-not-found", "--timeout=60s")


async def empty(kube: Kube, namespace: str) -> None:
    """Remove a namespace with its endpoints and Deployments, in this order. Raises Refused, ApiFailure."""
    await kubectl("-n", namespace, "delete", "sep", "--all", "--timeout=90s")
    await kubectl("-n", namespace, "delete", "deployments", "--all", "--cascade=foreground", "--timeout=90s")
    await kube.delete(f"/api/v1/namespaces/{namespace}")


async def remove_pods(kube: Kube, namespace: str) -> None:
    """Remove pods without grace, together with their controllers."""
    apps = f"/apis/apps/v1/namespaces/{namespace}"
    for path in (f"{apps}/deployments", f"{apps}/replicasets", f"/api/v1/namespaces/{namespace}/pods"):
        with contextlib.suppress(ApiFailure):
            await kube.clear(path)


def named(shown: Sequence[Object]) -> list[str]:
    """Names of objects, sorted."""
    return sorted(each["metadata"]["name"] for each in shown)
