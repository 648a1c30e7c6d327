"""Search for the cheapest policy that keeps a goal on a trace."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from autoscaler.simulation.replay import ReplayResult, ReplaySettings, replay

TARGETS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
MOST_REPLICAS = 10_000


def suggest(
    requests: Sequence[tuple[float, float]],
    settings: ReplaySettings,
    p99_s: float,
    note: Callable[[ReplayResult], None] = lambda result: None,
) -> ReplayResult | None:
    """The replay with the fewest replica-seconds that refuses nothing and keeps the goal; None if there is none.

    Target utilization, minimum and maximum are searched; the rest stays as in `settings`. For each target the smallest
    minimum that holds is found by bisection, since a larger minimum only shortens waits. The maximum is the largest
    number that the policy asked for.

    requests: (arrival, service time) in seconds, in order of arrival.
    settings: where the search starts.
    p99_s: longest wait of 99 % of the requests.
    note: called with every replay.
    """
    best: ReplayResult | None = None
    for target in TARGETS:
        for result in _for_target(requests, settings, target, p99_s):
            note(result)
            if _holds(result, p99_s) and (best is None or result.replica_seconds < best.replica_seconds):
                best = result
    return None if best is None else _with_least_maximum(best)


def _for_target(
    requests: Sequence[tuple[float, float]], settings: ReplaySettings, target: float, p99_s: float
) -> Iterator[ReplayResult]:
    """Replays with growing minimum until one holds, then the bisection down to the smallest that does."""

    def attempt(least: int) -> ReplayResult:
        policy = replace(
            settings.policy, target_utilization=target, min_replicas=least, max_replicas=max(least, MOST_REPLICAS)
        )
        return replay(requests, replace(settings, policy=policy))

    failed, least = 0, 1
    while True:
        result = attempt(least)
        yield result
        if _holds(result, p99_s):
            break
        if result.most <= least or least >= MOST_REPLICAS:
            return  # the minimum is all there ever was: more replicas change nothing
        failed, least = least, min(2 * least, MOST_REPLICAS)
    while least - failed > 1:
        middle = (failed + least) // 2
        result = attempt(middle)
        yield result
        if _holds(result, p99_s):
            least = middle
        else:
            failed = middle


def _holds(result: ReplayResult, p99_s: float) -> bool:
    return not result.refused and result.wait_s(0.99) <= p99_s


def _with_least_maximum(result: ReplayResult) -> ReplayResult:
    asked = max((decision.desired for decision in result.decisions), default=result.settings.policy.min_replicas)
    most = max(asked, math.ceil(result.settings.policy.min_replicas))
    policy = replace(result.settings.policy, max_replicas=most)
    return replace(result, settings=replace(result.settings, policy=policy))
