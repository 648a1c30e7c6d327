"""Passive health: time for which a replica is ejected after a failure. Permanent failures are the provider's to handle.

Requests wait during an ejection; they are not refused. A short one costs little and saves the next request from a dying
process: its socket may accept connections for some milliseconds, and a request sent there is lost, because it is
unknown if the replica has begun it.
"""

from enum import Enum


class Failure(Enum):
    """Kind of failure of a scoring request."""

    UNREACHABLE = "unreachable"
    """Refused, or no connection within the connect timeout: the request was not begun."""
    BROKEN = "broken"
    """Closed or reset after the request was sent, or a response that is not HTTP."""


FIRST_EJECTION_S = {Failure.UNREACHABLE: 0.05, Failure.BROKEN: 0.1}
LONGEST_EJECTION_S = 5.0
LAST_REPLICA_EJECTION_S = 0.02
"""For the last replica in service, unless it is unreachable: the request may be at fault."""


def ejection_seconds(failure: Failure, failures: int, others: bool) -> float:
    """Seconds to eject a replica, doubling with each failure in a row.

    `failure`: kind of the last failure. `failures`: failures in a row, from 1. `others`: True if another replica is in
    service and not ejected.
    """
    if failure is Failure.BROKEN and not others:
        return LAST_REPLICA_EJECTION_S
    return float(min(LONGEST_EJECTION_S, FIRST_EJECTION_S[failure] * 2 ** min(failures - 1, 30)))
