"""Log lines with their times, as text and merged. Pure."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

_T = TypeVar("_T")


class TimedLine(NamedTuple):
    """A log line and the time at which it was written."""

    at_s: float
    """Unix seconds."""
    text: str


def stamp(at_s: float) -> str:
    """`at_s` in UTC to the microsecond, as Kubernetes stamps lines: 2026-01-02T03:04:05.678901Z."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def timed(lines: Iterable[str]) -> list[TimedLine]:
    """Lines that begin with a stamp and a space; one without has the time of the line before."""
    found: list[TimedLine] = []
    for line in lines:
        first, space, rest = line.partition(" ")
        at_s = _seconds(first) if space else None
        if at_s is None:
            found.append(TimedLine(found[-1].at_s if found else 0.0, line))
        else:
            found.append(TimedLine(at_s, rest))
    return found


def _seconds(text: str) -> float | None:
    if not (text.endswith("Z") and text[10:11] == "T"):
        return None
    head, _, fraction = text[:-1].partition(".")
    try:
        whole = datetime.fromisoformat(f"{head}+00:00").timestamp()
        return whole + (float(f"0.{fraction}") if fraction else 0.0)
    except ValueError:
        return None


def merged(sources: Sequence[tuple[_T, Sequence[TimedLine]]]) -> Iterator[tuple[_T, str]]:
    """(source, text) of all lines by time; the order within a source stays, even where its clock went back."""

    def rising(number: int) -> Iterator[tuple[float, int, str]]:
        latest = 0.0
        for line in sources[number][1]:
            latest = max(latest, line.at_s)
            yield latest, number, line.text

    ways = map(rising, range(len(sources)))
    return ((sources[number][0], text) for _, number, text in heapq.merge(*ways, key=lambda line: line[:2]))
