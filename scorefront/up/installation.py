"""`scorefront up`: composition of control plane, autoscaler, router workers and replicas on one machine.

this process (control plane, autoscaler, local provider)
├── router worker(s)      share the listening socket made here; fed over a socket pair
└── replicas              children of the local provider
"""

import asyncio
import contextlib
import datetime
import logging
import math
import os
import signal
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.local.local_provider import LocalProvider
from cluster.local.machine_resources import NotDevices, devices
from cluster.provider import ProviderError
from controlplane import audit
from controlplane.control_errors import StoreError
from controlplane.control_token import ControlToken
from controlplane.plane import ControlPlane, PlaneSettings
from controlplane.rest import RestSettings, build_app
from controlplane.statedir import make_own
from controlplane.store import StateStore
from router.settings import DRAIN_TIMEOUT, SettingError, from_environment, issuer_hosts_allowed
from router.supervisor.socket_folder import SocketFolderError
from router.supervisor.worker_records import WorkerRecords
from router.supervisor.worker_supervisor import Supervisor, worker_command
from scorefront.cores import MAX_WORKERS, allowed_cores
from scorefront.exposition import Exposition
from scorefront.frontend_scaling import FrontEndScaler, OneMachine, front_end_settings
from scorefront.payload_settings import observer_arguments, payload_settings, telemetry_note
from scorefront.ports.port_certificates import PortCertificates
from scorefront.ports.timed_port import TimedPort, app_runner, port_limits
from scorefront.process import process_main as process
from scorefront.process.audit_output import FILE, audit_file
from scorefront.process.event_loop import use_fast_loop
from scorefront.process.process_hardening import worker_environment
from scorefront.static_networks import destinations, ports_of, worker_arguments
from scorefront.up.access import control_access
from scorefront.up.banner import Banner, show_keys
from scorefront.up.build_limits import build_limits
from scorefront.up.history_feed import HistoryFeed
from scorefront.up.laptop_workspace import LaptopWorkspace
from scorefront.up.model_description import fetch
from scorefront.up.payload_collector import PayloadCollectorChild
from scorefront.up.watching_routes import watching_routes
from serving.faults import InvalidManifest
from workspace.builders.declared_environments import DeclaredEnvironments
from workspace.builders.venv_builder import VenvBuilder

_log = logging.getLogger("scorefront.up")

SHUTDOWN_S = 1.0
"""Time for requests in flight on the control port at the end."""
DRAIN_S = 5.0
"""Time for requests in flight at the end; then they are answered with an error."""
STOP_WORKERS_S = DRAIN_S + 1.0
STOP_REPLICAS_S = 4.0
LEAST_STOP_REPLICAS_S = 1.5
END_S = 8.5
"""Time for all of it, below the 10 s within which all processes end after a signal."""


@dataclass(frozen=True, slots=True)
class UpOptions:
    """Options of `scorefront up`; documents are valid manifests with absolute paths."""

    documents: tuple[tuple[str, dict[str, Any]], ...]
    """(file name, manifest)."""
    state_dir: Path
    listen: tuple[str, int]
    control: tuple[str, int] | Path
    """An address, or the path of a Unix socket."""
    control_token: bool = False
    """True if the control token is required on this machine, too."""
    control_tls: tuple[tuple[Path, Path], ...] = ()
    """(certificate chain, key) files of the control port, checked; none: plain HTTP."""
    workers: int | None = None
    """Router workers; None: as many as the load needs."""
    tls: tuple[tuple[Path, Path], ...] = ()
    """(certificate chain, key) files, checked."""
    tls_redirect: tuple[str, int] | None = None
    """Listen address for plain HTTP clients that are redirected to `listen`."""
    access_log: str = "errors"
    store: str = ""
    """URL of the store of models and files; "": the folder `store` of the state directory."""


def run(options: UpOptions) -> int:
    """Run until a signal; returns the exit status: 0 after a signal, 1 if it cannot start, 2 for invalid input."""
    refused = (StoreError, SocketFolderError, ProviderError)
    return process.main(lambda: _run(options), refused, (InvalidManifest, SettingError))


