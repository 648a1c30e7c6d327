"""F5: a head that comes in pieces is looked at once, from clients and from replicas, and judged as if it came whole."""

import asyncio
import itertools
import re
import time
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.core.router_errors import BadRequest, HeadersTooLarge, ReplicaFailed, RouterError, UriTooLong
from router.proxy.downstream import Downstream
from router.proxy.partial_head import RESPONSE_TOO_LARGE, PartialHead, PartialRequestHead, PartialResponseHead
from router.proxy.request_head import parse_request
from router.proxy.response_head import parse_response
from router.proxy.upstream import MAX_INTERIM_RESPONSES, UpstreamConnection
from router.settings import RouterSettings
from tests.integration.router.clients import get, request
from tests.integration.router.replicas import Request as Received
from tests.integration.router.replicas import Wire, answer_bytes, echo
from tests.integration.router.rig import Rig

SIZE = 65_000
REQUEST_LINE = b"GET /api/v1/service/iris/score HTTP/1.1\r\nHost: x\r\n"
STATUS_LINE = b"HTTP/1.1 200 OK\r\n"
SHAPES = {
    "one long value": b"X: " + b"a" * SIZE,
    "lines of 80": (b"X-Pad: " + b"a" * 71 + b"\r\n") * (SIZE // 80),
    "shortest lines": b"a:\r\n" * (SIZE // 4),
}
ENOUGH_S = 1.5
"""CPU time for 64 KB in pieces on a slow machine; it is 0.05 s, and with every byte looked at again 60 s."""


class Silent(asyncio.Transport):
    """Takes everything and does nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.aborted = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.1", 1) if name == "peername" else None

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.aborted

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None:
        self.aborted = True

    def abort(self) -> None:
        self.aborted = True


def pieces_of(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


# ---- cost


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("shape", SHAPES)
async def test_a_clients_head_in_small_pieces_costs_by_its_bytes(shape: str, size: int) -> None:
    rig = Rig()
    await rig.start()
    client, transport = Downstream(rig.gateway), Silent()
    client.connection_made(transport)
    began = time.process_time()
    for piece in pieces_of(REQUEST_LINE + SHAPES[shape], size):
        client.data_received(piece)
    assert time.process_time() - began < ENOUGH_S
    assert not transport.written
    client.connection_lost(None)
    await rig.stop()


class Asker:
    """The exchange of a replica's connection, as far as it is needed."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.head = parse_request(b"GET /score HTTP/1.1\r\nHost: x\r\n\r\n", RouterSettings())

    def reject_response(self, error: ReplicaFailed) -> None:
        self.failed.append(error.text)


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("shape", SHAPES)
async def test_a_replicas_head_in_small_pieces_costs_by_its_bytes(shape: str, size: int) -> None:
    rig = Rig()
    await rig.start()
    connection, asker = UpstreamConnection(rig.gateway.pool, "r0"), Asker()
    connection.connection_made(Silent())
    connection.exchange = cast(Any, asker)
    began = time.process_time()
    for piece in pieces_of(STATUS_LINE + SHAPES[shape], size):
        connection.data_received(piece)
    assert time.process_time() - began < ENOUGH_S
    assert not asker.failed
    connection.exchange = None
    await rig.stop()


class Counting(bytearray):
    """Counts the bytes that searches go through."""

    searched = 0

    def find(self, *args: Any) -> int:
        found = super().find(*args)
        begin, end = [*args[1:], 0, len(self)][:2] if len(args) != 2 else (args[1], len(self))
        self.searched += max(0, (found if found >= 0 else min(end, len(self))) - begin)
        return found


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", [PartialRequestHead, PartialResponseHead])
def test_every_byte_is_searched_a_few_times_at_most(kind: Any, shape: str, size: int) -> None:
    data = (REQUEST_LINE if kind is PartialRequestHead else STATUS_LINE) + SHAPES[shape]
    first, *rest = pieces_of(data, size)
    beginning: PartialHead = kind(first, RouterSettings())
    counting = beginning.buffer = Counting(first)
    beginning.find_end()
    for piece in rest:
        if not beginning.extend(piece):
            assert beginning.find_end() == 0
    assert counting.searched <= 8 * len(data)


# ---- judgement

SMALL = RouterSettings(max_head_bytes=420, max_target_bytes=40, max_response_head_bytes=90, max_fields=6)
NOT_HTTP = "not HTTP"
LINE_LIMIT = SMALL.max_target_bytes + 128
_stray = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n|\Z)|(?<!\r)\n")
_line = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}) ([!-~]+) HTTP/1\.([01])\r\n")


