"""A client's connection: requests one after another, many at once, in pieces, and its end."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from router.core.slot_messages import Recall
from router.proxy import upstream_pool
from tests.fakes.clock import eventually
from tests.integration.router.clients import SCORE, get, request
from tests.integration.router.replicas import Request, Wire, echo, when
from tests.integration.router.rig import Rig, endpoint, version

Rigs = Callable[..., Awaitable[Rig]]

BAD = b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: nope\r\n\r\n"


async def test_pipelined_requests_are_answered_in_order_for_any_duration(rig: Rig) -> None:
    chance = random.Random(3)

    async def work(wire: Wire, request: Request) -> None:
        await asyncio.sleep(chance.uniform(0, 0.003))
        await echo(wire, request)

    replica = await rig.replica(work, slots=8)
    client = await rig.client()
    bodies = [b"%d" % number * chance.choice([1, 100, 30_000]) for number in range(40)]
    chunked = request(None, fields=("Transfer-Encoding: chunked",)) + b"2\r\nab\r\n0\r\n\r\n"
    client.send(b"".join(request(body) + chunked for body in bodies))
    for body in bodies:
        assert (await client.answer()).body == body
        assert (await client.answer()).body == b"ab"
    assert replica.most_at_once == 1, "one at a time for each connection"


async def test_a_good_request_before_a_bad_one_is_answered_and_nothing_after_it_is_looked_at(rig: Rig) -> None:
    replica = await rig.replica()
    client = await rig.client()
    client.send(get() + BAD + get())
    assert [(await client.answer()).status for _ in range(2)] == [200, 400]
    assert await client.end() == b""
    assert len(replica.seen) == 1


@pytest.mark.parametrize(
    "data",
    [get(fields=("Connection: close",)), request(b"x", minor=0), get(fields=("Connection: keep-alive, Close",))],
    ids=["close", "1.0", "among others"],
)
async def test_nothing_is_served_after_the_last_request_of_a_connection(rig: Rig, data: bytes) -> None:
    replica = await rig.replica()
    client = await rig.client()
    client.send(data + get())
    answer = await client.answer()
    assert (answer.status, answer.value("connection")) == (200, "close")
    assert await client.end() == b""
    assert len(replica.seen) == 1


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 50])
async def test_requests_may_come_in_pieces_of_any_size(rig: Rig, cut: int) -> None:
    await rig.replica(echo)
    client = await rig.client()
    chunked = request(None, fields=("Transfer-Encoding: chunked",)) + b"3;x=1\r\nabc\r\n2\r\nde\r\n0\r\nA: b\r\n\r\n"
    data = (request(b"hello") + chunked) * 2 + b"\r\n" + get()
    for at in range(0, len(data), cut):
        client.send(data[at : at + cut])
        await asyncio.sleep(0)
    assert [(await client.answer()).body for _ in range(5)] == [b"hello", b"abcde", b"hello", b"abcde", b""]


async def test_the_same_head_with_another_length_of_body_is_not_mistaken_for_the_one_before(rig: Rig) -> None:
    """A repeated head is recognised by its bytes; the rest must fit exactly."""
    replica = await rig.replica(echo)
    client = await rig.client()
    one = request(b"12345")
    assert (await client.ask(one)).body == b"12345"
    client.send(one + one[:20])
    assert (await client.answer()).body == b"12345"
    client.send(one[20:-2])
    await eventually(lambda: any(each.exchange is not None for each in rig.gateway.clients))
    assert len(replica.seen) == 2
    client.send(one[-2:] + request(b"123456"))
    assert [(await client.answer()).body for _ in range(2)] == [b"12345", b"123456"]
    assert (await client.ask(get(SCORE + "2"))).body == b""


@pytest.mark.parametrize("cut", [10_000, 200, 7])
async def test_bodies_of_many_lengths_on_one_connection_arrive_as_they_are(rig: Rig, cut: int) -> None:
    replica = await rig.replica(echo)
    client = await rig.client()
    bodies = [b"x" * length for length in (5, 12, 5, 99, 1000, 1, 0, 1)]
    for body in bodies:
        data = request(body)
        for at in range(0, len(data), cut):
            client.send(data[at : at + cut])
            await asyncio.sleep(0)
        assert (await client.answer()).body == body
    assert [each.body for each in replica.seen] == bodies


@pytest.mark.parametrize("minor", [0, 1])
@pytest.mark.parametrize("body", [None, b"x", b"y" * 200_000])
async def test_a_client_that_half_closes_behind_a_whole_request_gets_its_answer(
    rig: Rig, minor: int, body: bytes | None
) -> None:
    go_on = asyncio.Event()
    await rig.replica(when(go_on))
    client = await rig.client()
    client.send(request(body, minor=minor))
    client.writer.write_eof()
    await eventually(rig.busy)
    await rig.swept(3)
    assert rig.busy() == 1
    go_on.set()
    answer = await client.answer()
    assert (answer.status, answer.body) == (200, b"hello")
    assert await client.end() == b""


@pytest.mark.parametrize("path", ["/healthz", "/nothing", SCORE])
async def test_a_client_that_half_closes_gets_the_routers_own_answers_too(rig: Rig, path: str) -> None:
    client = await rig.client()
    rig.declare(endpoint(version(queue_wait_s=0.05)))
    client.send(get(path))
    client.writer.write_eof()
    assert (await client.answer()).status == {"/healthz": 200, "/nothing": 404, SCORE: 503}[path]
    assert await client.end() == b""


async def test_all_pipelined_requests_before_a_half_close_are_answered_and_a_part_of_one_is_not(rig: Rig) -> None:
    replica = await rig.replica(echo)
    client = await rig.client()
    client.send(b"".join(request(b"%d" % number) for number in range(3)) + request(b"cut")[:-1])
    client.writer.write_eof()
    assert [(await client.answer()).body for _ in range(3)] == [b"0", b"1", b"2"]
    await client.end()
    assert len(replica.seen) == 3


async def test_a_half_closed_client_reads_a_stream_to_its_end(rig: Rig) -> None:
    go_on = asyncio.Event()

    async def stream(wire: Wire, request: Request) -> None:
        await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await go_on.wait()
        await wire.send(b"3\r\ntwo\r\n0\r\n\r\n")

    await rig.replica(stream)
    client = await rig.client()
    client.send(get())
    await client.head()
    client.writer.write_eof()
    await rig.swept(3)
    go_on.set()
    assert [piece async for piece in client.chunks()] == [b"one", b"two"]


@pytest.mark.parametrize("begun", [False, True])
async def test_a_client_that_closes_its_connection_has_left(rig: Rig, begun: bool) -> None:
    async def stuck(wire: Wire, request: Request) -> None:
        if begun:
            await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await wire.router_left()

    await rig.replica(stuck)
    client = await rig.client()
    client.send(get())
    await eventually(rig.busy)
    if begun:
        await client.head()
        await client.reader.readexactly(8)
    client.writer.close()
    await eventually(lambda: rig.busy() == 0, 0.4)


async def test_five_thousand_pipelined_requests_on_a_hundred_connections_are_all_answered(rig: Rig) -> None:
    replica = await rig.replica(echo, slots=64)

    async def ask(number: int) -> None:
        client = await rig.client()
        for turn in range(10):
            bodies = [b"%d.%d.%d" % (number, turn, each) for each in range(5)]
            client.send(b"".join(map(request, bodies)))
            assert [(await client.answer()).body for _ in bodies] == bodies

    await asyncio.gather(*(ask(number) for number in range(100)))
    assert len(replica.seen) == 5000


# ---- drain


async def test_draining_closes_idle_connections_and_ends_busy_ones_after_their_answer(rig: Rig) -> None:
    go_on = asyncio.Event()
    await rig.replica(when(go_on), slots=2)
    idle, busy = await rig.client(), await rig.client()
    assert (await idle.ask(get("/healthz"))).status == 200
    busy.send(get())
    await eventually(rig.busy)
    rig.gateway.drain()
    assert await idle.end() == b""
    go_on.set()
    answer = await busy.answer()
    assert (answer.status, answer.value("connection")) == (200, "close")
    assert await busy.end() == b""
    assert rig.gateway.clients.empty.is_set()


async def test_a_router_asks_its_clients_to_reconnect_before_it_drains(rig: Rig) -> None:
    await rig.replica()
    client = await rig.client()
    assert (await client.ask(get())).values("connection") == []
    rig.gateway.draining = True
    assert (await client.ask(get())).value("connection") == "close"
    assert await client.end() == b""


# ---- servers with one thread


async def test_a_connection_is_not_kept_for_ever_so_that_a_server_with_one_thread_serves_others(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = await rig.replica()
    client = await rig.client()
    assert [(await client.ask(get())).status for _ in range(3)] == [200] * 3
    assert replica.connections == 1
    monkeypatch.setattr(upstream_pool, "LONGEST_USE_S", 0.0)
    assert [(await client.ask(get())).status for _ in range(3)] == [200] * 3
    assert replica.connections == 3
    await eventually(lambda: replica.open_connections == 0)


async def test_idle_connections_are_closed_and_not_kept_for_a_while_when_another_worker_needs_the_replica(
    rig: Rig,
) -> None:
    replica = await rig.replica()
    client = await rig.client()
    assert (await client.ask(get())).status == 200
    rig.gateway.dispatcher.recalled("peer", Recall(rig.queue().key, rig.id_of(replica), None), rig.gateway.now())
    rig.gateway.effects.carry_out_all([])
    await eventually(lambda: replica.open_connections == 0)
    assert (await client.ask(get())).status == 200
    await eventually(lambda: replica.open_connections == 0)
    assert replica.connections == 2


@pytest.mark.parametrize(
    ("slots", "others", "stalls"), [(1, False, 1), (2, False, 0), (2, True, 1)], ids=("one-slot", "alone", "group")
)
async def test_silence_on_a_new_connection_to_a_replica_is_told_to_the_other_workers(
    rig: Rig, slots: int, others: bool, stalls: int
) -> None:
    if others:
        rig.gateway.dispatcher.group.linked["peer"] = None
    event = asyncio.Event()
    replica = await rig.replica(when(event), slots=slots)
    client = await rig.client()
    client.send(get())
    await eventually(lambda: replica.seen)
    asyncio.get_running_loop().call_later(3 * upstream_pool.STALL_S, event.set)
    assert (await client.answer()).status == 200
    assert rig.gateway.stats.counters["replica_stalled"] == stalls
