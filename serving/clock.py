"""The clock interface of everything that waits."""

from collections.abc import Coroutine
from typing import Any, Protocol


class Clock(Protocol):
    """Monotonic time in seconds, unrelated to the calendar."""

    def now(self) -> float:
        """The current time."""

    def sleep(self, seconds: float) -> Coroutine[Any, Any, None]:
        """Return after `seconds`."""
