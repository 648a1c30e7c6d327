"""Bodies both ways: whole, streamed, paused, cut short; and the connections that carry them."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.fakes.clock import eventually, stands_still
from tests.integration.router.clients import SCORE, BrokenOff, get, request
from tests.integration.router.flood import MB, Flood, held_in_memory, pattern
from tests.integration.router.replicas import (
    OK,
    Request,
    Script,
    Wire,
    answer_bytes,
    answers,
    echo,
    echo_and_close,
    plays,
)
from tests.integration.router.rig import Rig, endpoint, version

Rigs = Callable[..., Awaitable[Rig]]

CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunks(data: bytes, size: int) -> bytes:
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


# ---- requests


@pytest.mark.parametrize("script", [echo, echo_and_close], ids=["kept", "closed after each"])
@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 10 * MB])
async def test_a_body_with_a_length_is_intact_both_ways(rig: Rig, size: int, script: Script) -> None:
    replica = await rig.replica(script)
    client = await rig.client()
    body = pattern(size) if size > 8 else b"x" * size
    for _ in range(2):
        answer = await client.ask(request(body))
        assert answer.status == 200
        assert answer.body == body
    assert [seen.complete for seen in replica.seen] == [True, True]


@pytest.mark.parametrize("size", [1, 1000, 200_000])
async def test_a_chunked_body_is_intact_both_ways_for_any_chunks(rig: Rig, size: int) -> None:
    body = pattern(2 * MB if size > 1 else 3000)

    async def chunked(wire: Wire, request: Request) -> None:
        await wire.send(CHUNKED_HEAD + chunks(request.body, size))

    replica = await rig.replica(chunked)
    client = await rig.client()
    answer = await client.ask(request(None, fields=("Transfer-Encoding: chunked",)) + chunks(body, size))
    assert answer.body == body
    assert replica.seen[0].body == body
    assert (await client.ask(get())).status == 200


async def test_chunk_extensions_and_trailers_are_not_passed_on(rig: Rig) -> None:
    replica = await rig.replica(plays(CHUNKED_HEAD + b"5;a=b\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"))
    client = await rig.client()
    body = b"3;x=y\r\nabc\r\n0\r\nX-Trailer: 1\r\n\r\n"
    client.send(request(None, fields=("Transfer-Encoding: chunked",)) + body)
    await client.reader.readuntil(b"\r\n\r\n")
    assert await client.reader.readuntil(b"0\r\n\r\n") == b"5\r\nhello\r\n0\r\n\r\n"
    assert replica.seen[0].values(b"x-trailer") == []
    assert replica.seen[0].body == b"abc"


async def test_a_body_that_comes_byte_by_byte_takes_a_slot_only_when_it_is_whole(rig: Rig) -> None:
    replica = await rig.replica(echo)
    client = await rig.client()
    client.send(request(None, fields=("Content-Length: 5",)))
    for byte in b"abcde":
        await asyncio.sleep(0.01)
        assert rig.busy() == 0
        client.send(bytes([byte]))
    assert (await client.answer()).body == b"abcde"
    assert replica.connections == 1


async def test_expect_100_continue_is_answered_before_the_body_and_not_sent_on(rig: Rig) -> None:
    replica = await rig.replica(echo)
    client = await rig.client()
    client.send(request(None, fields=("Content-Length: 5", "Expect: 100-continue")))
    assert (await client.head())[0] == 100
    answer = await client.ask(b"hello")
    assert (answer.status, answer.body, answer.interim) == (200, b"hello", [])
    assert replica.seen[0].values(b"expect") == []


async def test_a_slow_replica_slows_the_client_down_instead_of_filling_memory(rig: Rig) -> None:
    go_on = asyncio.Event()

    async def read_late(wire: Wire, request: Request) -> None:
        await go_on.wait()
        await wire.read_body(request)
        await wire.send(OK)

    replica = await rig.replica(read_late, reads_body=False)
    client = await rig.client()
    size = 30 * MB
    client.send(request(None, fields=(f"Content-Length: {size}",)))
    sent = 0
    try:
        async with asyncio.timeout(0.6):
            while sent < size:
                client.send(b"x" * 65_536)
                sent += 65_536
                await client.writer.drain()
    except TimeoutError:
        pass
    assert replica.seen and sent < 20 * MB, "what the systems buffer, and not more, was taken"
    assert held_in_memory(rig) < MB
    go_on.set()
    client.send(b"x" * (size - sent))
    assert (await client.answer()).status == 200
    assert replica.seen[0].body_size == size


# ---- answers


async def test_events_pass_as_they_come(rig: Rig) -> None:
    steps = [asyncio.Event() for _ in range(3)]

    async def events(wire: Wire, request: Request) -> None:
        await wire.send(CHUNKED_HEAD.replace(b"\r\n\r\n", b"\r\nContent-Type: text/event-stream\r\n\r\n"))
        for number, step in enumerate(steps):
            await step.wait()
            await wire.send(b"9\r\ndata: %d\n\n\r\n" % number)
        await wire.send(b"0\r\n\r\n")

    await rig.replica(events)
    client = await rig.client()
    client.send(get())
    status, _, fields = await client.head()
    assert (status, dict(fields)["content-type"]) == (200, "text/event-stream")
    stream = client.chunks()
    for number, step in enumerate(steps):
        step.set()
        assert await anext(stream) == b"data: %d\n\n" % number
    assert [piece async for piece in stream] == []


async def test_a_length_passes_as_it_is_and_its_body_as_it_comes(rig: Rig) -> None:
    more = asyncio.Event()

    async def halves(wire: Wire, request: Request) -> None:
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        await more.wait()
        await wire.send(b"later")

    await rig.replica(halves)
    client = await rig.client()
    client.send(get())
    _, _, fields = await client.head()
    assert dict(fields)["content-length"] == "10"
    assert await client.reader.readexactly(5) == b"first"
    more.set()
    assert await client.reader.readexactly(5) == b"later"


async def test_an_answer_that_ends_with_its_connection_is_passed_on_in_chunks(rig: Rig) -> None:
    replica = await rig.replica(
        plays(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"hello", 0.01, b" world", close=True)
    )
    client = await rig.client()
    for _ in range(2):
        assert (await client.ask(get())).body == b"hello world"
    assert replica.connections == 2


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("coded", [False, True])
async def test_http_1_0_is_answered_without_chunks(rig: Rig, keep: bool, coded: bool) -> None:
    await rig.replica(plays(CHUNKED_HEAD + b"5\r\nhello\r\n0\r\n\r\n" if coded else OK))
    client = await rig.client()
    fields = ("Connection: keep-alive",) if keep else ()
    answer = await client.ask(request(fields=fields, minor=0))
    assert (answer.status, answer.body) == (200, b"hello")
    assert answer.values("transfer-encoding") == []
    assert answer.value("connection") == ("keep-alive" if keep and not coded else "close")
    if keep and not coded:
        assert (await client.ask(request(fields=fields, minor=0))).status == 200
    else:
        assert await client.end() == b""


async def test_early_hints_pass_and_a_100_of_the_replica_does_not(rig: Rig) -> None:
    await rig.replica(plays(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK))
    client = await rig.client()
    answer = await client.ask(get())
    assert (answer.status, answer.interim) == (200, [103])
    assert (await client.ask(request(minor=0))).interim == []


@pytest.mark.parametrize(
    "pieces",
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",),
        (CHUNKED_HEAD + b"5\r\nhello\r\n",),
        (CHUNKED_HEAD + b"5\r\nhello\r\nzz\r\n",),
    ],
    ids=["length", "chunked", "malformed chunk"],
)
async def test_an_answer_cut_short_resets_the_client(rig: Rig, pieces: tuple[bytes, ...]) -> None:
    await rig.replica(plays(*pieces, close=True))
    client = await rig.client()
    client.send(get())
    with pytest.raises(BrokenOff):
        await client.answer()


async def test_an_answer_cut_short_does_not_look_whole_to_http_1_0(rig: Rig) -> None:
    await rig.replica(plays(CHUNKED_HEAD + b"5\r\nhello\r\n", 0.05, close=True))
    client = await rig.client()
    client.send(request(minor=0))
    await client.head()
    with pytest.raises(BrokenOff):
        await client.end()


async def test_a_slow_reader_pauses_the_replica_and_loses_nothing(rig: Rig) -> None:
    flood = Flood(40)
    await rig.replica(flood.answer)
    client = await rig.client(receive_buffer=65_536)
    client.send(get())
    await client.head()
    await flood.is_paused()
    assert flood.sent < flood.size / 2
    assert held_in_memory(rig) < MB
    await flood.arrives(client.reader)


async def test_a_client_that_takes_nothing_is_cut_off_and_its_slot_is_free(rigs: Rigs) -> None:
    rig = await rigs(write_timeout_s=0.2)
    await rig.replica(answers(b"x" * (30 * MB)))
    client = await rig.client(receive_buffer=4096)
    client.send(get())
    await client.head()
    await eventually(rig.gateway.clients.empty.is_set)
    assert rig.busy() == 0


async def test_the_pause_of_a_slow_reader_ends_with_its_answer(rigs: Rigs) -> None:
    """Otherwise the next user of the replica's connection would wait for an unread answer."""
    rig = await rigs(send_buffer=4096, buffer_bytes=8192)
    body = pattern(40_000)  # comes in one piece, and is more than the buffers of a client take
    replica = await rig.replica(answers(body))
    slow, quick = await rig.client(receive_buffer=4096), await rig.client()
    slow.send(get())
    await eventually(lambda: any(client.write_paused for client in rig.gateway.clients))
    await eventually(lambda: rig.busy() == 0)
    assert (await quick.ask(get())).body == body
    assert (await slow.answer()).body == body
    assert replica.connections == 1


