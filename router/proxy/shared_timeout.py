"""One timer for the time limits of many tasks."""

import asyncio
from typing import Any


class SharedTimeout:
    """Cancels tasks that take longer than a limit. A timer of each task (`asyncio.timeout`) costs 4 µs."""

    def __init__(self, limit_s: float) -> None:
        """`limit_s`: the same for all tasks, so that they are due in the order of their beginning."""
        self._limit_s = limit_s
        self._due: dict[asyncio.Task[Any] | None, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """The time of the current task begins."""
        loop = asyncio.get_running_loop()
        self._due[asyncio.current_task()] = loop.time() + self._limit_s
        if self._timer is None:
            self._timer = loop.call_later(self._limit_s, self._expire)

    def end(self) -> bool:
        """The time of the current task ends; True if it was up, so that the task was cancelled."""
        return self._due.pop(asyncio.current_task(), None) is None

    def _expire(self) -> None:
        loop, self._timer = asyncio.get_running_loop(), None
        for task, due in list(self._due.items()):
            if due > loop.time():
                self._timer = loop.call_at(due, self._expire)
                return
            del self._due[task]
            if task is not None:
                task.cancel()
