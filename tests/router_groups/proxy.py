"""A proxy between workers: forwards frames late, and breaks off inside them. TCP keeps the order.

Faults impossible in TCP (a frame twice, a later one first) are applied to the same state machines in tests/sim.
"""

import asyncio
import contextlib
import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass

PIECE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Mischief:
    """Rates of the faults."""

    delay_s: float = 0.0
    """Every piece waits a random time up to this."""
    life_s: float = 0.0
    """Connections live so long on average; 0: for ever."""


GOOD = Mischief()


class Proxy:
    """One listening port for each address behind it. `mischief` may be changed at any time."""

    def __init__(self, host: str, chance: random.Random) -> None:
        self.mischief = GOOD
        self.broken = 0
        """Connections that it has broken off."""
        self._host = host
        self._chance = chance
        self._ports: dict[tuple[str, int], tuple[int, asyncio.Task[asyncio.Server]]] = {}
        self._live: set[asyncio.StreamWriter] = set()

    def port(self, host: str, port: int) -> int:
        """The port to reach this address through the proxy; early connections wait for a moment."""
        if (host, port) not in self._ports:
            sock = socket.create_server((self._host, 0))

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await self._between(reader, writer, host, port)

            opening = asyncio.start_server(serve, sock=sock)
            task = asyncio.get_running_loop().create_task(opening, name=f"stand before {host}:{port}")
            self._ports[host, port] = int(sock.getsockname()[1]), task
        return self._ports[host, port][0]

    async def _between(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.transport.abort()
            return
        with self._known(writer), self._known(far_writer):
            ways = [
                asyncio.create_task(self._pass(reader, far_writer), name="there"),
                asyncio.create_task(self._pass(far_reader, writer), name="back"),
            ]
            life = self._chance.expovariate(1 / self.mischief.life_s) if self.mischief.life_s else None
            _, pending = await asyncio.wait(ways, timeout=life, return_when=asyncio.FIRST_COMPLETED)
            self.broken += len(pending) == len(ways)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    @contextlib.contextmanager
    def _known(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        self._live.add(writer)
        try:
            yield
        finally:
            self._live.discard(writer)
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """In pieces of any size: a frame may be cut in half when the end comes."""
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(PIECE_BYTES):
                if self.mischief.delay_s:
                    await asyncio.sleep(self._chance.uniform(0, self.mischief.delay_s))
                    half = self._chance.randrange(len(data))
                    writer.write(data[:half])
                    await asyncio.sleep(0)
                    writer.write(data[half:])
                else:
                    writer.write(data)
                await writer.drain()

    def break_all(self) -> None:
        """Every connection that there is."""
        for writer in list(self._live):
            writer.transport.abort()

    async def close(self) -> None:
        """Stop listening, break off everything."""
        for _, opening in self._ports.values():
            (await opening).close()
        self.break_all()
        await asyncio.sleep(0)