@pytest.mark.parametrize("path", [SCORE, "/nowhere", "/healthz"])
async def test_a_client_that_sends_and_never_reads_is_not_served_beyond_its_buffer(rigs: Rigs, path: str) -> None:
    rig = await rigs(send_buffer=4096)
    replica = await rig.replica()
    client = await rig.client(receive_buffer=4096)
    client.send(get(path) * 3000)
    await eventually(lambda: any(each.write_paused for each in rig.gateway.clients))
    assert await stands_still(lambda: len(replica.seen)) < 1000
    assert held_in_memory(rig) < 300_000
    for _ in range(3000):
        await client.answer()
    assert len(replica.seen) == (3000 if path == SCORE else 0)


# ---- both at once


async def early(wire: Wire, request: Request) -> None:
    """Begins to answer before the body is there, and ends with it."""
    await wire.send(CHUNKED_HEAD + b"5\r\nearly\r\n")
    await wire.router_left()


@pytest.mark.parametrize("why", ["malformed", "late"])
async def test_a_body_that_fails_after_the_answer_began_breaks_the_answer_off(rigs: Rigs, why: str) -> None:
    rig = await rigs(body_timeout_s=0.3, collect_bytes=100_000)
    await rig.replica(early, reads_body=False)
    client = await rig.client()
    client.send(request(None, fields=("Transfer-Encoding: chunked",)) + b"20000\r\n" + b"x" * 0x20000 + b"\r\n")
    await client.head()
    assert await anext(client.chunks()) == b"early"
    if why == "malformed":
        client.send(b"not a size\r\n")
    assert await client.end() == b"", "nothing may stand where the next chunk would"


