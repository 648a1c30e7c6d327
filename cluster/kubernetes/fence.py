"""Two leaders never both scale: every workload carries the number of the leadership that wrote it last.

A leader whose lease was taken while it slept does not know it yet. What it is about to write, it has read; if that
carries a higher number, somebody else leads. If it does not, the write carries the version that was read, and fails if
the new leader was faster. A new leader puts its number on everything before it changes anything.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from cluster.kubernetes.objects.labels import FENCE
from cluster.provider import ProviderError


class Fenced(ProviderError):
    """Somebody else leads: this process must not write any more."""


class Fence:
    """The number of this leadership. `broken` is set for ever once a higher one was seen.

    `leads` says whether the lease is still ours: a process may have stood still for longer than that lasts.
    """

    def __init__(self, number: int, leads: Callable[[], bool] = lambda: True) -> None:
        self.number = number
        self.broken = asyncio.Event()
        self._leads = leads

    def admit(self, found: Mapping[str, Any]) -> None:
        """`found` was read and is to be written. Raises Fenced."""
        if (other := number_on(found)) > self.number:
            self.broken.set()
            metadata = found["metadata"]
            raise Fenced(f"{metadata['namespace']}/{metadata['name']} carries fence {other}, ours is {self.number}")
        self.check()

    def check(self) -> None:
        """Raises Fenced once a higher number was seen anywhere, or the lease has run out."""
        if not self._leads():
            self.broken.set()
        if self.broken.is_set():
            raise Fenced(f"the leadership with fence {self.number} is over")

    def is_on(self, found: Mapping[str, Any]) -> bool:
        """It carries our number."""
        return number_on(found) == self.number


def number_on(found: Mapping[str, Any]) -> int:
    """The number that an object carries; what is no number counts as none."""
    text = (found["metadata"].get("annotations") or {}).get(FENCE, "")
    return int(text) if text.isascii() and text.isdigit() else -1
