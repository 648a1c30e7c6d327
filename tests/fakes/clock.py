"""A clock that moves only when told."""

import asyncio
import heapq
import itertools
from collections.abc import Callable


class VirtualClock:
    """Fits `serving.clock.Clock`; also a wall clock, with `wall`."""

    def __init__(self, now: float = 1000.0, wall: float = 1_700_000_000.0) -> None:
        self._now = now
        self._wall_offset = wall - now
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._now + self._wall_offset

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Let time pass: sleepers wake in order, and each runs before the next."""
        end = self._now + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            self._now, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)
            await settle()
        self._now = end
        await settle()


async def settle(turns: int = 50) -> None:
    """Run all ready callbacks. Threads are not waited for: use `eventually` for these."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def stands_still(value: Callable[[], int], for_s: float = 0.1, within_s: float = 10.0) -> int:
    """Wait, in real time, until a number has not changed for so long; returns it."""
    now = asyncio.get_running_loop().time
    deadline, since, known = now() + within_s, now(), value()
    while now() < since + for_s:
        assert now() < deadline, f"it did not stand still within {within_s:g} s"
        await asyncio.sleep(0.002)
        if value() != known:
            since, known = now(), value()
    return known


async def eventually(predicate: Callable[[], object], within_s: float = 5.0) -> None:
    """Wait, in real time, for something that a thread or a socket brings about."""
    deadline = asyncio.get_running_loop().time() + within_s
    while asyncio.get_running_loop().time() < deadline:
        if predicate():
            return
        await asyncio.sleep(0.002)
    raise AssertionError(f"it did not come about within {within_s:g} s")


def reaches(number: Callable[[], int], least: int) -> Callable[[], bool]:
    """For `eventually`: the number is at least this."""
    return lambda: number() >= least
