"""One scoring request, from its head to the end of its response. Reads top to bottom in the order of events.

    begin → (body collected) → enqueue → granted → connected → sent → response → complete

Up to the slot in `router.proxy.request_intake`, the ways out in `router.proxy.exchange_state`.
"""

from collections.abc import Callable

from router.core.health import Failure
from router.core.ledger import Lease
from router.core.router_errors import NoReadyReplicas, PayloadTooLarge, ReplicaFailed
from router.proxy.chunked import LAST_CHUNK, chunk
from router.proxy.request_intake import RequestIntake
from router.proxy.response_head import ResponseHead
from router.proxy.responses import CONTINUE, connection_line, interim_response, replica_lines
from router.proxy.stream_deadlines import StreamDeadline
from router.proxy.streams import ReadHold, UpstreamStream

_TE_CHUNKED = b"Transfer-Encoding: chunked\r\n"
JOINED_BYTES = 65_536
"""Largest body that is copied behind its head; a larger one is written as it is."""


class Exchange(RequestIntake):
    """One request and its response."""

    __slots__ = ()

    # ---- the slot

    def granted(self, lease: Lease, now: float) -> None:
        """The request holds a slot: send it to the replica. `now`: monotonic seconds."""
        self.wait_s += now - self.enqueued_at
        self._attempts += 1
        gateway, queue = self._gateway, self.queue
        assert queue is not None
        gateway.watch_running(queue)
        replica = lease.replica
        if not self.body_complete and self.head.chunked and replica.id in gateway.pool.http10:
            limit = f"{gateway.settings.collect_bytes:,} bytes"
            self.refuse(PayloadTooLarge(f"The replica speaks HTTP/1.0: above {limit} a body needs Content-Length."))
            return
        connection = gateway.pool.pop_idle(replica.id)
        if connection is not None and not self.body_complete:
            # The replica may just be closing it as idle, and a streamed body cannot be sent again.
            connection.close()
            connection = None
        if connection is not None:
            self._send(connection)
            self.routing_s = self._sent_at - self._started_at - self.wait_s
        else:
            self.routing_s = gateway.now() - self._started_at - self.wait_s
            gateway.pool.connect(replica, self)

    # ---- the replica

    def connected(self, connection: UpstreamStream) -> None:
        """A new connection is open; the time for opening it does not count as routing."""
        began = self._gateway.now()
        self._send(connection)
        self.routing_s += self._sent_at - began

    def unreachable(self, reason: str) -> None:
        """The replica refused the connection or timed out: the request was not sent, so another replica is tried."""
        self._gateway.effects.replica_failed(self, Failure.UNREACHABLE, reason)
        lease, queue = self.lease, self.queue
        assert lease is not None and queue is not None
        # Beyond max_attempts too, while another replica is in service: each refusal ejects its replica.
        if self._attempts < self._gateway.settings.max_attempts or queue.health.others_serve(lease.replica):
            self._retry_elsewhere()
        else:
            self.refuse(NoReadyReplicas(queue.key.endpoint))

    def upstream_lost(self, never_begun: bool) -> None:
        """The connection broke before the end of the response. `never_begun`: the replica got none of the request."""
        self.upstream = None
        lease, version = self.lease, self.version
        assert lease is not None and version is not None
        repeatable = self.status == 0 and self._replayable and self._attempts < self._gateway.settings.max_attempts
        if never_begun and repeatable:
            self._attempts += 1
            self._gateway.stats.counters["stale_connections"] += 1
            self._gateway.pool.connect(lease.replica, self)
            return
        self._gateway.effects.replica_failed(self, Failure.BROKEN, "connection closed before the end of the response")
        if version.retry_before_response and repeatable and version.queue.retry_budget.take(version.stats.ended):
            self._retry_elsewhere()
        else:
            self.abort(ReplicaFailed())

    def _retry_elsewhere(self) -> None:
        lease, queue = self.lease, self.queue
        assert lease is not None and queue is not None
        self._sent_at = 0.0
        self._gateway.stats.counters["retries"] += 1
        grant = queue.requeue(lease, self._gateway.now())
        if self.waiting:
            self._gateway.deadlines.watch_waiting(queue)
        self._gateway.effects.carry_out(grant)

    def _send(self, connection: UpstreamStream) -> None:
        rendered = self.rendered
        assert rendered is not None
        self.upstream = connection
        body, head, lines = self.body, self.head, rendered.upstream_head
        if not self.body_complete:
            self._begin_stream(connection, lines)
            return
        # A body held whole has a length, however it came: not every server understands chunks.
        if head.meaning.has_body or head.meaning.method == b"POST":
            framing = b"\r\nContent-Length: %d\r\n\r\n" % len(body)
        else:
            framing = b"\r\n\r\n"
        waited, request_id, trace_lines = self.wait_s > 0.0, self.request_id, self.trace_lines
        if len(body) <= JOINED_BYTES:
            connection.begin(self, b"".join((lines, request_id, trace_lines, framing, body)), waited)
        else:
            connection.begin(self, b"".join((lines, request_id, trace_lines, framing)), waited)
            connection.write(bytes(body))
        self._sent_at = self._gateway.now()
        self._replayable = True

    def _begin_stream(self, connection: UpstreamStream, upstream_head: bytes) -> None:
        """Send the head and the part of the body received so far."""
        body = bytes(self.body)
        if self.head.chunked:
            framing = b"\r\nTransfer-Encoding: chunked\r\n\r\n"
            body = chunk(body)
        else:
            framing = b"\r\nContent-Length: %d\r\n\r\n" % self.head.content_length
        head = b"".join((upstream_head, self.request_id, self.trace_lines, framing, body))
        connection.begin(self, head, self.wait_s > 0.0)
        self._sent_at = self._gateway.now()
        self._replayable = False
        self._streamed_bytes = len(self.body)
        self.body = b""  # may be large, and cannot be sent again
        self._charge(0)
        if self.head.expect_continue and not self._continue_sent:
            self._continue_sent = True
            self.client.write(CONTINUE)
        self.client.hold_reading(ReadHold.SLOT, False)

    # ---- the response

    def receive_response(self, head: ResponseHead, body: bytes) -> None:
        """A complete response: one write to the client."""
        began = self._gateway.now()
        self._answer = head
        self._answer_bytes = len(body)
        self._free_slot(began)
        self._write_head(head, body, self.client.write_whole)
        self._complete(began)

    def receive_head(self, head: ResponseHead) -> None:
        """The head of a response; its body follows."""
        self._answer = head
        assert self.queue is not None
        idle_s, lease = self.queue.stream_idle_timeout_s, self.lease
        if idle_s is not None and lease is not None:
            self._stream = StreamDeadline(
                lease.granted_at, idle_s, self._gateway.now, lambda: self.client.write_paused, self._stream_expired
            )
            lease.exempt_from_timeout()
        self._write_head(head, b"", self.client.write)
        if self.client.write_paused:
            self.client_paused(0)

    def _stream_expired(self) -> None:
        self._gateway.stats.counters["scoring_timeouts"] += 1
        self.timed_out()

    def _write_head(self, head: ResponseHead, body: bytes, write: Callable[[bytes], None]) -> None:
        """Send the head and what there is of the body. `head`: of the replica. `write`: a method of the client."""
        request, rendered = self.head.meaning, self.rendered
        assert rendered is not None
        lines, meaning = head.lines, head.meaning
        if not lines:
            if meaning.depends_on_request:
                lines = self._lines_for_request(head)
            else:
                lines = head.lines = replica_lines(head)
        self.status = 502 if meaning.status == 500 else meaning.status
        close = not request.keep_alive or not self.body_complete or self._gateway.draining
        if request.version_minor == 0 and lines.endswith(_TE_CHUNKED):
            # HTTP/1.0 has no chunks: the body ends with the connection.
            lines, close, self._answer_raw = lines[: -len(_TE_CHUNKED)], True, True
        self._answer_close = close
        if close or request.version_minor == 0:
            lines += connection_line(self.head, close)
        if not meaning.has_date:
            lines += self._gateway.date_line()
        write(b"".join((lines, rendered.response_lines, self.request_id, b"\r\n\r\n", body)))
        if body and self.observer is not None:
            if self.pieces is None:
                self._answer_body = body
            else:
                self.pieces.response_body(body)

    def receive_interim(self, head: ResponseHead) -> None:
        """A 1xx response; not for HTTP/1.0 clients."""
        if self.head.version_minor == 1:
            self.client.write(interim_response(head))

    def receive_data(self, data: bytes, end: bool) -> None:
        """A piece of the response body. `end`: it was the last one."""
        answer, version = self._answer, self.version
        assert answer is not None and version is not None
        if answer.status == 101:  # the replica has closed the tunnel
            self._answer_close = True
            now = self._gateway.now()
            self._free_slot(now)
            self._complete(now)
            return
        if self._stream is not None:
            self._stream.note_piece()
        self._answer_bytes += len(data)
        if data and self.observer is not None:
            self._observe_answer(data)
        if (answer.chunked or answer.until_close) and not self._answer_raw:
            data = chunk(data) + LAST_CHUNK if end else chunk(data)
        began = self._gateway.now() if end else 0.0
        if end:
            self._free_slot(began)
        if data:
            paused = self.client.write_paused
            self.client.write(data)
            if paused and not end:
                self.client_paused(len(data))
        if end:
            self._complete(began)

    def reject_response(self, error: ReplicaFailed) -> None:
        """The replica's response is invalid and cannot be passed on."""
        self._gateway.effects.replica_failed(self, Failure.BROKEN, f"invalid response: {error.rule}")
        self._drop_upstream()
        self.abort(error)

    def note_broken_rule(self, rule: str) -> None:
        """The replica's response breaks a rule of HTTP and is passed on all the same."""
        self._gateway.effects.note_broken_rule(self, rule)

    def switch_protocols(self, head: ResponseHead) -> bool:
        """101: start a tunnel; False if the client did not ask for it or the version does not allow it.

        Raises RouterError if the credential became invalid since the request began.
        """
        version, queue, lease, gateway = self.version, self.queue, self.lease, self._gateway
        rendered = self.rendered
        if version is None or rendered is None or queue is None or lease is None or not version.web_socket:
            return False
        if [value.lower() for name, _, value in head.fields if name == b"upgrade"] != [b"websocket"]:
            return False
        valid_until = self.client.planner.valid_until(self.head, gateway.unix_now())
        self._answer = head
        self.status = 101
        lease.exempt_from_timeout()
        upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
        lines = (replica_lines(head), upgrade, rendered.response_lines, self.request_id, b"\r\n\r\n")
        self.client.write(b"".join(lines))
        gateway.tunnels.add(self.client, queue.key.endpoint, valid_until)
        self.client.start_tunnel()
        if self.client.write_paused:
            self.client_paused(0)
        return True
