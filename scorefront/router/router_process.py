"""`scorefront router`: composition of one router of a cluster.

this process          follows the Kubernetes API, agrees with the other routers on views, reports to the leader
└── router worker(s)  share the listening socket made here; fed over a socket pair; linked with those of all routers

Without the API server it serves the last known state; without the leader nothing is scaled.
"""

import asyncio
import contextlib
import logging
import os
import random
import signal
import socket
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.kubernetes.client.api import Api, ApiError
from cluster.kubernetes.snapshot import Snapshot, SnapshotFile
from cluster.link import RemoveReplica, ToWorker
from cluster.trust import Trust, TrustError
from router.membership.router_membership import RouterMembership
from router.peers.peer_identity import trust_from_folder
from router.settings import SettingError, from_environment, issuer_hosts_allowed
from router.supervisor.inflight_folder import InflightFolder
from router.supervisor.peer_ports import ANY_PORT, PeerPorts
from router.supervisor.socket_folder import SocketFolderError
from router.supervisor.worker_supervisor import Supervisor, worker_command
from scorefront.cluster_names import watched_namespaces
from scorefront.cores import MAX_WORKERS, allowed_cores
from scorefront.exposition import Exposition
from scorefront.payload_settings import observer_arguments, payload_settings
from scorefront.ports.timed_port import port_limits
from scorefront.process import process_main as process
from scorefront.process.event_loop import use_fast_loop
from scorefront.process.process_hardening import worker_environment
from scorefront.router.admin_port import admin_port
from scorefront.router.cluster_watch import ClusterWatch
from scorefront.router.configmap_membership import ClusterMembership
from scorefront.router.sole_member import SoleMemberMarker
from scorefront.router.uplink import Uplink
from scorefront.static_networks import destinations, own_names, worker_arguments
from serving.endpoint import VersionKey
from telemetry.collector_journal import access_counts, payload_counts
from telemetry.dropped_payloads import DroppedPayloads
from telemetry.ring import PayloadCounts

_log = logging.getLogger("scorefront.router")

LAME_DUCK = "SCOREFRONT_LAME_DUCK_S"
LAME_DUCK_S = "1"
"""Default time for which connections are still accepted after SIGTERM. The pod's preStop hook waits
for longer, until no balancer sends any more."""
END_S = 3.0
"""Time for the end of workers, beyond that for requests in flight."""
PATIENCE_S = 5.0
"""Time for the first lists before the snapshot of the last run is served."""
AGAIN_S = 1.0
WATCH_S = 1.0
"""Interval of looks at dropped payloads."""
KEEP_S = 5.0
"""Least time between two snapshots."""
SNAPSHOT = "snapshot.json"
ALONE = "alone.json"


@dataclass(frozen=True, slots=True)
class RouterOptions:
    """Options of `scorefront router`."""

    listen: tuple[str, int]
    admin: tuple[str, int]
    peers_dir: Path
    peer_address: str
    """This machine's address, for links with other routers."""
    state_dir: Path
    pod: str
    """Its name; outside a cluster any that no other router has."""
    pod_uid: str = ""
    peer_ports: Sequence[int] = ANY_PORT
    workers: int | None = None
    """None: set by the leader."""
    tls: tuple[tuple[Path, Path], ...] = ()
    """(certificate chain, key) files, checked."""
    tls_redirect: tuple[str, int] | None = None
    access_log: str = "errors"
    inflight_dir: Path | None = None
    """Folder of the in-flight table, shared with the exit reporter; None: memory of this process."""
    rings_dir: Path | None = None
    """Folder of the rings of collected payloads, shared with the collector; None: none are collected."""


def run(options: RouterOptions) -> int:
    """Run until a signal; returns the exit status: 0 then, 1 if it cannot start or go on, 2 for invalid input."""
    return process.main(lambda: _run(options), (ApiError, SocketFolderError, TrustError), (SettingError,))


def _run(options: RouterOptions) -> int:
    from_environment()
    destinations(os.environ, in_cluster=True)
    issuer_hosts_allowed(os.environ, in_cluster=True)
    port_limits(os.environ)
    payload_settings(os.environ)
    trust = trust_from_folder(options.peers_dir)
    trust.context(server=True)  # reports invalid files now
    with contextlib.ExitStack() as sockets:
        listen = sockets.enter_context(process.listening("--listen", options.listen))
        admin = sockets.enter_context(process.listening("--admin", options.admin))
        redirect = None
        if options.tls_redirect is not None:
            redirect = sockets.enter_context(process.listening("--tls-redirect", options.tls_redirect))
        peer_ports = PeerPorts(options.peer_address, options.peer_ports)
        with process.usable("--peer-address", (options.peer_address, 0)):
            peer_ports.open().close()
        use_fast_loop()
        return asyncio.run(_serve(options, trust, peer_ports, (listen, admin, redirect)))


