"""State of an exchange and all its ways out: response complete, error, disconnect, tunnel closed.

Every way out releases the slot first (`_release`): the oldest ticket gets it in the same step.
"""

from typing import TYPE_CHECKING, Final

from router.core.cors import origin_of
from router.core.health import Failure
from router.core.router_errors import NoReadyReplicas, RouterError, ScoringTimeout
from router.proxy.observed_exchange import ObservedExchange
from router.proxy.request_head import RequestHead
from router.proxy.request_plan import RenderedHead, VersionPlan
from router.proxy.response_head import ResponseHead
from router.proxy.responses import connection_line, replica_lines, router_response
from router.proxy.stream_deadlines import StreamDeadline
from router.proxy.streams import ClientStream, UpstreamStream
from serving.authority import authority

if TYPE_CHECKING:
    from router.proxy.gateway import Gateway

CLIENT_GONE, CLIENT_GONE_CODE = 499, "ClientGone"
"""Status (nginx's convention) and code of a request whose client disconnected; only in counters and access log."""
FIRST_FAILURE: Final = 400
"""Lowest status of a failed request."""


NOT_SERVED = float("nan")
STOPPED = "The router stopped before the replica answered."


class ExchangeState(ObservedExchange):
    """A request with its ticket and lease, and the two connections that it joins."""

    __slots__ = (
        *("_answer_close", "_answer_raw", "_attempts", "_charged_bytes", "_continue_sent", "_gateway"),
        *("_replayable", "_sent_at", "_started_at", "_stream"),
        *("body_complete", "client", "rendered", "routing_s", "upstream", "version"),
    )

    def __init__(self, gateway: "Gateway", client: ClientStream, head: RequestHead) -> None:
        """`head`: it may be the one of the previous request, if both are equal."""
        super().__init__(gateway.ids.next(), head)
        self._gateway = gateway
        self.client = client
        self.version: VersionPlan | None = None
        self.rendered: RenderedHead | None = None
        """Lines of this request for the version."""
        self.upstream: UpstreamStream | None = None
        self.body_complete = False
        self.routing_s = 0.0
        self._started_at = 0.0
        self._sent_at = 0.0
        self._attempts = 0
        self._charged_bytes = 0
        """Memory charged for the collected body (`Gateway.bodies`)."""
        self._answer_close = False
        self._answer_raw = False
        self._continue_sent = False
        self._replayable = False
        self._stream: StreamDeadline | None = None

    def client_paused(self, added_bytes: int) -> None:
        """The client reads too slowly: hold the response if it fits in memory, else pause the replica.

        `added_bytes`: written to the client since the last call.
        """
        upstream, answer = self.upstream, self._answer
        if upstream is None or upstream.closed:
            return
        # An answer known to be larger cannot be held whole, so holding a part of it would not free the slot.
        fits = answer is not None and answer.content_length <= self._gateway.settings.collect_bytes
        upstream.hold_reading(self.status == 101 or not fits or not self.client.hold_unsent(added_bytes))

    def client_resumed(self) -> None:
        """The client has caught up."""
        if self.upstream is not None and not self.upstream.closed:
            self.upstream.hold_reading(False)

    def _lines_for_request(self, head: ResponseHead) -> bytes:
        """The lines of a response that depend on the request: references, and fields for other origins."""
        plan, version = self.head.plan, self.version
        assert plan is not None and version is not None
        replica = self.lease.replica if self.lease is not None else version.queue.replicas.get(self.replica_id)
        address = authority(replica.host, replica.port).encode() if replica is not None else b""
        origin = self.client.planner.replica_origin(plan, version.route, self.head, address)
        return replica_lines(head, origin, cors=plan.match.route.cors is not None)

    # ---- response complete

    def _free_slot(self, now: float) -> None:
        """The replica's response is complete: release the slot before the client gets it."""
        answer, lease, upstream = self._answer, self.lease, self.upstream
        assert answer is not None and lease is not None and upstream is not None
        self.upstream = None
        if self.client.write_paused:
            upstream.hold_reading(False)  # the pause was for this client; the connection returns to the pool
        if self._gateway.poller is not None:
            self._gateway.poller.note_activity()
        lease.replica.failures = 0
        # The replica may not have read a body that was streamed, or refused; the rest would be its next request.
        meaning = answer.meaning
        read = self._replayable and (meaning.status < 400 or not self.head.meaning.has_body)
        upstream.detach(read and meaning.keep_alive, now)
        self._release(now)

    def _complete(self, began: float) -> None:
        now = self._gateway.now()
        self._account(now, now - began)
        self.client.exchange_done(self._answer_close, self.body_complete, now)

    # ---- errors

    def timed_out(self) -> None:
        """The scoring timeout, or that of the stream, has expired."""
        self._gateway.effects.replica_failed(self, Failure.TIMEOUT, "no response within the scoring timeout")
        self._drop_upstream()
        self.abort(ScoringTimeout())

    def abort(self, error: RouterError) -> None:
        """Respond with the error; a response that has begun ends with the connection, visibly incomplete."""
        if self.status == 0:
            self.refuse(error)
            return
        self._abandon_upstream()
        self.status = error.status
        now = self._gateway.now()
        self._end(now, code=error.code)
        if self._answer_raw or (self._answer is not None and self._answer.status == 101):
            self.client.exchange_broken()
        else:
            self.client.exchange_done(True, self.body_complete and not error.close, now)

    def refuse(self, error: RouterError) -> None:
        """Respond with an error of the router."""
        self._abandon_upstream()
        self.status = error.status
        gateway, version, rendered = self._gateway, self.version, self.rendered
        if version is not None and rendered is not None:
            lines = gateway.date_line() + rendered.response_lines + self.request_id + b"\r\n"
        else:
            cors = gateway.cors_lines(self.head.path, origin_of(self.head.fields))
            lines = cors + gateway.fields.lines(self.head.client_request_id, self.request_id)
        close = error.close or not self.head.keep_alive or not self.body_complete or gateway.draining
        self.client.write(router_response(error, lines, connection_line(self.head, close), self.head.to_head))
        self._end(gateway.now(), error.code, error.rule)
        self.client.exchange_done(close, self.body_complete and not error.close, gateway.now())

    def answer_preflight(self, lines: bytes) -> None:
        """Answer OPTIONS of an endpoint that declares `cors`, without a slot. `lines`: of the response."""
        gateway, self.status = self._gateway, 204
        close = not self.head.keep_alive or not self.body_complete or gateway.draining
        common = gateway.fields.lines(self.head.client_request_id, self.request_id)
        connection = connection_line(self.head, close)
        self.client.write(b"HTTP/1.1 204 No Content\r\n%b%b%b\r\n" % (lines, common, connection))
        self._end(gateway.now())
        self.client.exchange_done(close, self.body_complete, gateway.now())

    def router_stops(self) -> None:
        """The time for draining is over: 504 if a replica has the request, else 503, which is safe to repeat."""
        if self.status == 101:
            self.close_tunnel("tunnels_drained")
        elif self.lease is not None:
            self.abort(ScoringTimeout(STOPPED))
        else:
            if self.waiting:
                assert self.queue is not None
                self.queue.abandon(self)
            self.abort(NoReadyReplicas(self.version.queue.key.endpoint if self.version is not None else ""))

    def probe_client(self) -> None:
        """Send bytes that the response begins or goes on with: a client that has left answers them with a reset.

        One that closed its writing side only reads them as a part of the response.
        """
        answer = self._answer
        if self.status == 0:
            self.client.write_ahead(b"HTTP/1.1 ")
        elif answer is not None and (answer.chunked or answer.until_close) and not self._answer_raw:
            self.client.write(b"0")  # a leading zero of the size of the next chunk

    def client_gone(self) -> None:
        """The client has disconnected: its ticket or slot is free at once."""
        if self.status == 101:
            self._finish_upstream()
            self._end(self._gateway.now())
            return
        self._abandon_upstream()
        if self.waiting:
            assert self.queue is not None
            self.queue.abandon(self)
        self._gateway.stats.counters["client_gone"] += 1
        self.status = CLIENT_GONE
        self._end(self._gateway.now(), code=CLIENT_GONE_CODE)
        self._gateway.effects.carry_out(None)

    def close_tunnel(self, counter: str) -> None:
        """Close both sides of the tunnel, or end the stream. `counter`: counts the reason."""
        self._gateway.stats.counters[counter] += 1
        if self.status != 101:
            self.abort(ScoringTimeout())
            return
        self._finish_upstream()
        self._end(self._gateway.now())
        self.client.exchange_done(True, True, self._gateway.now())

    # ---- shared by all ways out

    def _finish_upstream(self) -> None:
        if self.upstream is not None:
            self.upstream.finish()
            self.upstream = None

    def _abandon_upstream(self) -> None:
        """Break off the exchange with the replica, which may go on computing."""
        if self.upstream is not None:
            self._gateway.effects.replica_failed(self, Failure.ABANDONED, "")
            self._drop_upstream()

    def _drop_upstream(self) -> None:
        if self.upstream is not None:
            self.upstream.abort()
            self.upstream = None

    def _end(self, now: float, code: str = "", rule: str = "") -> None:
        if self.lease is not None:
            self._release(now)
        else:
            if self.queue is not None:
                self.wait_s += now - self.enqueued_at  # it ends without a slot: all of it was waiting
            if self._charged_bytes:
                self._charge(0)
        self._account(now, code=code, rule=rule)

    def _release(self, now: float) -> None:
        lease, queue, gateway = self.lease, self.queue, self._gateway
        assert lease is not None and queue is not None
        self.lease = None
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None
        if self._charged_bytes:
            self._charge(0)
        self.replica_id = lease.replica.id
        grant = queue.release(lease, now)
        dispatcher = gateway.dispatcher
        if grant is not None or dispatcher.drained or dispatcher.outbox:
            gateway.effects.carry_out(grant)
        if queue.borrower is not None:
            gateway.effects.arm_timer()  # a slot kept for the next request is returned after a while

    def _charge(self, size_bytes: int) -> bool:
        """Change the memory charged for the collected body; False, without effect, if too much is in use."""
        if not self._gateway.bodies.resize(self._charged_bytes, size_bytes):
            return False
        self._charged_bytes = size_bytes
        return True

    def _account(self, now: float, answering_s: float = 0.0, code: str = "", rule: str = "") -> None:
        """Count and log the request.

        `now`: monotonic seconds. `answering_s`: routing time after the response, default 0. `code`: error code of the
        router, default none. `rule`: of HTTP that was broken, default none.
        """
        gateway, version = self._gateway, self.version
        seconds = now - self._started_at
        if version is not None:
            stats, routing_s = version.stats, self.routing_s + answering_s
            stats.observe(self.status, seconds, self.wait_s, routing_s)
            served_s = seconds - self.wait_s - routing_s if self.replica_id else NOT_SERVED
            stats.trace.numbers.extend((self._started_at, served_s, self.head.content_length))
            if version.observed and (self.observer is not None or self._trace is not None):
                self._report(version, seconds, served_s, code)
        else:
            gateway.accounting.count_unrouted(self.head, self.status)
            gateway.accounting.record_unrouted(self, seconds, code)
        failed = self.status >= FIRST_FAILURE
        logged = gateway.access_log.includes(self.status)
        if failed or logged:
            record = gateway.accounting.access_record(self, seconds, self._code(code), rule)
            if failed:
                gateway.failures.add(record)
            if logged:
                gateway.access_log.add(record)
