"""What the connections of one worker share: table, dispatcher, pool, clock, timers. The seam between I/O and core."""

import asyncio
import logging
import math
import select
from collections.abc import Callable
from email.utils import formatdate

from router.accesslog import AccessLog
from router.busy_polling import BusyPoller
from router.core.dispatcher import Dispatcher, Grant, VersionQueue
from router.core.health import Failure
from router.core.ids import RequestIds, kept_client_id
from router.core.ledger import Lease
from router.core.router_errors import RouterError
from router.core.table import PREFIXES, Table
from router.metrics import WorkerStats
from router.proxy.connection_admission import ConnectionAdmission, ConnectionVerdict, HeadBudget
from router.proxy.connection_handoff import ConnectionHandoff
from router.proxy.downstream import Downstream
from router.proxy.exchange import Exchange
from router.proxy.head import RequestHead
from router.proxy.partial_head import LINE_SPARE_BYTES
from router.proxy.tunnels import OpenTunnels
from router.proxy.upstream_pool import UpstreamPool
from router.settings import RouterSettings
from serving.endpoint import Version, VersionKey

_log = logging.getLogger("scorefront.router")

HEALTH_PATH = b"/healthz"
SWEEP_S = 1.0
STUCK_S = 2.0
"""A slot still out this long after its scoring timeout is stuck: the timer that ends overdue requests has failed."""


