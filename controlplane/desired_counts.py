"""How many replicas each version should have, mirrored to disk behind the back of whoever scales."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from controlplane.control_errors import StoreError
from serving.clock import Clock
from serving.endpoint import VersionKey

WRITE_EVERY_S = 1.0

_log = logging.getLogger(__name__)


class DesiredCounts:
    """The numbers in memory are the truth while we run; at most one write a second brings them to disk.

    A crash loses at most the last second of scaling, which the autoscaler decides again.
    """

    def __init__(self, write: Callable[[Mapping[VersionKey, int]], Awaitable[None]], clock: Clock) -> None:
        self._write = write
        self._clock = clock
        self._numbers: dict[VersionKey, int] = {}
        self._changed = asyncio.Event()

    def load(self, numbers: Mapping[VersionKey, int]) -> None:
        """Start with what is on disk."""
        self._numbers = dict(numbers)

    def get(self, key: VersionKey) -> int | None:
        """The wanted number, or None if none was ever set."""
        return self._numbers.get(key)

    def all(self) -> Mapping[VersionKey, int]:
        """Every number."""
        return self._numbers

    def set(self, key: VersionKey, number: int) -> None:
        """Change one; returns at once."""
        if self._numbers.get(key) != number:
            self._numbers[key] = number
            self._changed.set()

    def forget(self, key: VersionKey) -> None:
        """The version is gone."""
        if self._numbers.pop(key, None) is not None:
            self._changed.set()

    async def run(self) -> None:
        """Write what changes, for ever; a write that fails is tried again and told once."""
        told = False
        while True:
            await self._changed.wait()
            try:
                await self.flush()
                told = False
            except StoreError as error:
                self._changed.set()
                if not told:
                    _log.warning("wanted replica numbers are not on disk yet: %s", error)
                    told = True
            await self._clock.sleep(WRITE_EVERY_S)

    async def flush(self) -> None:
        """Bring everything to disk now. Raises StoreError."""
        if self._changed.is_set():
            self._changed.clear()
            await self._write(dict(self._numbers))
