"""What is to be done at a later moment. Nothing happens by itself: the shell looks at `next` and calls `run`."""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any, TypeVar

T = TypeVar("T")


class Timers:
    """Actions in the order of their moments, and of their planning where moments are equal."""

    __slots__ = ("_numbers", "_plans")

    def __init__(self) -> None:
        self._numbers = count()
        self._plans: list[tuple[float, int, Callable[..., Any], tuple[Any, ...]]] = []

    def at(self, moment: float, action: Callable[..., list[T]], *args: Any) -> None:
        """Call `action(*args, now)` at that moment or soon after. Whether it still matters is the action's affair."""
        heappush(self._plans, (moment, next(self._numbers), action, args))

    def next(self) -> float | None:
        """When `run` has something to do, or None."""
        return self._plans[0][0] if self._plans else None

    def run(self, now: float) -> list[Any]:
        """Do what is due; returns what the actions return, in one list. What they plan for now is done, too."""
        results = []
        while self._plans and self._plans[0][0] <= now:
            _, _, action, args = heappop(self._plans)
            results += action(*args, now)
        return results
