"""Passive health: how long a replica is left alone after a failure. A replica that stays away is a provider's affair.

Requests wait meanwhile; they are not refused. So a short hold costs little, and saves the next request from a process
that is about to be gone: a dying replica's socket may still accept connections for some milliseconds, and a request
sent there is lost, since nobody can tell whether it was begun.
"""

from enum import Enum


class Failure(Enum):
    """What was seen."""

    UNREACHABLE = "unreachable"
    """Refused, or no connection within the connect timeout: the request was not begun."""
    BROKEN = "broken"
    """Closed or reset after the request was sent, or an answer that is not HTTP."""


FIRST_EJECTION_S = {Failure.UNREACHABLE: 0.05, Failure.BROKEN: 0.1}
LONGEST_EJECTION_S = 5.0
LAST_REPLICA_EJECTION_S = 0.02
"""For the last replica in service, unless it is unreachable: the fault may be the request's."""


def ejection_seconds(failure: Failure, failures: int, others: bool) -> float:
    """How long to leave a replica alone after its `failures`-th failure in a row (1, 2, …).

    `others`: whether another replica is in service and not left alone itself.
    """
    if failure is Failure.BROKEN and not others:
        return LAST_REPLICA_EJECTION_S
    return float(min(LONGEST_EJECTION_S, FIRST_EJECTION_S[failure] * 2 ** min(failures - 1, 30)))
