"""Limit of retries of requests that a replica may have begun (`retry: beforeResponse`). Pure.

Where all replicas of a version fail, each request would reach as many of them as it has attempts: several times the
load, when there is least capacity for it.
"""

RESERVE = 5.0
"""Retries saved at most, and at the start: a version with few requests has them, too."""
SHARE = 0.1
"""Retries for each request that has ended."""


class RetryBudget:
    """Retries of one version in one worker."""

    __slots__ = ("_ended", "_left")

    def __init__(self) -> None:
        self._left = RESERVE
        self._ended = 0

    def take(self, ended: int) -> bool:
        """Spend one retry; False if none is left. `ended`: requests of the version that have ended since the start."""
        self._left = min(RESERVE, self._left + SHARE * max(0, ended - self._ended))
        self._ended = ended
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
