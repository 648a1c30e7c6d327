"""Recorders of the requests of endpoints with telemetry: access records for the ring of a worker, and trace context.

Implements `router.proxy.request_observer.AccessRecorder`; called on the hot path, so it copies, bounds and returns.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from serving.endpoint import Auth, VersionKey
from telemetry.access_messages import (
    ACCESS_BYTES,
    FROM_PARENT,
    HTTP_1_1,
    MAX_AGENT_CHARACTERS,
    MAX_PATH_BYTES,
    RECORDED,
    SAMPLED,
    pack_access,
)
from telemetry.payload_messages import ACCESS
from telemetry.ring import RingFull, RingWriter, VersionCounter
from telemetry.trace_context import NO_PARENT, NO_SPAN, ParentSpan, Sampler, parent_span

_AGENT: Final = b"\r\nuser-agent:"
_AGENT_BYTES: Final = 4 * MAX_AGENT_CHARACTERS
"""A character has at most four bytes."""
_LINE: Final = b"\r\ntraceparent: 00-"
ID_DIGITS: Final = 48
"""Of a span and a trace."""
IDS_BYTES: Final = 100 * ID_DIGITS // 2

Trace = tuple[bytes, bytes, bytes, bytes, bytes, int]
"""Lines for the replica, trace id, span id, span id of the client, tracestate, bits (0: nothing is exported)."""


class RecordedHead(Protocol):
    """Head of a request."""

    recorded: Any
    """Client's span and texts, once they were made."""

    @property
    def raw(self) -> bytes:
        """Its bytes."""

    @property
    def method(self) -> bytes:
        """Its method."""

    @property
    def path(self) -> bytes:
        """Path of its target."""

    @property
    def client_request_id(self) -> bytes:
        """Value of `x-ms-client-request-id`, as sent; empty without one."""

    @property
    def version_minor(self) -> int:
        """Minor version of HTTP/1: 0 or 1."""


@dataclass(frozen=True, slots=True)
class RecordRules:
    """Wanted signals, and the shells of chance and time."""

    sampler: Sampler | None
    """None: no spans are exported; the trace of a request goes on without one of the router."""
    records: bool
    """True: request records are exported."""
    unix_now: Callable[[], float]
    random_bytes: Callable[[int], bytes]
    """So many random bytes."""
    kept_client_id: Callable[[bytes], bytes]
    """The part of the client's id that is kept."""


class RequestRecorder:
    """Records the requests of one version, or those to an endpoint that reach no version."""

    __slots__ = (
        *("_append", "_bits", "_bound", "_counter", "_follows_parent", "_ids", "_ids_at", "_kept_client_id", "_names"),
        *("_random_bytes", "_sampled", "_traced", "_unix_now"),
    )

    def __init__(
        self, rules: RecordRules, key: VersionKey, auth: Auth, ring: RingWriter | None, counter: VersionCounter | None
    ) -> None:
        """A recorder.

        rules: wanted signals. key: of the version; "" as version for requests that reach none. auth: of the endpoint.
        ring: of the worker; None: there is no memory for it, and records are lost.
        counter: of the lost records of the endpoint; None: they are too many to be counted.
        """
        sampler = rules.sampler
        self._append = ring.append if ring is not None else _no_room
        self._counter = counter
        self._names = b"%b\0%b\0%b\0" % (key.endpoint.encode(), key.version.encode(), auth.value.encode())
        self._traced = sampler is not None
        self._follows_parent = sampler is not None and sampler.follows_parent
        self._bound = sampler.bound if sampler is not None else b""
        self._bits = RECORDED if rules.records else 0
        self._sampled = self._bits | SAMPLED
        self._kept_client_id = rules.kept_client_id
        self._random_bytes = rules.random_bytes
        self._ids = b""
        """Random digits, of which ids are cut: making each of its own takes four times as long."""
        self._ids_at = 0
        self._unix_now = rules.unix_now

    def begin(self, head: RecordedHead) -> Trace:
        """The trace context of a request, made or continued."""
        parent, _ = head.recorded or self._describe(head)
        if not self._traced:
            trace_id, span_id, _, state = parent or NO_PARENT
            return b"", trace_id, span_id, NO_SPAN, state, self._bits
        at = self._ids_at
        if at == len(self._ids):
            self._ids, at = self._random_bytes(IDS_BYTES).hex().encode(), 0
        self._ids_at = end = at + ID_DIGITS
        span_id = self._ids[at : at + 16]
        if parent is None:
            trace_id = self._ids[at + 16 : end]
            if trace_id[16:] < self._bound:
                lines, bits = b"".join((_LINE, trace_id, b"-", span_id, b"-01")), self._sampled
            else:
                lines, bits = b"".join((_LINE, trace_id, b"-", span_id, b"-00")), self._bits
            return lines, trace_id, span_id, NO_SPAN, b"", bits
        trace_id, parent_id, sampled, state = parent
        if not self._follows_parent:
            sampled = trace_id[16:] < self._bound
        lines = b"".join((_LINE, trace_id, b"-", span_id, b"-01" if sampled else b"-00"))
        if state:
            lines += b"\r\ntracestate: " + state
        bits = self._sampled if sampled else self._bits
        return lines, trace_id, span_id, parent_id, state, bits | FROM_PARENT if bits else 0

    def request_ended(
        self,
        trace: Trace,
        request_id: bytes,
        head: RecordedHead,
        request_bytes: int,
        response_bytes: int,
        status: int,
        replica_status: int,
        replica_id: str,
        duration_s: float,
        wait_s: float,
        replica_s: float,
        code: str,
    ) -> None:
        """Hand the record of a request over to the collector; the parameters are those of `AccessRecorder`."""
        _, trace_id, span_id, parent_id, state, bits = trace
        _, described = head.recorded or self._describe(head)
        tried, failed = replica_id.encode(), code.encode() if code else b""
        beginning = pack_access(
            ACCESS_BYTES + len(self._names) + len(described) + len(tried) + len(failed) + len(state) + 2,
            ACCESS,
            self._unix_now(),
            duration_s,
            wait_s,
            replica_s,
            request_bytes,
            response_bytes,
            status,
            replica_status,
            bits | HTTP_1_1 if head.version_minor else bits,
            request_id,
            trace_id,
            span_id,
            parent_id,
        )
        try:
            self._append(b"".join((beginning, self._names, described, tried, b"\0", failed, b"\0", state)))
        except RingFull:
            if self._counter is not None:
                self._counter.add_dropped()

    def _describe(self, head: RecordedHead) -> tuple[ParentSpan | None, bytes]:
        """The client's span, and method, path, user agent and id of the client; kept with the head."""
        raw = head.raw
        lowered = raw.lower()
        parent = parent_span(raw, lowered)
        at, agent = lowered.find(_AGENT), b""
        if at >= 0:
            at += len(_AGENT)
            agent = raw[at : min(raw.index(b"\r\n", at), at + _AGENT_BYTES)].strip(b" \t")
        client_id = self._kept_client_id(head.client_request_id) if head.client_request_id else b""
        texts = b"%b\0%b\0%b\0%b\0" % (head.method, head.path[:MAX_PATH_BYTES], agent, client_id)
        head.recorded = found = (parent, texts)
        return found


def _no_room(message: bytes) -> None:
    """Raises RingFull: there is no ring."""
    raise RingFull
