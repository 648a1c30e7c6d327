"""An observer of a version gets copies of heads and bodies in order, and costs other versions nothing."""

import asyncio
from typing import Any
from zlib import crc32

import pytest

from router.proxy.request_head import RequestHead
from serving.endpoint import VersionKey
from tests.fakes.clock import eventually
from tests.integration.router.clients import SCORE, get, request
from tests.integration.router.replicas import Request as Received
from tests.integration.router.replicas import Wire, echo
from tests.integration.router.rig import Rig

BLUE = VersionKey("iris", "blue")
EVERY = 0x1_0000_0000
"""Above every CRC-32."""


class RecordingObserver:
    """Keeps every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.ids: set[bytes] = set()
        self.sampled_below = EVERY
        self.sampled_out = memoryview(bytearray(8)).cast("Q")

    def observes(self, head: RequestHead) -> bool:
        return not head.path.endswith(b"/unobserved")

    def begin(self, request_id: bytes, head: RequestHead) -> "RecordingObserver":
        self.ids.add(request_id)
        self.calls.append(("begin", head.method, head.path))
        return self

    def request_body(self, data: bytes) -> None:
        self.calls.append(("request body", data))

    def response_body(self, data: bytes) -> None:
        self.calls.append(("response body", data))

    def request_ended(self, *call: Any) -> None:
        """Of a request in pieces, or of a whole one."""
        if len(call) == 3:
            status, answer, duration_s = call
            self.calls.append(("end", status, answer is not None))
        else:
            request_id, head, body, answer, answer_body, status, duration_s = call
            self.ids.add(request_id)
            self.calls.append(("whole", head.method, head.path, body, answer is not None, answer_body, status))
        assert duration_s >= 0

    def joined(self, kind: str) -> bytes:
        return b"".join(bytes(call[1]) for call in self.calls if call[0] == kind)  # type: ignore[call-overload]

    def kinds(self) -> list[object]:
        """Kinds of calls in order, repetitions once."""
        kinds = [call[0] for call in self.calls]
        return [kind for index, kind in enumerate(kinds) if index == 0 or kinds[index - 1] != kind]


IN_PIECES = ["begin", "request body", "response body", "end"]
POSTED = (b"POST", SCORE.encode())


@pytest.fixture
def observer(rig: Rig) -> RecordingObserver:
    recording = RecordingObserver()
    rig.gateway.observe(BLUE, recording)
    return recording


async def test_a_request_whose_bodies_come_whole_is_one_call_after_its_end(
    rig: Rig, observer: RecordingObserver
) -> None:
    await rig.replica(echo)
    client = await rig.client()
    for body in (b"first", b"first"):  # the second one comes from the head cache
        observer.calls.clear()
        assert (await client.ask(request(body))).body == body
        assert observer.calls == [("whole", *POSTED, body, True, body, 200)]
    assert len(observer.ids) == 2


async def test_an_answer_whose_head_comes_before_its_body_is_whole(rig: Rig, observer: RecordingObserver) -> None:
    headed = asyncio.Event()

    async def apart(wire: Wire, received: Received) -> None:
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        await headed.wait()
        await wire.send(b"body")

    await rig.replica(apart)
    client = await rig.client()
    client.send(request(b"a"))
    await client.head()
    headed.set()
    assert await client.reader.readexactly(4) == b"body"
    assert observer.calls == [("whole", *POSTED, b"a", True, b"body", 200)]


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
    assert observer.kinds() == IN_PIECES
    assert observer.joined("request body") == sent
    assert observer.joined("response body") == b"ab" * 40_000 + b"c"


async def test_a_streamed_answer_to_a_whole_request_is_observed_with_the_request(
    rig: Rig, observer: RecordingObserver
) -> None:
    told = [asyncio.Event() for _ in range(3)]

    async def stream(wire: Wire, received: Received) -> None:
        await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number, event in enumerate(told):
            await wire.send(b"1\r\n%d\r\n" % number)
            await event.wait()
        await wire.send(b"0\r\n\r\n")

    await rig.replica(stream)
    client = await rig.client()
    client.send(request(b"a"))
    await client.head()
    waiting = iter(told)
    async for _ in client.chunks():
        next(waiting).set()
    await eventually(lambda: observer.calls[-1][0] == "end")
    assert observer.calls == [
        ("begin", *POSTED),
        ("request body", b"a"),
        *(("response body", b"%d" % number) for number in range(3)),
        ("end", 200, True),
    ]


async def test_an_error_of_the_router_is_observed_without_a_replica_head(rig: Rig, observer: RecordingObserver) -> None:
    client = await rig.client()
    assert (await client.ask(get())).status == 503
    assert observer.calls == [("whole", b"GET", SCORE.encode(), b"", False, b"", 503)]


async def test_a_client_that_leaves_in_the_middle_of_its_body_is_observed(
    rig: Rig, observer: RecordingObserver
) -> None:
    client = await rig.client()
    client.send(f"POST {SCORE} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf".encode())
    await eventually(lambda: observer.joined("request body") == b"half")
    client.leave()
    await eventually(lambda: observer.calls[-1] == ("end", 499, False))


async def test_a_detached_observer_gets_nothing_more(rig: Rig, observer: RecordingObserver) -> None:
    await rig.replica()
    client = await rig.client()
    assert (await client.ask(request(b"a"))).status == 200
    rig.gateway.observe(BLUE, None)
    observer.calls.clear()
    assert (await client.ask(request(b"a"))).status == 200
    assert not observer.calls


async def test_a_path_that_is_not_observed_makes_no_call(rig: Rig, observer: RecordingObserver) -> None:
    await rig.replica()
    client = await rig.client()
    assert (await client.ask(request(b"a", path=f"{SCORE}/unobserved"))).status == 200
    assert not observer.calls and not observer.sampled_out[0]


async def test_a_request_outside_of_the_sample_is_counted_only(rig: Rig, observer: RecordingObserver) -> None:
    await rig.replica()
    client = await rig.client()
    observer.sampled_below = EVERY // 2
    answers = [await client.ask(request(b"a")) for _ in range(50)]
    ids = [each.value("x-ms-request-id").encode() for each in answers]
    chosen = {each for each in ids if crc32(each) < EVERY // 2}
    assert observer.ids == chosen and 0 < len(chosen) < 50
    assert observer.sampled_out[0] == 50 - len(chosen)