async def test_an_early_answer_ends_the_exchange_and_the_rest_of_the_body_is_no_request(rigs: Rigs) -> None:
    rig = await rigs(collect_bytes=100_000)
    await rig.replica(
        plays(answer_bytes(b"big", "413 Content Too Large", ("Connection: close",)), close=True), reads_body=False
    )
    client = await rig.client()
    hidden = get("/api/v1/service/iris/score?hidden")
    client.send(request(None, fields=("Content-Length: 200000",)) + b"x" * 100_000)
    answer = await client.answer()
    assert (answer.status, answer.body, answer.value("connection")) == (413, b"big", "close")
    client.send(hidden)
    assert await client.end() == b""


# ---- tunnels


async def test_a_websocket_passes_both_ways_if_the_version_allows_it(rig: Rig) -> None:
    switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-A: 1\r\n\r\nfirst"

    async def shout(wire: Wire, request: Request) -> None:
        await wire.send(switched)
        while data := await wire.reader.read(1000):
            await wire.send(data.upper())
        wire.close()

    replica = await rig.replica(shout)
    asks = get(fields=("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: abc"))
    plain = await rig.client()
    assert (await plain.ask(asks)).status == 502, "without leave nothing is switched"
    assert replica.seen[0].values(b"upgrade") == []
    rig.declare(endpoint(version(web_socket=True)))
    client = await rig.client()
    answer = await client.ask(asks)
    assert (answer.status, answer.value("upgrade")) == (101, "websocket")
    assert replica.seen[1].value(b"upgrade") == b"websocket"
    assert await client.reader.readexactly(5) == b"first"
    client.send(b"hello")
    assert await client.reader.readexactly(5) == b"HELLO"
    assert rig.busy() == 1
    client.leave()
    await eventually(lambda: rig.busy() == 0)