async def _serve(
    options: RouterOptions,
    trust: Trust,
    peer_ports: PeerPorts,
    sockets: tuple[socket.socket, socket.socket, socket.socket | None],
) -> int:
    api = await Api.connect()
    try:
        return await _Router(options, api, trust, peer_ports, sockets).run()
    finally:
        await api.close()


class _Router:
    """Composition of the parts, and the order of their start and stop."""

    def __init__(
        self,
        options: RouterOptions,
        api: Api,
        trust: Trust,
        peer_ports: PeerPorts,
        sockets: tuple[socket.socket, socket.socket, socket.socket | None],
    ) -> None:
        listen, self._admin, redirect = sockets
        self._options = options
        self._api = api
        environment = {**os.environ}
        environment.setdefault(LAME_DUCK, LAME_DUCK_S)
        self._settings = from_environment(environment)
        self._clock = clock = process.ProcessClock()
        u = random.random  # noqa: TID251 - a shell
        self._stop = process.stop_event()
        self._restart = asyncio.Event()
        self._draining = False
        self._expelled = False
        self._snapshots = SnapshotFile(options.state_dir / SNAPSHOT)
        self._watch = ClusterWatch(
            api,
            watched_namespaces(environment, api.home),
            clock,
            u,
            self._publish,
            lambda pod: self._membership.pod_changed(pod),
            lambda name: self._membership.pod_gone(name),
        )
        resizes = options.workers is None
        self._dropped = DroppedPayloads()
        self._uplink = Uplink(api, options.pod, trust, clock, u, _most_workers, resizes, self._dropping)
        group = os.urandom(4).hex()
        self._decisions = RouterMembership(
            options.pod, options.pod_uid, group, api.home, self._settings.lease_s, process.started_at()
        )
        marker = SoleMemberMarker(options.state_dir / ALONE, options.pod, options.pod_uid)
        self._membership = ClusterMembership(api, self._decisions, marker, clock, u, self._expel)
        statics = worker_arguments(
            destinations(environment, in_cluster=True), own_names=own_names(api.home, environment)
        )
        told = [f"--access-log={options.access_log}", f"--peers-dir={options.peers_dir}", *statics]
        if options.rings_dir is not None:
            told += observer_arguments(options.rings_dir, environment)
        self._supervisor = Supervisor(
            listen,
            options.workers or 1,
            worker_command(*told, tls=options.tls),
            worker_environment(environment),
            redirect,
            self._membership,
            peer_ports,
            _inflight_folder(options.inflight_dir, group),
        )
        self._exposition = Exposition(payloads=self._payloads, accesses=self._accesses)
        self._informed = False
        """True once the endpoints are known, from the API server or from the last run."""

    # ---- life

    async def run(self) -> int:
        """Start, serve until a signal, stop."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._restart.set)
        async with admin_port(self._admin, port_limits(os.environ), self._why_not_ready, self._metrics):
            return await self._run()

    async def _run(self) -> int:
        agreeing = _kept_up(self._membership.run, "agree on the membership")
        parts = [
            _kept_up(self._watch.run, "follow the cluster"),
            _kept_up(lambda: self._uplink.run(self._supervisor), "talk to the leader"),
            asyncio.create_task(self._serve(), name="serve"),
        ]
        tasks = (*parts, agreeing)
        try:
            await process.first_ended(self._stop, *tasks)
            failed = [task for task in tasks if task.done()]
            await self._leave(agreeing)
            return self._judge(failed)
        finally:
            await process.cancelled(*tasks)

    def _judge(self, failed: Sequence[asyncio.Task[Any]]) -> int:
        """The exit status. `failed`: tasks that ended unexpectedly. Raises SocketFolderError."""
        for task in failed:
            error = task.exception()
            if isinstance(error, SocketFolderError):
                raise error
            _log.error("router: ends: task failed: %s", task.get_name(), exc_info=error)
        return 1 if self._expelled or failed else 0

    async def _serve(self) -> None:
        """Load the endpoints, start the workers, keep snapshots; never returns."""
        await self._know()
        await self._supervisor.start(self._watch.discovery.snapshot, self._uplink)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep(), name="keep what is known")
            tasks.create_task(self._watch_payloads(), name="watch collected payloads")
            tasks.create_task(process.restart_on(self._restart, self._supervisor), name="restart workers on SIGHUP")

    async def _know(self) -> None:
        """Wait for the lists of the API server; without an answer load the snapshot of the last run of this pod."""
        options = self._options
        snapshot = await asyncio.to_thread(self._snapshots.load, options.pod, options.pod_uid)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S if snapshot is not None else None):
                await self._watch.listed.wait()
        if snapshot is not None and not self._watch.listed.is_set():
            _log.warning("API server: no answer (%s): serving the last snapshot", self._watch.last_error())
            self._watch.restore(snapshot)
            self._membership.restore()
        self._informed = True

    async def _leave(self, agreeing: asyncio.Task[None]) -> None:
        """Drain the workers, then leave the membership."""
        self._draining = True
        settings = self._settings
        patience_s = settings.lame_duck_s + settings.drain_timeout_s + END_S
        # An expelled router has no slots any more: its requests are aborted.
        await self._supervisor.close(0.0 if self._expelled else patience_s)
        await process.cancelled(agreeing)
        if not self._expelled:
            await self._membership.leave()

    async def _keep(self) -> None:
        """Write a snapshot after changes."""
        while True:
            await self._watch.listed.wait()
            if self._watch.changed:
                self._watch.changed = False
                self._uplink.keep(self._watch.discovery.versions())
                options = self._options
                snapshot = Snapshot(options.pod, options.pod_uid, *self._watch.known())
                try:
                    await asyncio.to_thread(self._snapshots.write, snapshot)
                except OSError as error:
                    _log.warning("%s: not writable: %s", options.state_dir, error.strerror or error)
            await asyncio.sleep(KEEP_S)

    # ---- events

    def _publish(self, message: ToWorker) -> None:
        self._supervisor.publish(message)
        if isinstance(message, RemoveReplica):
            self._uplink.on_replica_gone(message.replica_id)

    def _expel(self) -> None:
        if not self._expelled:
            _log.error("router: expelled by the other routers: restarting")
            self._expelled = True
            self._stop.set()

    # ---- admin port

    def _why_not_ready(self) -> str:
        if self._draining:
            return "draining"
        if not self._informed:
            return "nothing is known of the cluster yet"
        serving = self._supervisor.work().keys()
        if not serving:
            return "no worker serves yet"
        owners = {member.name for member in self._supervisor.view.members if member.eligible}
        return "" if serving <= owners else "the other routers do not know of the workers yet"

    def _payloads(self) -> dict[VersionKey, PayloadCounts]:
        if self._options.rings_dir is not None:
            with contextlib.suppress(OSError):
                return payload_counts(self._options.rings_dir)
        return {}

    def _accesses(self) -> dict[str, PayloadCounts]:
        if self._options.rings_dir is not None:
            with contextlib.suppress(OSError):
                return access_counts(self._options.rings_dir)
        return {}

    def _dropping(self) -> dict[VersionKey, int]:
        return self._dropped.recent(self._clock.now())

    async def _watch_payloads(self) -> None:
        """Note dropped payloads; never returns."""
        while True:
            self._dropped.note(self._payloads(), self._clock.now())
            await asyncio.sleep(WATCH_S)

    async def _metrics(self) -> bytes:
        watch = self._watch
        figures = {
            "scorefront_api_age_seconds": ("Since the Kubernetes API was last heard", watch.age_s()),
            "scorefront_leader_linked": (
                "Whether the leader of the control plane hears this router",
                self._uplink.linked,
            ),
            "scorefront_router_workers": ("Router workers that serve", len(self._supervisor.work())),
            "scorefront_routers": ("Routers that take part, as this one knows", self._decisions.routers),
        }
        gauges = {name: (meaning, float(value)) for name, (meaning, value) in figures.items()}
        workers = await self._supervisor.collect()
        return await self._exposition.render_router(workers, watch.discovery.versions(), gauges)


def _kept_up(work: Callable[[], Coroutine[Any, Any, None]], name: str) -> asyncio.Task[None]:
    """A task that is restarted after a failure: serving does not depend on it."""

    async def again_and_again() -> None:
        while True:
            try:
                await work()
            except Exception:
                _log.exception("router: task failed, retrying: %s", name)
            await asyncio.sleep(AGAIN_S)

    return asyncio.create_task(again_and_again(), name=name)


def _inflight_folder(root: Path | None, group: str) -> InflightFolder | None:
    try:
        return InflightFolder(root, group) if root is not None else None
    except OSError as error:
        raise process.CannotStart(f"--inflight-dir: {error.filename}: {error.strerror}") from error


def _most_workers() -> int:
    return min(allowed_cores(), MAX_WORKERS)
