"""Batched writes: order on the connection, and each other use of it while a message is in the batch."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from router.proxy.connection_handoff import ConnectionHandoff
from router.proxy.downstream import Downstream
from router.proxy.gateway import Gateway
from router.proxy.upstream import UpstreamConnection
from router.proxy.upstream_pool import UpstreamPool
from router.settings import RouterSettings
from router.write_batch import LARGEST_BYTES, WriteBatch


class RecordedTransport:
    """A transport that accepts everything."""

    def __init__(self, unsent: int = 0) -> None:
        self.events: list[bytes | str] = []
        self.unsent = unsent
        self.closing = False

    def write(self, data: bytes) -> None:
        assert not self.closing, "written behind the close"
        self.events.append(data)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.closing = True
        self.events.append("abort")

    close = abort

    def can_write_eof(self) -> bool:
        return True

    def get_extra_info(self, name: str) -> None:
        return None

    def set_write_buffer_limits(self, high: int) -> None:
        assert high > 0


class RecordedExchange:
    """The replica side's view of an exchange."""

    def __init__(self, body_complete: bool = True) -> None:
        self.body_complete = body_complete
        self.head = SimpleNamespace(meaning=SimpleNamespace(to_head=False))
        self.lost: list[bool] = []

    def upstream_lost(self, never_begun: bool) -> None:
        self.lost.append(never_begun)


def client(batch: WriteBatch, transport: RecordedTransport) -> Downstream:
    clients = SimpleNamespace(remove=lambda client: None)
    gateway = SimpleNamespace(
        batch=batch, handoff=ConnectionHandoff(), settings=RouterSettings(), clients=clients, now=lambda: 0.0
    )
    made = Downstream(cast(Gateway, gateway), authorized=True)
    made.transport = cast(asyncio.Transport, transport)
    return made


def upstream(batch: WriteBatch, transport: RecordedTransport) -> UpstreamConnection:
    made = UpstreamConnection(UpstreamPool(RouterSettings(), batch), "r0")
    made.connection_made(cast(asyncio.Transport, transport))
    return made


async def flushed() -> None:
    await asyncio.sleep(0)


def begin(connection: UpstreamConnection, exchange: RecordedExchange, data: bytes) -> None:
    connection.begin(cast(Any, exchange), data, False)


async def test_whole_messages_of_an_iteration_are_written_at_its_end_in_order() -> None:
    batch = WriteBatch(65_536)
    transport = RecordedTransport()
    replica, reader = upstream(batch, transport), client(batch, transport)
    begin(replica, RecordedExchange(), b"request")
    reader.write_whole(b"response")
    assert transport.events == [] and replica.unsent() == 7 and reader.unsent() == 8
    await flushed()
    assert transport.events == [b"request", b"response"] and replica.unsent() == reader.unsent() == 0


@pytest.mark.parametrize(
    ("size_bytes", "unsent", "buffer_bytes"),
    [(LARGEST_BYTES + 1, 0, 65_536), (10, 1, 65_536), (10, 0, 9)],
    ids=["large", "behind unsent bytes", "above the high-water mark"],
)
async def test_a_response_that_could_pause_its_client_is_written_immediately(
    size_bytes: int, unsent: int, buffer_bytes: int
) -> None:
    transport = RecordedTransport(unsent)
    client(WriteBatch(buffer_bytes), transport).write_whole(bytes(size_bytes))
    assert transport.events == [bytes(size_bytes)]


async def test_the_parts_of_a_streamed_request_are_not_batched() -> None:
    transport = RecordedTransport()
    replica = upstream(WriteBatch(65_536), transport)
    begin(replica, RecordedExchange(body_complete=False), b"head")
    replica.write(b"part")
    assert transport.events == [b"head", b"part"]


async def test_what_follows_a_batched_message_is_written_behind_it() -> None:
    batch = WriteBatch(65_536)
    to_client, to_replica = RecordedTransport(), RecordedTransport()
    reader, replica = client(batch, to_client), upstream(batch, to_replica)
    reader.write_whole(b"one")
    reader.write_whole(b"two")
    reader.write(b"three")
    begin(replica, RecordedExchange(), b"head")
    replica.write(b"large body")
    await flushed()
    assert to_client.events == [b"one", b"two", b"three"] and to_replica.events == [b"head", b"large body"]


async def test_a_connection_that_closes_sends_its_batched_response_first() -> None:
    closed, half_closed = RecordedTransport(), RecordedTransport()
    batch = WriteBatch(65_536)
    reader = client(batch, closed)
    reader.write_whole(b"last")
    reader._finish(linger=False)
    departing = client(batch, half_closed)
    departing.write_whole(b"last")
    assert not departing.eof_received()
    await flushed()
    assert closed.events == [b"last", "abort"] and half_closed.events == [b"last"]


async def test_a_lost_connection_gets_nothing_more() -> None:
    transport = RecordedTransport()
    reader = client(WriteBatch(65_536), transport)
    reader.write_whole(b"late")
    transport.closing = True
    reader.connection_lost(None)
    await flushed()
    assert transport.events == []


@pytest.mark.parametrize("error", [None, ConnectionResetError()], ids=["closed", "reset"])
async def test_a_replica_lost_before_the_batch_left_has_begun_nothing(error: Exception | None) -> None:
    transport, exchange = RecordedTransport(), RecordedExchange()
    replica = upstream(WriteBatch(65_536), transport)
    begin(replica, exchange, b"request")
    transport.closing = True
    replica._fd = -1
    replica.connection_lost(error)
    await flushed()
    assert exchange.lost == [True] and transport.events == []


async def test_bytes_of_a_replica_before_the_batched_request_left_answer_nothing() -> None:
    transport, exchange = RecordedTransport(), RecordedExchange()
    replica = upstream(WriteBatch(65_536), transport)
    begin(replica, exchange, b"request")
    replica.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    await flushed()
    assert exchange.lost == [True] and transport.events == ["abort"]


async def test_an_abandoned_request_that_has_not_left_is_not_sent() -> None:
    transport = RecordedTransport()
    replica = upstream(WriteBatch(65_536), transport)
    begin(replica, RecordedExchange(), b"request")
    replica.abort()
    await flushed()
    assert transport.events == ["abort"]
