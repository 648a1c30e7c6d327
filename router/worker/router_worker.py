"""One router worker: composition of the data plane on a shared listening socket.

The supervisor feeds it over a link. When the link closes, the supervisor has died and the worker ends at once: it would
not learn of dead replicas.
"""

import asyncio
import contextlib
import datetime
import itertools
import logging
import os
import random
import resource
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cluster.framing import FrameReader
from cluster.link import (
    MAX_FRAME_BYTES,
    Collect,
    Drained,
    FailuresRead,
    ReadFailures,
    ReadTrace,
    ResetAll,
    Retire,
    Retired,
    Serving,
    TraceRead,
)
from router.accesslog import AccessLog, AccessLogMode
from router.busy_polling import BusyPoller
from router.core.dispatcher import Dispatcher
from router.core.ids import RequestIds
from router.inflight_table import BEAT_S, InflightTable
from router.peers.peer_identity import Trust
from router.proxy.downstream import Downstream
from router.proxy.gateway import SWEEP_S, Gateway
from router.proxy.listeners import Listeners
from router.proxy.request_observer import ObserverFactory
from router.proxy.static_addresses import StaticAddresses
from router.proxy.tls import Certificates
from router.settings import RouterSettings
from router.supervisor_messages import (
    FromSupervisor,
    FromWorker,
    Give,
    Joined,
    Leave,
    SetView,
    decode_for_worker,
    encode,
)
from router.worker.issuer_fetcher import IssuerFetcher
from router.worker.peering import Peering
from router.worker.routing_updates import RoutingUpdates
from router.worker.worker_drain import drain, hand_over
from router.worker.worker_reports import WorkerReports
from serving.issuer_hosts import IssuerHosts
from serving.usage import Work

_log = logging.getLogger("scorefront.router")

SHARE_OF_DESCRIPTORS = 3 / 4
"""Share of the file descriptors for clients; the rest is for replicas, without which clients are no use."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Arguments of a worker process."""

    name: str
    """Unique name in views; "": a worker without peers. The integrals in its reports begin at 0."""
    listen: socket.socket
    link: socket.socket
    settings: RouterSettings
    access_log: AccessLogMode
    log_fd: int
    logs_dropped: Callable[[], int] = lambda: 0
    """Number of lines of the program log lost to a slow reader."""
    certificates: Certificates | None = None
    redirect: socket.socket | None = None
    """Socket for plain HTTP clients that are redirected to `listen`."""
    address: str = ""
    """For peers; "" without peers."""
    door: socket.socket | None = None
    """Listening socket for peers on other machines."""
    trust: Trust | None = None
    """Certificate and authorities for peers on other machines."""
    flights: InflightTable | None = None
    """Its row of the in-flight table."""
    statics: StaticAddresses = field(default_factory=StaticAddresses)
    """Rules for the addresses of static replicas."""
    issuer_hosts: IssuerHosts = field(default_factory=IssuerHosts)
    """Hosts from which keys of foreign token issuers may be fetched."""
    observers: ObserverFactory | None = None
    """Makes the observers of versions; None: no request is observed."""
    yield_cpu: Callable[[], None] = lambda: None
    """Lets a worker on the same core run that has just been sent a slot."""