class Gateway:
    """The data plane of one worker. `now`: monotonic seconds; `unix_now`: wall clock; `draw`: uniform on [0, 1)."""

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
        self.settings = settings
        self.access_log = access_log
        self.ids = ids
        self.now = now
        self.unix_now = unix_now
        self.draw = draw
        self.poller = poller
        """To be stirred by what is soon followed by more; None where nobody polls."""
        self.table = Table(settings.hide_endpoints)
        self.dispatcher = dispatcher
        self.stats = WorkerStats()
        self.pool = UpstreamPool(settings)
        self.tunnels = OpenTunnels(unix_now)
        self.max_connections = settings.max_connections
        """Clients that are served at the same time; the worker lowers it where descriptors are fewer."""
        self.places: ConnectionAdmission[Downstream] = ConnectionAdmission(settings.max_address_connections)
        self.heads: HeadBudget[Downstream] = HeadBudget(settings.half_heads_bytes)
        self.plain_head_bytes = min(settings.max_head_bytes, settings.max_target_bytes + LINE_SPARE_BYTES)
        """A request head up to this size breaks no limit but that of its target, which is looked at as it is parsed."""
        self.draining = False
        """Every answer is the last of its connection."""
        self.ready = True
        """What `/healthz` tells."""
        self._date_second = 0
        self._date_line = b""
        self.handoff = ConnectionHandoff()
        """Where connections go that shall not stay."""
        self.on_outbox: Callable[[], None] = self.dispatcher.outbox.clear
        """The core has something to say to other workers; a worker without others says it to nobody."""
        self.on_drained: Callable[[str], None] = lambda replica_id: None
        self.on_starved: Callable[[], None] = lambda: None
        self.empty = asyncio.Event()
        """Set while no client is connected."""
        self.empty.set()
        self._clients: set[Downstream] = set()
        self._wait_timers: dict[VersionQueue, asyncio.TimerHandle] = {}
        self._run_timers: dict[VersionQueue, asyncio.TimerHandle] = {}
        self._tick_timer: asyncio.TimerHandle | None = None
        self._tick_at = math.inf

    # ---- clients

    def admit(self, client: Downstream) -> ConnectionVerdict:
        """A client has connected; where there is no place, a stranger that is idle may lose its own to it."""
        self._clients.add(client)
        self.empty.clear()
        peer = client.transport.get_extra_info("peername")
        verdict, leaving = self.places.admit(client, str(peer[0] if peer else ""), self.max_connections)
        if leaving is not None:
            self.stats.counters["connections_evicted"] += 1
            self.dismiss(leaving)
            leaving.transport.abort()
        self.stats.connections = len(self._clients)
        return verdict

    def dismiss(self, client: Downstream) -> None:
        """A client is gone."""
        self._clients.discard(client)
        self.tunnels.remove(client)
        self.places.remove(client)
        self.heads.release(client)
        if not self._clients:
            self.empty.set()
        self.stats.connections = len(self._clients)

    def charge_head(self, client: Downstream, size_bytes: int) -> None:
        """So much is kept of a head that is not whole; where that is too much in all, the oldest are given up."""
        for oldest in self.heads.charge(client, size_bytes):
            self.stats.counters["half_heads_shed"] += 1
            oldest.shed_head()

    def drain(self) -> None:
        """No further request on any connection: every answer is the last, idle ones are closed."""
        self.draining = True
        self.send_away()

    def send_away(self) -> None:
        """Idle connections are given to other workers, or closed where that cannot be; later, those that are busy."""
        for client in list(self._clients):
            client.leave_worker()

    def pass_idle(self) -> None:
        """Give away as many idle connections as `onward` wants."""
        for client in list(self._clients):
            if not self.handoff.active:
                return
            client.pass_on()

    def close_tunnels(self) -> None:
        """End what would never end by itself."""
        for client in list(self._clients):
            client.close_tunnel("tunnels_drained")

    def abort_clients(self) -> None:
        """Break off what is still there."""
        for client in list(self._clients):
            client.transport.abort()

    def sweep(self) -> None:
        """Everything that is late by the second rather than by the millisecond: connections and idle upstreams."""
        now = self.now()
        self.notice_departures()
        self.tunnels.expire()
        for client in [client for client in self._clients if client.deadline <= now]:
            client.check(now)
        self.pool.close_expired(now)
        for queue in self.dispatcher.queues.values():
            for lease in queue.overdue(now - STUCK_S):
                self._end_stuck(lease)

    def notice_departures(self) -> None:
        """End the connections of clients that have left while they were not being read: the loop does not hear that."""
        held = {client.transport.get_extra_info("socket").fileno(): client for client in self._clients if client.held}
        if held:
            poll = select.poll()
            for fd in held:
                poll.register(fd, select.POLLRDHUP)
            for fd, _ in poll.poll(0):
                held[fd].transport.abort()

    # ---- the router's own pages

    def answers_itself(self, head: RequestHead) -> bool:
        """Whether the request is for the router, not for an endpoint."""
        return head.path == HEALTH_PATH and head.method == b"GET" and not head.path.startswith(PREFIXES)

    def own_page(self, head: RequestHead) -> bytes:
        """`/healthz`: 200 while the router takes requests, 503 once it drains; no credential needed."""
        status, text = (b"200 OK", b"ok\n") if self.ready else (b"503 Service Unavailable", b"draining\n")
        close = b"" if head.keep_alive and not head.has_body else b"Connection: close\r\n"
        return b"HTTP/1.1 %b\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n%b%b\r\n%b" % (
            status,
            len(text),
            self.id_lines(head.client_request_id, self.ids.next()),
            close,
            text,
        )

    def id_lines(self, client_request_id: bytes, request_id: bytes) -> bytes:
        """The date and id fields of an answer that belongs to no version."""
        kept = kept_client_id(client_request_id)
        client = b"x-ms-client-request-id: %b\r\n" % kept if kept else b""
        return b"%b%bx-ms-request-id: %b\r\n" % (self.date_line(), client, request_id)

    def date_line(self) -> bytes:
        """The Date field of an answer that has none of its own (RFC 9110 section 6.6.1); made once a second."""
        second = int(self.unix_now())
        if second != self._date_second:
            self._date_second = second
            self._date_line = b"Date: %b\r\n" % formatdate(second, usegmt=True).encode()
        return self._date_line

    # ---- timers: one per version for waiting tickets, one for running requests; each looks at the oldest only

    def watch_waiting(self, queue: VersionQueue) -> None:
        """A ticket waits: see to it that it is answered when its wait is over, and that control hears of it."""
        if queue not in self._wait_timers:
            self._arm_wait(queue)
        if self.dispatcher.starved:
            self.on_starved()
        if self.dispatcher.outbox:
            self.on_outbox()

    def _arm_wait(self, queue: VersionQueue) -> None:
        deadline = queue.next_deadline()
        if deadline is not None and queue not in self._wait_timers:
            delay = max(0.0, deadline - self.now())
            self._wait_timers[queue] = asyncio.get_running_loop().call_later(delay, self._expire, queue)

    def _expire(self, queue: VersionQueue) -> None:
        del self._wait_timers[queue]
        for ticket, error in queue.expire(self.now()):
            assert isinstance(ticket, Exchange)
            ticket.refuse(error)
        self.pass_on(None)
        self._arm_wait(queue)

    def watch_running(self, lease: Lease, exchange: Exchange) -> None:
        """A request runs: see to it that it ends within the scoring timeout of its version."""
        queue = exchange.queue
        assert queue is not None
        if queue not in self._run_timers:
            self._arm_run(queue)

    def _arm_run(self, queue: VersionQueue) -> None:
        deadline = queue.next_overdue()
        if deadline is not None and queue not in self._run_timers:
            delay = max(0.001, deadline - self.now())
            self._run_timers[queue] = asyncio.get_running_loop().call_later(delay, self._overdue, queue)

    def _overdue(self, queue: VersionQueue) -> None:
        del self._run_timers[queue]
        for lease in queue.overdue(self.now()):
            exchange = lease.holder
            assert isinstance(exchange, Exchange)
            self.stats.counters["scoring_timeouts"] += 1
            exchange.timed_out()
        self._arm_run(queue)

    def _end_stuck(self, lease: Lease) -> None:
        """Must not happen, so it is counted and told of; the slot comes back all the same."""
        exchange = lease.holder
        assert isinstance(exchange, Exchange)
        self.stats.counters["stuck_slots"] += 1
        _log.error(
            "request %s holds a slot of %s for %.1f s: ended",
            exchange.request_id.decode(),
            lease.replica.id,
            self.now() - lease.granted_at,
        )
        exchange.timed_out()

    def arm(self) -> None:
        """See to it that the core's clockwork goes on when it is due."""
        due = self.dispatcher.due()
        if due is None or due >= self._tick_at:
            return
        if self._tick_timer is not None:
            self._tick_timer.cancel()
        self._tick_at = due
        self._tick_timer = asyncio.get_running_loop().call_later(max(0.0, due - self.now()), self._tick)

    def _tick(self) -> None:
        self._tick_timer = None
        self._tick_at = math.inf
        self.pass_on_all(self.dispatcher.tick(self.now()))

    def configure(self, endpoint: str, version: Version) -> None:
        """Take over how long requests of a version may wait and run; its timers are set anew."""
        queue = self.dispatcher.configure(endpoint, version)
        for timers, arm in ((self._wait_timers, self._arm_wait), (self._run_timers, self._arm_run)):
            handle = timers.pop(queue, None)
            if handle is not None:
                handle.cancel()
                arm(queue)

    # ---- effects of the core

    def pass_on(self, grant: Grant | None) -> None:
        """Carry out what the core has decided: start the request that got a slot, tell control and other workers."""
        drained = self.dispatcher.drained
        while drained:
            self.on_drained(drained.pop())
        if grant is not None:
            exchange = grant.ticket
            assert isinstance(exchange, Exchange)
            exchange.granted(grant.lease, self.now())
        if self.dispatcher.outbox:
            self.on_outbox()

    def pass_on_all(self, grants: list[Grant]) -> None:
        """The same for several grants, after anything that may have set the core's clockwork."""
        self.pass_on(None)
        if self.dispatcher.starved:
            self.on_starved()
        for grant in grants:
            self.pass_on(grant)
        while self.dispatcher.lapsed:
            exchange = self.dispatcher.lapsed.pop().holder
            assert isinstance(exchange, Exchange)
            exchange.close_tunnel("tunnels_lapsed")
        self.arm()

    def replica_failed(self, exchange: Exchange, failure: Failure, why: str) -> None:
        """Passive health: leave the replica alone for a while, if the rule says so."""
        lease, queue = exchange.lease, exchange.queue
        if lease is None or queue is None:
            return
        self.stats.counters[f"replica_{failure.value}"] += 1
        hold_s = queue.lifecycle.replica_failed(lease.replica, failure, self.now())
        _log.warning("replica %s (%s): %s; left alone for %.2f s", lease.replica.id, queue.key, why, hold_s)
        self.arm()

    # ---- accounting

    def count_unrouted(self, head: RequestHead, status: int) -> None:
        """A request that reached no version, e.g. 401, 404."""
        plan = head.plan
        endpoint = plan.match.route.name if plan is not None and plan.generation == self.table.generation else ""
        self.stats.version(VersionKey(endpoint, "")).requests[status] += 1

    def count_malformed(self, error: RouterError) -> None:
        """Bytes that never became a request."""
        self.stats.version(VersionKey("", "")).requests[error.status] += 1

    def log_access(self, exchange: Exchange, seconds: float, code: str) -> None:
        """One record of the access log: no query, no credential, nothing a client could use to forge a line."""
        version = exchange.version
        plan = exchange.head.plan
        self.access_log.add(
            {
                "time": round(self.unix_now(), 3),
                "id": exchange.request_id.decode(),
                "clientId": kept_client_id(exchange.head.client_request_id).decode(),
                "method": exchange.head.method.decode("latin-1"),
                "path": exchange.head.path.decode("latin-1")[:256],
                "endpoint": plan.match.route.name if plan is not None else "",
                "version": version.route.key.version if version is not None else "",
                "replica": exchange.replica_id,
                "status": exchange.status,
                "code": code,
                "seconds": round(seconds, 6),
                "waited": round(exchange.wait_s, 6),
            }
        )

    async def close(self) -> None:
        """Stop timers and connections."""
        for handle in [*self._wait_timers.values(), *self._run_timers.values(), self._tick_timer]:
            if handle is not None:
                handle.cancel()
        await self.pool.close()
