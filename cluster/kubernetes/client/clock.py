"""What this package asks of a clock."""

from typing import Protocol


class Clock(Protocol):
    """Time in seconds that never goes back, and stands in no relation to the calendar."""

    def now(self) -> float:
        """The time now."""

    async def sleep(self, seconds: float) -> None:
        """Return when that much time has passed."""
