"""A worker process as its supervisor knows it, without a data plane: it joins, serves, shows its pulse, leaves.

    python -m tests.fakes.group_worker router-worker --name=… --address=… --listen-fd=… --link-fd=… --inflight-fd=…

It answers every request by its path. `FAKE_WORKER` in the environment makes it misbehave.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import time

from cluster.framing import FrameReader
from cluster.link import (
    MAX_FRAME_BYTES,
    Collect,
    Drained,
    Metrics,
    ResetAll,
    Retire,
    Retired,
    Serving,
    Usage,
    WorkerMetrics,
)
from router.core.view import View
from router.inflight_table import BEAT_S, InflightTable
from router.peers.handoff_socket import HandoffListener, connect_handoff
from router.supervisor_messages import (
    FromSupervisor,
    FromWorker,
    Give,
    Joined,
    Leave,
    SetView,
    decode_for_worker,
    encode,
)
from serving.usage import UsageReport


class Replica:
    """The replica of a request in flight."""

    def __init__(self, replica_id: str) -> None:
        self.id = replica_id
        self.table_index = -1


class Client(asyncio.Protocol):
    """One connection: heads in, answers out."""

    def __init__(self, worker: "FakeWorker") -> None:
        self.worker = worker
        self.read = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.worker.clients.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.worker.clients.discard(self)

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        self.read += data
        while (end := self.read.find(b"\r\n\r\n")) >= 0:
            head, self.read = self.read[:end], self.read[end + 4 :]
            body = json.dumps(self.worker.answer(head.split(b" ")[1].decode())).encode()
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


class FakeWorker:
    """`told`: the names of the messages it got, in order."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.name: str = options.name
        self.address: str = options.address
        self.listen = socket.socket(fileno=options.listen_fd)
        self.link = socket.socket(fileno=options.link_fd)
        self.flights = InflightTable(options.inflight_fd)
        self.clients: set[Client] = set()
        self.told: list[str] = []
        self.view = View(0, ())
        self.table = asyncio.Event()
        self.named = asyncio.Event()
        self.leaving = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        reader, self.writer = await asyncio.open_connection(sock=self.link)
        tasks = [
            loop.create_task(self.feed(reader), name="listen to the supervisor"),
            loop.create_task(self.pulse(), name="beat"),
        ]
        loop.add_signal_handler(signal.SIGTERM, self.leaving.set)
        handoffs = HandoffListener(self.address, lambda way: loop.add_reader(way.fileno(), self.adopt, way))
        if os.environ.get("FAKE_WORKER") == "mute":
            await asyncio.Event().wait()
        if os.environ.get("FAKE_WORKER") == "babbling":
            self.writer.write(b"\0\0\0\1\xc1")
        self.send(Joined())
        await self.table.wait()
        await self.named.wait()
        server = await loop.create_server(lambda: Client(self), sock=self.listen)
        self.send(Serving(os.getpid()))
        self.send(Usage(UsageReport(self.name, time.monotonic(), ())))
        await self.leaving.wait()
        server.close()
        while self.clients:
            for client in list(self.clients):
                self.give(client)
            await asyncio.sleep(0.005)
        handoffs.close()
        for task in tasks:
            task.cancel()

    def send(self, message: FromWorker) -> None:
        self.writer.write(encode(message))

    async def feed(self, reader: asyncio.StreamReader) -> None:
        frames = FrameReader(decode_for_worker, MAX_FRAME_BYTES)
        while data := await reader.read(1 << 16):
            for message in frames.feed(data):
                self.take(message)
        os._exit(1)

    def take(self, message: FromSupervisor) -> None:
        self.told.append(type(message).__name__)
        match message:
            case ResetAll():
                self.table.set()
            case SetView(view):
                assert view.epoch > self.view.epoch and self.name in view.names()
                self.view = view
                self.named.set()
            case Leave():
                self.leaving.set()
            case Give(taker, count):
                for client in list(self.clients)[:count]:
                    self.give(client, taker)
            case Retire(request, key, _):
                assert self.view.owner(key) == self.name, "asked though it does not own the version"
                self.send(Retired(request, (self.name,)))
                self.send(Drained(self.name))
            case Collect(request):
                self.send(Metrics(request, WorkerMetrics(self.name, (), len(self.clients), 0, 0.0, {})))

    async def pulse(self) -> None:
        while True:
            self.flights.beat(len(self.clients))
            await asyncio.sleep(BEAT_S)

    def answer(self, path: str) -> object:
        what, _, detail = path.strip("/").partition("/")
        match what:
            case "begin":  # a request that never ends
                self.flights.started(Replica(detail))
            case "freeze":
                time.sleep(60)
            case "crash":
                os._exit(3)
        return {"name": self.name, "told": self.told, "members": self.view.names()}

    # ---- connections pass

    def give(self, client: Client, taker: str = "") -> None:
        """To this member, or to some that serves."""
        assert client.transport is not None
        for member in self.view.members:
            fits = member.name == taker if taker else member.eligible and member.name != self.name
            way = connect_handoff(member.address) if fits else None
            if way is not None:
                with way:
                    socket.send_fds(way, [b"+" + client.read], [client.transport.get_extra_info("socket").fileno()])
                client.transport.abort()
                self.clients.discard(client)
                return

    def adopt(self, way: socket.socket) -> None:
        data, fds, _, _ = socket.recv_fds(way, 65_536, 1)
        loop = asyncio.get_running_loop()
        if not data:
            loop.remove_reader(way.fileno())
            way.close()
        for fd in fds:
            sock = socket.socket(fileno=fd)
            sock.setblocking(False)
            task = loop.create_task(loop.connect_accepted_socket(lambda: Client(self), sock), name="adopt a connection")
            task.add_done_callback(lambda task: task.result()[1].data_received(data[1:]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("role")
    for name in ("--name", "--address"):
        parser.add_argument(name, required=True)
    for name in ("--listen-fd", "--link-fd", "--inflight-fd", "--redirect-fd"):
        parser.add_argument(name, type=int)
    asyncio.run(FakeWorker(parser.parse_args()).run())


if __name__ == "__main__":
    main()
