"""One router worker: the composition of the data plane, fed over a link by the control plane, on a shared socket.

The link is a socket that the supervisor made. When it closes, the supervisor is gone and the worker ends at once:
nobody would tell it of a replica that died.
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
from typing import Any

from cluster.framing import FrameReader
from cluster.link import (
    MAX_FRAME_BYTES,
    Collect,
    Drained,
    Metrics,
    RemoveEndpoint,
    RemoveReplica,
    ResetAll,
    Retire,
    Retired,
    Serving,
    SetKeys,
    SetOwnPods,
    SetTrust,
    UpsertEndpoint,
    UpsertReplica,
    Usage,
    WorkerMetrics,
)
from router.accesslog import AccessLog, AccessLogMode
from router.busy_polling import BusyPoller
from router.core.dispatcher import Dispatcher, VersionQueue
from router.core.ids import RequestIds
from router.inflight_table import BEAT_S, InflightTable
from router.peers.peer_identity import Trust
from router.proxy.downstream import Downstream
from router.proxy.exchange import Exchange
from router.proxy.gateway import SWEEP_S, Gateway
from router.proxy.listeners import Listeners
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
from router.worker.peering import Peering
from serving.credentials import TokenTrust
from serving.endpoint import Endpoint, VersionKey
from serving.replica import Replica
from serving.usage import UsageReport, VersionUsage, Work

_log = logging.getLogger("scorefront.router")

REPORT_S = 0.2
STARVED_REPORT_S = 0.01
"""At most one report for starved versions in this time: a burst of 1,000 requests is one piece of news."""
SETTLE_S = 0.005
"""After the end of accepting: connections accepted just before become known."""
DRAIN_S = 0.1
"""How often a worker that drains looks for connections that have become idle."""
HAND_OVER_S = 0.01
"""How often a worker that leaves looks for what it can give away."""
SHARE_OF_DESCRIPTORS = 3 / 4
"""What clients may have of the file descriptors; the rest is for replicas, since a client without one is no use."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What a worker process is started with."""

    name: str
    """Its name in views; a restarted worker has another one, and its integrals begin again at 0. "": it is alone."""
    listen: socket.socket
    link: socket.socket
    settings: RouterSettings
    access_log: AccessLogMode
    log_fd: int
    logs_dropped: Callable[[], int] = lambda: 0
    """How many lines of the program's own log were lost, because their reader is slow."""
    certificates: Certificates | None = None
    redirect: socket.socket | None = None
    """Where clients come without TLS that are sent to `listen`."""
    address: str = ""
    """Where its peers reach it; "" if it is alone."""
    door: socket.socket | None = None
    """Where its peers on other machines come in."""
    trust: Trust | None = None
    """With what it proves to peers on other machines who it is, and whom it believes."""
    flights: InflightTable | None = None
    """Its row of the flight board."""
    statics: StaticAddresses = field(default_factory=StaticAddresses)
    """Which addresses of static replicas it connects to."""


