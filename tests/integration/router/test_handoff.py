"""A client's connection passes from one worker of a machine to any other, on a way made on demand."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from router.peers import handoff_socket as handoff
from router.peers.address import AddressError
from router.peers.handoff_socket import HandoffListener, connect_handoff
from router.proxy.connection_handoff import HandoffReceiver, HandoffSender
from tests.fakes.clock import eventually
from tests.integration.router.peers import Node, all_linked, close, meet, sockets, unix

ON_EVERY_LOOP = True


class Echo(asyncio.Protocol):
    """A worker's side of a client: answers with its name and the received bytes."""

    def __init__(self, name: str, read: bytes = b"") -> None:
        self._name = name.encode()
        self._read = read
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self._read:
            self.data_received(self._read)

    def data_received(self, data: bytes) -> None:
        self.transport.write(self._name + b" got " + data)


class Receiver:
    """A worker that takes connections from all others."""

    def __init__(self, name: str, address: str) -> None:
        self._name = name
        self.takers: list[HandoffReceiver] = []
        self.listener = HandoffListener(address, self._way)

    def _way(self, sock: socket.socket) -> None:
        self.takers.append(HandoffReceiver(sock, lambda read, known: Echo(self._name, read)))

    async def close(self) -> None:
        self.listener.close()
        for taker in self.takers:
            await taker.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    private = tmp_path / "peers"
    private.mkdir(mode=0o700)
    return private


@pytest.fixture
async def receiver(folder: Path) -> AsyncIterator[Receiver]:
    made = Receiver("b", unix(folder, "b"))
    yield made
    await made.close()


async def client() -> tuple[socket.socket, Echo, asyncio.Server]:
    """A client, and its connection in worker a."""
    loop = asyncio.get_running_loop()
    served = Echo("a")
    server = await loop.create_server(lambda: served, "127.0.0.1", 0)
    sock = socket.socket()
    sock.setblocking(False)
    await loop.sock_connect(sock, server.sockets[0].getsockname())
    await eventually(lambda: hasattr(served, "transport"))
    return sock, served, server


async def test_a_client_passes_to_another_worker_and_notices_nothing(receiver: Receiver, folder: Path) -> None:
    loop = asyncio.get_running_loop()
    sock, served, server = await client()
    await loop.sock_sendall(sock, b"1")
    assert await loop.sock_recv(sock, 100) == b"a got 1"
    way = connect_handoff(unix(folder, "b"))
    assert way is not None
    assert HandoffSender(way).send(served.transport, b"2", False)
    assert await loop.sock_recv(sock, 100) == b"b got 2"
    await loop.sock_sendall(sock, b"3")
    assert await loop.sock_recv(sock, 100) == b"b got 3"
    sock.close()
    way.close()
    server.close()


async def test_many_workers_give_to_the_same_one(receiver: Receiver, folder: Path) -> None:
    loop = asyncio.get_running_loop()
    ways = [way for _ in range(5) if (way := connect_handoff(unix(folder, "b"))) is not None]
    for way in ways:
        sock, served, server = await client()
        assert HandoffSender(way).send(served.transport, b"hello", False)
        assert await loop.sock_recv(sock, 100) == b"b got hello"
        sock.close()
        server.close()
    assert len(receiver.takers) == 5
    for way in ways:
        way.close()


async def test_to_a_worker_that_has_gone_there_is_no_way_and_the_client_stays(receiver: Receiver, folder: Path) -> None:
    loop = asyncio.get_running_loop()
    sock, served, server = await client()
    way = connect_handoff(unix(folder, "b"))
    assert way is not None
    await eventually(lambda: receiver.takers)
    await receiver.close()
    assert not HandoffSender(way).send(served.transport, b"2", False)
    assert connect_handoff(unix(folder, "b")) is None
    await loop.sock_sendall(sock, b"1")
    assert await loop.sock_recv(sock, 100) == b"a got 1"
    sock.close()
    way.close()
    served.transport.abort()
    server.close()


@pytest.mark.parametrize("address", ["10.0.0.1:7000", "unix:relative", "nowhere"])
async def test_to_a_worker_of_another_machine_there_is_no_way(address: str) -> None:
    assert connect_handoff(address) is None
    with pytest.raises(AddressError):
        HandoffListener(address, lambda sock: None)


async def test_too_many_pending_hand_offs_are_refused_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.peers.sockets._BACKLOG", 1)
    stuck = HandoffListener(unix(folder, "b"), lambda sock: sock.close())
    ways = [connect_handoff(unix(folder, "b")) for _ in range(4)]  # the loop does not run meanwhile
    assert ways[0] is not None and ways[-1] is None
    for way in ways:
        if way is not None:
            way.close()
    stuck.close()


async def test_a_worker_that_cannot_accept_for_a_while_goes_on_later(
    receiver: Receiver, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(handoff, "_ACCEPT_PAUSE_S", 0.01)
    real, failures = receiver.listener._sock, iter([OSError(24, "Too many open files")])

    class Failing:
        def fileno(self) -> int:
            return real.fileno()

        def accept(self) -> tuple[socket.socket, object]:
            for error in failures:
                raise error
            return real.accept()

        def close(self) -> None:
            real.close()

    monkeypatch.setattr(receiver.listener, "_sock", Failing())
    way = connect_handoff(unix(folder, "b"))
    assert way is not None
    await eventually(lambda: receiver.takers)
    assert "Too many open files" in caplog.text
    way.close()


async def test_links_and_ways_lie_side_by_side_and_leave_nothing(folder: Path) -> None:
    before = sockets()
    a, b = Node("a", unix(folder, "a")), Node("b", unix(folder, "b"))
    receivers = [Receiver(each.name, each.address) for each in (a, b)]
    meet(a, b)
    await all_linked(a, b)
    way = connect_handoff(b.address)
    assert way is not None
    await eventually(lambda: receivers[1].takers)
    assert sorted(os.listdir(folder)) == ["a", "a.handoff", "b", "b.handoff"]
    await close(a, b)
    for each in receivers:
        await each.close()
        each.listener.close()  # again: harmless
    way.close()
    assert os.listdir(folder) == []
    await eventually(lambda: sockets() == before)