def _run(options: UpOptions) -> int:
    from_environment()
    front_end_settings(os.environ)
    port_limits(os.environ)
    destinations(os.environ, in_cluster=False)
    issuer_hosts_allowed(os.environ, in_cluster=False)
    show_keys(os.environ)
    build_limits(os.environ)
    _gpus(os.environ)
    payload_settings(os.environ)
    make_own(options.state_dir)
    with contextlib.ExitStack() as sockets:
        listen = sockets.enter_context(process.listening("--listen", options.listen))
        control = sockets.enter_context(_control_socket(options.control))
        redirect = None
        if options.tls_redirect is not None:
            redirect = sockets.enter_context(process.listening("--tls-redirect", options.tls_redirect))
        use_fast_loop()
        return asyncio.run(_Installation(options, listen, control, redirect).run())


class _Installation:
    """Composition of the parts, and the order of their start and stop."""

    def __init__(
        self, options: UpOptions, listen: socket.socket, control: socket.socket, redirect: socket.socket | None
    ) -> None:
        self._options = options
        self._control = control
        self._limits = port_limits(os.environ)
        scheme = "https" if options.tls else "http"
        self._scoring_url = f"{scheme}://{_reachable(listen)}"
        self._access = control_access(options.control, options.control_token)
        self._control_url = _control_url(options, control)
        self._store = StateStore(options.state_dir)
        allowed = destinations(os.environ, in_cluster=False)
        ports = ports_of(listen, control, redirect)
        store_url = options.store or str(options.state_dir / "store")
        payloads = payload_settings(os.environ)
        self._collector = PayloadCollectorChild(
            options.state_dir, store_url, payloads, lambda: self._plane.declared_endpoints(), os.environ
        )
        self._builder = VenvBuilder(options.state_dir / "environments", os.environ, build_limits(os.environ))
        self._provider = LocalProvider(
            options.state_dir,
            allowed=allowed,
            issuers=issuer_hosts_allowed(os.environ, in_cluster=False),
            own_ports=ports,
            gpus=_gpus(os.environ),
            script_port=self._collector.script_port,
            environments=DeclaredEnvironments(self._builder),
        )
        self._routers = Supervisor(
            listen,
            options.workers or 1,
            worker_command(
                f"--access-log={options.access_log}",
                *observer_arguments(self._collector.rings_dir, os.environ),
                *worker_arguments(allowed, own_ports=ports),
                tls=options.tls,
            ),
            {**worker_environment(os.environ), DRAIN_TIMEOUT: str(_drain_s())},
            redirect,
        )
        self._clock = clock = process.ProcessClock()
        self._end_s = math.inf
        """Latest time of the end, on `_clock`."""
        wall = time.time  # noqa: TID251 - the shell that reads the wall clock
        self._front_end = FrontEndScaler(
            OneMachine(self._routers, allowed_cores),
            front_end_settings(os.environ),
            clock,
            wall,
            scales=options.workers is None,
        )
        self._plane = ControlPlane(
            self._store,
            self._provider,
            self._routers,
            clock,
            wall,
            PlaneSettings(scoring_url=self._scoring_url, telemetry_note=telemetry_note(os.environ)),
            self._routers,
            payload_problems=self._collector.problems,
        )
        endpoints = self._plane.endpoints
        self._history = HistoryFeed(
            options.state_dir, self._routers, endpoints.metrics.scaling, clock, wall, endpoints.take_moves
        )
        self._workspace = LaptopWorkspace(
            store_url,
            options.state_dir,
            self._plane.endpoints,
            self._provider,
            clock,
            wall,
            self._scoring_url,
            self._builder,
        )
        redirect_url = f"http://{_reachable(redirect)}" if redirect is not None else ""
        token_file = options.state_dir / "control-token" if self._access.token_demanded else None
        self._banner = Banner(
            self._plane.endpoints,
            self._control_url,
            fetch,
            redirect_url,
            token_file,
            show_keys(os.environ),
            store_url,
        )

    async def run(self) -> int:
        """Start, serve until a signal, stop."""
        stop = process.stop_event()
        loop = asyncio.get_running_loop()
        restart = asyncio.Event()
        on_terminal = os.isatty(0)

        def hang_up() -> None:
            # A terminal that is closed sends the same signal as `kill -HUP`; by then it is no terminal any more.
            (stop if on_terminal and not os.isatty(0) else restart).set()

        loop.add_signal_handler(signal.SIGHUP, hang_up)
        changes: asyncio.Queue[int] = asyncio.Queue()
        loop.add_signal_handler(signal.SIGTTIN, changes.put_nowait, 1)
        loop.add_signal_handler(signal.SIGTTOU, changes.put_nowait, -1)
        async with contextlib.AsyncExitStack() as stack:
            await self._provider.start()
            await self._builder.begin()
            stack.push_async_callback(self._stop_replicas)
            await self._plane.start()
            await self._log_restored()
            stack.push_async_callback(self._plane.stop)
            with process.usable_file(self._options.state_dir / FILE):
                stack.enter_context(audit_file(self._options.state_dir))
            await self._history.begin()
            stack.push_async_callback(self._history.close)
            stack.push_async_callback(self._collector.stop)
            stack.push_async_callback(self._routers.close, STOP_WORKERS_S)
            stack.callback(self._note_end)
            serving = asyncio.create_task(self._serve(stack), name="start serving")
            await _run_until(stop, serving)
            if stop.is_set():
                return 0
            if os.geteuid() == 0:
                _log.warning("running as root, so model code runs as root; another user is safer (docs/one-machine.md)")
            dying = asyncio.create_task(self._plane.wait(), name="watch the control plane")
            banner = asyncio.create_task(self._banner.show(), name="print readiness")
            restarting = asyncio.create_task(
                process.restart_on(restart, self._routers), name="restart workers on SIGHUP"
            )
            resizing = asyncio.create_task(self._resize_by(changes), name="resize on SIGTTIN and SIGTTOU")
            scaling = asyncio.create_task(self._front_end.run(), name="scale the router workers")
            collecting = asyncio.create_task(self._collector.run(), name="keep the collector running")
            scraping = asyncio.create_task(self._history.run(), name="scrape for the history")
            beside = (dying, banner, restarting, resizing, scaling, collecting, scraping)
            try:
                await _run_until(stop, dying)
            finally:
                await process.cancelled(*beside)
                with contextlib.suppress(OSError):  # a terminal that was closed takes no more words
                    self._banner.say_stopping()
        return 0

    def _note_end(self) -> None:
        """The end begins: everything after the control port's requests has `END_S`."""
        self._end_s = self._clock.now() + END_S

    async def _stop_replicas(self) -> None:
        """Stop the replicas in the time that the requests in flight have left."""
        left_s = self._end_s - self._clock.now()
        await self._provider.close(max(LEAST_STOP_REPLICAS_S, min(STOP_REPLICAS_S, left_s)))

    async def _log_restored(self) -> None:
        """Log restored endpoints: they run commands without being named on the command line."""
        named = {document["metadata"]["name"] for _, document in self._options.documents}
        names = [
            name for view in await self._plane.endpoints.views() if (name := view["metadata"]["name"]) not in named
        ]
        if names:
            _log.warning("endpoints restored from %s: %s", self._options.state_dir, ", ".join(sorted(names)))

    async def _resize_by(self, changes: "asyncio.Queue[int]") -> None:
        """One worker more or fewer on SIGTTIN and SIGTTOU, as in gunicorn."""
        while True:
            count = self._routers.wanted + await changes.get()
            if self._options.workers is None or not 1 <= count <= MAX_WORKERS:
                _log.warning("router workers: still %d: --workers auto, or at the limit", self._routers.wanted)
                continue
            _log.warning("router workers: resizing to %d", count)
            await self._routers.resize(count)

    async def _serve(self, stack: contextlib.AsyncExitStack) -> None:
        await self._routers.start(self._plane.snapshot, self._plane.reports)
        access = self._access
        authenticators = (await self._control_token(stack),) if access.token_demanded else ()
        exposition = Exposition(
            self._front_end.figures, payloads=self._collector.counts, accesses=self._collector.access_counts
        )
        settings = RestSettings(loopback=access.this_machine_only, authenticators=authenticators, uids=access.uids)
        await self._workspace.begin()
        stack.push_async_callback(self._workspace.close)
        app = build_app(
            self._plane.endpoints,
            settings,
            exposition.render,
            self._front_end.decisions,
            self._history,
            (
                *self._workspace.routes(),
                *watching_routes(
                    self._plane, WorkerRecords(self._routers.workers), self._history, self._workspace.store, self._clock
                ),
            ),
        )
        runner = app_runner(app, SHUTDOWN_S)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        port = TimedPort(self._control, self._limits, self._control_context(stack))
        stack.push_async_callback(port.close)
        for name, document in self._options.documents:
            view, _ = await self._plane.endpoints.apply(document, name)
            for line in view["status"]["notes"]:
                _log.warning("endpoint %s: %s", view["metadata"]["name"], line)
            _note_applied(name, document)
        port.answer_with(runner)  # last: /readyz takes the endpoints it knows for all there are

    def _control_context(self, stack: contextlib.AsyncExitStack) -> Callable[[], ssl.SSLContext] | None:
        """The certificates of the control port, reloaded on change while `stack` is open."""
        if not self._options.control_tls:
            return None
        certificates = PortCertificates(self._options.control_tls, lambda: datetime.datetime.now(datetime.UTC))
        reading = asyncio.create_task(certificates.run(), name="read changed control certificates")
        stack.callback(reading.cancel)
        return certificates.context

    async def _control_token(self, stack: contextlib.AsyncExitStack) -> ControlToken:
        """The token in the state directory, read again while `stack` is open."""

        async def read() -> str:
            return await self._store.control_token(os.urandom(32))

        token = ControlToken(await read(), read)
        refreshing = asyncio.create_task(token.run(process.ProcessClock()), name="read the control token again")
        stack.callback(refreshing.cancel)
        return token


