"""Timers without a clock: the shell reads `next` and calls `run`."""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any, TypeVar

T = TypeVar("T")


class Timers:
    """Scheduled actions, ordered by time and then by insertion."""

    __slots__ = ("_numbers", "_plans")

    def __init__(self) -> None:
        self._numbers = count()
        self._plans: list[tuple[float, int, Callable[..., Any], tuple[Any, ...]]] = []

    def at(self, moment: float, action: Callable[..., list[T]], *args: Any) -> None:
        """Schedule `action(*args, now)`. Timers are not cancelled: the action checks that it still applies.

        `moment`: earliest time, in seconds. `args`: passed before the time of the call.
        """
        heappush(self._plans, (moment, next(self._numbers), action, args))

    def next(self) -> float | None:
        """Time of the next action, or None."""
        return self._plans[0][0] if self._plans else None

    def run(self, now: float) -> list[Any]:
        """Run due actions, including those scheduled meanwhile; returns their results as one list."""
        results = []
        while self._plans and self._plans[0][0] <= now:
            _, _, action, args = heappop(self._plans)
            results += action(*args, now)
        return results
