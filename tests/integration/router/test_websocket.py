"""Connections that become WebSockets: bytes pass both ways, the slot is held, and either side can end it."""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import ClientSession, WSMsgType, web

from cluster.link import RemoveReplica, UpsertReplica
from tests.fakes.clock import eventually, stands_still
from tests.integration.router.clients import SCORE, BrokenOff, Client, get, request
from tests.integration.router.flood import MB, Flood, held_in_memory, pattern
from tests.integration.router.replicas import OK, Replica, Request, Script, Wire, echo, plays, silent
from tests.integration.router.rig import Rig, declared, endpoint, version

Rigs = Callable[..., Awaitable[Rig]]

# The two loops report a paused or closed connection differently.
ON_EVERY_LOOP = True

ASKS = get(fields=("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: abc", "Sec-WebSocket-Version: 13"))
SWITCHED = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: xyz\r\n\r\n"


async def shout(wire: Wire, request: Request) -> None:
    """Says everything again, louder, until the router ends the connection."""
    await wire.send(SWITCHED)
    while data := await wire.reader.read(65_536):
        await wire.send(data.upper())
    wire.close()


def switches(then: Callable[[Wire], Awaitable[None]]) -> Script:
    """Becomes a WebSocket and does this with it."""

    async def script(wire: Wire, request: Request) -> None:
        await wire.send(SWITCHED)
        await then(wire)

    return script


async def opened(rig: Rig, script: Script = shout, receive_buffer: int | None = None, **changed: Any) -> Client:
    """A client of a version that takes WebSockets, with one open."""
    rig.declare(endpoint(version(web_socket=True, **changed)))
    if not rig.replicas:
        await rig.replica(script)
    client = await rig.client(receive_buffer)
    answer = await client.ask(ASKS)
    assert (answer.status, answer.value("upgrade"), answer.value("connection")) == (101, "websocket", "Upgrade")
    return client


def only(rig: Rig) -> Replica:
    (replica,) = rig.replicas.values()
    return replica


# ---- asking for one


async def test_websocket_fields_pass_in_both_directions(rig: Rig) -> None:
    client = await opened(rig)
    (seen,) = only(rig).seen
    assert seen.value(b"upgrade") == b"websocket"
    assert seen.value(b"connection") == b"Upgrade"
    assert seen.value(b"sec-websocket-key") == b"abc"
    client.send(b"hello")
    assert await client.reader.readexactly(5) == b"HELLO"


async def test_the_answer_to_an_upgrade_has_the_fields_of_every_answer(rig: Rig) -> None:
    rig.declare(endpoint(version(web_socket=True)))
    await rig.replica(shout)
    answer = await (await rig.client()).ask(ASKS)
    assert answer.value("sec-websocket-accept") == "xyz"
    assert answer.value("azureml-model-deployment") == "blue"
    assert len(answer.value("x-ms-request-id")) == 36
    assert answer.values("content-length") == answer.values("transfer-encoding") == []


async def test_without_leave_the_question_is_left_out_and_the_answer_is_an_ordinary_one(rig: Rig) -> None:
    replica = await rig.replica(echo)
    client = await rig.client()
    for _ in range(2):
        assert (await client.ask(ASKS)).status == 200
    assert replica.seen[0].values(b"upgrade") == replica.seen[0].values(b"connection") == []


@pytest.mark.parametrize(
    "asks",
    [
        get(fields=("Connection: Upgrade", "Upgrade: h2c")),
        get(fields=("Connection: Upgrade", "Upgrade: websocket, h2c")),
        get(fields=("Connection: Upgrade", "Upgrade: websocket", "Upgrade: websocket")),
        get(fields=("Upgrade: websocket",)),
        request(b"x", "/api/v1/service/iris/score", "POST", ("Connection: Upgrade", "Upgrade: websocket")),
        request(b"x", "/api/v1/service/iris/score", "GET", ("Connection: Upgrade", "Upgrade: websocket")),
        request(None, method="GET", fields=("Connection: Upgrade", "Upgrade: websocket"), minor=0),
    ],
    ids=["h2c", "two protocols", "twice", "not nominated", "POST", "with a body", "HTTP/1.0"],
)
async def test_an_invalid_upgrade_is_not_forwarded_and_must_not_be_answered_by_switching(rig: Rig, asks: bytes) -> None:
    rig.declare(endpoint(version(web_socket=True)))
    replica = await rig.replica(plays(SWITCHED, b"hidden"))
    answer = await (await rig.client()).ask(asks)
    assert (answer.status, answer.code) == (502, "ReplicaFailed")
    assert replica.seen[0].values(b"upgrade") == []
    assert b"hidden" not in answer.body


