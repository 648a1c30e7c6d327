"""An observer of a version gets copies of heads and bodies in order, and costs other versions nothing."""

import pytest

from router.proxy.request_head import RequestHead
from router.proxy.response_head import ResponseHead
from serving.endpoint import VersionKey
from tests.fakes.clock import eventually
from tests.integration.router.clients import SCORE, get, request
from tests.integration.router.replicas import Request as Received
from tests.integration.router.replicas import Wire, echo
from tests.integration.router.rig import Rig

BLUE = VersionKey("iris", "blue")


class RecordingObserver:
    """Keeps every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.ids: set[bytes] = set()

    def request_head(self, request_id: bytes, head: RequestHead) -> "RecordingObserver | None":
        self.ids.add(request_id)
        self.calls.append(("request head", head.method, head.path))
        return None if head.query == b"?unobserved" else self

    def request_body(self, data: bytes) -> None:
        self.calls.append(("request body", data))

    def response_head(self, status: int, head: ResponseHead | None) -> None:
        self.calls.append(("response head", status, head is not None))

    def response_body(self, data: bytes) -> None:
        self.calls.append(("response body", data))

    def request_ended(self, status: int, replica_id: str, duration_s: float, wait_s: float) -> None:
        self.calls.append(("end", status, replica_id))
        assert duration_s >= wait_s >= 0

    def joined(self, kind: str) -> bytes:
        return b"".join(bytes(call[1]) for call in self.calls if call[0] == kind)  # type: ignore[call-overload]

    def kinds(self) -> list[object]:
        """Kinds of calls in order, repetitions once."""
        kinds = [call[0] for call in self.calls]
        return [kind for index, kind in enumerate(kinds) if index == 0 or kinds[index - 1] != kind]


ORDER = ["request head", "request body", "response head", "response body", "end"]


@pytest.fixture
def observer(rig: Rig) -> RecordingObserver:
    recording = RecordingObserver()
    rig.gateway.observe(BLUE, recording)
    return recording


async def test_an_observer_gets_head_body_response_and_end_in_order(rig: Rig, observer: RecordingObserver) -> None:
    await rig.replica(echo)
    client = await rig.client()
    for body in (b"first", b"first"):  # the second one comes from the head cache
        observer.calls.clear()
        assert (await client.ask(request(body))).body == body
        assert observer.calls == [
            ("request head", b"POST", SCORE.encode()),
            ("request body", body),
            ("response head", 200, True),
            ("response body", body),
            ("end", 200, "r0"),
        ]
    assert len(observer.ids) == 2


async def test_streamed_bodies_are_observed_without_their_framing(rig: Rig, observer: RecordingObserver) -> None:
    async def stream(wire: Wire, received: Received) -> None:
        pieces = [b"ab" * 40_000, b"c"]
        await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in pieces:
            await wire.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        await wire.send(b"0\r\n\r\n")

    await rig.replica(stream)
    client = await rig.client()
    sent = b"x" * 200_000
    head = f"POST {SCORE} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    client.send(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(sent), sent))
    assert (await client.answer()).body == b"ab" * 40_000 + b"c"
    await eventually(lambda: observer.calls[-1][0] == "end")
    assert observer.kinds() == ORDER
    assert observer.joined("request body") == sent
    assert observer.joined("response body") == b"ab" * 40_000 + b"c"


async def test_an_error_of_the_router_is_observed_without_a_replica_head(rig: Rig, observer: RecordingObserver) -> None:
    client = await rig.client()
    assert (await client.ask(get())).status == 503
    assert observer.calls == [("request head", b"GET", SCORE.encode()), ("response head", 503, False), ("end", 503, "")]


async def test_a_detached_observer_gets_nothing_more(rig: Rig, observer: RecordingObserver) -> None:
    await rig.replica()
    client = await rig.client()
    assert (await client.ask(request(b"a"))).status == 200
    rig.gateway.observe(BLUE, None)
    observer.calls.clear()
    assert (await client.ask(request(b"a"))).status == 200
    assert not observer.calls


async def test_a_request_that_is_not_chosen_is_not_observed(rig: Rig, observer: RecordingObserver) -> None:
    await rig.replica()
    client = await rig.client()
    assert (await client.ask(request(b"a", path=f"{SCORE}?unobserved"))).status == 200
    assert [call[0] for call in observer.calls] == ["request head"]
