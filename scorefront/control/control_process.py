"""`scorefront control`: the control plane of a cluster. One of its processes leads, the others stand by.

the leader                                          a standby
├── control plane, autoscaler, provider             └── REST passed on to the leader
├── links that the router groups dial
├── scaling of the routers themselves
└── REST

A process that loses the leadership ends at once and is restarted by Kubernetes: no earlier decision is executed later.
"""

import asyncio
import contextlib
import functools
import logging
import os
import random
import secrets
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from cluster.kubernetes.certificates import CertificateError
from cluster.kubernetes.client.api import Api, ApiError
from cluster.kubernetes.client.election import LINK, REST, LeaderInfo
from cluster.kubernetes.client.elector import Elector, LeadershipLost
from cluster.kubernetes.ending import EndOfInstallation, remove_finalizers
from cluster.kubernetes.fence import Fenced
from cluster.kubernetes.objects.confinement import SETTING as POD_TEMPLATE
from cluster.kubernetes.objects.confinement import PodTemplates
from cluster.owned_tasks import OwnedTasks
from cluster.trust import TrustError
from controlplane.control_errors import ControlError
from controlplane.control_token import ControlToken
from controlplane.kubernetes.cluster_callers import KubernetesCallers
from controlplane.kubernetes.cluster_control import ClusterControl, ClusterSettings, cluster_control
from controlplane.openapi import OPERATIONS
from controlplane.overview_routes import NoTraffic, OverviewRows, overview_routes
from controlplane.rest import RestSettings, build_app
from controlplane.route_sets import RouteSet, unavailable
from controlplane.router_groups import RouterGroups
from router.proxy.tls import TlsError
from router.settings import SettingError, issuer_hosts_allowed, number
from scorefront.cluster_names import LEASE, watched_namespaces
from scorefront.control.control_certificates import ControlCertificates
from scorefront.control.lacking_operations import lacking_operations
from scorefront.control.rest_port import RestPort
from scorefront.control.router_fleet import RouterFleet
from scorefront.control.token import control_token
from scorefront.exposition import Exposition
from scorefront.frontend_scaling import PREFIX, FrontEndScaler, front_end_settings
from scorefront.payload_settings import telemetry_note
from scorefront.ports.connection_table import PortLimits
from scorefront.ports.timed_port import port_limits
from scorefront.process import process_main as process
from scorefront.process.audit_output import audit_output
from scorefront.process.event_loop import use_fast_loop
from scorefront.static_networks import destinations
from telemetry.data_routes import OPERATIONS as DATA_OPERATIONS
from telemetry.data_routes import data_routes
from telemetry.dropped_payloads import dropping_problem
from telemetry.payload_files import PayloadStore, StoredPayloads
from workspace.store.file_store import FileStore

_log = logging.getLogger("scorefront.control")

STORE = "SCOREFRONT_STORE"
"""URL of the store of collected payloads."""
MAX_CORES = f"{PREFIX}MAX_CORES"
DEFAULT_MAX_CORES = 4
"""A router is grown to so many cores in place; beyond, there are more routers."""
STOP_S = 8.0
"""Time for an orderly end, below the 10 s after a signal."""
LEAVE_S = 5.0
"""Time for the finalizers of endpoints when the installation is deleted."""
SEEN_S = 5.0
"""Time for a new leader to list the routers."""
END_S = 2.0
"""Time after which a former leader is ended by force."""


@dataclass(frozen=True, slots=True)
class ControlOptions:
    """Options of `scorefront control`."""

    control: tuple[str, int]
    """Listen address of REST."""
    link: tuple[str, int]
    """Listen address for router groups."""
    advertise: str
    """Host of this process for the other processes of the cluster."""
    peers_dir: Path | None = None
    """Folder of ca.crt, tls.crt and tls.key; None: created and kept in the cluster."""
    tls: tuple[tuple[Path, Path], ...] = ()
    """Certificate and key files for REST clients; for other names the installation's own certificate."""
    scoring_url: str = ""
    """URL of the routers for clients; "": the Service in this namespace."""


def run(options: ControlOptions) -> int:
    """Run until a signal (exit status 0), a failure or the end of the leadership (1); 2 for an invalid setting."""
    refused = (ApiError, CertificateError, TrustError, TlsError, ControlError)
    return process.main(lambda: _run(options), refused, (SettingError,))


def pod_templates(environment: Mapping[str, str]) -> PodTemplates:
    """Pod templates allowed by the environment; default: restricted. Raises SettingError."""
    text = environment.get(POD_TEMPLATE, PodTemplates.RESTRICTED)
    if text not in list(PodTemplates):
        raise SettingError(f"{POD_TEMPLATE}: must be one of {', '.join(PodTemplates)} (got {text!r})")
    return PodTemplates(text)


