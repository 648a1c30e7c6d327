"""A client that never tries again, and tells exactly what became of each request; and load with arrivals fixed before.

An answer counts as late from the moment its request was meant to be sent: a slow answer cannot slow the arrivals down.
"""

import asyncio
import itertools
import random
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

PATIENCE_S = 90.0
LOST = 0
"""The status of a request that got no whole answer."""

_length = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_close = re.compile(rb"(?i)\r\nconnection: *close")
_retry_after = re.compile(rb"(?i)\r\nretry-after: *(\d+)")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request. Times in seconds on the monotonic clock."""

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
        return (
            f"POST /api/v1/service/{self.endpoint}/{path} HTTP/1.1\r\nHost: front\r\n"
            f"Authorization: Bearer {self.key}\r\nContent-Length: {length}\r\n\r\n"
        ).encode()

    async def call(self, due_at: float | None = None, path: str = "score") -> Outcome:
        """One request, sent now."""
        number = next(self._numbers)
        due = time.monotonic() if due_at is None else due_at
        body = b'{"n": %d}' % number
        self.sent += 1
        try:
            async with asyncio.timeout(PATIENCE_S):
                status, retry_after = await self._exchange(self.head(len(body), path) + body)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            return Outcome(number, due, time.monotonic(), LOST, why=repr(error))
        return Outcome(number, due, time.monotonic(), status, retry_after)

    async def _exchange(self, request: bytes) -> tuple[int, bool]:
        wire = self._kept() or await asyncio.open_connection(*self.address)
        reader, writer = wire
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = _length.search(head)
            await reader.readexactly(int(length[1]) if length else 0)
        except BaseException:
            writer.transport.abort()
            raise
        if _close.search(head):
            writer.close()
        else:
            self._idle.append(wire)
        return int(head[9:12]), _retry_after.search(head) is not None

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
        moments = arrivals(rate, seconds, seed)
        began = time.monotonic()
        tasks = []
        for number, moment in enumerate(moments):
            delay = began + moment - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)
            tasks.append(asyncio.create_task(self.call(began + moment, path), name=f"request {number}"))
        return list(await asyncio.gather(*tasks))


def arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """Moments of a Poisson process, in seconds from its start."""
    rng = random.Random(seed)
    moments, now = [], 0.0
    while (now := now + rng.expovariate(rate)) < seconds:
        moments.append(now)
    return moments


def statuses(outcomes: Iterable[Outcome]) -> dict[int, int]:
    """How many got which status."""
    return dict(sorted(Counter(outcome.status for outcome in outcomes).items()))


def quantile(outcomes: Iterable[Outcome], q: float) -> float:
    """Latency that the share `q` stays below, in seconds."""
    ordered = sorted(outcome.latency_s for outcome in outcomes)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0


async def until(predicate: Callable[[], Awaitable[bool]], within_s: float) -> float:
    """Seconds until it holds; infinite if it does not within `within_s`."""
    began = time.monotonic()
    while not await predicate():
        if time.monotonic() - began > within_s:
            return float("inf")
        await asyncio.sleep(0.02)
    return time.monotonic() - began
