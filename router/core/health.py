"""Passive health: how long a replica is left alone after a failure. A replica that stays away is a provider's affair.

A refused connection is proof that nothing listens: the replica is left alone whatever the others do, or the request
would spin. A reset may be the request's own fault: only three in a row count, and never against the last replica.
"""

from enum import Enum


class Failure(Enum):
    """What was seen."""

    UNREACHABLE = "unreachable"
    """Refused, or no connection within the connect timeout: the request was not begun."""
    BROKEN = "broken"
    """Closed or reset after the request was sent, or an answer that is not HTTP."""


BROKEN_IN_A_ROW = 3
FIRST_HOLD_S = 0.05
LONGEST_HOLD_S = 5.0


def hold_seconds(failure: Failure, failures: int, others: bool) -> float:
    """How long to leave a replica alone after its `failures`-th failure in a row (1, 2, …); 0 = not at all.

    `others`: whether another replica is in service.
    """
    if failure is Failure.BROKEN:
        if not others or failures < BROKEN_IN_A_ROW:
            return 0.0
        failures -= BROKEN_IN_A_ROW - 1
    return float(min(LONGEST_HOLD_S, FIRST_HOLD_S * 2 ** min(failures - 1, 30)))
