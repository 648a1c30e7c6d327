"""The records of the replicas: the only judge of the exactness of slots. Pure but for `read`.

A replica that runs in a process of its own appends a line (start, end, pid, request id, running) when a request has
ended, whoever is still there to hear of it: what a router forgets is seen here.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Span:
    """One request on a replica; seconds on the machine's monotonic clock."""

    began_s: float
    ended_s: float
    replica: str
    request: str


def read(path: Path) -> list[Span]:
    """All requests that have ended so far."""
    if not path.exists():
        return []
    return [span(line) for line in path.read_text().splitlines()]


def span(line: str) -> Span:
    """One line. Raises ValueError."""
    began, ended, pid, request, _ = line.split(" ")
    return Span(float(began), float(ended), pid, request)


def over(spans: Iterable[Span], slots: int) -> int:
    """Requests that began when their replica already had all that its slots allow."""
    by_replica: dict[str, list[Span]] = {}
    for each in spans:
        by_replica.setdefault(each.replica, []).append(each)
    return sum(step == 1 and running > slots for mine in by_replica.values() for step, running in _sweep(mine))


def most_at_once(spans: Iterable[Span]) -> int:
    """The most requests that ran at the same time, on all replicas together."""
    return max((running for _, running in _sweep(spans)), default=0)


def full_at(spans: Iterable[Span], since_s: float, slots: int) -> float:
    """The first moment with this many requests begun after `since_s` at the same time; infinite if there is none."""
    later = [each for each in spans if each.began_s >= since_s]
    moments = sorted([(each.began_s, 1) for each in later] + [(each.ended_s, -1) for each in later])
    running = 0
    for moment, step in moments:
        running += step
        if running >= slots:
            return moment
    return float("inf")


def repeated(spans: Iterable[Span]) -> int:
    """Request ids that ran more than once."""
    return sum(count > 1 for count in Counter(each.request for each in spans).values())


def busy_share(spans: Iterable[Span], since_s: float, until_s: float, slots: int) -> float:
    """The busy share of this many slots from `since_s` to `until_s`."""
    worked = sum(max(0.0, min(each.ended_s, until_s) - max(each.began_s, since_s)) for each in spans)
    return worked / (slots * (until_s - since_s))


def _sweep(spans: Iterable[Span]) -> Sequence[tuple[int, int]]:
    """(+1 or -1, number running after it) of every beginning and end, in their order.

    An end and a beginning at the same instant do not overlap: ends sort first.
    """
    moments = sorted([(each.began_s, 1) for each in spans] + [(each.ended_s, -1) for each in spans])
    steps, running = [], 0
    for _, step in moments:
        running += step
        steps.append((step, running))
    return steps
