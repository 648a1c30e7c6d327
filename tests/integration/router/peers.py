"""Workers with links only, and misbehaving peers."""

import asyncio
import logging
import os
import random
import socket
from pathlib import Path

from cluster.framing import FrameReader
from router.core.slot_messages import Forget, PeerMessage, Ping
from router.core.view import Member, View
from router.peers.frames import MAJOR, Batch, Frame, Hello, decode, encode
from router.peers.links import LinkEvents, Links
from router.peers.peer_identity import Trust
from tests.fakes.clock import eventually

KILOBYTES = Forget(tuple(range(2**63, 2**63 + 7000)))
"""A message of 63 kB."""


class Node:
    """One worker: its links and received events."""

    def __init__(self, name: str, address: str, trust: Trust | None = None, chance: int = 1) -> None:
        self.name = name
        self.heard: list[tuple[str, PeerMessage]] = []
        self.events: list[tuple[str, str]] = []
        """("up" or "down", peer)."""
        self.greeting: PeerMessage | None = None
        """Messages sent to every new peer."""
        events = LinkEvents(self._up, self._down, self._message)
        self.yields = 0
        """Times that the links have yielded the core."""
        self.links = Links(name, events, random.Random(chance).random, trust, self._yield)
        self.address = self.links.listen(address)

    @property
    def member(self) -> Member:
        return Member(self.name, self.address)

    def numbers(self, peer: str) -> list[int]:
        """Numbers of the pings received from a peer."""
        return [message.number for name, message in self.heard if name == peer and isinstance(message, Ping)]

    def _yield(self) -> None:
        self.yields += 1

    def _up(self, peer: str) -> None:
        assert peer in self.links.up()
        self.events.append(("up", peer))
        if self.greeting is not None:
            self.links.send(peer, self.greeting)

    def _down(self, peer: str) -> None:
        assert peer not in self.links.up()
        self.events.append(("down", peer))

    def _message(self, peer: str, message: PeerMessage) -> None:
        assert self.events and [kind for kind, name in self.events if name == peer][-1] == "up"
        self.heard.append((peer, message))


def unix(folder: Path, name: str) -> str:
    return f"unix:{folder / name}"


def view(epoch: int, *nodes: Node) -> View:
    return View(epoch, tuple(node.member for node in nodes))


def meet(*nodes: Node, epoch: int = 1) -> View:
    """Let all nodes enter the same view."""
    seen = view(epoch, *nodes)
    for node in nodes:
        node.links.enter(seen)
    return seen


def linked(*nodes: Node) -> bool:
    """Wait for links between all nodes."""
    return all(node.links.up() == {other.name for other in nodes if other is not node} for node in nodes)


async def close(*nodes: Node) -> None:
    for node in nodes:
        await node.links.close()


class RawPeer:
    """A misbehaving member with a raw socket."""

    def __init__(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.name = name
        self.reader = reader
        self.writer = writer
        self.session = 0
        self._frames = FrameReader(decode, 1 << 26)
        self._read: list[Frame] = []

    @classmethod
    async def connect(cls, name: str, to: Node) -> "RawPeer":
        return cls(name, *await asyncio.open_unix_connection(to.address.removeprefix("unix:")))

    async def greet(self, to: str, name: str | None = None) -> None:
        """Open a session."""
        self.send(Hello(MAJOR, 0, name or self.name, to, 5 << 32))
        answer = await self.frame()
        assert isinstance(answer, Hello)
        self.session = answer.session
        self.send(Batch(self.session, 1, ()))

    def send(self, frame: Frame) -> None:
        self.writer.write(encode(frame))

    async def frame(self) -> Frame:
        """The next frame. Raises EOFError at the end."""
        while not self._read:
            data = await self.reader.read(65536)
            if not data:
                raise EOFError
            self._read.extend(self._frames.feed(data))
        return self._read.pop(0)

    async def ended(self) -> bool:
        """Wait until the worker closes the connection."""
        try:
            while True:
                await self.frame()
        except (EOFError, ConnectionError):
            return True

    async def close(self) -> None:
        self.writer.transport.abort()
        try:
            await self.writer.wait_closed()
        except OSError:
            return


def sockets() -> set[str]:
    """Open sockets of this process."""
    found = set()
    for entry in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


def free_port() -> int:
    """An address without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def nothing_unexpected(records: list[logging.LogRecord]) -> None:
    """Fail on logged errors: misbehaving peers cause warnings at most."""
    assert [record.getMessage() for record in records if record.levelno >= logging.ERROR] == []


async def all_linked(*nodes: Node) -> None:
    await eventually(lambda: linked(*nodes))