class RouterWorker:
    """Applies what the control plane says, reports what it must know, serves clients."""

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
        self.gateway.effects.on_starved = self._starved
        self._writer: asyncio.StreamWriter | None = None
        self._stopping = asyncio.Event()
        self._starved_handle: asyncio.TimerHandle | None = None
        self._synced = asyncio.Event()
        self._known = asyncio.Event()
        self._leaving = asyncio.Event()
        self._peering = Peering(self.gateway, options.name, self._adopt, options.trust)

    def _adopt(self, read: bytes, known: bool) -> Downstream:
        return Downstream(self.gateway, read, known)

    async def run(self) -> None:
        """Serve until SIGTERM (then drain) or until the link closes (then end at once)."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        reader, self._writer = await asyncio.open_connection(sock=self._options.link)
        if self._options.address:
            self._peering.open(self._options.address, self._options.door)
            self._send(Joined())
        else:
            self._known.set()
        background = [
            loop.create_task(self._feed(reader), name="apply what control says"),
            loop.create_task(self._report(), name="report usage"),
            loop.create_task(self._sweep(), name="sweep connections"),
            loop.create_task(self._beat(), name="show that the loop turns"),
        ]
        try:
            await self._serve(background)
        finally:
            for task in background:
                task.cancel()
            for task, ended in zip(background, await asyncio.gather(*background, return_exceptions=True), strict=True):
                if isinstance(ended, Exception):
                    _log.error("worker ends: it cannot %s any more", task.get_name(), exc_info=ended)
            if self._starved_handle is not None:
                self._starved_handle.cancel()
            await self._peering.close()
            await self.gateway.close()
            self.gateway.access_log.flush()
            self._writer.close()

    async def _serve(self, background: list[asyncio.Task[None]]) -> None:
        """Until a signal, until another worker has taken over, or until a background task ends: none of them should."""
        loop = asyncio.get_running_loop()
        stopping = loop.create_task(self._stopping.wait(), name="wait for a signal")
        told = loop.create_task(self._be_told(), name="wait for the first table and view")
        leaving = loop.create_task(self._leaving.wait(), name="wait to be sent away")
        ends = {*background, stopping}
        try:
            # Not before the table is here: an early client would be told 404 of an endpoint that exists.
            await asyncio.wait({*ends, told}, return_when=asyncio.FIRST_COMPLETED)
            if not told.done():
                return
            listeners = Listeners(self.gateway, self._options.certificates)
            await listeners.open(self._options.listen, self._options.redirect)
            self._send(Serving(os.getpid()))
            await asyncio.wait({*ends, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if leaving.done() and not stopping.done():
                await self._leave(listeners, ends)
            elif stopping.done():
                await self._drain(listeners, ends)
            listeners.close()
            await listeners.end()
        finally:
            for task in (stopping, told, leaving):
                task.cancel()

    async def _be_told(self) -> None:
        await self._synced.wait()
        await self._known.wait()

    async def _leave(self, listeners: Listeners, ends: set[asyncio.Task[Any]]) -> None:
        """Others serve in this worker's place: connections pass to them, requests end where they began."""
        loop = asyncio.get_running_loop()
        gateway = self.gateway
        listeners.close()
        # A connection with TLS cannot pass: its client is told to make a new one with the next answer.
        gateway.draining = self._options.certificates is not None
        await asyncio.wait(ends, timeout=SETTLE_S, return_when=asyncio.FIRST_COMPLETED)
        tunnels_until = loop.time() + self._options.settings.drain_timeout_s
        while not any(task.done() for task in ends):
            self._peering.give_all()
            gateway.clients.leave_worker()
            if loop.time() >= tunnels_until:
                gateway.clients.close_tunnels()
            if gateway.clients.empty.is_set():
                return
            await asyncio.wait(ends, timeout=HAND_OVER_S, return_when=asyncio.FIRST_COMPLETED)
        gateway.handoff.start((), 0)
        if self._stopping.is_set():
            await self._drain(listeners, ends)

    async def _drain(self, listeners: Listeners, ends: set[asyncio.Task[Any]]) -> None:
        """A signal has come: not ready, then accept no more, then end what has been begun; at last break it off."""
        loop = asyncio.get_running_loop()
        settings = self._options.settings
        gateway = self.gateway
        gateway.draining = True
        gateway.own_pages.ready = False
        ends = {task for task in ends if not task.done()}
        if settings.lame_duck_s:
            await asyncio.wait(ends, timeout=settings.lame_duck_s, return_when=asyncio.FIRST_COMPLETED)
        listeners.close()
        empty = loop.create_task(gateway.clients.empty.wait(), name="wait for the last client")
        deadline = loop.time() + settings.drain_timeout_s
        while not empty.done() and not any(task.done() for task in ends) and (left := deadline - loop.time()) > 0:
            gateway.drain()  # again and again: an answer that had begun has not told its client to leave
            pause = min(left, DRAIN_S)
            await asyncio.wait({*ends, empty}, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
        empty.cancel()
        gateway.clients.abort()

    # ---- from the control plane

    async def _feed(self, reader: asyncio.StreamReader) -> None:
        frames = FrameReader(decode_for_worker, MAX_FRAME_BYTES)
        while data := await reader.read(1 << 20):
            for message in frames.feed(data):
                self.apply(message)

    def apply(self, message: FromSupervisor) -> None:
        """Do what one message of the supervisor or the control plane says."""
        gateway = self.gateway
        match message:
            case ResetAll():
                self._reset(message)
                gateway.tunnels.review_all()
            case UpsertEndpoint(endpoint):
                self._upsert_endpoint(endpoint)
                gateway.tunnels.review(endpoint.name)
            case RemoveEndpoint(name):
                self._remove_endpoint(name)
                gateway.tunnels.review(name)
            case SetKeys(keys):
                gateway.table.set_keys(keys)
                gateway.tunnels.review(keys.endpoint)
            case SetTrust(trust):
                self._set_trust(trust)
                gateway.tunnels.review_all()
            case UpsertReplica(replica):
                self._upsert_replica(replica)
            case SetOwnPods(addresses):
                self._own.set_hosts("pods", addresses)
            case SetView(view):
                self._own.set_hosts("peers", [member.address.rpartition(":")[0].strip("[]") for member in view.members])
                self._peering.enter(view)
                if self._peering.includes_me():
                    self._known.set()
            case Leave():
                self._leaving.set()
            case Give(taker, count):
                self._peering.give(taker, count)
            case RemoveReplica(replica_id):
                self._own.drop(replica_id)
                gateway.dispatcher.remove(replica_id)
                gateway.pool.close_replica(replica_id)
                gateway.effects.carry_out_all([])
            case Retire(request, key, count):
                self._send(Retired(request, tuple(gateway.dispatcher.retire(key, count))))
                gateway.effects.carry_out(None)
            case Collect(request):
                self._send(Metrics(request, self._metrics()))

    def _reset(self, message: ResetAll) -> None:
        gateway = self.gateway
        declared = {endpoint.name for endpoint in message.endpoints}
        for name in gateway.table.names():
            if name not in declared:
                self._remove_endpoint(name)
        self._set_trust(message.trust)
        for keys in message.keys:
            gateway.table.set_keys(keys)
        for endpoint in message.endpoints:
            self._upsert_endpoint(endpoint)
        self._own.set_hosts("pods", message.own_pods)
        listed = {replica.id for replica in message.replicas}
        self._own.keep(listed)
        for replica_id in gateway.dispatcher.known():
            if replica_id not in listed:
                gateway.dispatcher.remove(replica_id)
        for replica in message.replicas:
            self._upsert_replica(replica)
        self._synced.set()

    def _upsert_replica(self, replica: Replica) -> None:
        gateway = self.gateway
        if replica.static:
            self._own.drop(replica.id)
        else:
            self._own.put(replica.id, replica.host, replica.port)
        gateway.effects.carry_out_all(gateway.dispatcher.upsert(replica, gateway.now()))

    def _set_trust(self, trust: TokenTrust) -> None:
        """A key that cannot be used must not end the feed: replicas and keys matter more than a new signing key."""
        try:
            self.gateway.table.set_trust(trust)
        except ValueError as error:
            _log.error("token keys of issuer %r are refused, those trusted before still are: %s", trust.issuer, error)

    def _upsert_endpoint(self, endpoint: Endpoint) -> None:
        before = self.gateway.table.endpoint(endpoint.name)
        self.gateway.table.upsert(endpoint)
        for version in endpoint.versions:
            self.gateway.deadlines.configure(endpoint.name, version)
        if before is not None:
            for version in before.versions:
                if endpoint.version(version.name) is None:
                    self._forget_version(VersionKey(endpoint.name, version.name))

    def _remove_endpoint(self, name: str) -> None:
        endpoint = self.gateway.table.endpoint(name)
        self.gateway.table.remove(name)
        for version in endpoint.versions if endpoint else ():
            self._forget_version(VersionKey(name, version.name))
        self.gateway.stats.forget(VersionKey(name, ""))

    def _forget_version(self, key: VersionKey) -> None:
        for ticket, error in self.gateway.dispatcher.forget(key):
            assert isinstance(ticket, Exchange)
            ticket.refuse(error)
        self.gateway.stats.forget(key)

    # ---- to the control plane

    def _send(self, message: FromWorker) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode(message))

    def _starved(self) -> None:
        if self._starved_handle is None:
            loop = asyncio.get_running_loop()
            # The first one goes out with this turn of the loop; those right behind it share the next report.
            loop.call_soon(self._send_report)
            self._starved_handle = loop.call_later(STARVED_REPORT_S, self._starved_again)

    def _starved_again(self) -> None:
        self._starved_handle = None
        if self.gateway.dispatcher.starved:
            self._send_report()

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            self._send_report()

    def _send_report(self) -> None:
        dispatcher, now = self.gateway.dispatcher, self.gateway.now()
        starved = [queue for queue in dispatcher.starved if queue.queue_length]
        dispatcher.starved.clear()
        for queue in starved:
            queue.changed = True
        usages = []
        for queue in dispatcher.queues.values():
            queue.starved = False
            if queue.changed:
                queue.changed = False
                usages.append(_usage(queue, now))
        self._send(Usage(UsageReport(self.name, now, tuple(usages), tuple(queue.key for queue in starved))))

    def _metrics(self) -> WorkerMetrics:
        queues = self.gateway.dispatcher.queues
        stats = self.gateway.stats
        ledgers = [queue.ledger for queue in queues.values()]
        stats.counters["double_releases"] = sum(ledger.double_releases for ledger in ledgers)
        stats.counters["access_log_dropped"] = self.gateway.access_log.dropped
        stats.counters["log_dropped"] = self._options.logs_dropped()
        stats.counters.update(self._peering.counters)
        stats.tasks = len(asyncio.all_tasks())
        return stats.snapshot(
            self.name,
            {key: (queue.ledger.busy, queue.ledger.total, queue.waiting) for key, queue in queues.items()},
            sum(ledger.violations for ledger in ledgers),
        )

    # ---- from time to time

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
            self.gateway.access_log.flush()
            certificates = self._options.certificates
            if certificates is not None and certificates.reload(datetime.datetime.now(datetime.UTC)):
                self._note_expiry(certificates)

    def _max_connections(self) -> int:
        """Looked at again and again: the limit of a running process can be changed (prlimit)."""
        wanted = self._options.settings.max_connections
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return wanted if descriptors == resource.RLIM_INFINITY else min(wanted, int(descriptors * SHARE_OF_DESCRIPTORS))

    def _note_expiry(self, certificates: Certificates) -> None:
        self.gateway.stats.certificate_expires_unix = int(certificates.expires_at.timestamp())

    async def _beat(self) -> None:
        """Also measures how late the loop is, and tells the supervisor what has been done."""
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
            # What comes in waits until the loop looks, and then for half of what has come with it.
            stats.late_s += max(0.0, woken - due) + (now() - woken) / 2


def _usage(queue: VersionQueue, now: float) -> VersionUsage:
    ledger = queue.ledger
    return VersionUsage(
        endpoint=queue.key.endpoint,
        version=queue.key.version,
        busy=ledger.busy,
        total=ledger.total,
        waiting=queue.queue_length,
        busy_slot_seconds=ledger.busy_slot_seconds(now),
        busy_by_replica=queue.ledger.busy_by_replica(),
    )


def run(options: WorkerOptions) -> None:
    """Run one worker on the loop that is current policy; returns when it has drained."""
    _raise_descriptor_limit(int(options.settings.max_connections / SHARE_OF_DESCRIPTORS))
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(options))


def _poller(poll_s: float) -> BusyPoller | None:
    if not poll_s:
        return None
    return BusyPoller(poll_s, time.monotonic, time.thread_time, asyncio.get_running_loop().call_soon, os.sched_yield)


async def _run(options: WorkerOptions) -> None:
    await RouterWorker(options).run()


def _raise_descriptor_limit(wanted: int) -> None:
    """Shells start programs with 1,024 descriptors, far below what they may ask for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    reachable = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < reachable:
        resource.setrlimit(resource.RLIMIT_NOFILE, (reachable, hard))
