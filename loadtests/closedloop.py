"""Clients in a closed loop, each on a persistent connection of its own, with an exact account of every failure.

A client that thinks leaves its connection idle meanwhile. A request is never sent again. A connection that the router
has closed without having said so in an answer before (`Connection: close`) is a lost one, whether a request was on it
or not.
"""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

from loadtests.http1 import GREETING, exchange

LOST = 0
"""The status of a request that got no whole answer."""
PATIENCE_S = 60.0
AFTER_FAILURE_S = 0.02


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that was not answered 200, or an idle connection that was lost (`idle`). Monotonic seconds."""

    at_s: float
    port: int
    """Of the client's end; 0: it could not even connect."""
    status: int
    why: str = ""
    idle: bool = False


@dataclass(slots=True)
class Tally:
    """The results of all clients."""

    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    asked_to_leave: int = 0
    """Answers that said `Connection: close`."""
    connected: int = 0
    served: Counter[int] = field(default_factory=Counter)
    """Client -> requests answered 200."""

    @property
    def lost(self) -> int:
        """Connections that were lost."""
        return sum(each.status == LOST for each in self.failures)

    @property
    def refused(self) -> int:
        """Requests with an answer that is not 200."""
        return sum(each.status != LOST for each in self.failures)


class _Watched(asyncio.StreamReaderProtocol):
    """Records the time at which the other end closed the connection, even if nothing is being read."""

    ended_s: float | None = None

    def eof_received(self) -> bool | None:
        self._note()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._note()
        super().connection_lost(exc)

    def _note(self) -> None:
        if self.ended_s is None:
            self.ended_s = time.monotonic()


class _Client:
    """One of them."""

    def __init__(self, number: int, clients: "Clients") -> None:
        self._number = number
        self._all = clients
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._watched: _Watched | None = None
        self._port = 0

    async def connect(self) -> None:
        """A new connection. Raises OSError."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        transport, protocol = await loop.create_connection(lambda: _Watched(reader), *self._all.address)
        self._reader, self._writer = reader, asyncio.StreamWriter(transport, protocol, reader, loop)
        self._watched = protocol
        self._port = self._writer.get_extra_info("sockname")[1]
        self._all.tally.connected += 1

    async def exchange(self) -> bool:
        """One request, on the present connection or a new one; True if it was answered 200."""
        tally = self._all.tally
        try:
            async with asyncio.timeout(self._all.patience_s):
                if self._writer is None:
                    await self.connect()
                status = await self.ask(self._all.request)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            self.leave()
            self._note(LOST, repr(error))
            return False
        if status != 200:
            self._note(status)
            return False
        tally.statuses[status] += 1
        tally.served[self._number] += 1
        return True

    async def ask(self, request: bytes) -> int:
        """The status of its answer. Raises OSError, IncompleteReadError."""
        assert self._reader is not None and self._writer is not None
        answer = await exchange(self._reader, self._writer, request)
        if answer.closes:
            self._all.tally.asked_to_leave += 1
            self.leave()
        return answer.status

    def look(self) -> None:
        """Notice that an idle connection has been lost."""
        if self._reader is None or self._watched is None or self._watched.ended_s is None:
            return
        error = self._reader.exception()
        self._note(LOST, repr(error) if error else "closed while idle", idle=True, at_s=self._watched.ended_s)
        self.leave()

    def leave(self) -> None:
        """Give up the connection, if there is one."""
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = self._watched = None

    def _note(self, status: int, why: str = "", idle: bool = False, at_s: float = 0.0) -> None:
        self._all.tally.statuses[status] += not idle
        self._all.tally.failures.append(Failure(at_s or time.monotonic(), self._port, status, why, idle))


class Clients:
    """From `start` to `stop`; may be held in between."""

    def __init__(
        self,
        address: tuple[str, int],
        request: bytes,
        count: int,
        think_s: float = 0.0,
        fresh: bool = False,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """`think_s`: between an answer and the next request. `fresh`: a new connection for every request. `patience_s`:
        for an answer, default 60.
        """
        self.address = address
        self.request = request
        self.tally = Tally()
        self.patience_s = patience_s
        self._think_s = think_s
        self._fresh = fresh
        self._clients = [_Client(number, self) for number in range(count)]
        self._tasks: list[asyncio.Task[None]] = []
        self._going = asyncio.Event()
        self._running = 0
        self._resting = asyncio.Event()

    async def connect(self, first: int = 0, count: int | None = None) -> None:
        """Open connections before the start, of all clients or of some; each has had an answer, so it is accepted."""
        for client in self._clients[first:] if count is None else self._clients[first : first + count]:
            await client.connect()
            status = await client.ask(GREETING)
            if status != 200:
                raise ConnectionError(f"/healthz was answered {status}")

    async def once(self) -> bool:
        """One request of each client, all at the same time; True if every one was answered 200."""
        good = await asyncio.gather(*(client.exchange() for client in self._clients))
        self.leave()
        return all(good)

    def leave(self) -> None:
        """Give up every connection."""
        for client in self._clients:
            client.leave()

    def start(self) -> None:
        """Begin."""
        self._going.set()
        self._tasks = [
            asyncio.create_task(self._live(client), name=f"client {number}")
            for number, client in enumerate(self._clients)
        ]

    async def hold(self) -> None:
        """Send nothing more; returns when every request has been answered."""
        self._going.clear()
        if self._running:
            self._resting.clear()
            await self._resting.wait()

    def resume(self) -> None:
        """Go on after `hold`."""
        self._going.set()

    async def stop(self) -> Tally:
        """Let every request end, then disconnect; returns the results."""
        await self.hold()
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in self._clients:
            client.look()
            client.leave()
        for each in ended:
            if isinstance(each, Exception):
                raise each
        return self.tally

    async def _live(self, client: _Client) -> None:
        while True:
            await self._going.wait()
            self._running += 1
            client.look()
            good = await client.exchange()
            self._running -= 1
            if self._fresh:
                client.leave()
            if not self._running:
                self._resting.set()
            await asyncio.sleep(self._think_s if good else max(self._think_s, AFTER_FAILURE_S))
