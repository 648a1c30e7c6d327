"""Desired replicas of each version, written to the store in the background."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from controlplane.control_errors import StoreError
from serving.clock import Clock
from serving.endpoint import VersionKey

WRITE_EVERY_S = 1.0

_log = logging.getLogger(__name__)


class DesiredCounts:
    """Desired replicas in memory, written to the store at most once a second.

    A crash loses at most the last second of scaling, and the autoscaler decides again.
    """

    def __init__(self, write: Callable[[Mapping[VersionKey, int]], Awaitable[None]], clock: Clock) -> None:
        self._write = write
        self._clock = clock
        self._numbers: dict[VersionKey, int] = {}
        self._changed = asyncio.Event()

    def load(self, numbers: Mapping[VersionKey, int]) -> None:
        """Use the stored numbers."""
        self._numbers = dict(numbers)

    def get(self, key: VersionKey) -> int | None:
        """The desired number, or None if none was set."""
        return self._numbers.get(key)

    def all(self) -> Mapping[VersionKey, int]:
        """All numbers."""
        return self._numbers

    def set(self, key: VersionKey, number: int) -> None:
        """Change one number; it is written later."""
        if self._numbers.get(key) != number:
            self._numbers[key] = number
            self._changed.set()

    def forget(self, key: VersionKey) -> None:
        """Drop the number of a removed version."""
        if self._numbers.pop(key, None) is not None:
            self._changed.set()

    async def run(self) -> None:
        """Write changes until cancelled; a failed write is retried and logged once."""
        is_logged = False
        while True:
            await self._changed.wait()
            try:
                await self.flush()
                is_logged = False
            except StoreError as error:
                self._changed.set()
                if not is_logged:
                    _log.warning("desired replicas: not stored yet: %s", error)
                    is_logged = True
            await self._clock.sleep(WRITE_EVERY_S)

    async def flush(self) -> None:
        """Write changed numbers now. Raises StoreError."""
        if self._changed.is_set():
            self._changed.clear()
            await self._write(dict(self._numbers))
