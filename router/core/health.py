"""Standing of a replica as a printable table, with its times. Pure.

A replica whose request timed out, was abandoned or broke may still be at work on it, or be dead: it is suspect, and
gets no request until its health path has answered. Requests wait meanwhile; they are not refused. A refused connection
costs nothing but a retry, so it is ejected for a short time only, without a health request.
"""

import itertools
from enum import Enum, StrEnum


class Failure(Enum):
    """Kind of failure of a scoring request."""

    UNREACHABLE = "unreachable"
    """Refused, or no connection within the connect timeout: the request was not begun."""
    BROKEN = "broken"
    """Closed or reset after the request was sent, or a response that is not HTTP."""
    TIMEOUT = "timeout"
    """No complete response within the scoring timeout."""
    ABANDONED = "abandoned"
    """Ended by the client or the router after the request was sent; no fault of the replica."""


class HealthSign(Enum):
    """Result of a health request."""

    WELL = "well"
    """An HTTP answer below 500."""
    UNREADY = "unready"
    """An HTTP answer from 500 on."""
    NONE = "none"
    """No HTTP answer in time."""


class Standing(StrEnum):
    """Standing of a replica with the router. Only SERVING ones get requests."""

    SERVING = "serving"
    EJECTED = "ejected"
    """Not used for a short time after failures."""
    SUSPECT = "suspect"
    """Not used until its health path answers; a health request is due."""
    PROBING = "probing"
    """The same, with a health request under way."""


class StandingEvent(StrEnum):
    """Event that may change the standing of a replica."""

    UNREACHABLE = "unreachable"
    """A connection failed while another replica serves."""
    DOUBTED = "doubted"
    """A request timed out, was abandoned or broke; or a connection failed and no other replica serves."""
    NEEDED = "needed"
    """No replica of its version serves any more."""
    DUE = "due"
    """The ejection, or the pause before the next health request, is over."""
    ANSWERED = "answered"
    """The health path gave a sign of life."""
    RELAPSED = "relapsed"
    """The same after several failures in a row, while another replica serves."""
    UNANSWERED = "unanswered"
    """The health path gave no sign of life in time."""


_MOVES: dict[tuple[Standing, StandingEvent], Standing] = {
    (Standing.SERVING, StandingEvent.UNREACHABLE): Standing.EJECTED,
    (Standing.SERVING, StandingEvent.DOUBTED): Standing.SUSPECT,
    (Standing.EJECTED, StandingEvent.DUE): Standing.SERVING,
    (Standing.EJECTED, StandingEvent.DOUBTED): Standing.SUSPECT,
    (Standing.EJECTED, StandingEvent.NEEDED): Standing.SUSPECT,
    (Standing.SUSPECT, StandingEvent.DUE): Standing.PROBING,
    # The request under way may have been answered before the doubt: another one follows.
    (Standing.PROBING, StandingEvent.DOUBTED): Standing.SUSPECT,
    (Standing.PROBING, StandingEvent.ANSWERED): Standing.SERVING,
    (Standing.PROBING, StandingEvent.RELAPSED): Standing.EJECTED,
    (Standing.PROBING, StandingEvent.UNANSWERED): Standing.SUSPECT,
}
STANDINGS = {pair: _MOVES.get(pair, pair[0]) for pair in itertools.product(Standing, StandingEvent)}
"""The standing after each event; it stays the same for all pairs not listed."""

UNCERTAIN = frozenset({Standing.SUSPECT, Standing.PROBING})
"""Standings that only an answer of the health path ends."""

FIRST_EJECTION_S = 0.05
LONGEST_EJECTION_S = 5.0
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0


def ejection_seconds(failures: int) -> float:
    """Seconds to eject a replica, doubling with each failure in a row. `failures`: failures in a row, from 1."""
    return float(min(LONGEST_EJECTION_S, FIRST_EJECTION_S * 2 ** min(failures - 1, 30)))


def probe_pause_s(unanswered: int, queue_wait_s: float) -> float:
    """Seconds from one health request to the next; none before the first.

    `unanswered`: health requests so far. `queue_wait_s`: longest wait of a request for a slot: at least two health
    requests fall into it, so that a replica that is well again is found before the request is refused.

    A request that was silent for longer is followed by the next at once, so that one always waits at a silent replica.
    """
    longest_s = max(FIRST_PAUSE_S, min(LONGEST_PAUSE_S, queue_wait_s / 2))
    return float(min(longest_s, FIRST_PAUSE_S * 2 ** min(unanswered - 1, 30))) if unanswered else 0.0


def is_sign_of_life(sign: HealthSign, at_work: bool) -> bool:
    """True if the replica may get requests after this result.

    `at_work`: True while other requests are in flight on it: many servers say 503 then.
    """
    return sign is HealthSign.WELL or (sign is HealthSign.UNREADY and at_work)
