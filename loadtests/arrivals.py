"""Arrival times of open-loop load by shape. Pure.

A shape is a rate over time; arrivals are spaced evenly or drawn (Poisson), and fixed in advance: a slow answer cannot
delay them.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

SHAPES = ("steady", "step", "ramp", "spike", "soak")
STEPS = 5
SPIKE_SHARE = 0.1
"""Share of the time that a spike lasts, in the middle."""
SPIKE_FACTOR = 10.0
LEAST_FACTOR = 0.1
"""The rate of step and ramp begins here, as a share of the full one; that of spike is 1 / SPIKE_FACTOR outside it."""


class InvalidLoad(ValueError):
    """A setting of the load that cannot be used; the message names it, its value and the rule."""


@dataclass(frozen=True, slots=True)
class LoadShape:
    """A rate over time."""

    name: str
    rate: float
    """Highest rate in requests per second."""
    seconds: float

    def rate_at(self, at_s: float) -> float:
        """Requests per second at a time in [0, seconds)."""
        share = at_s / self.seconds
        if self.name == "step":
            return self.rate * (math.floor(share * STEPS) + 1) / STEPS
        if self.name == "ramp":
            return self.rate * (LEAST_FACTOR + (1 - LEAST_FACTOR) * share)
        if self.name == "spike":
            in_spike = abs(share - 0.5) <= SPIKE_SHARE / 2
            return self.rate if in_spike else self.rate / SPIKE_FACTOR
        return self.rate

    def arrivals(self, gap: Callable[[], float]) -> Iterator[float]:
        """Times in seconds from the start.

        gap: yields gaps between arrivals at rate 1, with mean 1: a constant, or drawn from an exponential.
        """
        at_s = 0.0
        while at_s < self.seconds:
            yield at_s
            at_s += gap() / self.rate_at(at_s)


def load_shape(name: str, rate: str, seconds: str) -> LoadShape:
    """The shape with this name. Raises InvalidLoad.

    rate, seconds: as in the environment.
    """
    if name not in SHAPES:
        raise InvalidLoad(f"SCOREFRONT_SHAPE: must be one of {', '.join(SHAPES)}, or trace:FILE (got {name!r})")
    return LoadShape(name, positive("SCOREFRONT_RATE", rate), positive("SCOREFRONT_SECONDS", seconds))


def positive(name: str, text: str) -> float:
    """The number of a setting. Raises InvalidLoad."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= 1e6:
        raise InvalidLoad(f"{name}: must be a number above 0, at most 1000000 (got {text!r})")
    return number