def _gpus(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The GPUs for replicas. Raises SettingError."""
    try:
        return devices(environ)
    except NotDevices as error:
        raise SettingError(str(error)) from None


def _drain_s() -> float:
    """Time of the router workers for requests in flight: as set, but within that of the whole end."""
    settings = from_environment()
    return max(0.1, min(settings.drain_timeout_s, DRAIN_S - settings.lame_duck_s))


def _note_applied(file: str, document: dict[str, Any]) -> None:
    """One line of the audit log; `document` is valid."""
    owner = {"caller": f"uid {os.getuid()}", "from": "up -f", "operation": "putEndpoint", "file": file}
    audit.note({**owner, "endpoint": document["metadata"]["name"], "outcome": "done"})


async def _run_until(stop: asyncio.Event, task: asyncio.Task[Any]) -> None:
    """Wait for the end of `task`, whose error is raised; cancel it on `stop`."""
    await process.first_ended(stop, task)
    if not task.done():
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    elif not task.cancelled():
        task.result()


def _control_socket(control: tuple[str, int] | Path) -> contextlib.AbstractContextManager[socket.socket]:
    if isinstance(control, Path):
        return process.listening_unix("--control", control)
    return process.listening("--control", control)


def _control_url(options: UpOptions, sock: socket.socket) -> str:
    if isinstance(options.control, Path):
        return f"unix:{options.control}"
    return f"{'https' if options.control_tls else 'http'}://{_reachable(sock)}"


def _reachable(sock: socket.socket) -> str:
    """Address of the socket on this machine; loopback for a wildcard address."""
    host, port = sock.getsockname()[:2]
    return process.shown(({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port))
