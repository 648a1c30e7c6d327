"""Virtual clock: scheduled events, ordered by time and then by insertion."""

import heapq
from collections.abc import Callable
from typing import Any

Action = Callable[..., object]


class Clock:
    """Seconds since the start of a run."""

    __slots__ = ("_events", "_planned", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self._planned = 0
        self._events: list[tuple[float, int, Action, tuple[Any, ...]]] = []

    def at(self, moment: float, action: Action, *args: Any) -> None:
        """Schedule `action(*args)` at a time, or now if it has passed."""
        self._planned = number = self._planned + 1
        heapq.heappush(self._events, (max(moment, self.now), number, action, args))

    def after(self, delay_s: float, action: Action, *args: Any) -> None:
        """Schedule `action(*args)` after `delay_s`."""
        self._planned = number = self._planned + 1
        heapq.heappush(self._events, (self.now + delay_s, number, action, args))

    def run_until(self, end: float) -> int:
        """Run all events up to `end`; returns their number."""
        events, pop = self._events, heapq.heappop
        before = self._planned - len(events)
        while events and events[0][0] <= end:
            self.now, _, action, args = pop(events)
            action(*args)
        self.now = end
        return self._planned - len(events) - before
