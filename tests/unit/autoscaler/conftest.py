"""Virtual time for the loop: nothing sleeps, time moves when a test says so."""

import asyncio
import heapq

import pytest

TURNS = 150
"""Turns of the event loop after which all events possible without passing time have happened."""


class VirtualClock:
    """Fits `serving.clock.Clock`."""

    def __init__(self) -> None:
        self._now_s = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._slept = 0

    def now(self) -> float:
        return self._now_s

    def spend(self, seconds: float) -> None:
        """Time that passes during a computation."""
        self._now_s += seconds

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        self._slept += 1
        heapq.heappush(self._sleepers, (self._now_s + seconds, self._slept, woken))
        await woken

    async def settle(self) -> None:
        """Let everything happen that is due now."""
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def advance(self, seconds: float) -> None:
        """Move on, from one sleeper to the next."""
        until_s = self._now_s + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= until_s:
            at_s, _, woken = heapq.heappop(self._sleepers)
            self._now_s = max(self._now_s, at_s)
            if not woken.done():
                woken.set_result(None)
                await self.settle()
        self._now_s = max(self._now_s, until_s)
        await self.settle()

    @property
    def sleepers(self) -> int:
        """Pending sleeps."""
        return sum(not woken.done() for _, _, woken in self._sleepers)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()
