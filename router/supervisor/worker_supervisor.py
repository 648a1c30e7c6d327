"""Parent of the router workers: starts, watches, replaces and drains them.

The listening socket is made here and shared: while a dead worker is replaced, new connections wait in its backlog.
`router.supervisor.roster` decides, this module executes. Replaced and surplus workers drain: their connections and
slots pass to the others, requests in flight end in place.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from cluster.framing import LinkError
from cluster.link import (
    Drained,
    FailuresRead,
    Metrics,
    MetricsPart,
    ResetAll,
    Retire,
    Retired,
    Serving,
    ToWorker,
    TraceRead,
    Usage,
    WorkerMetrics,
)
from cluster.owned_tasks import OwnedTasks
from cluster.router_reports import RouterReports
from router.core.view import View
from router.inflight_table import WorkerRow
from router.membership.agreement import Membership, SoleGroup
from router.settings import from_environment
from router.supervisor.inflight_folder import InflightFolder
from router.supervisor.peer_ports import PeerPorts
from router.supervisor.roster import (
    PRESENT,
    START_S,
    DrainWorker,
    KillWorker,
    PublishPart,
    Roster,
    RosterAction,
    SpawnWorker,
    WorkerPhase,
)
from router.supervisor.running_workers import RunningWorkers
from router.supervisor.socket_folder import SocketFolder
from router.supervisor.worker_handle import WorkerHandle
from router.supervisor.worker_spawner import WorkerSpawner
from router.supervisor_messages import FromWorker, Joined
from serving.endpoint import VersionKey
from serving.usage import Work

_log = logging.getLogger("scorefront.supervisor")

TICK_S = 0.1
"""Interval of the checks of beats and of due restarts."""
BALANCE_TICKS = 10
"""Ticks between two balancings of connections."""


class RestartFailed(Exception):
    """The new worker did not serve in time; the old one still does."""


class Supervisor:
    """One router: workers on one listening socket; implements `controlplane.routers.RouterControl`."""

    def __init__(
        self,
        listen: socket.socket,
        count: int,
        command: Sequence[str],
        environment: Mapping[str, str],
        redirect: socket.socket | None = None,
        membership: Membership | None = None,
        peer_ports: PeerPorts | None = None,
        inflight: InflightFolder | None = None,
    ) -> None:
        """`listen`: the shared listening socket. `count`: number of workers.

        `command`: argv of a worker, to which name, address and file descriptors are appended. `environment`: of the
        workers. `redirect`: socket for plain HTTP clients that are redirected to `listen`; default none. `membership`:
        shared with other routers; default: this router alone. `peer_ports`: ports for workers of other routers; default
        none. `inflight`: files of the in-flight table; default memory of this process. Raises SettingError.
        """
        self.spawner = WorkerSpawner(command, environment, listen, redirect, peer_ports)
        self._environment = dict(environment)
        self._wanted = count
        self._inflight = inflight
        self._membership = membership or SoleGroup()
        self._membership.attach(self._on_view)
        self._group = os.urandom(4).hex()
        self._folder: SocketFolder | None = None
        self._snapshot: Callable[[], ResetAll]
        self._reports: RouterReports
        self._roster = Roster(self._group, self._address, from_environment(environment).worker_silent_s)
        self.workers = RunningWorkers(self._roster)
        self._view = View(0, ())
        self._tasks = OwnedTasks()
        self._changed = asyncio.Event()
        """Set and replaced on every change."""
        self._restarting = asyncio.Lock()
        self._counters = dict.fromkeys(("workers_started", "workers_ended", "workers_died", "workers_silent"), 0)

    # ---- life

    async def start(self, snapshot: Callable[[], ResetAll], reports: RouterReports) -> None:
        """Start the workers; returns when all of them serve. Raises SocketFolderError.

        `snapshot`: the first message to every worker. `reports`: receives the reports of the workers.
        """
        self._snapshot, self._reports = snapshot, reports
        self._folder = SocketFolder(self._environment)
        self._tasks.spawn(self._tick(), "watch router workers")
        await self.resize(self._wanted)

    async def resize(self, count: int) -> None:
        """Set the number of workers (at least 1); surplus ones drain without losing a request.

        Returns when `count` workers serve, which may be never: use asyncio.timeout. The number stays set.
        """
        if count < 1:
            raise ValueError(f"count: must be at least 1; got {count}")
        self._wanted = count
        self._execute(self._roster.resize(count, self._now()))
        await self._until(lambda: self._wanted != count or len(self._roster.serving_places()) == count)

    async def restart(self) -> None:
        """Replace every worker by a new process without losing a request; returns when the old ones have ended.

        One by one: the old worker drains when the new one serves, so this takes as long as the longest requests. New
        processes run the installed version. Raises RestartFailed; workers replaced before it stay replaced.
        """
        async with self._restarting:
            olds = [each.name for each in self._roster.workers.values() if each.phase is WorkerPhase.SERVING]
            for old in olds:
                await self._replace(old)
        await self._until(lambda: not any(old in self._roster.workers for old in olds))

    async def close(self, deadline_s: float) -> None:
        """Drain and stop the workers; kill the remaining ones after `deadline_s`."""
        if self._folder is None:
            return
        self._execute(self._roster.close(self._now()))
        self.spawner.stop_listening()
        self.workers.terminate()
        try:
            async with asyncio.timeout(deadline_s):
                while self.workers.handles:
                    await self._changed.wait()
        except TimeoutError:
            self.workers.kill()
        await self._tasks.close()
        self._folder.close()

    # ---- RouterControl

    def publish(self, message: ToWorker) -> None:
        """Send to every worker: each may own any version, now or later."""
        self.workers.publish(message)

    async def retire(self, key: VersionKey, count: int) -> Sequence[str]:
        """Have the owner of the version's slots retire replicas: their ids."""
        owner = self.workers.handles.get(self._view.owner(key))
        answer = await owner.ask(lambda request: Retire(request, key, count)) if owner is not None else None
        return answer.replicas if isinstance(answer, Retired) else ()

    async def collect(self) -> Sequence[WorkerMetrics]:
        """Metrics of every member and of this supervisor; the last known ones without an answer."""
        own = WorkerMetrics(f"supervisor-{self._group}", (), 0, 0, 0.0, dict(self._counters))
        return [*await self.workers.metrics(), own]

    # ---- state

    @property
    def group(self) -> str:
        """Unique id of this supervisor."""
        return self._group

    @property
    def wanted(self) -> int:
        """Number of workers that was asked for."""
        return self._wanted

    @property
    def view(self) -> View:
        """The newest view."""
        return self._view

    def work(self) -> dict[str, Work]:
        """Name -> work done so far, of serving workers; read from shared memory."""
        return self.workers.work()

    def is_even(self) -> bool:
        """True if every serving worker has about its share of the connections."""
        return self.workers.is_even()

    # ---- execution of the roster's actions

    def _address(self, serial: int) -> str:
        assert self._folder is not None, "workers start after the folder is made"
        return self._folder.address(serial)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _tick(self) -> None:
        for number in itertools.count(1):
            await asyncio.sleep(TICK_S)
            self._execute(self._roster.tick(self.workers.beats(), self._now()))
            if number % BALANCE_TICKS == 0:
                self.workers.balance()

    def _execute(self, actions: Iterable[RosterAction]) -> None:
        for action in actions:
            match action:
                case PublishPart(part):
                    self._membership.announce(part)
                case SpawnWorker(name):
                    self._tasks.spawn(self._run_worker(action), f"run router worker {name}")
                case DrainWorker(name):
                    self.workers.drain(name)
                case KillWorker(name, why, silent):
                    _log.warning("router worker %s: killed: %s", name, why)
                    self._counters["workers_silent"] += silent
                    if name in self.workers.handles:
                        self.workers.handles[name].kill()
        self.workers.send_leave(self._view)
        self._changed.set()
        self._changed = asyncio.Event()

    def _on_view(self, view: View) -> None:
        if view.epoch <= self._view.epoch:
            return
        self._view = view
        self.workers.send_view(view)
        self.workers.send_leave(view)
        others = any(member.eligible and member.name not in self._roster.workers for member in view.members)
        self._execute(self._roster.others(others, self._now()))

    async def _until(self, happened: Callable[[], bool]) -> None:
        """Wait for a condition, or for `close`."""
        while not (happened() or self._roster.closed):
            await self._changed.wait()

    async def _replace(self, old: str) -> None:
        workers = self._roster.workers
        self._execute(self._roster.replace(old, self._now()))
        new = self._roster.successor(old) if old in workers else None
        if new is None:
            return  # the old worker has ended, or is draining
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                await self._until(lambda: new not in workers or workers[new].phase is WorkerPhase.SERVING)
        if old in workers and workers[old].phase is WorkerPhase.SERVING and not self._roster.closed:
            self._execute(self._roster.kill(new, f"not serving within {START_S:g} s", self._now()))
            raise RestartFailed(
                f"router worker {old}: not replaced: the new process did not serve; the old one continues"
            )

    # ---- one worker

    async def _run_worker(self, spawn: SpawnWorker) -> None:
        """One worker, from start to end."""
        status: int | None = None
        held: dict[str, int] | None = {}
        try:
            with WorkerRow(self._inflight.row(spawn.name) if self._inflight is not None else None) as row:
                handle, public = await self.spawner.spawn(spawn.name, spawn.address, row)
                self._roster.reached_at(spawn.name, public)
                self._counters["workers_started"] += 1
                held = None  # unknown until the row is read
                status = await self._serve(handle)
                held = row.held()
        except OSError as error:
            _log.error("router worker %s: cannot start: %s", spawn.name, error)
        finally:
            self._worker_ended(spawn, status, held)

    async def _serve(self, handle: WorkerHandle) -> int:
        """Send the snapshot and receive messages until the worker ends; its exit status."""
        self.workers.handles[handle.name] = handle
        handle.send(self._snapshot())
        try:
            if self._roster.workers[handle.name].phase is WorkerPhase.KILLED:
                handle.kill()
            async with contextlib.aclosing(handle.messages()) as messages:
                async for message in messages:
                    self._receive(handle, message)
            await handle.wait_ended()
        except LinkError as error:
            _log.error("router worker %s: killed after protocol error: %s", handle.name, error)
        finally:
            handle.kill()
            await handle.process.wait()
            del self.workers.handles[handle.name]
            handle.close()
        return await handle.process.wait()

    def _worker_ended(self, spawn: SpawnWorker, status: int | None, held: Mapping[str, int] | None) -> None:
        if self._roster.workers[spawn.name].phase in PRESENT and not self._roster.closed:
            _log.warning("router worker %s: ended with status %s; starting another one", spawn.name, status)
            self._counters["workers_died"] += 1
        self._counters["workers_ended"] += 1
        self.workers.ended(spawn.name)
        self._execute(self._roster.gone(spawn.name, held, self._now()))
        if self._folder is not None:
            self._folder.forget(spawn.address)
        self._reports.worker_ended(spawn.name)

    def _receive(self, handle: WorkerHandle, message: FromWorker) -> None:
        match message:
            case Joined():
                self._execute(self._roster.joined(handle.name, self._now()))
            case Serving():
                self._execute(self._roster.serving(handle.name, self._now()))
                phases = self.workers.phases().items()
                reporting = (WorkerPhase.SERVING, WorkerPhase.DRAINING)
                self._reports.workers_expected([name for name, phase in phases if phase in reporting])
                self.workers.balance()  # at once: it was started because the others are busy
            case Usage(report):
                self._reports.usage_reported(report)
            case Drained(replica_id):
                self._reports.replica_drained(replica_id)
            case Retired() | MetricsPart() | Metrics() | TraceRead() | FailuresRead():
                handle.answered(message)


def worker_command(*arguments: str, tls: Iterable[tuple[Path, Path]] = ()) -> list[str]:
    """The argv of a worker of this installation. `tls`: (certificate, key) files."""
    files = [argument for cert, key in tls for argument in (f"--tls-cert={cert}", f"--tls-key={key}")]
    return [sys.executable, "-m", "scorefront.worker_process", "router-worker", *arguments, *files]