def _run(options: ControlOptions) -> int:
    front_end_settings(os.environ, in_cluster=True)
    number(os.environ, MAX_CORES, DEFAULT_MAX_CORES)
    pod_templates(os.environ)
    destinations(os.environ, in_cluster=True)
    issuer_hosts_allowed(os.environ, in_cluster=True)
    limits = port_limits(os.environ)
    with contextlib.ExitStack() as sockets:
        control = sockets.enter_context(process.listening("--control", options.control))
        # Not listening: routers that connect to a standby are refused at once.
        link = sockets.enter_context(process.bound("--link", options.link))
        sockets.enter_context(audit_output())
        use_fast_loop()
        return asyncio.run(_Process(options, control, link, limits).run())


class _Process:
    """One control process: campaigns once, leads once."""

    def __init__(
        self, options: ControlOptions, control: socket.socket, link: socket.socket, limits: PortLimits
    ) -> None:
        self._options = options
        self._link = link
        self._clock = process.ProcessClock()
        self._identity = f"{os.environ.get('POD_NAME') or socket.gethostname()}_{secrets.token_hex(4)}"
        self._annotations = {
            LINK: process.shown((options.advertise, link.getsockname()[1])),
            REST: f"https://{process.shown((options.advertise, control.getsockname()[1]))}",
        }
        self._elector: Elector | None = None
        self._control = control
        self._limits = limits

    async def run(self) -> int:
        """Run until a signal or the end of the leadership; the exit status."""
        stop = process.stop_event()
        print(f"{self._identity}: REST at {self._annotations[REST]}, routers at {self._annotations[LINK]}", flush=True)
        async with contextlib.AsyncExitStack() as stack:
            api = await Api.connect()
            stack.push_async_callback(api.close)
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="scorefront-control-"))
            links = ControlCertificates.own(
                api, Path(folder), self._options.advertise, self._options.peers_dir, self._options.tls
            )
            door = RestPort(self._control, self._identity, self._leader, self._limits, links.door)
            await door.stand_by()
            stack.push_async_callback(door.close)
            tasks = OwnedTasks()
            stack.push_async_callback(tasks.close)
            tasks.spawn(door.run(), "follow the leader")
            tasks.spawn(links.run(self._leads), "renew certificates")
            return await self._campaign(api, links, door, stop)

    def _leads(self) -> bool:
        return self._elector is not None and self._elector.leads()

    async def _campaign(self, api: Api, links: ControlCertificates, door: RestPort, stop: asyncio.Event) -> int:
        u = random.random  # noqa: TID251 - a shell
        wall = time.time  # noqa: TID251 - the shell that reads the wall clock
        elector = self._elector = Elector(api, LEASE, self._identity, self._annotations, self._clock, wall, u)
        term = _Term(self._options, api, elector, self._clock, self._link, door, links)
        ending = EndOfInstallation(api)
        await ending.begin()
        door.waiting_for = term.waiting
        electing = asyncio.create_task(elector.run(term.lead), name="campaign")
        try:
            await process.first_ended(stop, electing)
            if not electing.done():
                await self._leave(api, ending)
                electing.cancel()
                await asyncio.wait({electing}, timeout=STOP_S)
                return 0
            return _exit_status(electing)
        finally:
            electing.cancel()

    async def _leave(self, api: Api, ending: EndOfInstallation) -> None:
        """After a signal: without a successor the finalizers of endpoints would block their deletion for ever."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                if self._leads() and await ending.is_near():
                    await remove_finalizers(api, watched_namespaces(os.environ, api.home))

    def _leader(self) -> LeaderInfo | None:
        return self._elector.leader if self._elector is not None else None


def _exit_status(electing: asyncio.Task[None]) -> int:
    """The exit status after the campaign has ended by itself; raises errors other than a lost leadership."""
    error = electing.exception()
    if isinstance(error, BaseExceptionGroup):
        error = next(iter(_leaves(error)), error)
    if isinstance(error, LeadershipLost | Fenced):
        print(f"scorefront: leadership lost, this process ends: {error}", file=sys.stderr, flush=True)
        _end_soon()
        return 1
    if error is not None:
        raise error
    print("scorefront: the control plane ended by itself", file=sys.stderr)
    return 1


def _leaves(group: BaseExceptionGroup[BaseException]) -> Sequence[BaseException]:
    """The errors in a group, expected ones first."""
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return sorted(found, key=lambda error: not isinstance(error, LeadershipLost | Fenced | ApiError))


def _end_soon() -> None:
    """End the process from a thread, in spite of any task or blocked event loop."""
    timer = threading.Timer(END_S, os._exit, (1,))
    timer.daemon = True
    timer.start()


class _Term:
    """The work of a leader."""

    def __init__(
        self,
        options: ControlOptions,
        api: Api,
        elector: Elector,
        clock: process.ProcessClock,
        link: socket.socket,
        door: RestPort,
        links: ControlCertificates,
    ) -> None:
        self._options = options
        self._api = api
        self._elector = elector
        self._clock = clock
        self._link = link
        self._door = door
        self._links = links
        self._leading: ClusterControl | None = None

    def waiting(self) -> list[str]:
        """Reasons why this process cannot lead: refused lists, or the error of the Lease; empty if unknown."""
        if self._leading is not None:
            return self._leading.waiting()
        error = self._elector.last_error
        return [f"a leader: {error}"] if error else []

    async def lead(self, fence: int) -> None:
        """Lead until cancelled, or until a part fails; all parts have ended on return."""
        await self._links.ensure()
        token = ControlToken(await self._token(), self._token)
        groups = RouterGroups(fence, self._links.trust)
        control = self._leading = self._control(groups, fence)
        groups.report_to(control.plane.reports)
        fleet = self._fleet(groups)
        wall = time.time  # noqa: TID251 - the shell that reads the wall clock
        scaler = FrontEndScaler(fleet, front_end_settings(os.environ, in_cluster=True), self._clock, wall, scales=True)
        async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
            # Before the first report: without the expected workers, missing reports would look like low usage.
            tasks.create_task(fleet.run(), name="watch the routers")
            await self._until_seen(fleet)
            stack.push_async_callback(control.stop)
            await control.start()
            stack.push_async_callback(groups.close)
            groups.open(self._link)
            await self._door.lead(self._app(control, groups, scaler, token))
            _log.warning("leader: %s: started, fence %d", self._elector.identity, fence)
            tasks.create_task(control.run(), name="control plane")
            tasks.create_task(scaler.run(), name="scale the routers")
            tasks.create_task(token.run(self._clock), name="read the control token again")

    async def _token(self) -> str:
        return await control_token(self._api, os.environ, secrets.token_bytes)

    async def _until_seen(self, fleet: RouterFleet) -> None:
        try:
            async with asyncio.timeout(SEEN_S):
                await fleet.seen.wait()
        except TimeoutError:
            _log.error("routers: not listed yet: scaling continues without those that do not connect")

    def _control(self, groups: RouterGroups, fence: int) -> ClusterControl:
        places = watched_namespaces(os.environ, self._api.home)
        namespaces = tuple(place for place in places if place is not None)
        settings = ClusterSettings(
            namespaces=namespaces,
            scoring_url=self._options.scoring_url or f"http://scorefront.{self._api.home}",
            instance=self._elector.identity.partition("_")[0],
            pod_templates=pod_templates(os.environ),
            static=destinations(os.environ, in_cluster=True),
            issuers=issuer_hosts_allowed(os.environ, in_cluster=True),
            telemetry_note=telemetry_note(os.environ),
        )
        u = random.random  # noqa: TID251 - a shell
        wall = time.time  # noqa: TID251 - the shell that reads the wall clock
        return cluster_control(
            self._api,
            groups,
            fence,
            self._clock,
            wall,
            u,
            settings,
            self._elector,
            payload_problems=lambda key: dropping_problem(groups.payloads_dropped(key)),
        )

    def _fleet(self, groups: RouterGroups) -> RouterFleet:
        u = random.random  # noqa: TID251 - a shell
        most = int(number(os.environ, MAX_CORES, DEFAULT_MAX_CORES))
        return RouterFleet(self._api, groups, self._clock, u, most, self._elector.leads)

    def _data_routes(self, control: ClusterControl) -> RouteSet:
        """Reading of collected payloads, if there is a store."""
        url = os.environ.get(STORE, "")
        if not url:
            return unavailable(DATA_OPERATIONS, f"no store is set: {STORE}")

        @functools.cache
        def store() -> PayloadStore:
            return StoredPayloads(FileStore(url))

        return data_routes(store, lambda name: control.plane.endpoints.declared(name) is not None)

    def _app(
        self, control: ClusterControl, groups: RouterGroups, scaler: FrontEndScaler, token: ControlToken
    ) -> web.Application:
        exposition = Exposition(
            scaler.figures, routers_elsewhere=True, gauges=control.gauges, counters=lambda: groups.counters
        )
        rows = OverviewRows(control.plane.declared_endpoints, control.plane.sources, NoTraffic(), self._clock)
        more = (
            lacking_operations(),
            self._data_routes(control),
            overview_routes(rows, control.plane.endpoints.skipped),
        )
        operations = (*OPERATIONS, *(operation for routes in more for operation in routes.operations))
        callers = KubernetesCallers(self._api, self._api.home, control.places, self._clock, operations)
        settings = RestSettings(loopback=False, authenticators=(token, callers), in_cluster=True)
        return build_app(control.plane.endpoints, settings, exposition.render, scaler.decisions, more=more)
