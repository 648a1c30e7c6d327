"""Composition of the data plane of one worker: the state shared by its connections. The seam between I/O and core."""

import asyncio
from collections.abc import Callable

from router.accesslog import AccessLog
from router.busy_polling import BusyPoller
from router.core.body_budget import BodyBudget
from router.core.dispatcher import Dispatcher
from router.core.forwarding import Peer, PeerTrust
from router.core.ids import RequestIds
from router.core.router_errors import RouterError
from router.core.table import Table
from router.metrics import WorkerStats
from router.proxy.client_registry import ClientRegistry
from router.proxy.connection_handoff import ConnectionHandoff
from router.proxy.core_effects import CoreEffects
from router.proxy.health_requests import HealthRequests
from router.proxy.own_pages import OwnPages
from router.proxy.partial_head import LINE_SPARE_BYTES
from router.proxy.queue_deadlines import QueueDeadlines
from router.proxy.request_accounting import RequestAccounting
from router.proxy.request_observer import AccessRecorder, VersionObserver
from router.proxy.request_plan import Planner
from router.proxy.request_shapes import RequestShapes
from router.proxy.responses import CLOSE, ResponseFields, router_response
from router.proxy.tunnels import OpenTunnels
from router.proxy.upstream_pool import UpstreamPool
from router.recent_failures import RecentFailures
from router.settings import RouterSettings
from router.write_batch import WriteBatch
from serving.authority import unmapped
from serving.destinations import literal
from serving.endpoint import VersionKey

SWEEP_S = 1.0
"""Interval of `Gateway.sweep`."""


class Gateway:
    """The data plane of one worker."""

    def __init__(
        self,
        settings: RouterSettings,
        dispatcher: Dispatcher,
        access_log: AccessLog,
        ids: RequestIds,
        now: Callable[[], float],
        unix_now: Callable[[], float],
        draw: Callable[[], float],
        poller: BusyPoller | None = None,
    ) -> None:
        """`now`: monotonic seconds. `unix_now`: wall clock. `draw`: uniform on [0, 1). `poller`: default none."""
        self.settings = settings
        self.access_log = access_log
        self.ids = ids
        self.now = now
        self.unix_now = unix_now
        self.draw = draw
        self.poller = poller
        """Busy-poll hook, called when more events are expected shortly."""
        self.table = Table(settings.hide_endpoints)
        self.request_shapes = RequestShapes(settings, self.table)
        self.dispatcher = dispatcher
        self.stats = WorkerStats()
        self.failures = RecentFailures()
        self.batch = WriteBatch(settings.buffer_bytes)
        self.pool = UpstreamPool(settings, self.batch)
        self.bodies = BodyBudget(settings.collect_total_bytes)
        self.tunnels = OpenTunnels(unix_now)
        self.handoff = ConnectionHandoff()
        self.clients = ClientRegistry(settings, self.stats, self.tunnels, self.handoff)
        self.fields = ResponseFields(unix_now)
        self.own_pages = OwnPages(self.fields, ids)
        self.recorders: dict[VersionKey, AccessRecorder] = {}
        """By version, and with "" as the version for requests to an endpoint that reach no version."""
        self.accounting = RequestAccounting(self.table, self.stats, unix_now, self.recorders)
        self.effects = CoreEffects(dispatcher, self.stats, now)
        self.health_requests = HealthRequests(self.pool.hosts, self.effects.health_answered)
        self.effects.on_probe = self.health_requests.send
        self.effects.on_unpooled = self.pool.close_idle
        self.pool.on_stalled = self.effects.replica_stalled
        self.deadlines = QueueDeadlines(dispatcher, self.effects, self.stats, now)
        # Called for every request: bound once.
        self.watch_running = self.deadlines.watch_running
        self.date_line = self.fields.date_line
        self.observers: dict[VersionKey, VersionObserver] = {}
        self.plain_head_bytes = min(settings.max_head_bytes, settings.max_target_bytes + LINE_SPARE_BYTES)
        """A request head up to this size exceeds no limit but that of its target, which is checked by the parser."""
        self.draining = False
        """True: every response closes its connection."""

    def observe(self, key: VersionKey, observer: VersionObserver | None) -> None:
        """Attach an observer to the requests of a version, from the next request on; None detaches it."""
        if observer is None:
            self.observers.pop(key, None)
        else:
            self.observers[key] = observer
        self.table.generation += 1  # plans made before do not have it

    def record(self, key: VersionKey, recorder: AccessRecorder | None) -> None:
        """Record the requests of a version, from the next one on; None ends it."""
        if recorder is None:
            self.recorders.pop(key, None)
        else:
            self.recorders[key] = recorder
        self.table.generation += 1  # plans made before do not have it

    def planner(self, transport: asyncio.BaseTransport) -> Planner:
        """The planner of a new client connection."""
        peername = transport.get_extra_info("peername")
        address = unmapped(str(peername[0])) if peername else "unknown"
        proto = b"http" if transport.get_extra_info("ssl_object") is None else b"https"
        peer = Peer(address.encode(), proto, self._trust_in(address))
        watched = (self.observers, self.recorders)
        return Planner(self.table, self.dispatcher, self.stats, peer, *watched, self.request_shapes)

    def _trust_in(self, address: str) -> PeerTrust:
        trusted = self.settings.trusted_proxies
        if not trusted:
            return PeerTrust.UNKNOWN
        peer = literal(address)
        known = peer is not None and any(peer in network for network in trusted)
        return PeerTrust.TRUSTED if known else PeerTrust.UNTRUSTED

    def refusal(self, error: RouterError) -> bytes:
        """The response to input that never became a request, which is counted and logged; the connection ends."""
        request_id = self.ids.next()
        self.accounting.count_malformed(error, request_id)
        if self.access_log.includes(error.status):
            self.access_log.add(self.accounting.refused_record(error, request_id))
        lines = self.cors_lines(error.path, error.origin) + self.fields.lines(error.client_request_id, request_id)
        return router_response(error, lines, CLOSE, error.method == b"HEAD")

    def cors_lines(self, path: bytes, origin: bytes) -> bytes:
        """Lines for other origins in an error response without a version. `path`, `origin`: of the request."""
        rule = self.table.cors(path)
        return rule.response_lines(origin) if rule is not None else b""

    def drain(self) -> None:
        """Close idle connections, and each busy one with its next response."""
        self.draining = True
        self.clients.leave_worker()

    def sweep(self) -> None:
        """Enforce deadlines with a precision of SWEEP_S: clients, tunnels, idle upstream connections, stuck slots."""
        now = self.now()
        self.clients.notice_departures()
        self.tunnels.expire()
        self.clients.check_deadlines(now)
        self.pool.close_expired(now)
        self.deadlines.end_stuck(now)

    async def close(self) -> None:
        """Cancel timers and close connections to replicas."""
        self.deadlines.close()
        self.effects.close()
        await self.health_requests.close()
        await self.pool.close()
