"""A flood of more bytes than all buffers on the way hold."""

import asyncio
import hashlib

from router.proxy.upstream import UpstreamConnection
from tests.fakes.clock import stands_still
from tests.integration.router.replicas import Request, Wire
from tests.integration.router.rig import Rig

MB = 1 << 20


def pattern(size: int) -> bytes:
    """Bytes without repetition."""
    block = b"".join(hashlib.sha256(n.to_bytes(4, "big")).digest() for n in range(4096))
    return (block * (size // len(block) + 1))[: size - 8] + b"the end."


class Flood:
    """The endless body of a replica."""

    def __init__(self, megabytes: int) -> None:
        self.size = megabytes * MB
        self.sent = 0
        self._piece = pattern(MB)

    async def answer(self, wire: Wire, request: Request) -> None:
        """As the body of an answer: a script of a replica."""
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self.size)
        await self.pour(wire)

    async def pour(self, wire: Wire) -> None:
        """As it is."""
        while self.sent < self.size:
            await wire.send(self._piece)
            self.sent += len(self._piece)

    async def is_paused(self) -> None:
        """Wait until the sender is paused, before the end of the body."""
        assert await stands_still(lambda: self.sent) < self.size

    async def arrives(self, reader: asyncio.StreamReader) -> None:
        """Read to the end and compare with the sent bytes."""
        digest, left = hashlib.sha256(), self.size
        while left:
            data = await reader.read(1 << 18)
            assert data, f"{left} bytes are missing"
            digest.update(data)
            left -= len(data)
        assert digest.digest() == hashlib.sha256(self._piece * (self.size // MB)).digest()


def held_in_memory(rig: Rig) -> int:
    """Bytes that the router itself keeps for clients and replicas, encrypted or not."""
    total = 0
    for client in rig.gateway.clients:
        total += client.unsent() + len(client._buffer)
        exchange = client.exchange
        if exchange is not None:
            total += len(exchange.body)
            if exchange.upstream is not None:
                assert isinstance(exchange.upstream, UpstreamConnection)
                total += exchange.upstream.transport.get_write_buffer_size()
    return total
