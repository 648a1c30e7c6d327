"""One scoring request, from its head to the end of its answer. Reads top to bottom as the request lives.

    begin → (body collected) → enqueue → granted → connected → sent → answer → done

Every way out gives the slot back first (`_release`): whoever waits longest gets it in the same step.
"""

import math
from typing import TYPE_CHECKING

from router.core.dispatcher import Ticket
from router.core.health import Failure
from router.core.ledger import Lease
from router.core.router_errors import NoReadyReplicas, ReplicaFailed, RouterError, ScoringTimeout
from router.proxy.answer import CONTINUE, connection_line, interim, own_answer, replica_lines
from router.proxy.chunked import LAST_CHUNK, chunk
from router.proxy.head import RequestHead, ResponseHead
from router.proxy.request_plan import VersionPlan
from router.proxy.upstream import UpstreamConnection

if TYPE_CHECKING:
    from router.proxy.downstream import Downstream
    from router.proxy.gateway import Gateway

_TE_CHUNKED = b"Transfer-Encoding: chunked\r\n"
MAX_PIECES = 1024
"""Pieces of a body that is being collected; then they are joined, since small ones take many times their size."""
CLIENT_GONE = 499
"""How a request whose client left is counted (nginx's convention); nobody sees it as an answer."""


class Exchange(Ticket):
    """The request, its ticket and lease, and both connections it joins."""

    __slots__ = (
        "_answer",
        "_answer_close",
        "_answer_raw",
        "_attempts",
        "_continue_sent",
        "_gateway",
        "_replayable",
        "_sent_at",
        "_started_at",
        "body",
        "body_complete",
        "body_size",
        "client",
        "content_length",
        "head",
        "replica_id",
        "request_id",
        "routing_s",
        "status",
        "upstream",
        "version",
        "wait_s",
    )

    def __init__(self, gateway: "Gateway", client: "Downstream", head: RequestHead, content_length: int) -> None:
        """`content_length`: of this request; its head may be one that is remembered from another."""
        super().__init__()
        self._gateway = gateway
        self.client = client
        self.head = head
        self.content_length = content_length
        self.request_id = gateway.ids.next()
        self.version: VersionPlan | None = None
        self.upstream: UpstreamConnection | None = None
        self.body: list[bytes] = []
        """What has come of the body and is not on its way to a replica."""
        self.body_size = 0
        self.body_complete = False
        self.status = 0
        """What the client was answered; 0 = nothing yet."""
        self.replica_id = ""
        """Of the replica that it had last."""
        self.wait_s = 0.0
        self.routing_s = 0.0
        self._started_at = 0.0
        self._sent_at = 0.0
        self._attempts = 0
        self._answer: ResponseHead | None = None
        self._answer_close = False
        self._answer_raw = False
        self._continue_sent = False
        self._replayable = False

    # ---- the way in

    def begin(self, body: bytes, complete: bool) -> None:
        """Route and authorize; then ask for a slot, or collect the body first."""
        gateway = self._gateway
        self._started_at = gateway.now()
        if gateway.poller is not None:
            gateway.poller.note_activity()
        head = self.head
        plan = head.plan
        if (
            plan is None
            or plan.generation != gateway.table.generation
            or not plan.admitted
            or (plan.valid_until != math.inf and plan.valid_until <= gateway.unix_now())
        ):
            try:
                plan = self.client.planner.plan(head, gateway.unix_now())
            except RouterError as error:
                self.body_complete = complete
                self.refuse(error)
                return
            self.client.note_admission()
        self.version = plan.fixed or plan.version(plan.match.route.choose(gateway.draw()), head)
        if complete:
            if body:
                self.body.append(body)
            self.body_complete = True
            self._enqueue(self._started_at)
        else:
            self._collect(body)

    def _collect(self, body: bytes) -> None:
        """A slow sender must not hold a slot: one is asked for when the body is whole, or fills a buffer."""
        if self.head.expect_continue and not body:
            self._continue_sent = True
            self.client.write(CONTINUE)
        self.feed_body(body, False)

    def feed_body(self, data: bytes, complete: bool) -> None:
        """More of the body has come."""
        self.body_complete = complete
        if self._sent_at:
            if self.upstream is not None:
                self.upstream.write(self._framed(data, complete))
            return
        if data:
            self.body.append(data)
            self.body_size += len(data)
            if len(self.body) > MAX_PIECES:
                self.body = [b"".join(self.body)]
        full = self.body_size >= self._gateway.settings.buffer_bytes
        if full:
            self.client.hold_reading("slot", not complete)
        if (complete or full) and self.lease is None and not self.waiting and self.queue is None:
            self._started_at = self._gateway.now()
            if self._still_authorized():
                self._enqueue(self._started_at)

    def _still_authorized(self) -> bool:
        """Refuse the request if its credential has become invalid while its body came, which may take hours."""
        plan, gateway = self.head.plan, self._gateway
        assert plan is not None
        if plan.generation == gateway.table.generation and plan.valid_until == math.inf:
            return True
        try:
            self.client.planner.valid_until(self.head, gateway.unix_now())
        except RouterError as error:
            self.refuse(error)
            return False
        return True

    def _framed(self, data: bytes, complete: bool) -> bytes:
        if not self.head.chunked:
            return data
        return chunk(data) + LAST_CHUNK if complete else chunk(data)

    def _enqueue(self, now: float) -> None:
        assert self.version is not None
        queue = self.version.queue
        try:
            lease = queue.enqueue(self, now)
        except RouterError as error:
            self.refuse(error)
            return
        if lease is not None:
            self.granted(lease, now)
        else:
            self._gateway.watch_waiting(queue)

    # ---- the slot

    def granted(self, lease: Lease, now: float) -> None:
        """A slot is ours: go to its replica."""
        self.wait_s += now - self.enqueued_at
        self._attempts += 1
        self._gateway.watch_running(lease, self)
        replica = lease.replica
        connection = self._gateway.pool.pop_idle(replica.id)
        if connection is not None and not self.body_complete:
            # The replica may be closing it for idleness just now, and a body that is streamed cannot be sent again.
            connection.close()
            connection = None
        if connection is not None:
            self._send(connection)
            self.routing_s = self._sent_at - self._started_at - self.wait_s
        else:
            self.routing_s = self._gateway.now() - self._started_at - self.wait_s
            self._gateway.pool.connect(replica, self)

    def connected(self, connection: UpstreamConnection) -> None:
        """A new connection to the replica is there; making it was waiting for the replica, not routing."""
        began = self._gateway.now()
        self._send(connection)
        self.routing_s += self._sent_at - began

    def unreachable(self, why: str) -> None:
        """The replica refused the connection or did not take it in time: nothing was begun, another one is tried."""
        self._gateway.replica_failed(self, Failure.UNREACHABLE, why)
        lease, queue = self.lease, self.queue
        assert lease is not None and queue is not None
        # As long as there is another one, however many have refused: each refusal leaves its replica alone for a while.
        if self._attempts < self._gateway.settings.max_attempts or queue.lifecycle.others_in_service(lease.replica):
            self._try_elsewhere()
        else:
            self.refuse(NoReadyReplicas(queue.key.endpoint))

    def _try_elsewhere(self) -> None:
        lease, queue = self.lease, self.queue
        assert lease is not None and queue is not None
        self._sent_at = 0.0
        self._gateway.stats.counters["retries"] += 1
        grant = queue.requeue(lease, self._gateway.now())
        if self.waiting:
            self._gateway.watch_waiting(queue)
        self._gateway.pass_on(grant)

    def _send(self, connection: UpstreamConnection) -> None:
        version = self.version
        assert version is not None
        self.upstream = connection
        pieces, head = self.body, self.head
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if head.chunked:
            framing = b"\r\nTransfer-Encoding: chunked\r\n\r\n"
            if body:
                body = self._framed(body, self.body_complete)
            elif self.body_complete:
                body = LAST_CHUNK
        elif head.has_body or head.method == b"POST":
            framing = b"\r\nContent-Length: %d\r\n\r\n" % self.content_length
        else:
            framing = b"\r\n\r\n"
        data = b"".join((version.upstream_head, self.request_id, framing, body))
        connection.begin(self, data, self.wait_s > 0.0)
        self._sent_at = self._gateway.now()
        self._replayable = self.body_complete
        if not self.body_complete:
            self.body = []  # it may be large; what was sent of it cannot be sent again
            if self.head.expect_continue and not self._continue_sent:
                self._continue_sent = True
                self.client.write(CONTINUE)
            self.client.hold_reading("slot", False)

    # ---- the answer

    def answer_whole(self, head: ResponseHead, body: bytes) -> None:
        """Head and body are here: one write, and done."""
        began = self._gateway.now()
        self._answer = head
        self._free_slot(began)
        self._write_head(head, body)
        self._complete(began)

    def answer_head(self, head: ResponseHead) -> None:
        """The head of an answer whose body follows."""
        self._answer = head
        self._write_head(head, b"")
        if self.client.write_paused:
            self.hold_answer(True)

    def _write_head(self, head: ResponseHead, body: bytes) -> None:
        request, version = self.head, self.version
        assert version is not None
        if not head.lines:
            head.lines = replica_lines(head)
        self.status = 502 if head.status == 500 else head.status
        lines = head.lines
        close = not request.keep_alive or not self.body_complete or self._gateway.draining
        if request.version_minor == 0 and lines.endswith(_TE_CHUNKED):
            # HTTP/1.0 knows no chunks: the body goes plain, and the end of the connection is its end.
            lines, close, self._answer_raw = lines[: -len(_TE_CHUNKED)], True, True
        self._answer_close = close
        if close or request.version_minor == 0:
            lines += connection_line(request, close)
        if b"date" not in head.names:
            lines += self._gateway.date_line()
        self.client.write(b"".join((lines, version.response_lines, self.request_id, b"\r\n\r\n", body)))

    def answer_interim(self, head: ResponseHead) -> None:
        """A 1xx answer; HTTP/1.0 clients know none."""
        if self.head.version_minor == 1:
            self.client.write(interim(head))

    def answer_data(self, data: bytes, end: bool) -> None:
        """A piece of the answer's body, and whether it was the last."""
        answer = self._answer
        assert answer is not None
        if answer.status == 101:  # the tunnel has been closed by the replica
            self._answer_close = True
            now = self._gateway.now()
            self._free_slot(now)
            self._complete(now)
            return
        if (answer.chunked or answer.until_close) and not self._answer_raw:
            data = chunk(data) + LAST_CHUNK if end else chunk(data)
        began = self._gateway.now() if end else 0.0
        if end:
            self._free_slot(began)
        if data:
            self.client.write(data)
        if end:
            self._complete(began)

    def switch_protocols(self, head: ResponseHead) -> bool:
        """101: from here on bytes pass both ways, if the client asked and the version allows it.

        Raises RouterError where the credential has become invalid since the request began.
        """
        version = self.version
        asked = version is not None and version.web_socket and self.queue is not None and self.lease is not None
        if not asked or [value.lower() for name, _, value in head.fields if name == b"upgrade"] != [b"websocket"]:
            return False
        assert version is not None and self.queue is not None and self.lease is not None
        valid_until = self.client.planner.valid_until(self.head, self._gateway.unix_now())
        self._answer = head
        self.status = 101
        self.lease.exempt_from_timeout()
        upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
        self.client.write(
            b"".join((replica_lines(head), upgrade, version.response_lines, self.request_id, b"\r\n\r\n"))
        )
        self._gateway.tunnels.add(self.client, self.queue.key.endpoint, valid_until)
        self.client.tunnel()
        if self.client.write_paused:
            self.hold_answer(True)
        return True

    def close_tunnel(self, counter: str) -> None:
        """Close both ends. `counter`: the one that counts the reason."""
        self._gateway.stats.counters[counter] += 1
        self._leave_tunnel()
        self._end(self._gateway.now())
        self.client.exchange_done(True, True, self._gateway.now())

    def _leave_tunnel(self) -> None:
        if self.upstream is not None:
            self.upstream.finish()
            self.upstream = None

    def hold_answer(self, hold: bool) -> None:
        """The client reads more slowly than the replica sends: pause the replica, or go on."""
        if self.upstream is not None and not self.upstream.closed:
            if hold:
                self.upstream.transport.pause_reading()
            else:
                self.upstream.transport.resume_reading()

    # ---- the ways out

    def _free_slot(self, now: float) -> None:
        """The replica has answered: before the client hears of it, the slot goes to who waits for it."""
        answer, lease, upstream = self._answer, self.lease, self.upstream
        assert answer is not None and lease is not None and upstream is not None
        self.upstream = None
        if self.client.write_paused:
            upstream.transport.resume_reading()  # the pause was this client's; the connection goes on to others
        if self._gateway.poller is not None:
            self._gateway.poller.note_activity()
        lease.replica.failures = 0
        upstream.detach(answer.keep_alive and self.body_complete, now)
        self._release(now)

    def _complete(self, began: float) -> None:
        now = self._gateway.now()
        self._account(now, now - began)
        self.client.exchange_done(self._answer_close, self.body_complete, now)

    def fail(self, error: ReplicaFailed) -> None:
        """The replica answered something that cannot be passed on."""
        self._gateway.replica_failed(self, Failure.BROKEN, error.text)
        self.give_up(error)

    def upstream_lost(self, never_begun: bool) -> None:
        """The connection to the replica broke before the answer was whole."""
        self.upstream = None
        lease, version = self.lease, self.version
        assert lease is not None and version is not None
        repeatable = self.status == 0 and self._replayable and self._attempts < self._gateway.settings.max_attempts
        if never_begun and repeatable:
            self._attempts += 1
            self._gateway.stats.counters["stale_connections"] += 1
            self._gateway.pool.connect(lease.replica, self)
            return
        self._gateway.replica_failed(self, Failure.BROKEN, "closed the connection before the end of its answer")
        if version.retry_before_response and repeatable:
            self._try_elsewhere()
        else:
            self.give_up(ReplicaFailed())

    def timed_out(self) -> None:
        """The scoring timeout is over."""
        self.give_up(ScoringTimeout())

    def give_up(self, error: RouterError) -> None:
        """Answer with the error, or, where an answer has begun, break it off so that the client can tell."""
        if self.status == 0:
            self.refuse(error)
            return
        self._drop_upstream()
        self.status = error.status
        self._end(self._gateway.now())
        self.client.exchange_broken()

    def refuse(self, error: RouterError) -> None:
        """The router answers itself."""
        self._drop_upstream()
        self.status = error.status
        version = self.version
        if version is not None:
            lines = self._gateway.date_line() + version.response_lines + self.request_id + b"\r\n"
        else:
            lines = self._gateway.id_lines(self.head.client_request_id, self.request_id)
        close = error.close or not self.head.keep_alive or not self.body_complete or self._gateway.draining
        self.client.write(own_answer(error, lines, close, self.head.method == b"HEAD"))
        self._end(self._gateway.now(), code=error.code)
        self.client.exchange_done(close, self.body_complete and not error.close, self._gateway.now())

    def client_gone(self) -> None:
        """The client has left: its place in the line, or its slot, is free at once."""
        if self.status == 101:
            self._leave_tunnel()
            self._end(self._gateway.now())
            return
        self._drop_upstream()
        if self.waiting:
            assert self.queue is not None
            self.queue.abandon(self)
        self._gateway.stats.counters["client_gone"] += 1
        self.status = CLIENT_GONE
        self._end(self._gateway.now())
        self._gateway.pass_on(None)

    def _drop_upstream(self) -> None:
        if self.upstream is not None:
            self.upstream.abort()
            self.upstream = None

    def _end(self, now: float, code: str = "") -> None:
        if self.lease is not None:
            self._release(now)
        self._account(now, code=code)

    def _release(self, now: float) -> None:
        lease, queue = self.lease, self.queue
        assert lease is not None and queue is not None
        self.lease = None
        self.replica_id = lease.replica.id
        grant = queue.release(lease, now)
        dispatcher = self._gateway.dispatcher
        if grant is not None or dispatcher.drained or dispatcher.outbox:
            self._gateway.pass_on(grant)
        if queue.borrower is not None:
            self._gateway.arm()  # a slot that is kept for the next request goes home after a while

    def _account(self, now: float, answering_s: float = 0.0, code: str = "") -> None:
        gateway, version = self._gateway, self.version
        if version is not None:
            version.stats.observe(self.status, now - self._started_at, self.wait_s, self.routing_s + answering_s)
        else:
            gateway.count_unrouted(self.head, self.status)
        if gateway.access_log.includes(self.status):
            gateway.log_access(self, now - self._started_at, code)
