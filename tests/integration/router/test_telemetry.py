"""Endpoints with telemetry: trace context at the replica, and a record of each request, also of a refused one."""

import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from cluster.link import RemoveEndpoint
from router.core.ids import kept_client_id
from serving.endpoint import Auth
from telemetry.access_messages import AccessRecord, decode_access
from telemetry.payload_messages import ACCESS
from telemetry.payload_observer import PayloadObservers
from telemetry.request_recorder import RecordRules
from telemetry.ring import LEAST_BYTES, RingReader, ring_files
from telemetry.trace_context import Sampler
from telemetry.worker_observers import WorkerObservers
from tests.fakes.clock import eventually
from tests.integration.router.clients import SCORE, request
from tests.integration.router.replicas import answers, silent
from tests.integration.router.rig import Rig, endpoint, version

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"traceparent: 00-{TRACE}-{SPAN}-01"
Rigs = Callable[..., Awaitable[Rig]]


class Traced:
    """A rig whose endpoint has telemetry, and its ring."""

    def __init__(self, rig: Rig, rings: Path) -> None:
        self.rig = rig
        self._rings = rings
        self._reader: RingReader | None = None

    def records(self) -> list[AccessRecord]:
        """Those since the last call."""
        if self._reader is None:
            (path,) = ring_files(self._rings)
            self._reader = RingReader(path)
        found = []
        while (message := self._reader.read()) is not None:
            assert message.kind == ACCESS
            found.append(decode_access(message.data))
        return found

    async def record(self) -> AccessRecord:
        """The next one."""
        found: list[AccessRecord] = []

        def arrived() -> bool:
            found.extend(self.records())
            return bool(found)

        await eventually(arrived)
        (record,) = found
        return record


@pytest.fixture
async def traced(rigs: Rigs, tmp_path: Path) -> Traced:
    rules = RecordRules(Sampler(), True, lambda: 1e9, random.Random(1).randbytes, kept_client_id)
    observers = WorkerObservers(PayloadObservers(tmp_path, "w-1", LEAST_BYTES, lambda: 1e9), rules)
    rig = await rigs(observers=observers)
    rig.declare(endpoint(app_insights=True))
    return Traced(rig, tmp_path)


async def test_the_replica_gets_the_span_of_the_router_as_its_parent(traced: Traced) -> None:
    replica = await traced.rig.replica(answers())
    client = await traced.rig.client()
    state = "tracestate: a=1"
    for body in (b"first", b"first", b"second"):  # parsed, the same head, a head like it
        await client.ask(request(body, fields=(PARENT, state, "User-Agent: curl/8")))
        received, record = replica.seen[-1], await traced.record()
        assert received.value(b"traceparent") == f"00-{TRACE}-{record.span_id}-01".encode()
        assert received.value(b"tracestate") == b"a=1"
        assert (record.trace_id, record.parent_id, record.user_agent) == (TRACE, SPAN, "curl/8")
        assert received.value(b"x-ms-request-id") == record.request_id.encode()
        assert (record.status, record.replica_status, record.request_bytes) == (200, 200, len(body))
        assert (record.response_bytes, record.replica, record.version) == (5, "r0", "blue")
        assert record.replica_s is not None and 0 < record.replica_s <= record.total_s


@pytest.mark.parametrize(
    "fields",
    [(), ("traceparent: 00-xyz", "tracestate: a=1"), (PARENT, PARENT), (PARENT.upper(),), ("tracestate: a=1",)],
)
async def test_a_trace_begins_where_there_is_none(traced: Traced, fields: tuple[str, ...]) -> None:
    replica = await traced.rig.replica(answers())
    client = await traced.rig.client()
    for _ in range(2):
        await client.ask(request(b"x", fields=fields))
        record = await traced.record()
        assert record.trace_id != TRACE and record.parent_id == ""
        assert replica.seen[-1].value(b"traceparent") == f"00-{record.trace_id}-{record.span_id}-01".encode()
        assert replica.seen[-1].values(b"tracestate") == []


