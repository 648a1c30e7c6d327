"""The fence: at most one leader writes a workload, because every workload carries the fence of its last writer.

The annotation is `<uid of the Lease>/<number>`. A leader reads an object before writing it. A number above its own,
of its own Lease, means a newer leader, if the Lease confirms it. The write carries the resourceVersion that was read,
so it fails if a newer leader has written meanwhile.

The annotation alone proves nothing: anyone with write access to the workload can set it. Therefore the Lease is read
after the object. If it still names this leader with its number, no newer leader wrote the annotation: a higher number
of this Lease is forged, and the object is not written; a number of another (deleted) Lease is replaced. For the same
reason no leader takes its own number from annotations.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cluster.kubernetes.client.api_errors import ApiError
from cluster.kubernetes.objects.labels import FENCE
from cluster.kubernetes.ownership import NotWritable
from cluster.provider import ProviderError

FORGED = "FenceForged"
HIGHEST = 2**31 - 1
"""`leaseTransitions` of a Lease is a 32-bit integer."""

_WRITTEN = re.compile(r"([^/\s]{1,128})/([1-9][0-9]{0,9})")


class Fenced(ProviderError):
    """Another process leads; this one must not write."""


class Leadership(Protocol):
    """One leadership, as the election knows it."""

    @property
    def lease_uid(self) -> str:
        """Uid of the Lease that is held."""

    def leads(self) -> bool:
        """True until the lease has run out by this process's clock."""

    async def confirmed(self) -> bool:
        """True if the Lease, read now, names this process with its number. Raises ApiError."""


@dataclass(frozen=True, slots=True)
class FenceMark:
    """A valid fence annotation."""

    lease_uid: str
    number: int

    def __str__(self) -> str:
        return f"{self.lease_uid}/{self.number}"


class Fence:
    """The mark of this leadership. `broken` is set for ever once another leader is known of."""

    def __init__(self, number: int, leadership: Leadership) -> None:
        self.number = number
        self.broken = asyncio.Event()
        self._leadership = leadership
        self._mark = FenceMark(leadership.lease_uid, number)

    @property
    def mark(self) -> str:
        """The annotation to write."""
        return str(self._mark)

    async def admit(self, found: Mapping[str, Any]) -> None:
        """Check the fence of an object that was read and is to be written.

        Raises Fenced if another process leads, NotWritable for a forged fence, ProviderError if the Lease had to be
        read and
        could not.
        """
        self.check()
        text = text_on(found)
        other = mark_in(text)
        if not text or other == self._mark:
            return
        if other is not None and other.lease_uid == self._mark.lease_uid and other.number < self.number:
            return
        await self._confirm(found, text)
        if other is not None and other.lease_uid == self._mark.lease_uid:
            metadata = found["metadata"]
            raise NotWritable(
                FORGED,
                f"{metadata['namespace']}/{metadata['name']} carries fence {text}, but {self.mark} leads: remove the"
                f" annotation {FENCE}",
            )

    def check(self) -> None:
        """Raises Fenced once another leader is known of, or the lease has run out."""
        if not self._leadership.leads():
            self.broken.set()
        if self.broken.is_set():
            raise Fenced(f"the leadership with fence {self.number} is over")

    def is_on(self, found: Mapping[str, Any]) -> bool:
        """True if `found` carries the fence of this leadership."""
        return text_on(found) == self.mark

    async def _confirm(self, found: Mapping[str, Any], text: str) -> None:
        """Raises Fenced unless the Lease still names this leader."""
        place = f"{found['metadata']['namespace']}/{found['metadata']['name']}"
        try:
            confirmed = await self._leadership.confirmed()
        except ApiError as error:
            raise ProviderError(f"{place} carries fence {text}, and the Lease cannot be read: {error}") from error
        if not confirmed:
            self.broken.set()
            raise Fenced(f"{place} carries fence {text}, and the Lease does not name {self.mark} any more")
        self.check()


def text_on(found: Mapping[str, Any]) -> str:
    """The annotation of an object; "" for none."""
    return str((found["metadata"].get("annotations") or {}).get(FENCE) or "")


def mark_in(text: str) -> FenceMark | None:
    """Parse a fence annotation; None if it is not valid."""
    parts = _WRITTEN.fullmatch(text)
    if parts is None or int(parts[2]) > HIGHEST:
        return None
    return FenceMark(parts[1], int(parts[2]))
