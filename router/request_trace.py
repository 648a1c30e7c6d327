"""Arrivals and service times of the requests of one version, for traces. No payloads, no ids."""

import math
from array import array
from collections.abc import Collection

KEPT_S = 3600.0
MOST_RECORDS = 100_000
"""Records of all versions of one worker, 2.4 MB."""
FIELDS = 3
"""Numbers of a record: arrival (monotonic s), time of the replica (s; NaN: not served), size of the body (bytes)."""


class RequestTrace:
    """Records in the order of their ends. Appending one costs 0.2 µs."""

    __slots__ = ("numbers",)

    def __init__(self) -> None:
        self.numbers = array("d")

    def __len__(self) -> int:
        return len(self.numbers) // FIELDS

    def drop_before(self, at_s: float) -> None:
        """Drop the oldest records until one arrived at or after a time."""
        arrivals = self.numbers[::FIELDS]
        old = next((index for index, arrival_s in enumerate(arrivals) if arrival_s >= at_s), len(arrivals))
        del self.numbers[: FIELDS * old]

    def drop(self, count: int) -> None:
        """Drop the oldest records."""
        del self.numbers[: FIELDS * count]

    def since(self, at_s: float, now: float) -> list[tuple[float, float, int]]:
        """(age in seconds, service time in seconds or NaN, size in bytes) of requests since a time, oldest first."""
        numbers = iter(self.numbers)
        found = [
            (now - arrival_s, service_s, int(size))
            for arrival_s, service_s, size in zip(numbers, numbers, numbers, strict=True)
            if arrival_s >= at_s
        ]
        return sorted(found, reverse=True)


def trim(traces: Collection[RequestTrace], now: float, most: int = MOST_RECORDS) -> None:
    """Keep the bounds in time and in number; beyond the number, the longest traces lose their oldest records.

    traces: of all versions.
    now: monotonic seconds.
    most: bound on all records.
    """
    for trace in traces:
        if trace.numbers and trace.numbers[0] < now - KEPT_S:
            trace.drop_before(now - KEPT_S)
    surplus = sum(map(len, traces)) - most
    while surplus > 0:
        longest = max(traces, key=len)
        count = min(surplus, math.ceil(len(longest) / 2))
        longest.drop(count)
        surplus -= count