async def test_a_streamed_body_carries_the_trace_as_well(traced: Traced) -> None:
    rig = traced.rig
    rig.gateway.settings = type(rig.gateway.settings)(collect_bytes=10, buffer_bytes=10)
    replica = await rig.replica(answers())
    client = await rig.client()
    await client.ask(request(b"x" * 100_000, fields=(PARENT,)))
    record = await traced.record()
    assert replica.seen[0].value(b"traceparent") == f"00-{TRACE}-{record.span_id}-01".encode()
    assert record.request_bytes == 100_000


async def test_without_telemetry_the_trace_of_the_client_is_untouched(rigs: Rigs, traced: Traced) -> None:
    rig = traced.rig
    replica = await rig.replica(answers())
    client = await rig.client()
    odd = ("TraceParent: 00-odd", "tracestate: whatever")
    rig.declare(endpoint())
    await client.ask(request(b"x", fields=odd))
    assert replica.seen[-1].value(b"traceparent") == b"00-odd"
    assert replica.seen[-1].value(b"tracestate") == b"whatever"
    rig.declare(endpoint(app_insights=True))
    await client.ask(request(b"x", fields=odd))
    assert replica.seen[-1].value(b"traceparent").endswith(b"-01")
    assert len(traced.records()) == 1
    plain = await rigs()
    plain.declare(endpoint(app_insights=True))
    replica = await plain.replica(answers())
    await (await plain.client()).ask(request(b"x", fields=odd))
    assert replica.seen[-1].value(b"traceparent") == b"00-odd", "no exporter: nothing is done"


async def test_requests_that_reach_no_version_are_recorded_too(traced: Traced) -> None:
    rig = traced.rig
    rig.declare(endpoint(auth=Auth.KEY, app_insights=True))
    rig.lock("p" * 43)
    for sent, status, code in (
        (request(b"x", fields=(PARENT, "Authorization: Bearer wrong")), 401, "Unauthorized"),
        (request(b"x", method="PUT"), 405, "MethodNotAllowed"),
        (request(None, fields=("Content-Length: 999999999999",)), 413, "PayloadTooLarge"),
        (request(b"x", fields=("Transfer-Encoding: gzip",)), 501, "NotImplemented"),
    ):
        answer = await (await rig.client()).ask(sent)
        record = await traced.record()
        assert (answer.status, answer.code) == (record.status, record.code) == (status, code)
        assert (record.endpoint, record.version, record.auth, record.replica_s) == ("iris", "", "key", None)
        assert (record.request_id, record.path) == (answer.value("x-ms-request-id"), SCORE)
    await (await rig.client()).ask(request(b"x", path="/api/v1/service/other/score"))
    await (await rig.client()).ask(request(b"x", path="/nothing"))
    assert traced.records() == []


async def test_a_refusal_by_the_version_and_a_failed_model_have_their_code(traced: Traced) -> None:
    rig = traced.rig
    rig.declare(endpoint(version(queue_wait_s=0.05), app_insights=True))
    client = await rig.client()
    assert (await client.ask(request(b"x"))).status == 503
    record = await traced.record()
    assert (record.status, record.code, record.version, record.replica_status) == (503, "NoReadyReplicas", "blue", 0)
    await rig.replica(answers(status="500 Internal Server Error"))
    assert (await client.ask(request(b"x"))).status == 502
    record = await traced.record()
    assert (record.status, record.code, record.replica_status) == (502, "ModelError", 500)


async def test_a_client_that_leaves_is_recorded(traced: Traced) -> None:
    await traced.rig.replica(silent)
    client = await traced.rig.client()
    client.writer.write(request(b"x"))
    await eventually(lambda: traced.rig.busy() == 1)
    client.leave()
    record = await traced.record()
    assert (record.status, record.code) == (499, "ClientGone")


async def test_a_deleted_endpoint_is_observed_no_more(traced: Traced) -> None:
    await traced.rig.replica(answers())
    client = await traced.rig.client()
    await client.ask(request(b"x"))
    await traced.record()
    traced.rig.tell(RemoveEndpoint("iris"))
    assert traced.rig.gateway.observers == {}
    traced.rig.declare(endpoint())
