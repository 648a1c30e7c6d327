"""Starts router workers, keeps them alive, tells them of each other, and passes on what they and control say.

The listening socket is made here and shared: a worker that dies is replaced while new connections wait in its backlog.
What should be done is decided in `router.supervisor.roster`; here it is done. Workers that are replaced or sent
away leave in
order: their connections and slots pass to the others, requests in flight end where they began.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cluster.framing import LinkError
from cluster.link import Drained, Metrics, ResetAll, Retire, Retired, Serving, ToWorker, Usage, WorkerMetrics
from cluster.owned_tasks import OwnedTasks
from cluster.router_reports import RouterReports
from router.core.view import View
from router.inflight_table import WorkerRow
from router.membership.agreement import Membership, SoleGroup
from router.settings import from_environment
from router.supervisor.connection_balance import ConnectionMove, balancing_moves
from router.supervisor.peer_ports import PeerPorts, address_of
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
from router.supervisor.socket_folder import SocketFolder
from router.supervisor.worker_handle import WorkerHandle, started
from router.supervisor_messages import FromWorker, Give, Joined, Leave, SetView, encode
from serving.endpoint import VersionKey
from serving.usage import Work

_log = logging.getLogger("scorefront.supervisor")

TICK_S = 0.1
"""How often the pulse of the workers is looked at, and whether one is due to be started again."""
BALANCE_TICKS = 10
"""How many ticks lie between two looks at who has how many connections."""


class RestartFailed(Exception):
    """The new worker did not come to serve; the old one still does."""


class Supervisor:
    """A group of workers on one listening socket; satisfies `controlplane.routers.Routers`."""

    def __init__(
        self,
        listen: socket.socket,
        count: int,
        command: Sequence[str],
        environment: Mapping[str, str],
        redirect: socket.socket | None = None,
        membership: Membership | None = None,
        peer_ports: PeerPorts | None = None,
    ) -> None:
        """`command`: argv of a worker, to which its name, address and file descriptors are appended.

        `redirect`: a second socket, for clients without TLS that are sent to the first. `membership`: where there are
        groups beside this one. `peer_ports`: where workers of groups on other machines come in. Raises SettingError.
        """
        self._listen = listen
        self._redirect = redirect
        self._wanted = count
        self._command = list(command)
        self._environment = dict(environment)
        self._membership = membership or SoleGroup()
        self._membership.attach(self._on_view)
        self._peer_ports = peer_ports
        self._group = os.urandom(4).hex()
        self._folder: SocketFolder | None = None
        self._snapshot: Callable[[], ResetAll]
        self._reports: RouterReports
        silent_s = from_environment(environment).worker_silent_s
        self._roster = Roster(self._group, self._address, silent_s)
        self._view = View(0, ())
        self._links: dict[str, WorkerHandle] = {}
        self._dismissed: set[str] = set()
        """Who shall leave once others know that it owns nothing any more."""
        self._tasks = OwnedTasks()
        self._changed = asyncio.Event()
        """Set, and replaced, whenever something has happened."""
        self._restarting = asyncio.Lock()
        self._counters = {"workers_started": 0, "workers_ended": 0, "workers_silent": 0}

    # ---- life

    async def start(self, snapshot: Callable[[], ResetAll], reports: RouterReports) -> None:
        """Start the workers; returns when all of them serve. Raises SocketFolderError.

        `snapshot`: the first message to every worker. `reports`: receives the reports of the workers.
        """
        self._snapshot, self._reports = snapshot, reports
        self._folder = SocketFolder(self._environment)
        self._tasks.spawn(self._tick(), "look after router workers")
        await self.resize(self._wanted)

    async def resize(self, count: int) -> None:
        """Have `count` (at least 1) workers. Those too many leave in order; no request is lost.

        Returns once that many serve, which is never if none comes up: whoever cannot wait uses asyncio.timeout. The
        number holds all the same.
        """
        if count < 1:
            raise ValueError(f"count: must be at least 1; got {count}")
        self._wanted = count
        self._do(self._roster.resize(count, self._now()))
        await self._until(lambda: self._wanted != count or len(self._roster.serving_places()) == count)

    async def restart(self) -> None:
        """Replace every worker by a new process, without a lost request; returns when the old ones have ended.

        One after the other: the new worker starts while the old one serves; once it serves itself, the old one gives
        away its connections and ends its requests, so this takes as long as the longest of them. What is installed is
        what the new processes run. Raises RestartFailed; those replaced by then stay replaced.
        """
        async with self._restarting:
            olds = [each.name for each in self._roster.workers.values() if each.phase is WorkerPhase.SERVING]
            for old in olds:
                await self._replace(old)
        await self._until(lambda: not any(old in self._roster.workers for old in olds))

    async def close(self, deadline_s: float) -> None:
        """Drain and stop the workers; kill what is left after `deadline_s`."""
        if self._folder is None:
            return
        self._do(self._roster.close(self._now()))
        for link in self._links.values():
            with contextlib.suppress(ProcessLookupError):
                link.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(deadline_s):
                while self._links:
                    await self._changed.wait()
        except TimeoutError:
            for link in self._links.values():
                link.kill()
        await self._tasks.close()
        self._folder.close()

    # ---- Routers

    def publish(self, message: ToWorker) -> None:
        """Tell every worker: each may own any version, now or later."""
        frame = encode(message)
        for link in self._links.values():
            link.send_frame(frame)

    async def retire(self, key: VersionKey, count: int) -> Sequence[str]:
        """Have the owner of the version's slots withdraw replicas; nobody else may, and it knows by then that it is."""
        link = self._links.get(self._view.owner(key))
        answer = await link.ask(lambda request: Retire(request, key, count)) if link is not None else None
        return answer.replicas if isinstance(answer, Retired) else ()

    async def collect(self) -> Sequence[WorkerMetrics]:
        """The counts of every worker that takes part, and this supervisor's; the last known ones where none come."""
        links = [link for name, link in self._links.items() if self._roster.workers[name].joined]
        counts = await asyncio.gather(*(link.counts() for link in links))
        return [*(metrics for metrics in counts if metrics), self._own_counts()]

    def _own_counts(self) -> WorkerMetrics:
        return WorkerMetrics(f"supervisor-{self._group}", (), 0, 0, 0.0, dict(self._counters))

    # ---- what can be seen

    @property
    def group(self) -> str:
        """Its name, which no other group ever has."""
        return self._group

    @property
    def wanted(self) -> int:
        """How many workers there shall be."""
        return self._wanted

    @property
    def view(self) -> View:
        """The newest one."""
        return self._view

    def processes(self) -> dict[str, int]:
        """Name -> process id of every worker that runs."""
        return {name: link.process.pid for name, link in self._links.items()}

    def phases(self) -> dict[str, WorkerPhase]:
        """Name -> where it stands in its life, of every worker that runs, in the order of their start."""
        return {each.name: each.phase for each in self._roster.workers.values()}

    def work(self) -> dict[str, Work]:
        """Name -> what it has done so far, of every worker that serves: read from memory, nobody is asked."""
        return {name: self._links[name].row.work for name in self._serving()}

    def is_even(self) -> bool:
        """Every worker that serves has about its part of the connections."""
        return not self._moves()

    # ---- what is to be done

    def _address(self, serial: int) -> str:
        assert self._folder is not None, "nobody is started before the folder is made"
        return self._folder.address(serial)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _tick(self) -> None:
        for number in itertools.count(1):
            await asyncio.sleep(TICK_S)
            beats = {name: link.row.beats for name, link in self._links.items()}
            self._do(self._roster.tick(beats, self._now()))
            if number % BALANCE_TICKS == 0:
                self._balance()

    def _balance(self) -> None:
        for move in self._moves():
            self._links[move.giver].send(Give(move.taker, move.count))

    def _moves(self) -> list[ConnectionMove]:
        return balancing_moves({name: self._links[name].row.connections for name in self._serving()})

    def _serving(self) -> list[str]:
        return [name for name in self._links if self._roster.workers[name].phase is WorkerPhase.SERVING]

    def _do(self, actions: Iterable[RosterAction]) -> None:
        for action in actions:
            match action:
                case PublishPart(part):
                    self._membership.announce(part)
                case SpawnWorker(name):
                    self._tasks.spawn(self._live(action), f"keep router worker {name}")
                case DrainWorker(name):
                    self._dismissed.add(name)
                case KillWorker(name, why, silent):
                    _log.warning("router worker %s is killed: %s", name, why)
                    self._counters["workers_silent"] += silent
                    if name in self._links:
                        self._links[name].kill()
        self._send_away()
        self._wake()

    def _send_away(self) -> None:
        """Whoever ended while others still take it for the owner of something would be waited for in vain."""
        owners = {member.name for member in self._view.members if member.eligible}
        for name in self._dismissed - owners:
            self._dismissed.discard(name)
            if name in self._links:
                self._links[name].send(Leave())

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _on_view(self, view: View) -> None:
        if view.epoch <= self._view.epoch:
            return
        self._view = view
        frame = encode(SetView(self._told_here(view)))
        for name in view.names():
            if name in self._links:
                self._links[name].send_frame(frame)
        self._send_away()
        others = any(member.eligible and member.name not in self._roster.workers for member in view.members)
        self._do(self._roster.others(others, self._now()))

    def _told_here(self, view: View) -> View:
        """The workers of this group reach each other without TLS, and can pass connections on."""
        here = {name: link.address for name, link in self._links.items()}
        return replace(
            view,
            members=tuple(replace(each, address=here.get(each.name, each.address)) for each in view.members),
        )

    async def _until(self, happened: Callable[[], bool]) -> None:
        """Wait for something, or for `close`."""
        while not (happened() or self._roster.closed):
            await self._changed.wait()

    async def _replace(self, old: str) -> None:
        workers = self._roster.workers
        self._do(self._roster.replace(old, self._now()))
        new = self._roster.successor(old) if old in workers else None
        if new is None:
            return  # it is not there any more, or on its way out
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                await self._until(lambda: new not in workers or workers[new].phase is WorkerPhase.SERVING)
        if old in workers and workers[old].phase is WorkerPhase.SERVING and not self._roster.closed:
            self._do(self._roster.kill(new, f"it did not serve within {START_S:g} s", self._now()))
            raise RestartFailed(f"router worker {old}: the new process did not serve; the old one goes on")

    # ---- one worker

    async def _live(self, spawn: SpawnWorker) -> None:
        """One worker, from its start to its end."""
        status: int | None = None
        held: dict[str, int] | None = {}
        try:
            with WorkerRow() as row:
                link = await self._begin(spawn, row)
                held = None  # unless the row tells
                status = await self._attend(link)
                held = row.held()
        except OSError as error:
            _log.error("router worker %s cannot be started: %s", spawn.name, error)
        finally:
            self._ended(spawn, status, held)

    async def _begin(self, spawn: SpawnWorker, row: WorkerRow) -> WorkerHandle:
        fds = {"listen": self._listen.fileno()}
        if self._redirect is not None:
            fds["redirect"] = self._redirect.fileno()
        with contextlib.ExitStack() as stack:
            if self._peer_ports is not None:
                door = stack.enter_context(self._peer_ports.open())
                fds["peers"] = door.fileno()
                self._roster.reached_at(spawn.name, address_of(door))
            link = await started(spawn.name, spawn.address, row, self._command, self._environment, fds)
        self._counters["workers_started"] += 1
        return link

    async def _attend(self, link: WorkerHandle) -> int:
        """Tell it everything, listen to it until it ends; its exit status."""
        self._links[link.name] = link
        link.send(self._snapshot())
        try:
            if self._roster.workers[link.name].phase is WorkerPhase.KILLED:
                link.kill()
            async with contextlib.aclosing(link.heard()) as heard:
                async for message in heard:
                    self._take(link, message)
            await link.may_end()
        except LinkError as error:
            _log.error("router worker %s is killed: it does not speak our language: %s", link.name, error)
        finally:
            link.kill()
            await link.process.wait()
            del self._links[link.name]
            link.close()
        return await link.process.wait()

    def _ended(self, spawn: SpawnWorker, status: int | None, held: Mapping[str, int] | None) -> None:
        if self._roster.workers[spawn.name].phase in PRESENT and not self._roster.closed:
            _log.warning("router worker %s ended with status %s; another one is started", spawn.name, status)
        self._counters["workers_ended"] += 1
        self._dismissed.discard(spawn.name)
        self._do(self._roster.gone(spawn.name, held, self._now()))
        if self._folder is not None:
            self._folder.forget(spawn.address)
        self._reports.worker_ended(spawn.name)

    # ---- what workers say

    def _take(self, link: WorkerHandle, message: FromWorker) -> None:
        match message:
            case Joined():
                self._do(self._roster.joined(link.name, self._now()))
            case Serving():
                self._do(self._roster.serving(link.name, self._now()))
                reporting = (WorkerPhase.SERVING, WorkerPhase.DRAINING)
                self._reports.workers_expected([name for name, phase in self.phases().items() if phase in reporting])
                self._balance()  # it was started because it is needed: it shall not wait for its clients
            case Usage(report):
                self._reports.usage_reported(report)
            case Drained(replica_id):
                self._reports.replica_drained(replica_id)
            case Retired() | Metrics():
                link.answered(message)


def worker_command(*told: str, tls: Iterable[tuple[Path, Path]] = ()) -> list[str]:
    """How this installation starts a worker: told these arguments, with these certificates and their keys."""
    files = [argument for cert, key in tls for argument in (f"--tls-cert={cert}", f"--tls-key={key}")]
    return [sys.executable, "-m", "scorefront.worker_process", "router-worker", *told, *files]


def listening_socket(host: str, port: int) -> socket.socket:
    """A bound socket for workers to share. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        # Listening from here on: a client that comes before the first worker waits instead of being refused.
        sock.listen(4096)
    except OSError:
        sock.close()
        raise
    os.set_inheritable(sock.fileno(), True)
    return sock
