"""Due times of versions: a heap with one time per key."""

import heapq
import math

from serving.endpoint import VersionKey


class DueTimes:
    """Due times in seconds, one per version; O(log n) to set and to pop."""

    def __init__(self) -> None:
        self._due_s: dict[VersionKey, float] = {}
        self._heap: list[tuple[float, VersionKey]] = []
        """The entry of every key, and replaced or dropped entries, which are skipped."""

    def __contains__(self, key: VersionKey) -> bool:
        return key in self._due_s

    def set(self, key: VersionKey, at_s: float) -> None:
        """Set the due time of `key`, in place of its previous one."""
        if self._due_s.get(key) != at_s:
            self._due_s[key] = at_s
            heapq.heappush(self._heap, (at_s, key))

    def drop(self, key: VersionKey) -> None:
        """Remove `key`, if present."""
        self._due_s.pop(key, None)

    def next_s(self) -> float:
        """The earliest due time; infinity if there is none."""
        heap = self._heap
        while heap and self._due_s.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else math.inf

    def pop(self, now: float) -> VersionKey | None:
        """Remove and return the longest overdue key at `now`; None if none is due."""
        if self.next_s() > now:
            return None
        _, key = heapq.heappop(self._heap)
        del self._due_s[key]
        return key
