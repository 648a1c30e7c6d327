"""Versions whose collected payloads have been dropped lately. Pure."""

from collections.abc import Mapping
from typing import Final

from cluster.provider import Problem
from serving.endpoint import VersionKey
from telemetry.ring import PayloadCounts

DROPPING_S: Final = 600.0
"""Time for which a dropped payload is a problem of its version."""


class DroppedPayloads:
    """Notes when payloads of a version were dropped last."""

    def __init__(self) -> None:
        self._last: dict[VersionKey, tuple[int, float]] = {}
        """Payloads dropped, and the time of the last."""

    def note(self, counts: Mapping[VersionKey, PayloadCounts], now: float) -> None:
        """Compare with the counts before. `now`: monotonic seconds, as in `recent`."""
        for key, found in counts.items():
            if found.dropped != self._last.get(key, (0, 0.0))[0]:
                self._last[key] = (found.dropped, now)

    def recent(self, now: float) -> dict[VersionKey, int]:
        """Version -> payloads dropped so far, of those with one in the last DROPPING_S."""
        return {key: count for key, (count, at_s) in self._last.items() if count and now - at_s <= DROPPING_S}


def dropping_problem(count: int) -> dict[Problem, str]:
    """The problem of a version. `count`: payloads dropped; 0: no problem."""
    if not count:
        return {}
    return {Problem.DROPPING: f"{count} collected payloads dropped so far: the store fails or does not keep up"}