@pytest.mark.parametrize("protocol", [b"Upgrade: h2c\r\n", b"", b"Upgrade: websocket\r\nUpgrade: x\r\n"])
async def test_a_replica_that_switches_to_something_else_has_failed(rig: Rig, protocol: bytes) -> None:
    rig.declare(endpoint(version(web_socket=True)))
    await rig.replica(plays(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n" + protocol + b"\r\n"))
    answer = await (await rig.client()).ask(ASKS)
    assert (answer.status, answer.code) == (502, "ReplicaFailed")


async def test_a_replica_may_refuse_and_the_connection_goes_on(rig: Rig) -> None:
    rig.declare(endpoint(version(web_socket=True)))
    replica = await rig.replica(plays(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno"))
    client = await rig.client()
    for _ in range(2):
        answer = await client.ask(ASKS)
        assert (answer.status, answer.body) == (426, b"no")
    assert replica.connections == 1


# ---- bytes


@pytest.mark.parametrize("size", [5, 60_000, 3 * MB])
async def test_bytes_of_the_client_before_the_101_are_not_lost(rig: Rig, size: int) -> None:
    go_on = asyncio.Event()
    got = hashlib.sha256()

    async def late(wire: Wire, request: Request) -> None:
        await go_on.wait()
        await wire.send(SWITCHED)
        left = size
        while left:
            data = await wire.reader.read(65_536)
            got.update(data)
            left -= len(data)
        await wire.send(b"got it")

    rig.declare(endpoint(version(web_socket=True)))
    await rig.replica(late)
    client = await rig.client()
    client.send(ASKS + pattern(size) if size > 8 else ASKS + b"early")
    await eventually(lambda: rig.busy() == 1)
    assert await stands_still(lambda: held_in_memory(rig)) < MB
    go_on.set()
    assert (await client.answer()).status == 101
    assert await client.reader.readexactly(6) == b"got it"
    assert got.digest() == hashlib.sha256(pattern(size) if size > 8 else b"early").digest()


async def test_bytes_of_the_replica_with_its_101_are_not_lost(rig: Rig) -> None:
    rig.declare(endpoint(version(web_socket=True)))
    body = pattern(MB)
    await rig.replica(plays(SWITCHED + body[:100_000], body[100_000:]))
    client = await rig.client()
    assert (await client.ask(ASKS)).status == 101
    assert await client.reader.readexactly(len(body)) == body


async def test_a_slow_client_pauses_the_replica_and_loses_nothing(rig: Rig) -> None:
    flood = Flood(60)
    client = await opened(rig, switches(flood.pour), receive_buffer=65_536)
    await flood.is_paused()
    assert held_in_memory(rig) < MB
    await flood.arrives(client.reader)


async def test_a_slow_replica_pauses_the_client_and_loses_nothing(rig: Rig) -> None:
    go_on, got, size = asyncio.Event(), hashlib.sha256(), 60 * MB

    async def sip(wire: Wire) -> None:
        await go_on.wait()
        left = size
        while left:
            data = await wire.reader.read(1 << 18)
            got.update(data)
            left -= len(data)
        await wire.send(b"done")

    client = await opened(rig, switches(sip))
    body, sent = pattern(MB), 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.8):
            while sent < size:
                client.send(body)
                sent += MB
                await client.writer.drain()
    assert sent < size
    assert held_in_memory(rig) < MB
    go_on.set()
    while sent < size:
        client.send(body)
        sent += MB
    assert await client.reader.readexactly(4) == b"done"
    assert got.digest() == hashlib.sha256(body * 60).digest()


async def test_both_ways_at_once(rig: Rig) -> None:
    client = await opened(rig)
    body = pattern(4 * MB).lower()
    writing = asyncio.create_task(pour_into(client, body), name="write")
    assert await client.reader.readexactly(len(body)) == body.upper()
    await writing


async def pour_into(client: Client, body: bytes) -> None:
    for at in range(0, len(body), 100_000):
        client.send(body[at : at + 100_000])
        await client.writer.drain()


# ---- the end


async def test_the_replica_ends_it_and_its_last_words_arrive(rig: Rig) -> None:
    async def say_and_go(wire: Wire) -> None:
        await wire.send(pattern(200_000))
        wire.close()

    client = await opened(rig, switches(say_and_go))
    client.send(b"x" * 50_000)  # bytes not read by the replica must not discard its last ones
    assert await client.end() == pattern(200_000)
    await eventually(lambda: rig.busy() == 0)
    client.leave()
    await eventually(rig.gateway.clients.empty.is_set)


async def test_the_client_ends_it_and_its_last_words_arrive(rig: Rig) -> None:
    heard: list[bytes] = []
    go_on, ended = asyncio.Event(), asyncio.Event()

    async def hear(wire: Wire) -> None:
        await go_on.wait()
        while data := await wire.reader.read(65_536):
            heard.append(data)
        ended.set()

    client = await opened(rig, switches(hear))
    body = pattern(50_000)
    client.send(body)
    client.writer.close()
    await eventually(lambda: rig.busy() == 0)
    go_on.set()
    async with asyncio.timeout(5):
        await ended.wait()
    assert b"".join(heard) == body
    assert rig.gateway.stats.counters["client_gone"] == 0, "nothing was broken off"


async def test_last_words_that_the_replica_has_no_room_for_yet_arrive_when_it_has(rigs: Rigs) -> None:
    rig = await rigs(buffer_bytes=2 * MB)
    heard, go_on, ended = 0, asyncio.Event(), asyncio.Event()

    async def hear(wire: Wire) -> None:
        nonlocal heard
        await go_on.wait()
        while data := await wire.reader.read(1 << 18):
            heard += len(data)
        ended.set()

    client = await opened(rig, switches(hear))
    sent = 0
    while not held_in_memory(rig):  # the systems on the way are full, the router is not: it goes on reading
        client.send(b"x" * 500_000)
        sent += 500_000
        await client.writer.drain()
        await asyncio.sleep(0.01)
    client.writer.close()
    await eventually(lambda: rig.busy() == 0)
    go_on.set()
    async with asyncio.timeout(5):
        await ended.wait()
    assert heard == sent


@pytest.mark.parametrize("who", ["client", "replica"])
async def test_a_reset_of_one_side_ends_the_other(rig: Rig, who: str) -> None:
    heard, left = asyncio.Event(), asyncio.Event()

    async def hold(wire: Wire) -> None:
        if who == "replica":
            await wire.send(b"bye")
            await heard.wait()
            wire.reset()
        else:
            await wire.router_left()
        left.set()

    client = await opened(rig, switches(hold))
    if who == "client":
        client.leave()
    else:
        assert await client.reader.readexactly(3) == b"bye"
        heard.set()
        with pytest.raises(BrokenOff):
            await client.end()
    async with asyncio.timeout(5):
        await left.wait()
    await eventually(lambda: rig.busy() == 0)
    await eventually(rig.gateway.clients.empty.is_set)


async def test_a_replica_that_never_takes_the_last_words_is_left_all_the_same(rig: Rig) -> None:
    left = asyncio.Event()

    async def deaf(wire: Wire) -> None:
        try:
            while True:
                await wire.send(b".")
                await asyncio.sleep(0.05)
        except ConnectionError:
            left.set()

    client = await opened(rig, switches(deaf))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.3):
            while True:
                client.send(b"x" * MB)
                await client.writer.drain()
    client.leave()
    await eventually(lambda: rig.busy() == 0)
    async with asyncio.timeout(5):
        await left.wait()


async def test_the_connection_of_a_websocket_is_not_reused(rig: Rig) -> None:
    calls = 0

    async def switch_once(wire: Wire, request: Request) -> None:
        nonlocal calls
        calls += 1
        await wire.send(SWITCHED if calls == 1 else OK)
        if calls == 1:
            wire.close()

    client = await opened(rig, switch_once)
    assert await client.end() == b""
    client.leave()
    assert (await (await rig.client()).ask(get())).body == b"hello"
    assert only(rig).connections == 2


# ---- the slot and the times


async def test_a_slot_is_held_as_long_as_the_websocket_lives(rig: Rig) -> None:
    first = await opened(rig)
    assert rig.busy() == 1
    second = await rig.client()
    second.send(ASKS)
    await eventually(lambda: rig.waiting() == 1)
    first.writer.close()
    assert (await second.answer()).status == 101
    second.send(b"mine")
    assert await second.reader.readexactly(4) == b"MINE"
    assert only(rig).most_at_once <= 2  # the first connection's end may be seen a moment after its slot is free


async def test_the_scoring_timeout_is_for_the_answer_not_for_the_websocket(rig: Rig) -> None:
    client = await opened(rig, scoring_timeout_s=0.2)
    await asyncio.sleep(0.5)
    client.send(b"still there")
    assert await client.reader.readexactly(11) == b"STILL THERE"
    assert rig.busy() == 1
    assert not rig.gateway.deadlines._running, "nothing is left to be timed"


async def test_a_replica_that_does_not_answer_the_question_in_time_has_failed(rig: Rig) -> None:
    rig.declare(endpoint(version(web_socket=True, scoring_timeout_s=0.2)))
    await rig.replica(silent)
    answer = await (await rig.client()).ask(ASKS)
    assert (answer.status, answer.code) == (504, "ScoringTimeout")


async def test_requests_beside_a_websocket_are_timed_as_ever(rig: Rig) -> None:
    async def either(wire: Wire, request: Request) -> None:
        await (shout if request.values(b"upgrade") else silent)(wire, request)

    rig.declare(endpoint(version(web_socket=True, scoring_timeout_s=0.3)))
    await rig.replica(either, slots=3)
    before, client = await rig.client(), await rig.client()
    before.send(get())
    await eventually(lambda: rig.busy() == 1)
    assert (await client.ask(ASKS)).status == 101
    after = await rig.client()
    after.send(get())
    for each in (before, after):
        assert (await each.answer()).status == 504
    client.send(b"x")
    assert await client.reader.readexactly(1) == b"X"


async def test_an_idle_websocket_is_closed_on_both_sides(rigs: Rigs) -> None:
    rig = await rigs(tunnel_idle_s=0.3)
    left = asyncio.Event()

    async def hold(wire: Wire) -> None:
        await wire.router_left()
        left.set()

    client = await opened(rig, switches(hold))
    assert await client.end() == b""
    async with asyncio.timeout(5):
        await left.wait()
    assert rig.busy() == 0
    assert rig.gateway.stats.counters["tunnels_idle"] == 1


async def test_a_websocket_that_is_idle_after_a_pause_is_closed_too(rigs: Rigs) -> None:
    rig = await rigs(send_buffer=4096, buffer_bytes=8192, tunnel_idle_s=0.5)
    body = pattern(60_000)

    async def say(wire: Wire) -> None:
        await wire.send(body)
        await wire.router_left()

    client = await opened(rig, switches(say), receive_buffer=4096)
    await eventually(lambda: any(each.write_paused for each in rig.gateway.clients))
    assert await client.end() == body
    assert rig.gateway.stats.counters["tunnels_idle"] == 1


@pytest.mark.parametrize("who", ["client", "replica"])
async def test_bytes_in_either_direction_keep_a_websocket_alive(rigs: Rigs, who: str) -> None:
    rig = await rigs(tunnel_idle_s=0.3)

    async def talk(wire: Wire) -> None:
        for _ in range(8):
            if who == "replica":
                await wire.send(b"r")
                await asyncio.sleep(0.1)
            else:
                await wire.reader.readexactly(1)
        await wire.send(b"end")

    client = await opened(rig, switches(talk))
    for _ in range(8):
        if who == "client":
            client.send(b"c")
            await asyncio.sleep(0.1)
        else:
            await client.reader.readexactly(1)
    assert await client.reader.readexactly(3) == b"end"


async def test_a_client_that_takes_nothing_is_cut_off(rigs: Rigs) -> None:
    rig = await rigs(write_timeout_s=0.3, tunnel_idle_s=60)

    async def pour(wire: Wire) -> None:
        while True:
            await wire.send(b"x" * MB)

    client = await opened(rig, switches(pour), receive_buffer=4096)
    client.send(b"I only talk")
    await eventually(rig.gateway.clients.empty.is_set)
    assert rig.busy() == 0


async def test_a_replica_that_goes_ends_its_websockets_and_one_that_retires_keeps_them(rig: Rig) -> None:
    client = await opened(rig)
    assert rig.gateway.dispatcher.retire(rig.queue().key, 1) == ["r0"]
    client.send(b"still")
    assert await client.reader.readexactly(5) == b"STILL"
    assert rig.drained == []
    only(rig).kill()
    assert await client.end() == b""
    rig.tell(RemoveReplica("r0"))
    assert rig.busy() == 0
    client.leave()


async def test_a_websocket_is_counted_once_when_it_ends(rig: Rig) -> None:
    client = await opened(rig)
    stats = rig.gateway.stats.version(rig.queue().key)
    assert stats.requests == {}
    client.writer.close()
    await eventually(lambda: stats.requests == {101: 1})


# ---- as people use it


async def test_a_real_client_talks_to_a_real_server(rig: Rig) -> None:
    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_str(f"{request.query['who']}: {message.data}")
            elif message.type is WSMsgType.BINARY:
                await socket.send_bytes(message.data[::-1])
        return socket

    app = web.Application()
    app.router.add_get("/chat", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    rig.declare(endpoint(version(web_socket=True)))
    rig.tell(UpsertReplica(declared("real", runner.addresses[0][1])))
    url = f"http://127.0.0.1:{rig.port}{SCORE.removesuffix('score')}chat?who=router"
    body = pattern(2 * MB)
    try:
        async with ClientSession() as session, session.ws_connect(url, max_msg_size=0) as socket:
            await socket.send_str("hello")
            assert await socket.receive_str() == "router: hello"
            await socket.send_bytes(body)
            assert await socket.receive_bytes() == body[::-1]
            await socket.ping()
            await socket.close(code=4000)
            assert socket.close_code == 1000, "what the server answers; 1006 would be a connection cut off"
        await eventually(lambda: rig.busy() == 0)
    finally:
        await runner.cleanup()
