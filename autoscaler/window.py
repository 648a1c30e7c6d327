"""The highest value that was in force during the last seconds: up at once, down late, without a flag or a timer.

A value is in force from the moment it is added until the next one is added. Of all values only those are kept that
could still become the peak: their order of age is also their order of size (a monotonic queue), so both operations are
O(1) amortised and the queue is never longer than there are distinct values.
"""

from collections import deque


class PeakWindow:
    """Values over time, and the peak of a look back. Times are seconds, never decreasing; equal ones are normal."""

    __slots__ = ("_known_since_s", "_peaks")

    def __init__(self) -> None:
        self._peaks: deque[tuple[int, float]] = deque()
        """(value, in force until): values strictly decrease, times never do. The last one is still in force."""
        self._known_since_s: float | None = None

    def add(self, value: int, now: float) -> None:
        """`value` is in force from now on, and what was in force before has been so until now."""
        if self._known_since_s is None:
            self._known_since_s = now
        peaks = self._peaks
        if peaks and peaks[-1][0] > value:
            peaks[-1] = (peaks[-1][0], now)
        while peaks and peaks[-1][0] <= value:
            peaks.pop()
        peaks.append((value, now))

    def known_s(self, now: float) -> float:
        """For how long the values are known without a gap; 0.0 when none was added."""
        return 0.0 if self._known_since_s is None else now - self._known_since_s

    def peak(self, length_s: float, now: float) -> int | None:
        """The highest value in force during (now - length, now], or None while less than `length` is known.

        What has left the window is dropped. A later look over a longer one answers None until it is known as a whole.
        """
        if not self._peaks or self._known_since_s is None:
            return None
        start_s = now - length_s
        while len(self._peaks) > 1 and self._peaks[0][1] <= start_s:
            _, self._known_since_s = self._peaks.popleft()
        return self._peaks[0][0] if self._known_since_s <= start_s else None