def refused_request(raw: bytes) -> type[RouterError] | None:
    """The rule for the beginning of a head that is not whole."""
    line_end = raw.find(b"\r\n")
    if line_end < 0 and len(raw) > LINE_LIMIT:
        return UriTooLong
    if len(raw) > SMALL.max_head_bytes:
        return HeadersTooLarge
    if _stray.search(raw) or (line_end >= 0 and not _line.match(raw)):
        return BadRequest
    return None


def refused_answer(raw: bytes) -> str | None:
    if len(raw) > SMALL.max_response_head_bytes:
        return RESPONSE_TOO_LARGE
    if not b"HTTP/1.".startswith(raw[:7]) or _stray.search(raw):
        return NOT_HTTP
    return None


def parsed(raw: bytes) -> type[RouterError] | None:
    """The refusal of a complete head."""
    try:
        parse_request(raw, SMALL)
    except RouterError as error:
        return type(error)
    return None


def slowly(stream: bytes) -> int | type[RouterError]:
    """Byte by byte, each time from the beginning: the end of the head (0: none yet), or the refusal."""
    skipped = False
    for size in range(1, len(stream) + 1):
        raw = stream[:size]
        if raw.startswith(b"\r\n"):
            if raw.startswith(b"\r\n\r\n"):
                return BadRequest
            raw, skipped = raw[2:], True
        whole = raw.endswith(b"\r\n\r\n")
        if whole and len(raw) <= SMALL.max_head_bytes:
            return parsed(raw) or size - 2 * skipped
        fault = HeadersTooLarge if whole else refused_request(raw) if raw else None
        if fault is not None:
            return fault
    return 0


def in_pieces(pieces: list[bytes]) -> int | type[RouterError]:
    first, *rest = pieces
    beginning = PartialRequestHead(first, SMALL)
    try:
        size = beginning.find_end()
        for piece in rest:
            if size:
                break
            if not beginning.extend(piece):
                size = beginning.find_end()
    except RouterError as error:
        return type(error)
    return size and (parsed(bytes(beginning.buffer[:size])) or size)


def answer_slowly(stream: bytes) -> int | str:
    for size in range(1, len(stream) + 1):
        raw = stream[:size]
        if raw.endswith(b"\r\n\r\n") and size <= SMALL.max_response_head_bytes:
            return size if is_answer(raw) else NOT_HTTP
        fault = refused_answer(raw)
        if fault is not None:
            return fault
    return 0


def answer_in_pieces(pieces: list[bytes]) -> int | str:
    first, *rest = pieces
    beginning = PartialResponseHead(first, SMALL)
    try:
        size = beginning.find_end()
        for piece in rest:
            if size:
                break
            if not beginning.extend(piece):
                size = beginning.find_end()
    except ReplicaFailed as error:
        return RESPONSE_TOO_LARGE if error.rule == RESPONSE_TOO_LARGE else NOT_HTTP
    return size if not size or is_answer(bytes(beginning.buffer[:size])) else NOT_HTTP


def is_answer(raw: bytes) -> bool:
    try:
        parse_response(raw)
    except ReplicaFailed:
        return False
    return True


TEXT = st.sampled_from(
    [
        *(b"\r\n", b"\r\n", b"\r\n", b"\r", b"\n", b"\x00", b"\x7f", b"a", b"X: y\r\n", b"GET / HTTP/1.1\r\n", b" "),
        *(
            b"GET /" + b"a" * 36,
            b"x" * 50,
            b"y" * 85,
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"\xe9",
        ),
        *(b" HTTP/1.1\r\n", b"HTTP/1.", b"\t", b"Content-Length: 0\r\n"),
    ]
)
STREAMS = st.lists(TEXT, min_size=1, max_size=12).map(b"".join)


@st.composite
def cut(draw: st.DrawFn, streams: st.SearchStrategy[bytes]) -> list[bytes]:
    stream = draw(streams)
    places = st.just(set(range(len(stream)))) | st.sets(st.integers(0, len(stream)), max_size=6)
    bounds = sorted({0, len(stream), *draw(places)})
    return [stream[begin:end] for begin, end in itertools.pairwise(bounds)]


