"""Statistics of measured values: order, percentiles, tables, promises kept or not. Pure."""

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

T = TypeVar("T")


def rotated(items: Sequence[T], rounds: int) -> Iterator[tuple[int, T]]:
    """(round, item): every item once a round, and each round begins one item later, so that none always comes first."""
    for number in range(rounds):
        start = number % len(items) if items else 0
        for item in [*items[start:], *items[:start]]:
            yield number, item


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1] of all values do not exceed; nan of nothing."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def poisson(rate: float, count: int, seed: int) -> list[float]:
    """Arrival times in seconds from 0: independent gaps of mean 1 / rate."""
    chance = random.Random(seed)
    return list(itertools.accumulate(chance.expovariate(rate) for _ in range(count)))


def poisson_for(rate: float, seconds: float, seed: int) -> list[float]:
    """Arrival times of the same process before `seconds`."""
    chance = random.Random(seed)
    gaps = itertools.accumulate(chance.expovariate(rate) for _ in itertools.count())
    return list(itertools.takewhile(lambda at_s: at_s < seconds, gaps))


def middle(values: Sequence[float]) -> float:
    """The median; nan of nothing."""
    return median(values) if values else math.nan


def median_difference(values: Sequence[float], base: Sequence[float]) -> float:
    """Median over the rounds of value - base of the same round: drift during a run affects both."""
    return middle([value - other for value, other in zip(values, base, strict=True)])


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows of text: words in the columns that `words` names by number, figures in the others."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: tuple[int, ...] = (0,)

    def text(self) -> str:
        """For a terminal."""
        lines = [self.columns, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        sides = ["<" if number in self.words else ">" for number in range(len(widths))]
        form = "  ".join(f"{{:{side}{width}}}" for side, width in zip(sides, widths, strict=True))
        return "\n".join(form.format(*line).rstrip() for line in lines)

    def markdown(self) -> str:
        """For a page."""
        rule = ["---" if number in self.words else "---:" for number in range(len(self.columns))]
        return "\n".join("| " + " | ".join(line) + " |" for line in (self.columns, rule, *self.rows))


@dataclass(frozen=True, slots=True)
class Promise:
    """The promise about a figure, and the figure."""

    what: str
    measured: float
    bound: float
    at_least: bool = True
    digits: int = 2

    @property
    def kept(self) -> bool:
        """True if it was kept; an unmeasured one was not."""
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        measured = "not measured" if math.isnan(self.measured) else f"{self.measured:.{self.digits}f}"
        return f"{self.what}: {measured} (promised {sign} {self.bound:g}) {'kept' if self.kept else 'NOT KEPT'}"


def judged(promises: Sequence[Promise], check: bool) -> int:
    """Print each promise; the exit status: 1 if one that is to be checked was not kept."""
    for promise in promises:
        print(promise)
    return int(check and not all(promise.kept for promise in promises))
