"""Plays one pod: its volumes, its containers as processes, its status in the API, its end."""

import asyncio
import contextlib
import json
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from cluster.local.guardian import Guardian
from tests.cluster.played import journal, volumes
from tests.cluster.played.container import Process
from tests.cluster.played.journal import Journal
from tests.cluster.played.kube import STRATEGIC, ApiFailure, Kube
from tests.cluster.played.podstatus import ENDED, RUNNING, WAITING, ContainerState, is_ready, pod_status
from tests.cluster.played.probe import Probe
from tests.cluster.played.recipe import Facts, Image, Object, Unplayable, files, image_of, needs, recipe, referred

AGAIN_S = 0.3
LACKING_S = 0.5
"""Between two looks for a Secret or an image that is not there."""
REFRESH_S = 3.0
"""Between two looks at the Secrets and ConfigMaps of volumes; a real agent takes up to a minute."""
FORCED_S = 1.0
FIRST_RESTART_S, MOST_BETWEEN_RESTARTS_S, CALM_S = 0.2, 10.0, 10.0
"""A container that ends is started again at once; then after 1, 2, 4 … s, until it has run for CALM_S."""
TOKEN_S = 86_400


def now() -> str:
    """RFC 3339, as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class World:
    """State shared by all pods of a machine."""

    kube: Kube
    images: Mapping[str, Image]
    folder: Path
    journal: Journal
    session: aiohttp.ClientSession
    """For probes."""
    guardian: Guardian
    mark: tuple[str, str]
    """The environment variable by which the guardian knows its own."""


class Pod:
    """One pod, from the binding to the removal of its object: `run`. `see` receives its newest object."""

    def __init__(self, world: World, seen: Object, ip: str) -> None:
        self._world = world
        self._seen = seen
        self.ip = ip
        metadata = seen["metadata"]
        self.uid: str = metadata["uid"]
        self.name = f"{metadata['namespace']}/{metadata['name']}"
        self._path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        # Short, because the paths of sockets below it may have 108 bytes.
        self._folder = world.folder / "p" / self.uid[:8]
        self._states = {each["name"]: _at_first(each) for each in seen["spec"]["containers"]}
        self._processes: dict[str, Process] = {}
        self._objects: dict[tuple[str, str], Object] = {}
        self._kubeconfig_file: Path | None = None
        self._leaving = asyncio.Event()
        self._vanished = False
        self._changed = asyncio.Event()

    # ---- the view of the API

    def see(self, seen: Object, gone: bool) -> None:
        """The newest object; `gone`: it was removed."""
        self._seen = seen
        if gone:
            self._vanished = True
        if gone or seen["metadata"].get("deletionTimestamp"):
            if not self._leaving.is_set():
                self._note(journal.LEAVING)
            self._leaving.set()
            return
        for container in seen["spec"]["containers"]:
            if self._states[container["name"]].resources != container.get("resources"):
                self._set(container["name"], resources=container.get("resources"))
        # The node controller marks pods as not ready without a heartbeat of their node: the true status is sent again.
        if is_ready(dict(seen)) != self._ready:
            self._changed.set()

    @property
    def _ready(self) -> bool:
        return all(each.ready for each in self._states.values())

    # ---- its life

    async def run(self) -> None:
        """Until nothing is left of it."""
        self._note(journal.BOUND)
        self._folder.mkdir(parents=True)
        telling = asyncio.create_task(self._tell(), name=f"status of {self.name}")
        living = asyncio.create_task(self._live(), name=f"containers of {self.name}")
        try:
            await self._leaving.wait()
            await self._stop()
            living.cancel()
            telling.cancel()
            await asyncio.gather(living, telling, return_exceptions=True)
            await self._remove()
        finally:
            for task in (living, telling):
                task.cancel()
            await asyncio.gather(living, telling, return_exceptions=True)
            for process in self._processes.values():
                await process.clear()
            shutil.rmtree(self._folder, ignore_errors=True)
        self._note(journal.GONE)

    async def _live(self) -> None:
        facts = await self._facts()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._refresh(facts), name=f"volumes of {self.name}")
            for container in self._seen["spec"]["containers"]:
                tasks.create_task(self._keep(container, facts), name=f"{container['name']} of {self.name}")

    async def _facts(self) -> Facts:
        """Once all volumes are there."""
        spec = self._seen["spec"]
        wanted = [each for each in spec.get("volumes", ()) if needs(each)]
        folders = {each["name"]: str(self._folder / "v" / each["name"]) for each in wanted}
        facts = Facts(self._seen, self.ip, spec["nodeName"], folders)
        while True:
            try:
                if spec.get("initContainers"):
                    raise Unplayable("CreateContainerConfigError", "init containers are not played")
                await self._fetch()
                self._write(facts)
                return facts
            except Unplayable as lack:
                for name in self._states:
                    self._set(name, reason=lack.reason, message=lack.message)
            await asyncio.sleep(LACKING_S)

    async def _fetch(self) -> None:
        """The newest Secrets and ConfigMaps that it names."""
        namespace = self._seen["metadata"]["namespace"]
        for plural, name in referred(self._seen):
            try:
                path = f"/api/v1/namespaces/{namespace}/{plural}/{name}"
                self._objects[plural, name] = await self._world.kube.get(path)
            except ApiFailure as failure:
                if failure.status == 404:
                    self._objects.pop((plural, name), None)

    def _object(self, plural: str, name: str) -> Object | None:
        return self._objects.get((plural, name))

    def _write(self, facts: Facts) -> None:
        for volume in self._seen["spec"].get("volumes", ()):
            if needs(volume):
                held = files(volume, facts, self._object)
                folder = Path(facts.folders[volume["name"]])
                folder.mkdir(parents=True, exist_ok=True)
                if held is not None:
                    volumes.write(folder, held)

    async def _refresh(self, facts: Facts) -> None:
        while any("emptyDir" not in each and needs(each) for each in self._seen["spec"].get("volumes", ())):
            await asyncio.sleep(REFRESH_S)
            await self._fetch()
            with contextlib.suppress(Unplayable):  # existing files stay
                self._write(facts)

    # ---- a container

    async def _keep(self, container: Object, facts: Facts) -> None:
        """Start it, and again whenever it ends."""
        name, pause_s = container["name"], FIRST_RESTART_S
        loop = asyncio.get_running_loop()
        while not self._leaving.is_set():
            try:
                process = await self._start(container, facts)
            except Unplayable as lack:
                self._set(name, state=WAITING, reason=lack.reason, message=lack.message)
                await self._fetch()
                await asyncio.sleep(LACKING_S)
                continue
            began = loop.time()
            status = await self._attend(container, process)
            if self._leaving.is_set():
                break
            self._note(journal.ENDED, name, process.pid, str(status))
            calm = loop.time() - began > CALM_S
            pause_s = FIRST_RESTART_S if calm else pause_s
            restarts = self._states[name].restarts + 1
            said = {"message": f"exit status {status}", "since": now(), "restarts": restarts, "exit_code": status}
            ended = (self._states[name].began, now(), status)
            if pause_s == FIRST_RESTART_S:
                self._set(name, state=ENDED, passes=False, reason="Error" if status else "Completed", **said)
            else:
                self._set(name, state=WAITING, passes=False, reason="CrashLoopBackOff", last=ended, **said)
            await asyncio.sleep(pause_s)
            self._set(name, last=ended)
            pause_s = min(MOST_BETWEEN_RESTARTS_S, max(1.0, 2 * pause_s))

    async def _start(self, container: Object, facts: Facts) -> Process:
        """Raises Unplayable."""
        image = image_of(self._world.images, container["image"])
        made = recipe(container, image, facts, self._object)
        env = {"HOME": str(self._folder), "TMPDIR": str(self._folder), **made.env}
        env.update([self._world.mark])
        if image.uses_api and self._seen["spec"].get("automountServiceAccountToken") is not False:
            env["KUBECONFIG"] = str(await self._kubeconfig())
        log = self._world.folder / "logs" / f"{self.name.replace('/', '_')}_{container['name']}.log"
        process = Process(replace(made, env=env), f"{self.uid}/{container['name']}", log, self._folder)
        try:
            await process.start()
        except OSError as error:
            raise Unplayable("RunContainerError", str(error)) from error
        self._processes[container["name"]] = process
        self._world.guardian.add_session(process.pid)
        self._note(journal.STARTED, container["name"], process.pid)
        passes = not container.get("readinessProbe") and not container.get("startupProbe")
        began = now()
        self._set(container["name"], state=RUNNING, since=began, began=began, passes=passes)
        return process

    async def _kubeconfig(self) -> Path:
        """With the rights of its service account; made once: a restart may not need the API. Raises Unplayable."""
        if self._kubeconfig_file is not None:
            return self._kubeconfig_file
        metadata, cluster = self._seen["metadata"], self._world.kube.cluster
        account = self._seen["spec"].get("serviceAccountName", "default")
        bound = {"kind": "Pod", "apiVersion": "v1", "name": metadata["name"], "uid": self.uid}
        token = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token"
        try:
            asked = {"spec": {"expirationSeconds": TOKEN_S, "boundObjectRef": bound, "audiences": None}}
            answer = await self._world.kube.create(token, asked)
        except ApiFailure as failure:
            raise Unplayable("CreateContainerError", f"no token for {account}: {failure}") from failure
        self._kubeconfig_file = write_kubeconfig(
            self._folder / "kubeconfig", cluster.server, cluster.ca, metadata["namespace"], answer["status"]["token"]
        )
        return self._kubeconfig_file

    async def _attend(self, container: Object, process: Process) -> int:
        """Probe it until it ends; its exit status."""
        probing = asyncio.create_task(self._probe(container, process), name=f"probes of {self.name}")
        try:
            return await process.wait()
        finally:
            self._world.guardian.remove_session(process.pid)
            probing.cancel()
            await asyncio.gather(probing, return_exceptions=True)

    async def _probe(self, container: Object, process: Process) -> None:
        ports = {each["name"]: each["containerPort"] for each in container.get("ports", ()) if "name" in each}
        name, session = container["name"], self._world.session

        def probe(kind: str, passes: bool) -> Probe:
            return Probe(container[kind], self.ip, ports, process.run_beside, passes)

        if "startupProbe" in container:
            started = asyncio.Event()
            task = asyncio.create_task(probe("startupProbe", False).go_on(session, lambda _: started.set()))
            try:
                await started.wait()
            finally:
                task.cancel()
            self._set(name, passes="readinessProbe" not in container)
        async with asyncio.TaskGroup() as tasks:
            if "readinessProbe" in container:
                ready = probe("readinessProbe", False)
                tasks.create_task(ready.go_on(session, lambda good: self._set(name, passes=good)))
            if "livenessProbe" in container:
                alive = probe("livenessProbe", True)
                tasks.create_task(alive.go_on(session, lambda _: process.signal(signal.SIGKILL)))

    # ---- its end

    async def _stop(self) -> None:
        """preStop, SIGTERM, and SIGKILL when the grace is over."""
        grace_s = self._seen["metadata"].get("deletionGracePeriodSeconds", 30)
        end = asyncio.get_running_loop().time() + (FORCED_S if self._vanished else grace_s)
        containers = {each["name"]: each for each in self._seen["spec"]["containers"]}
        await asyncio.gather(*(self._end(containers[name], each, end) for name, each in self._processes.items()))

    async def _end(self, container: Object, process: Process, end: float) -> None:
        ended = asyncio.create_task(process.wait())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(end):
                if not self._vanished:
                    await self._before_stop(container, process, ended)
                process.signal(signal.SIGTERM)
                await asyncio.shield(ended)
        if not ended.done():
            process.signal(signal.SIGKILL)
        status = await ended
        self._note(journal.ENDED, container["name"], process.pid, str(status))
        self._set(
            container["name"], state=ENDED, passes=False, reason="Completed" if not status else "Error", message="",
            exit_code=status, since=now(),
        )  # fmt: skip

    async def _before_stop(self, container: Object, process: Process, ended: "asyncio.Task[int]") -> None:
        hook: Mapping[str, Any] = container.get("lifecycle", {}).get("preStop", {})
        if "sleep" in hook:
            await asyncio.wait({ended}, timeout=hook["sleep"]["seconds"])
        elif "exec" in hook:
            await process.run_beside(tuple(hook["exec"]["command"]))
        elif "httpGet" in hook:
            ports = {each["name"]: each["containerPort"] for each in container.get("ports", ()) if "name" in each}
            port = ports.get(hook["httpGet"]["port"], hook["httpGet"]["port"])
            with contextlib.suppress(aiohttp.ClientError, OSError):
                url = f"http://{self.ip}:{port}{hook['httpGet'].get('path', '/')}"
                async with self._world.session.get(url) as answer:
                    await answer.read()

    async def _remove(self) -> None:
        """Say the last, and remove the object."""
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
        while not self._vanished:
            try:
                await self._send(over=True)
                await self._world.kube.delete(self._path, body)
                return
            except ApiFailure as failure:
                if failure.status in (404, 409):
                    return
            await asyncio.sleep(AGAIN_S)

    # ---- reports

    def _set(self, name: str, **fields: Any) -> None:
        was = self._states[name]
        self._states[name] = replace(was, **fields)
        if self._states[name] != was:
            self._changed.set()

    async def _tell(self) -> None:
        said: bool | None = None
        self._changed.set()
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._ready != said:
                said = self._ready
                self._note(journal.READY if said else journal.UNREADY)
            try:
                await self._send()
            except ApiFailure as failure:
                if failure.status not in (404, 409):
                    await asyncio.sleep(AGAIN_S)
                    self._changed.set()

    async def _send(self, over: bool = False) -> None:
        status = pod_status(tuple(self._states.values()), self._seen.get("status", {}), self.ip, now(), over)
        await self._world.kube.patch(
            f"{self._path}/status", {"metadata": {"uid": self.uid}, "status": status}, STRATEGIC
        )

    def _note(self, what: str, container: str = "", pid: int = 0, note: str = "") -> None:
        self._world.journal.note(what, self.name, self.uid, self.ip, container, pid, note)


def _at_first(container: Object) -> ContainerState:
    return ContainerState(container["name"], container["image"], resources=container.get("resources"))


def write_kubeconfig(path: Path, server: str, ca: str, namespace: str, token: str) -> Path:
    """A kubeconfig for a client with a token."""
    authority = path.with_suffix(".ca")
    authority.write_text(ca)
    told = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "played",
        "clusters": [{"name": "played", "cluster": {"server": server, "certificate-authority": str(authority)}}],
        "users": [{"name": "played", "user": {"token": token}}],
        "contexts": [{"name": "played", "context": {"cluster": "played", "user": "played", "namespace": namespace}}],
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(told))
    return path