class RouterWorker:
    """Serves clients, applies messages of the supervisor, reports to it."""

    def __init__(self, options: WorkerOptions) -> None:
        self._options = options
        self.name = options.name
        incarnation = int.from_bytes(os.urandom(4))
        self._poller = _poller(options.settings.poll_s)
        self.gateway = Gateway(
            options.settings,
            Dispatcher(options.name, incarnation, options.settings.lease_s, flights=options.flights),
            AccessLog(options.access_log, options.log_fd),
            RequestIds(os.urandom(16)),
            time.monotonic,
            time.time,  # noqa: TID251 - this is the shell that reads the clock and draws the numbers
            random.random,  # noqa: TID251
            self._poller,
        )
        self.gateway.clients.max_connections = self._max_connections()
        self.gateway.pool.statics = options.statics
        self._own = options.statics.own
        if options.certificates is not None:
            self._note_expiry(options.certificates)
        self.gateway.effects.on_drained = lambda replica_id: self._send(Drained(replica_id))
        self._writer: asyncio.StreamWriter | None = None
        self._stopping = asyncio.Event()
        self._synced = asyncio.Event()
        self._named = asyncio.Event()
        self._leaving = asyncio.Event()
        self._updates = RoutingUpdates(self.gateway, self._own, options.observers)
        self._issuers = IssuerFetcher(
            self.gateway.table, time.monotonic, self.gateway.tunnels.review_all, options.issuer_hosts
        )
        self._reports = WorkerReports(self.gateway, options.name, self._send)
        self._scrapes: asyncio.Queue[int] = asyncio.Queue()
        self._peering = Peering(self.gateway, options.name, self._adopt, options.trust, options.yield_cpu)

    def _adopt(self, read: bytes, known: bool) -> Downstream:
        return Downstream(self.gateway, read, known)

    async def run(self) -> None:
        """Serve until SIGTERM (then drain), Leave (then hand over) or the end of the link (then end at once)."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        reader, self._writer = await asyncio.open_connection(sock=self._options.link)
        if self._options.address:
            self._peering.open(self._options.address, self._options.door)
            self._send(Joined())
        else:
            self._named.set()
        background = [
            loop.create_task(self._feed(reader), name="apply messages of the supervisor"),
            loop.create_task(self._reports.run(), name="report usage"),
            loop.create_task(self._answer_scrapes(), name="answer scrapes"),
            loop.create_task(self._sweep(), name="sweep connections"),
            loop.create_task(self._beat(), name="beat"),
            loop.create_task(self._issuers.run(), name="fetch keys of token issuers"),
        ]
        try:
            await self._serve(background)
        finally:
            for task in background:
                task.cancel()
            for task, ended in zip(background, await asyncio.gather(*background, return_exceptions=True), strict=True):
                if isinstance(ended, Exception):
                    _log.error("router worker: ends: task failed: %s", task.get_name(), exc_info=ended)
            await self._peering.close()
            await self.gateway.close()
            self.gateway.access_log.flush()
            if self._options.observers is not None:
                self._options.observers.close()
            self._writer.close()

    async def _serve(self, background: list[asyncio.Task[None]]) -> None:
        """Serve until a signal, Leave, or the unexpected end of a task in `background`."""
        loop = asyncio.get_running_loop()
        stopping = loop.create_task(self._stopping.wait(), name="wait for a signal")
        ready = loop.create_task(self._ready_to_serve(), name="wait for the first table and view")
        leaving = loop.create_task(self._leaving.wait(), name="wait for Leave")
        ends = {*background, stopping}
        try:
            # Not before the first table: an early client would get 404 for an existing endpoint.
            await asyncio.wait({*ends, ready}, return_when=asyncio.FIRST_COMPLETED)
            if not ready.done():
                return
            listeners = Listeners(self.gateway, self._options.certificates)
            await listeners.open(self._options.listen, self._options.redirect)
            self._send(Serving(os.getpid()))
            await asyncio.wait({*ends, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if leaving.done() and not stopping.done():
                tls = self._options.certificates is not None
                handed_over = await hand_over(self.gateway, self._peering, listeners, tls, ends)
                if not handed_over and self._stopping.is_set():
                    await drain(self.gateway, listeners, ends)
            elif stopping.done():
                await drain(self.gateway, listeners, ends)
            listeners.close()
            await listeners.end()
        finally:
            for task in (stopping, ready, leaving):
                task.cancel()

    async def _ready_to_serve(self) -> None:
        await self._synced.wait()
        await self._named.wait()

    # ---- from the control plane

    async def _feed(self, reader: asyncio.StreamReader) -> None:
        frames = FrameReader(decode_for_worker, MAX_FRAME_BYTES)
        while data := await _read(reader):
            for message in frames.feed(data):
                self.apply(message)

    def apply(self, message: FromSupervisor) -> None:
        """Apply one message of the supervisor or the control plane."""
        gateway = self.gateway
        match message:
            case SetView(view):
                self._own.set_hosts("peers", [member.address.rpartition(":")[0].strip("[]") for member in view.members])
                self._peering.enter(view)
                if self._peering.includes_me():
                    self._named.set()
            case Leave():
                self._leaving.set()
            case Give(taker, count):
                self._peering.give(taker, count)
            case Retire(request, key, count):
                self._send(Retired(request, tuple(gateway.dispatcher.retire(key, count))))
                gateway.effects.carry_out(None)
            case Collect(request):
                self._scrapes.put_nowait(request)
            case ReadTrace(request, key, since_s):
                now = gateway.now()
                found = gateway.stats.version(key).trace.since(now - since_s, now)
                self._send(TraceRead(request, [(age, None if s != s else s, size) for age, s, size in found]))
            case ReadFailures(request, endpoint, last):
                self._send(FailuresRead(request, gateway.failures.of(endpoint, last)))
            case _:
                self._updates.apply(message)
                if isinstance(message, ResetAll):
                    self._synced.set()

    # ---- to the control plane

    def _send(self, message: FromWorker) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode(message))

    async def _answer_scrapes(self) -> None:
        """Answer `Collect`, with a turn of the event loop after each part."""
        while True:
            request = await self._scrapes.get()
            for part in self._reports.scrape(request, self._options.logs_dropped(), self._peering.counters):
                self._send(part)
                await asyncio.sleep(0)  # scoring requests go first

    # ---- periodic work

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S / 2)
            self.gateway.access_log.flush()
            self.gateway.clients.notice_departures()
            self.gateway.tunnels.expire()
            await asyncio.sleep(SWEEP_S / 2)
            self.gateway.clients.max_connections = self._max_connections()
            self.gateway.sweep()
            self.gateway.dispatcher.prune()
            self.gateway.stats.trim_traces(self.gateway.now())
            self.gateway.access_log.flush()
            certificates = self._options.certificates
            if certificates is not None and certificates.reload(datetime.datetime.now(datetime.UTC)):
                self._note_expiry(certificates)

    def _max_connections(self) -> int:
        """Read repeatedly: the limit of a running process can change (prlimit)."""
        wanted = self._options.settings.max_connections
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return wanted if descriptors == resource.RLIM_INFINITY else min(wanted, int(descriptors * SHARE_OF_DESCRIPTORS))

    def _note_expiry(self, certificates: Certificates) -> None:
        self.gateway.stats.certificate_expires_unix = int(certificates.expires_at.timestamp())

    async def _beat(self) -> None:
        """Beat, measure the lag of the event loop, record the work so far."""
        stats, now, flights = self.gateway.stats, self.gateway.now, self._options.flights
        for beats in itertools.count(1):
            stats.tally()
            if flights is not None:
                cpu_s = time.process_time() - (self._poller.idle_cpu_s if self._poller is not None else 0.0)
                work = Work(now(), beats, stats.late_s, cpu_s, stats.routed, stats.routing_s)
                flights.beat(stats.connections, work)
            due = now() + BEAT_S
            await asyncio.sleep(BEAT_S)
            woken = now()
            stats.loop_lag_s = max(stats.loop_lag_s, woken - due)
            await asyncio.sleep(0)  # until the loop has turned once
            # Input waits for the poll, and then for half of what arrived with it.
            stats.late_s += max(0.0, woken - due) + (now() - woken) / 2


def run(options: WorkerOptions) -> None:
    """Run one worker on the event loop of the current policy; returns when it has drained."""
    _raise_descriptor_limit(int(options.settings.max_connections / SHARE_OF_DESCRIPTORS))
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(options))


async def _read(reader: asyncio.StreamReader) -> bytes:
    """Bytes of the supervisor; none after its end. The connection of a killed one is reset if it left bytes unread."""
    try:
        return await reader.read(1 << 20)
    except ConnectionError:
        return b""


def _poller(poll_s: float) -> BusyPoller | None:
    if not poll_s:
        return None
    return BusyPoller(poll_s, time.monotonic, time.thread_time, asyncio.get_running_loop().call_soon, os.sched_yield)


async def _run(options: WorkerOptions) -> None:
    await RouterWorker(options).run()


def _raise_descriptor_limit(wanted: int) -> None:
    """Shells start programs with a soft limit of 1,024 descriptors, far below the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    reachable = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < reachable:
        resource.setrlimit(resource.RLIMIT_NOFILE, (reachable, hard))
