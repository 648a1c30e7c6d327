"""First part of an exchange: its request is routed, authorized and collected, until it asks for a slot."""

import math

from router.core.ledger import Lease
from router.core.router_errors import RouterError
from router.proxy.chunked import LAST_CHUNK, chunk
from router.proxy.exchange_state import ExchangeState
from router.proxy.responses import CONTINUE
from router.proxy.streams import ReadHold


class RequestIntake(ExchangeState):
    """An exchange up to its slot. `Exchange` adds the replica and the response."""

    __slots__ = ()

    # ---- the request arrives

    def begin(self, body: bytes, complete: bool) -> None:
        """Route and authorize; then enqueue, or collect the body first. `body`: its part received so far."""
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
            if plan.preflight:
                self.body_complete = complete
                self.answer_preflight(plan.preflight)
                return
        client = self.client
        if not client.authorized:
            client.note_admission()
        planner = client.planner
        version = plan.fixed
        if version is None:
            route, u = plan.match.route, gateway.draw()
            chosen = route.choose(u) if route.sticky is None else route.assign(route.sticky, head.fields, u)
            version = planner.version(plan, chosen, head)
        self.version = version
        rendered = head.rendered
        if rendered is None or rendered.version is not version:
            rendered = planner.render(head, version)
        self.rendered = rendered
        if version.observed:
            self._observe(version)
        if complete:
            self.body = body
            self.body_complete = True
            self._enqueue(self._started_at)
        else:
            self._collect(body)

    def _collect(self, body: bytes) -> None:
        """A slow sender must not hold a slot: enqueue once the body is complete or over the limits."""
        if self.head.expect_continue and not body:
            self._continue_sent = True
            self.client.write(CONTINUE)
        if self.observer is not None:
            self._observe_pieces()
        self.receive_body(body, False)

    def receive_body(self, data: bytes, complete: bool) -> None:
        """Another piece of the body. `complete`: it was the last one."""
        self.body_complete = complete
        if data and self.pieces is not None:
            self.pieces.request_body(data)
        if self._sent_at:
            self._streamed_bytes += len(data)
            if self.upstream is not None:
                self.upstream.write(self._framed(data, complete))
            return
        if data:
            if isinstance(self.body, bytes):
                self.body = bytearray(self.body)
            self.body += data
        if complete:
            self.body = bytes(self.body)
        full = not complete and not self._may_collect()
        if full:
            self.client.hold_reading(ReadHold.SLOT, True)
        if (complete or full) and self.lease is None and not self.waiting and self.queue is None:
            self._started_at = self._gateway.now()
            if self._still_authorized():
                self._enqueue(self._started_at)

    def _may_collect(self) -> bool:
        """True if more of the body may be collected without a slot, as far as the limits and the memory allow."""
        size_bytes, settings = len(self.body), self._gateway.settings
        if size_bytes < settings.buffer_bytes:
            return True
        if max(size_bytes, self.head.content_length) > settings.collect_bytes:
            return False
        return self._charge(size_bytes)

    def _still_authorized(self) -> bool:
        """Refuse the request if its credential became invalid while the body arrived: that may take hours."""
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
            self._gateway.deadlines.watch_waiting(queue)

    def granted(self, lease: Lease, now: float) -> None:
        """The request holds a slot. `now`: monotonic seconds."""
        raise NotImplementedError  # abstract: `Exchange` sends the request
