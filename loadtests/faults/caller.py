"""A client without retries that records the outcome of each request, and open-loop load.

An answer counts as late from the moment its request was meant to be sent: a slow answer cannot slow the arrivals down.
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from loadtests import http1
from loadtests.bench.figures import percentile, poisson_for

PATIENCE_S = 90.0
LOST = 0
"""The status of a request that got no whole answer."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one request. Times in seconds on the monotonic clock."""

    number: int
    due_at: float
    done_at: float
    status: int
    retry_after: bool = False
    why: str = ""

    @property
    def latency_s(self) -> float:
        return self.done_at - self.due_at


Wire = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Caller:
    """Keeps connections for reuse, the one used last first; each request has a number of its own in its body."""

    def __init__(self, url: str, endpoint: str, key: str) -> None:
        parts = urlsplit(url)
        self.address = (parts.hostname or "", parts.port or 0)
        self.endpoint = endpoint
        self.key = key
        self._idle: list[Wire] = []
        self._numbers = itertools.count(1)
        self.sent = 0

    def head(self, length: int, path: str = "score") -> bytes:
        """The head of a POST with a body of so many bytes."""
        return http1.head(f"/api/v1/service/{self.endpoint}/{path}", self.key, length)

    async def call(self, due_at: float | None = None, path: str = "score") -> Outcome:
        """One request, sent now."""
        number = next(self._numbers)
        due = time.monotonic() if due_at is None else due_at
        body = b'{"n": %d}' % number
        self.sent += 1
        try:
            async with asyncio.timeout(PATIENCE_S):
                answer = await self._exchange(self.head(len(body), path) + body)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            return Outcome(number, due, time.monotonic(), LOST, why=repr(error))
        return Outcome(number, due, time.monotonic(), answer.status, answer.retry_after)

    async def _exchange(self, request: bytes) -> http1.Answer:
        wire = self._kept() or await asyncio.open_connection(*self.address)
        reader, writer = wire
        try:
            answer = await http1.exchange(reader, writer, request)
        except BaseException:
            writer.transport.abort()
            raise
        if answer.closes:
            writer.close()
        else:
            self._idle.append(wire)
        return answer

    def _kept(self) -> Wire | None:
        """A connection that the router has not closed for having been idle."""
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.transport.is_closing():
                return reader, writer
            writer.close()
        return None

    async def close(self) -> None:
        """Leave."""
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()
        await asyncio.sleep(0)

    async def open_loop(self, rate: float, seconds: float, seed: int = 1, path: str = "score") -> list[Outcome]:
        """`rate` requests a second on average, at random moments drawn before; returns when the last one has ended."""
        began = time.monotonic()
        tasks = []
        for number, moment in enumerate(poisson_for(rate, seconds, seed)):
            delay = began + moment - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)
            tasks.append(asyncio.create_task(self.call(began + moment, path), name=f"request {number}"))
        return list(await asyncio.gather(*tasks))


def statuses(outcomes: Iterable[Outcome]) -> dict[int, int]:
    """Status -> number of requests."""
    return dict(sorted(Counter(outcome.status for outcome in outcomes).items()))


def quantile(outcomes: Iterable[Outcome], q: float) -> float:
    """Latency that the share `q` stays below, in seconds."""
    latencies = [outcome.latency_s for outcome in outcomes]
    return percentile(latencies, q) if latencies else 0.0


async def until(predicate: Callable[[], Awaitable[bool]], within_s: float) -> float:
    """Seconds until it holds; infinite if it does not within `within_s`."""
    began = time.monotonic()
    while not await predicate():
        if time.monotonic() - began > within_s:
            return float("inf")
        await asyncio.sleep(0.02)
    return time.monotonic() - began
