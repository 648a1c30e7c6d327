"""Slots are for the work of replicas: clients that send or read slowly, or go on sending after a refusal."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from serving.endpoint import Auth
from tests.fakes.clock import eventually, stands_still
from tests.integration.router.clients import Answer, Client, get, request
from tests.integration.router.flood import MB, pattern
from tests.integration.router.replicas import Request, Wire, answer_bytes, answers, echo, plays
from tests.integration.router.rig import Rig, endpoint, version

Rigs = Callable[..., Awaitable[Rig]]

ON_EVERY_LOOP = True
SMALL = 4096
"""Buffers that make a client slow at once."""


async def slow_reader(rig: Rig, data: bytes) -> Client:
    """A client that has asked and reads nothing yet."""
    client = await rig.client(receive_buffer=SMALL)
    client.send(data)
    return client


def paused(rig: Rig) -> int:
    return sum(client.write_paused for client in rig.gateway.clients)


# ---- slow senders


@pytest.mark.parametrize("coded", [False, True], ids=["length", "chunked"])
async def test_a_slow_upload_takes_a_slot_only_when_it_is_whole(rig: Rig, coded: bool) -> None:
    replica = await rig.replica(echo)
    slow, other = await rig.client(), await rig.client()
    body = pattern(3 * MB)
    wire = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if coded else body
    fields = ("Transfer-Encoding: chunked",) if coded else (f"Content-Length: {len(body)}",)
    slow.send(request(None, fields=fields) + wire[: 2 * MB])
    await eventually(lambda: rig.gateway.bodies.used_bytes > MB)
    assert (await other.ask(request())).status == 200
    assert rig.busy() == 0 and len(replica.seen) == 1
    assert (await slow.ask(wire[2 * MB :])).body == body
    assert rig.gateway.bodies.used_bytes == 0


async def test_a_slow_upload_that_ends_early_gives_its_memory_back(rig: Rig) -> None:
    await rig.replica(echo)
    slow = await rig.client()
    slow.send(request(None, fields=("Content-Length: 3000000",)) + b"x" * MB)
    await eventually(lambda: rig.gateway.bodies.used_bytes > 0)
    slow.leave()
    await eventually(lambda: rig.gateway.bodies.used_bytes == 0)


@pytest.mark.parametrize("limits", [{"collect_bytes": MB}, {"collect_total_bytes": 100_000}], ids=["one", "total"])
async def test_above_the_limits_a_body_is_streamed_with_the_slot_held(rigs: Rigs, limits: dict[str, int]) -> None:
    rig = await rigs(**limits)
    await rig.replica(echo)
    client = await rig.client()
    body = pattern(2 * MB)
    client.send(request(None, fields=(f"Content-Length: {len(body)}",)) + body[:MB])
    await eventually(lambda: rig.busy() == 1)
    assert rig.gateway.bodies.used_bytes == 0
    assert (await client.ask(body[MB:])).body == body


# ---- slow readers


@pytest.mark.parametrize("closes", [False, True], ids=["kept", "closed"])
@pytest.mark.parametrize("framing", ["length", "chunked", "until close"])
async def test_the_slot_of_a_slow_reader_is_free_once_its_answer_is_held(
    rigs: Rigs, framing: str, closes: bool
) -> None:
    rig = await rigs(send_buffer=SMALL)
    body = pattern(5 * MB)

    async def script(wire: Wire, seen: Request) -> None:
        if framing == "length":
            await wire.send(answer_bytes(body))
        elif framing == "chunked":
            await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(body), body)
            await wire.send(b"\r\n0\r\n\r\n")
        else:
            await wire.send(b"HTTP/1.1 200 OK\r\n\r\n", body)
            wire.close()

    replica = await rig.replica(script)
    slow = await slow_reader(rig, get(fields=("Connection: close",) if closes else ()))
    await eventually(lambda: bool(replica.seen) and rig.busy() == 0)
    assert paused(rig) == 1 and rig.gateway.bodies.used_bytes > 4 * MB
    replica.script = answers()
    assert (await (await rig.client()).ask(get())).status == 200
    assert (await slow.answer()).body == body
    await eventually(lambda: rig.gateway.bodies.used_bytes == 0)


async def test_slow_readers_beyond_the_total_hold_their_slots_and_pause_the_replica(rigs: Rigs) -> None:
    rig = await rigs(send_buffer=SMALL, collect_total_bytes=5 * MB)
    body = pattern(4 * MB)
    await rig.replica(answers(body), slots=2)
    one = await slow_reader(rig, get())
    await eventually(lambda: paused(rig) == 1 and rig.busy() == 0)
    two = await slow_reader(rig, get())
    await eventually(lambda: paused(rig) == 2)
    assert await stands_still(rig.busy) == 1
    assert rig.gateway.bodies.used_bytes <= 5 * MB
    assert [(await each.answer()).body == body for each in (two, one)] == [True, True]


async def test_an_answer_over_the_limit_is_not_held(rigs: Rigs) -> None:
    rig = await rigs(send_buffer=SMALL, collect_bytes=MB)
    body = pattern(8 * MB)
    await rig.replica(answers(body))
    slow = await slow_reader(rig, get())
    await eventually(lambda: paused(rig) == 1)
    assert await stands_still(rig.busy) == 1
    assert rig.gateway.bodies.used_bytes == 0
    assert (await slow.answer()).body == body


async def test_a_slow_reader_that_goes_on_reading_is_never_cut_off(rigs: Rigs) -> None:
    rig = await rigs(send_buffer=SMALL, write_timeout_s=0.3, buffer_bytes=8192)
    body = pattern(MB)
    await rig.replica(answers(body))
    slow = await slow_reader(rig, get(fields=("Connection: close",)))
    await eventually(lambda: paused(rig) == 1 and rig.busy() == 0)
    _, _, fields = await slow.head()
    assert dict(fields)["content-length"] == str(len(body))
    came, ends_at = b"", rig.gateway.now() + 1.5
    while rig.gateway.now() < ends_at:  # several times the write timeout
        came += await slow.reader.readexactly(8192)
        await asyncio.sleep(0.05)
    assert 0 < len(came) < len(body)
    assert came + await slow.reader.read(-1) == body


async def test_a_slow_reader_that_stops_gives_its_memory_back(rigs: Rigs) -> None:
    rig = await rigs(send_buffer=SMALL, write_timeout_s=0.2)
    await rig.replica(answers(pattern(4 * MB)))
    await slow_reader(rig, get(fields=("Connection: close",)))
    await eventually(lambda: rig.gateway.bodies.used_bytes > 0)
    await eventually(rig.gateway.clients.empty.is_set)
    assert rig.gateway.bodies.used_bytes == 0


# ---- refused while sending


async def all_then_answer(client: Client, size: int, fields: tuple[str, ...] = ()) -> Answer:
    """As many clients do: send the whole body, then read."""
    client.send(request(None, fields=(f"Content-Length: {size}", *fields)))
    for at in range(0, size, MB):
        client.send(b"x" * min(MB, size - at))
        await client.writer.drain()
    return await client.answer()


@pytest.mark.parametrize(("status", "size"), [(401, 20 * MB), (413, 31 * MB), (503, 9 * MB), (404, 9 * MB)])
async def test_a_refusal_reaches_a_client_that_sends_its_whole_body_first(rigs: Rigs, status: int, size: int) -> None:
    rig = await rigs(max_body_bytes=30 * MB)
    rig.declare(endpoint(version(queue_wait_s=0.05), auth=Auth.KEY if status == 401 else Auth.NONE))
    if status == 404:
        rig.declare(endpoint(version(), name="other"))
        rig.worker.gateway.table.remove("iris")
    for _ in range(3):
        client = await rig.client()
        answer = await all_then_answer(client, size)
        assert (answer.status, answer.value("connection")) == (status, "close")
        client.leave()


async def test_the_rest_of_a_refused_body_is_not_read_without_end(rigs: Rigs) -> None:
    rig = await rigs(max_body_bytes=MB)
    rig.declare(endpoint(auth=Auth.KEY))
    client = await rig.client()
    client.send(request(None, fields=("Content-Length: 1000000",)) + b"x" * (5 * MB))
    await eventually(rig.gateway.clients.empty.is_set)


# ---- cut answers


@pytest.mark.parametrize("coded", [False, True], ids=["length", "chunked"])
async def test_a_cut_answer_ends_with_the_connection_after_all_that_came(rig: Rig, coded: bool) -> None:
    rig.declare(endpoint(version(scoring_timeout_s=0.3)))
    framing, body = (b"Transfer-Encoding: chunked", b"5\r\nhello\r\n") if coded else (b"Content-Length: 100", b"hello")
    await rig.replica(plays(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n" + body, 30.0))
    client = await rig.client()
    client.send(get())
    await client.head()
    assert await client.end() == body, "no reset, and no last chunk"
