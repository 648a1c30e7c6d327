"""The offline oracle: replica-seconds of a schedule that knows every arrival.

Requests are served as by the maximum of replicas, all ready: first come, first served, and refused if even these have
no slot within the queue wait. The oracle starts each replica so early that it is ready when it is needed, and keeps an
idle one only if the gap is shorter than a start. No policy that learns of a request by its arrival can do that; the
least possible number may still be a little lower, since requests could also be delayed on purpose.
"""

import heapq
from collections.abc import Sequence


def oracle_replica_seconds(
    requests: Sequence[tuple[float, float]],
    slots: int,
    low: int,
    high: int,
    start_s: float,
    queue_wait_s: float,
) -> float:
    """Replica-seconds of the oracle until the end of the last request.

    requests: (arrival, service time) in seconds, in order of arrival.
    slots: of a replica.
    low, high: the minimum runs all the time; there are never more than the maximum.
    start_s: start-up time, paid for each start.
    queue_wait_s: longest wait for a slot.
    """
    busy = _busy_replicas(requests, slots, high, queue_wait_s)
    end_s = max((spans[-1][1] for spans in busy if spans), default=0.0)
    end_s = max(end_s, requests[-1][0] if requests else 0.0)
    return low * end_s + sum(_cost_s(spans, start_s) for spans in busy[low:])


def _busy_replicas(
    requests: Sequence[tuple[float, float]], slots: int, high: int, queue_wait_s: float
) -> list[list[tuple[float, float]]]:
    """For each replica the spans in which it has requests. A request takes the free slot with the lowest number."""
    free = list(range(high * slots))
    in_use: list[tuple[float, int]] = []
    spans: list[list[tuple[float, float]]] = [[] for _ in range(high)]
    now = 0.0
    for arrival_s, service_s in requests:
        now = max(now, arrival_s)  # the request before may have waited longer: first come, first served
        if not free and in_use:
            now = max(now, in_use[0][0])
        if now > arrival_s + queue_wait_s:
            now = arrival_s
            continue
        while in_use and in_use[0][0] <= now:
            heapq.heappush(free, heapq.heappop(in_use)[1])
        slot = heapq.heappop(free)
        end_s = now + service_s
        heapq.heappush(in_use, (end_s, slot))
        _add(spans[slot // slots], now, end_s)
    return spans


def _add(spans: list[tuple[float, float]], start_s: float, end_s: float) -> None:
    """Add a span that starts after all starts so far."""
    if spans and start_s <= spans[-1][1]:
        spans[-1] = (spans[-1][0], max(end_s, spans[-1][1]))
    else:
        spans.append((start_s, end_s))


def _cost_s(spans: Sequence[tuple[float, float]], start_s: float) -> float:
    """Seconds that a replica runs for these spans, its starts included."""
    cost_s, last_s = 0.0, float("-inf")
    for begin_s, end_s in spans:
        cost_s += min(start_s, begin_s - last_s) + end_s - begin_s
        last_s = end_s
    return cost_s
