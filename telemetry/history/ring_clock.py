"""Intervals of rings, shared by all versions. Pure."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple


class RingInterval(NamedTuple):
    """One interval with a point."""

    place: int
    time_s: int
    """Its end, unix seconds."""
    seconds: float
    """Time since the point before."""


@dataclass(slots=True)
class RingClock:
    """Ends of the intervals as multiples of a step, by place in the rings."""

    step_s: int
    numbers: "array[int]"
    """Multiple of the step at each place; -1: no point."""
    seconds: "array[float]"

    @classmethod
    def empty(cls, step_s: int, length: int) -> "RingClock":
        """A clock without intervals. `step_s`: of its ends. `length`: number of places."""
        return cls(step_s, array("q", [-1]) * length, array("f", [0.0]) * length)

    @property
    def newest(self) -> int:
        """Highest number; -1: none."""
        return max(self.numbers)

    def take(self, number: int, seconds: float) -> int:
        """Place of a new interval. `number`: above the newest. `seconds`: its length."""
        place = number % len(self.numbers)
        self.numbers[place], self.seconds[place] = number, seconds
        return place

    def drop_after(self, number: int) -> None:
        """Remove later intervals: the wall clock was set back."""
        for place, there in enumerate(self.numbers):
            if there > number:
                self.numbers[place] = -1

    def last(self, count: int, until: int) -> Iterator[RingInterval]:
        """The intervals with a point among `count` numbers, oldest first. `until`: the last number."""
        for number in range(max(until - min(count, len(self.numbers)) + 1, 0), until + 1):
            place = number % len(self.numbers)
            if self.numbers[place] == number:
                yield RingInterval(place, number * self.step_s, self.seconds[place])
