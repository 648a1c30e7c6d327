"""S6: partial heads take a bounded amount of memory in all, for any number of them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.proxy.connection_admission import HEAD_BLOCK_BYTES, HeadBudget, blocks
from router.settings import RouterSettings
from tests.fakes.clock import eventually
from tests.integration.router.clients import get, request
from tests.integration.router.replicas import echo
from tests.integration.router.rig import Rig

HALF = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: "
Rigs = Callable[..., Awaitable[Rig]]


@pytest.fixture
async def rigs() -> AsyncIterator[Rigs]:
    async with AsyncExitStack() as stack:

        async def start(**changed: Any) -> Rig:
            rig = Rig(RouterSettings(**changed))
            await rig.start()
            stack.push_async_callback(rig.stop)
            return rig

        yield start


def kept(rig: Rig) -> int:
    """Bytes that the clients' buffers hold."""
    return sum(len(client._buffer) for client in rig.gateway.clients)


async def test_above_the_limit_the_head_that_began_first_is_answered_408(rigs: Rigs) -> None:
    rig = await rigs(half_heads_bytes=4 * HEAD_BLOCK_BYTES)
    slow = []
    for number in range(1, 7):
        client = await rig.client()
        client.send(HALF)
        slow.append(client)
        count = min(number, 4)
        await eventually(lambda count=count: rig.gateway.clients.heads.total_bytes == count * HEAD_BLOCK_BYTES)  # type: ignore[misc]
    for client in slow[:2]:
        answer = await client.answer()
        assert (answer.status, answer.code) == (408, "RequestTimeout")
        assert await client.end() == b""
    for client in slow[2:]:
        client.send(b"\r\n\r\n")
        assert (await client.answer()).status == 200
    assert rig.gateway.clients.heads.total_bytes == 0
    assert rig.gateway.stats.counters["half_heads_shed"] == 2


async def test_a_crowd_of_large_half_heads_stays_within_the_limit_while_others_are_served(rigs: Rigs) -> None:
    rig = await rigs(half_heads_bytes=200_000)
    await rig.replica(echo)
    for number in range(30):
        client = await rig.client()
        client.send(HALF + b"a" * 60_000)
        if number % 5 == 0:
            other = await rig.client()
            assert (await other.ask(request(b"x"))).status == 200
            assert rig.gateway.clients.heads.total_bytes <= 200_000 and kept(rig) <= 200_000
    await eventually(lambda: rig.gateway.stats.counters["half_heads_shed"] >= 27)
    assert kept(rig) <= 200_000


async def test_bytes_that_dribble_in_are_charged_as_they_come(rigs: Rigs) -> None:
    rig = await rigs()
    client = await rig.client()
    client.send(HALF)
    await eventually(lambda: rig.gateway.clients.heads.total_bytes == HEAD_BLOCK_BYTES)
    for _ in range(10):
        client.send(b"a" * 1000)
    await eventually(lambda: rig.gateway.clients.heads.total_bytes == 3 * HEAD_BLOCK_BYTES)
    client.leave()
    await eventually(lambda: rig.gateway.clients.heads.total_bytes == 0)


async def test_whole_heads_and_bodies_are_not_charged(rigs: Rigs) -> None:
    rig = await rigs(half_heads_bytes=1)
    await rig.replica(echo)
    client = await rig.client()
    assert (await client.ask(request(b"x" * 100_000))).status == 200
    assert (await client.ask(get("/healthz"))).status == 200
    assert rig.gateway.clients.heads.total_bytes == 0


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40_000)), max_size=60), st.integers(1, 90_000))
def test_the_total_equals_the_charges_and_never_exceeds_the_limit(steps: list[tuple[int, int]], limit: int) -> None:
    budget: HeadBudget[int] = HeadBudget(limit)
    charged: dict[int, int] = {}
    for client, size in steps:
        if size % 3:
            charged[client] = blocks(size)
            for shed in budget.charge(client, blocks(size)):
                assert shed == next(iter(charged))
                del charged[shed]
        else:
            budget.release(client)
            charged.pop(client, None)
        assert budget.total_bytes == sum(charged.values()) <= limit
