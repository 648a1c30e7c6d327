"""What is due when: one time per key, the next one found at once."""

import heapq
import math

from serving.endpoint import VersionKey


class DueTimes:
    """Due times of many versions, in seconds; O(log n) to set and to take."""

    def __init__(self) -> None:
        self._due_s: dict[VersionKey, float] = {}
        self._heap: list[tuple[float, VersionKey]] = []
        """Holds the entry of every key, and entries that were overwritten or dropped: these are skipped when met."""

    def __contains__(self, key: VersionKey) -> bool:
        return key in self._due_s

    def set(self, key: VersionKey, at_s: float) -> None:
        """This key is due then, and at no other time."""
        if self._due_s.get(key) != at_s:
            self._due_s[key] = at_s
            heapq.heappush(self._heap, (at_s, key))

    def drop(self, key: VersionKey) -> None:
        """This key is due no more."""
        self._due_s.pop(key, None)

    def next_s(self) -> float:
        """When the next key is due; infinity when none is."""
        heap = self._heap
        while heap and self._due_s.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else math.inf

    def take(self, now: float) -> VersionKey | None:
        """The key that has been due longest at `now`, taken off the agenda; None when none is due."""
        if self.next_s() > now:
            return None
        _, key = heapq.heappop(self._heap)
        del self._due_s[key]
        return key
