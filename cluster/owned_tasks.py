"""Background tasks that belong to an object."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

_log = logging.getLogger("scorefront.tasks")


class OwnedTasks:
    """The background tasks of one owner; the failure of a task is logged."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run `work` until it ends or `close` is called."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def __len__(self) -> int:
        """Number of tasks that have not ended."""
        return len(self._tasks)

    async def ended(self, patience_s: float) -> None:
        """Wait until all tasks have ended by themselves, for at most `patience_s`."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=patience_s)

    async def close(self) -> None:
        """Cancel the remaining tasks and wait for their end."""
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("task failed: %s", task.get_name(), exc_info=error)
