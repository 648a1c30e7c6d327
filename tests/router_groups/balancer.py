"""A balancer of connections (layer 4) before several groups, as a cloud has one: it asks for their health, and passes
bytes. It never looks into a request, and never makes a connection a second time once bytes have passed.
"""

import asyncio
import contextlib
import itertools

LOOK_S = 0.05
ANSWER_S = 0.5
PIECE_BYTES = 1 << 16
Address = tuple[str, int]


class Balancer:
    """Takes turns among those that are healthy; from `start` to `close`."""

    def __init__(self, *behind: Address) -> None:
        self.healthy: dict[Address, bool] = dict.fromkeys(behind, True)
        self._turns = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self.address: Address = ("", 0)

    async def start(self, host: str = "127.0.0.1") -> None:
        """Listen, and look after the health of each."""
        self._server = await asyncio.start_server(self._serve, host, 0)
        self.address = self._server.sockets[0].getsockname()[:2]
        for address in self.healthy:
            task = asyncio.create_task(self._look(address), name=f"health of {address}")
            self._tasks.add(task)

    async def close(self) -> None:
        """Stop accepting; break off open connections."""
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _look(self, address: Address) -> None:
        while True:
            self.healthy[address] = await is_healthy(address)
            await asyncio.sleep(LOOK_S)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        far: asyncio.StreamWriter | None = None
        try:
            far_reader, far = await self._connect()
            await asyncio.gather(_pass(reader, far), _pass(far_reader, writer))
        except OSError:
            pass  # one of both ends is gone; the other hears of it below
        except asyncio.CancelledError:
            pass  # by `close`, with a wait for it; the stream's own callback takes a cancelled task for an error (3.11)
        finally:
            for end in (writer, far):
                if end is not None:
                    end.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the next healthy group; to another if it refuses. Raises OSError."""
        known = sorted(self.healthy)
        turn = next(self._turns)
        order = [known[(turn + step) % len(known)] for step in range(len(known))]
        for address in sorted(order, key=lambda each: not self.healthy[each]):
            with contextlib.suppress(OSError):
                return await asyncio.open_connection(*address)
        raise ConnectionRefusedError("nobody is there")


async def is_healthy(address: Address) -> bool:
    """True if `/healthz` answers 200, on a connection of its own."""
    try:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection(*address)
            try:
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: front\r\nConnection: close\r\n\r\n")
                return (await reader.readline()).startswith(b"HTTP/1.1 200 ")
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Forward until the end, and the end itself, a reset included."""
    while data := await reader.read(PIECE_BYTES):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
