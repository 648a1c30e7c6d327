"""Sliding maximum: the highest value in force during the last seconds. Rises at once, falls after the window.

A value is in force until the next one is added. Only values that can still become the maximum are kept: ordered by age
they are ordered by size too (a monotonic queue), so both operations are O(1) amortised and the queue is never longer
than the number of distinct values.
"""

from collections import deque


class PeakWindow:
    """Values over time and their sliding maximum. Times are in seconds and never decrease; equal times are normal."""

    __slots__ = ("_known_since_s", "_peaks")

    def __init__(self) -> None:
        self._peaks: deque[tuple[int, float]] = deque()
        """(value, in force until): values strictly decrease, times never do. The last one is still in force."""
        self._known_since_s: float | None = None

    def add(self, value: int, now: float) -> None:
        """Put `value` in force from `now` on."""
        if self._known_since_s is None:
            self._known_since_s = now
        peaks = self._peaks
        if peaks and peaks[-1][0] > value:
            peaks[-1] = (peaks[-1][0], now)
        while peaks and peaks[-1][0] <= value:
            peaks.pop()
        peaks.append((value, now))

    def known_s(self, now: float) -> float:
        """Seconds of gapless knowledge; 0.0 before the first value."""
        return 0.0 if self._known_since_s is None else now - self._known_since_s

    def peak(self, length_s: float, now: float) -> int | None:
        """The highest value in force during (now - length, now]; None while less than `length_s` is known.

        Older values are dropped: a later call with a longer window returns None until that window is known.
        """
        if not self._peaks or self._known_since_s is None:
            return None
        start_s = now - length_s
        while len(self._peaks) > 1 and self._peaks[0][1] <= start_s:
            _, self._known_since_s = self._peaks.popleft()
        return self._peaks[0][0] if self._known_since_s <= start_s else None