@example([b"\r\n", b"\r\n"])
@example([b"\r", b"\n", b"\r", b"\n"])
@example([b"GET / HTTP/1.1\r", b"X"])
@example([b"x" * LINE_LIMIT, b"\x00"])
@example([b"x" * LINE_LIMIT + b"\r", b"\n\r\n"])
@example([b"GET / HTTP/1.1\r\nX: " + b"x" * 397 + b"\r", b"\n\r\n"])
@given(cut(STREAMS))
def test_a_request_head_is_judged_the_same_however_it_is_cut(pieces: list[bytes]) -> None:
    assert in_pieces(pieces) == slowly(b"".join(pieces))


@example([b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70, b"\x00"])
@given(cut(STREAMS | STREAMS.map(lambda rest: STATUS_LINE + rest)))
def test_a_head_of_an_answer_is_judged_the_same_however_it_is_cut(pieces: list[bytes]) -> None:
    assert answer_in_pieces(pieces) == answer_slowly(b"".join(pieces))


def served(rig: Rig, pieces: list[bytes]) -> list[bytes]:
    """Status lines of the answers to a stream in these pieces; nothing in it reaches a replica."""
    client, transport = Downstream(rig.gateway), Silent()
    client.connection_made(transport)
    for piece in pieces:
        if transport.aborted:
            break
        client.data_received(piece)
    client.connection_lost(None)
    return re.findall(rb"HTTP/1\.1 (\d\d\d) ", transport.written)


WHOLE = [
    *(get("/healthz"), get("/nowhere"), b"PUT /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"),
    *(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 9 + b"\r\n", b"GET /healthz HTTP/1.1\r\n a: b\r\n\r\n"),
    *(b"GET /" + b"a" * 60 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n", b"\r\n\r\n", b"x" * 200, b"\r", b"\x00"),
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 400 + b"\r\n\r\n",
    b"POST /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
]


async def test_a_stream_of_requests_is_answered_the_same_however_it_is_cut() -> None:
    rig = Rig(SMALL)
    await rig.start()

    @given(cut(st.lists(st.sampled_from(WHOLE), min_size=1, max_size=4).map(b"".join)))
    def run(pieces: list[bytes]) -> None:
        stream = b"".join(pieces)
        expected = served(rig, [stream[at : at + 1] for at in range(len(stream))])
        assert served(rig, pieces) == served(rig, [stream]) == expected

    run()
    await rig.stop()


# ---- the other ways to make one byte expensive


async def test_requests_behind_one_another_are_cut_off_without_copying_the_rest() -> None:
    rig = Rig()
    await rig.start()
    client, transport = Downstream(rig.gateway), Silent()
    client.connection_made(transport)
    client.data_received(get("/healthz") * 3000)
    assert transport.written.count(b"HTTP/1.1 200 OK") == 3000
    assert type(client._buffer) is bytearray
    client.connection_lost(None)
    await rig.stop()


async def test_bytes_behind_a_request_in_service_are_kept_without_copying_those_before() -> None:
    rig = Rig()
    await rig.start()
    client, transport = Downstream(rig.gateway), Silent()
    client.connection_made(transport)
    client.data_received(get())  # no replica: it waits
    began = time.process_time()
    for _ in range(60_000):
        client.data_received(b"x")
    assert time.process_time() - began < ENOUGH_S
    assert type(client._buffer) is bytearray
    client.connection_lost(None)
    await rig.stop()


async def test_interim_answers_have_an_end() -> None:
    async def chatters(wire: Wire, received: Received) -> None:
        await wire.send(b"HTTP/1.1 102 Processing\r\n\r\n" * (MAX_INTERIM_RESPONSES + 1) + answer_bytes(b"late"))

    rig = Rig()
    await rig.start()
    await rig.replica(chatters)
    client = await rig.client()
    client.send(get())
    interim = 0
    while (head := await client.head())[0] < 200:
        interim += 1
    assert head[0] >= 500 and interim == MAX_INTERIM_RESPONSES
    await rig.stop()


async def test_as_many_interim_answers_as_are_allowed_pass() -> None:
    async def talks(wire: Wire, received: Received) -> None:
        await wire.send(b"HTTP/1.1 100 Continue\r\n\r\n" * MAX_INTERIM_RESPONSES)
        await echo(wire, received)

    rig = Rig()
    await rig.start()
    await rig.replica(talks)
    client = await rig.client()
    for _ in range(2):  # the count is of one request
        answer = await client.ask(request(b"x"))
        assert (answer.status, answer.body) == (200, b"x")
    await rig.stop()
