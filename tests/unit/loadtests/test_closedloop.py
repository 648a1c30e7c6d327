"""Clients with an exact account of each request and each connection."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from loadtests.closedloop import LOST, Clients
from loadtests.http1 import post
from tests.fakes.clock import eventually

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
LEAVE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"

Answer = Callable[[int], bytes]


@contextlib.asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[tuple[str, int]]:
    """Answers the n-th request; b"" breaks the connection off, and so it does after LEAVE."""
    numbers = itertools.count()
    writers = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                if head.startswith(b"POST"):
                    await reader.readexactly(2)
                said = OK if head.startswith(b"GET") else answer(next(numbers))
                writer.write(said)
                if said in (b"", LEAVE):
                    break
        writer.close()

    running = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield running.sockets[0].getsockname()[:2]
    finally:
        running.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)


def loop_of(address: tuple[str, int], count: int = 1, **how: Any) -> Clients:
    return Clients(address, post("/score", "key"), count, **how)


async def seen(clients: Clients, enough: Callable[[], bool]) -> None:
    clients.start()
    await eventually(enough)
    await clients.stop()
    await asyncio.sleep(0.01)  # the server's ends hear of it


async def test_a_client_asks_again_on_the_same_connection_as_soon_as_it_is_answered() -> None:
    async with server(lambda number: OK) as address:
        clients = loop_of(address, 3)
        await seen(clients, lambda: clients.tally.statuses[200] >= 30)
    tally = clients.tally
    assert tally.connected == 3
    assert tally.failures == []
    assert set(tally.served) == {0, 1, 2}


async def test_a_client_asked_to_reconnect_loses_nothing() -> None:
    async with server(lambda number: LEAVE if number == 3 else OK) as address:
        clients = loop_of(address)
        await seen(clients, lambda: clients.tally.statuses[200] >= 10)
    tally = clients.tally
    assert (tally.asked_to_leave, tally.connected, tally.failures) == (1, 2, [])


async def test_a_request_without_an_answer_is_lost_and_is_not_sent_again() -> None:
    sent = []

    def answer(number: int) -> bytes:
        sent.append(number)
        return b"" if number == 2 else OK

    async with server(answer) as address:
        clients = loop_of(address)
        await seen(clients, lambda: clients.tally.statuses[200] >= 5)
    tally = clients.tally
    assert tally.lost == 1 and tally.refused == 0
    (failure,) = tally.failures
    assert failure.status == LOST and failure.port and not failure.idle
    assert len(sent) == tally.statuses.total()


async def test_an_answer_other_than_200_is_recorded_with_its_status() -> None:
    async with server(lambda number: BUSY if number == 1 else OK) as address:
        clients = loop_of(address)
        await seen(clients, lambda: clients.tally.statuses[200] >= 3)
    assert clients.tally.refused == 1 and clients.tally.lost == 0
    assert clients.tally.failures[0].status == 503


async def test_an_idle_connection_that_is_closed_without_a_word_is_lost() -> None:
    numbers = iter(range(100))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readexactly(len(post("/score", "key")))
            writer.write(OK)
            if next(numbers) == 0:
                await asyncio.sleep(0.01)
                writer.close()
            await reader.read()
        writer.close()

    running = await asyncio.start_server(serve, "127.0.0.1", 0)
    clients = loop_of(running.sockets[0].getsockname()[:2], think_s=0.05)
    await seen(clients, lambda: clients.tally.connected == 2)
    running.close()
    assert [each.idle for each in clients.tally.failures] == [True]
    assert clients.tally.statuses[LOST] == 0


async def test_nothing_is_sent_while_held() -> None:
    async with server(lambda number: OK) as address:
        clients = loop_of(address, 4)
        clients.start()
        await asyncio.sleep(0.05)
        await clients.hold()
        before = clients.tally.statuses[200]
        await asyncio.sleep(0.05)
        assert clients.tally.statuses[200] == before > 0
        clients.resume()
        await asyncio.sleep(0.05)
        assert (await clients.stop()).statuses[200] > before


async def test_clients_without_a_connection_raise_an_error() -> None:
    async with server(lambda number: OK) as address:
        pass
    clients = loop_of(address)
    assert not await clients.once()
    assert clients.tally.lost == 1
    with pytest.raises(OSError):
        await clients.connect()


async def test_all_at_once_is_good_only_if_every_answer_is() -> None:
    async with server(lambda number: BUSY if number == 7 else OK) as address:
        assert await loop_of(address, 5).once()
        assert not await loop_of(address, 5).once()
