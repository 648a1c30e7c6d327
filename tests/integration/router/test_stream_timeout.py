"""Streamed responses with `streamIdleTimeoutMs`: as long as pieces come, the scoring timeout does not end them."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.fakes.clock import eventually
from tests.integration.router.clients import get
from tests.integration.router.logged_requests import LoggedRequests
from tests.integration.router.replicas import Request, Wire, plays
from tests.integration.router.rig import Rig, endpoint, version

Rigs = Callable[..., Awaitable[Rig]]

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
PIECE = b"5\r\nhello\r\n"


async def test_a_stream_may_last_longer_than_the_scoring_timeout(rig: Rig) -> None:
    rig.declare(endpoint(version(scoring_timeout_s=0.3, stream_idle_timeout_s=5.0)))
    await rig.replica(plays(HEAD, *[part for _ in range(8) for part in (PIECE, 0.1)], b"0\r\n\r\n"))
    client = await rig.client()
    began = rig.gateway.now()
    assert (await client.ask(get())).body == b"hello" * 8
    assert rig.gateway.now() - began > 0.6
    assert rig.busy() == 0


async def test_without_it_the_scoring_timeout_ends_the_stream(rig: Rig) -> None:
    rig.declare(endpoint(version(scoring_timeout_s=0.3)))
    await rig.replica(plays(HEAD, *[part for _ in range(50) for part in (PIECE, 0.1)], b"0\r\n\r\n"))
    client = await rig.client()
    client.send(get())
    await client.head()
    rest = await client.end()
    assert rest.endswith(PIECE) and len(rest) < 50 * len(PIECE)


async def test_a_gap_longer_than_the_limit_ends_the_stream_without_its_last_chunk(rig: Rig) -> None:
    rig.declare(endpoint(version(stream_idle_timeout_s=0.2)))
    log = LoggedRequests(rig)
    await rig.replica(plays(HEAD + PIECE, 30.0))
    client = await rig.client()
    client.send(get())
    await client.head()
    assert await client.end() == PIECE
    await eventually(lambda: rig.busy() == 0)
    (record,) = log.read()
    assert (record["status"], record["code"]) == (504, "ScoringTimeout")
    assert rig.gateway.stats.counters["scoring_timeouts"] == 1


async def test_the_first_byte_is_still_bound_by_the_scoring_timeout(rig: Rig) -> None:
    rig.declare(endpoint(version(scoring_timeout_s=0.2, stream_idle_timeout_s=30.0)))
    await rig.replica(plays(30.0))
    answer = await (await rig.client()).ask(get())
    assert (answer.status, answer.code) == (504, "ScoringTimeout")


@pytest.mark.parametrize("closes", [False, True])
async def test_a_gap_that_a_slow_reader_makes_is_not_the_replicas(rigs: Rigs, closes: bool) -> None:
    rig = await rigs(send_buffer=4096, collect_bytes=65_536)
    rig.declare(endpoint(version(stream_idle_timeout_s=0.2)))
    piece = b"10000\r\n" + b"x" * 65_536 + b"\r\n"

    async def stream(wire: Wire, request: Request) -> None:
        await wire.send(HEAD, *[piece] * 200, b"0\r\n\r\n")

    await rig.replica(stream)
    client = await rig.client(receive_buffer=4096)
    client.send(get(fields=("Connection: close",) if closes else ()))
    await eventually(lambda: any(each.write_paused for each in rig.gateway.clients))
    await asyncio.sleep(0.5)  # more than the longest gap
    assert rig.busy() == 1
    assert len((await client.answer()).body) == 200 * 65_536


async def test_a_stream_whose_client_leaves_leaves_no_timer(rig: Rig) -> None:
    rig.declare(endpoint(version(stream_idle_timeout_s=0.2)))
    await rig.replica(plays(HEAD + PIECE, 30.0))
    client = await rig.client()
    client.send(get())
    await client.head()
    client.leave()
    await eventually(lambda: rig.busy() == 0)
    await asyncio.sleep(0.3)
    assert rig.gateway.stats.counters["scoring_timeouts"] == 0
