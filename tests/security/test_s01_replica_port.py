"""S1, and F6 for replicas: no other user takes a replica's port, or uses the port of an entry script."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from cluster.local import health_prober as nurse
from cluster.local.local_provider import LocalProvider
from cluster.local.machine import Ports
from serving.endpoint import ReplicaKind, ReplicaSource
from tests.integration.cluster_local.local_rig import HERE, Watcher, endpoint, get, tiny, version
from tests.security.other_user import NOBODY, as_user, exchange, needs_root, request, status

ENTRY = ReplicaSource(ReplicaKind.ENTRY_SCRIPT, entry_script=str(HERE / "score.py"), source_directory=str(HERE))


@pytest.fixture
async def watcher(tmp_path: Path) -> AsyncIterator[Watcher]:
    provider = LocalProvider(tmp_path)
    await provider.start()
    made = Watcher(provider)
    watching = asyncio.create_task(made.run(), name="watcher")
    yield made
    await provider.close()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


@needs_root
async def test_an_entry_script_closes_connections_of_another_user(watcher: Watcher) -> None:
    await watcher._provider.apply(endpoint(version(ENTRY)), {"blue": 1})
    (replica,) = await watcher.until_ready(1, within_s=60)
    address = (replica.host, replica.port)
    for path in ("/", "/score", "/swagger.json"):
        asked = request("POST", path, b"{}")
        answer = await asyncio.to_thread(as_user, NOBODY, partial(exchange, address, asked))
        assert status(answer) == 0, answer
    assert "Healthy" in await get(replica)


async def test_the_port_of_an_entry_script_is_listened_on_before_its_process_starts() -> None:
    ports = Ports()
    with ports.listen() as listener:
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            with pytest.raises(OSError, match="in use"):
                other.bind(listener.getsockname())
        assert nurse.foreign_listener(*listener.getsockname()) is None


@needs_root
async def test_a_port_that_another_user_listens_on_makes_no_replica_ready(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as stolen:
        stolen.bind(("127.0.0.1", 0))
        port = stolen.getsockname()[1]
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setuid(NOBODY)
        thief = socket.socket()
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("127.0.0.1", port))
        thief.listen()
        os.write(writing, b"x")
        while True:
            client, _ = thief.accept()
            client.recv(65536)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            client.close()
    try:
        await asyncio.to_thread(os.read, reading, 1)
        assert nurse.foreign_listener("127.0.0.1", port) == NOBODY
        acquire, first = Ports.acquire, iter([port])
        monkeypatch.setattr(Ports, "acquire", lambda self: next(first, None) or acquire(self))
        await watcher._provider.apply(endpoint(version(tiny())), {"blue": 1})
        await watcher.until(lambda: any(replica.port != port for replica in watcher.replicas.values()))
        (replica,) = await watcher.until_ready()
        assert replica.port != port
        assert all(
            change.replica.port != port
            for change in watcher.history
            if hasattr(change, "replica") and change.replica.state == "ready"
        )
    finally:
        os.kill(pid, 9)
        await asyncio.to_thread(os.waitpid, pid, 0)
        os.close(reading)
        os.close(writing)
