"""Simulated pairs of arms, watched after every interval.

`python -m tests.unit.telemetry.comparison_runs --runs 1000` prints the share of wrong verdicts on equal arms, and the
traffic until a treatment with more failures, or a slower one, is found. `--only durations` leaves out the failures.
"""

import argparse
import math
import random
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from router.metrics import DURATION_BOUNDS_S
from telemetry.comparison import ArmPairSums, ArmTally, ArmVerdict, error_of, verdict_of
from telemetry.history.bucket_quantiles import deviation_bound
from tests.unit.telemetry.history_scrapes import histogram

INTERVAL_S = 10


@dataclass(frozen=True)
class Watch:
    """A pair of arms under watch; rates of requests are means per interval."""

    control_requests: float
    treatment_requests: float
    control_failures: float
    """Probability that a request fails."""
    more_failures: float = 0.0
    """Of the treatment, as a probability."""
    intervals: int = 360
    window: int = 360
    """Intervals that are compared at a look: the newest."""
    wave: float = 0.0
    """Part of the failure probability and of the traffic split that rises and falls within an hour, in [0, 1)."""

    def run(self, seed: int) -> tuple[ArmVerdict, int]:
        """First verdict other than UNDECIDED, and the requests of the treatment until then."""
        chance = random.Random(seed)
        sums, kept = ArmPairSums(), deque[tuple[ArmTally, ArmTally]]()
        error = error_of(self.window * INTERVAL_S)
        seen = 0
        for number in range(self.intervals):
            level = 1 + self.wave * math.sin(number * 2 * math.pi / 360)
            control = _arm(chance, round(self.control_requests * (2 - level), 1), self.control_failures * level)
            rate = self.control_failures * level + self.more_failures
            treatment = _arm(chance, round(self.treatment_requests * level, 1), rate)
            seen += treatment.requests
            if control.requests and treatment.requests:
                sums.add(control, treatment)
            kept.append((control, treatment))
            if len(kept) > self.window:
                control, treatment = kept.popleft()
                if control.requests and treatment.requests:
                    sums.add(control, treatment, sign=-1)
            verdict = verdict_of(*sums.bounds(error))
            if verdict is not ArmVerdict.UNDECIDED:
                return verdict, seen
        return ArmVerdict.UNDECIDED, seen


Draw = Callable[[random.Random], float]
"""One duration in seconds."""


@dataclass(frozen=True)
class DurationWatch:
    """A pair of arms whose durations are watched; requests are numbers per interval."""

    control_requests: int
    treatment_requests: int
    draw: Draw
    slower: float = 1.0
    """Factor of the treatment's durations."""
    intervals: int = 360
    error: float = error_of(3600)

    def run(self, seed: int) -> tuple[ArmVerdict, int]:
        """First verdict other than UNDECIDED, and the requests of the treatment until then."""
        chance, sums = random.Random(seed), ArmPairSums()
        for number in range(1, self.intervals + 1):
            control = _durations(chance, self.control_requests, self.draw)
            treatment = _durations(chance, self.treatment_requests, lambda it: self.slower * self.draw(it))
            sums.add(control, treatment)
            bounds_s = sums.duration_bounds_s(self.error)
            verdict = ArmVerdict.UNDECIDED if bounds_s is None else verdict_of(*bounds_s)
            if verdict is not ArmVerdict.UNDECIDED:
                return verdict, number * self.treatment_requests
        return ArmVerdict.UNDECIDED, self.intervals * self.treatment_requests


def wrong_share(watch: Watch | DurationWatch, runs: int) -> dict[ArmVerdict, float]:
    """Share of the runs with each verdict, by fixed seeds."""
    verdicts = [watch.run(seed)[0] for seed in range(runs)]
    return {verdict: verdicts.count(verdict) / runs for verdict in ArmVerdict}


def found_after(watch: Watch | DurationWatch, runs: int) -> list[int]:
    """Requests of the treatment until it is called worse, or slower, sorted; runs with another outcome are left out."""
    found = (watch.run(seed) for seed in range(runs))
    return sorted(seen for verdict, seen in found if verdict is ArmVerdict.WORSE)


EQUAL = {
    "5 minutes, half and half, 2 % fail": Watch(100, 100, 0.02, intervals=30, window=30),
    "1 hour, half and half, 2 % fail": Watch(100, 100, 0.02),
    "1 hour, 90 to 10, 2 % fail": Watch(180, 20, 0.02),
    "1 hour, 99 to 1, 1 % fail": Watch(495, 5, 0.01),
    "1 hour, half and half, 0.1 % fail": Watch(100, 100, 0.001),
    "1 hour, 90 to 10, 30 % fail": Watch(45, 5, 0.3),
    "1 hour, split and failures move": Watch(100, 100, 0.05, wave=0.8),
    "5 minutes, watched for a day": Watch(100, 100, 0.02, intervals=8640, window=30),
    "1 hour, watched for a day": Watch(100, 100, 0.02, intervals=8640),
    "1 hour, 90 to 10, watched for a day": Watch(90, 10, 0.02, intervals=8640),
    "a day, half and half, 2 % fail": Watch(100, 100, 0.02, intervals=8640, window=8640),
}
WORSE = {
    "1 hour, half and half, 2 % against 5 %": Watch(100, 100, 0.02, 0.03, intervals=3600),
    "5 minutes, half and half, 2 % against 5 %": Watch(200, 200, 0.02, 0.03, intervals=30, window=30),
    "1 hour, 90 to 10, 2 % against 5 %": Watch(180, 20, 0.02, 0.03, intervals=3600),
    "a day, half and half, 0.5 % against 3.5 %": Watch(100, 100, 0.005, 0.03, intervals=3600, window=8640),
}


def _exponential(chance: random.Random) -> float:
    return chance.expovariate(20)


def _lognormal(chance: random.Random) -> float:
    return 0.05 * chance.lognormvariate(0, 1.5)


def _within_a_bucket(chance: random.Random) -> float:
    return chance.uniform(0.055, 0.06)


def _with_timeouts(chance: random.Random) -> float:
    return 30.0 if chance.random() < 0.01 else _exponential(chance)


EQUALLY_FAST = {
    "exponential": DurationWatch(30, 30, _exponential),
    "exponential, 90 to 10": DurationWatch(45, 5, _exponential),
    "long tail": DurationWatch(30, 30, _lognormal),
    "long tail, 90 to 10": DurationWatch(45, 5, _lognormal),
    "within a bucket": DurationWatch(30, 30, _within_a_bucket),
    "1 % take 30 s": DurationWatch(30, 30, _with_timeouts),
    "1 % take 30 s, 90 to 10": DurationWatch(45, 5, _with_timeouts),
    "usual 5 % within an hour": DurationWatch(30, 30, _exponential, error=0.05),
}
SLOWER = {
    "exponential, 20 % slower": DurationWatch(30, 30, _exponential, 1.2),
    "long tail, 50 % slower": DurationWatch(30, 30, _lognormal, 1.5),
    "within a bucket, 20 % slower": DurationWatch(30, 30, _within_a_bucket, 1.2),
}


@lru_cache(maxsize=4096)
def _poisson(mean: float) -> list[float]:
    """Distribution function at 0, 1, 2, …"""
    most = int(mean + 10 * math.sqrt(mean) + 10)
    return list(accumulate(math.exp(-mean + n * math.log(mean) - math.lgamma(n + 1)) for n in range(most)))


def _arm(chance: random.Random, mean: float, rate: float) -> ArmTally:
    """One interval of one arm: failures and successes of a Poisson stream are Poisson streams."""
    failures = _drawn(chance, round(mean * rate, 4))
    return ArmTally(failures + _drawn(chance, round(mean * (1 - rate), 4)), failures)


def _durations(chance: random.Random, requests: int, draw: Draw) -> ArmTally:
    """One interval of one arm, as the history keeps it."""
    found = histogram(DURATION_BOUNDS_S, [draw(chance) for _ in range(requests)])
    mean_s, deviation_s = found.sum_s / requests, deviation_bound(found.bounds_s, found.counts, found.sum_s)
    return ArmTally(requests, 0, found.sum_s, requests * (mean_s**2 + deviation_s**2))


def _drawn(chance: random.Random, mean: float) -> int:
    return bisect_left(_poisson(mean), chance.random()) if mean else 0


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--only", choices=("failures", "durations"))
    given = parser.parse_args()
    runs = given.runs
    equal: dict[str, Watch | DurationWatch] = {}
    worse: dict[str, Watch | DurationWatch] = {}
    if given.only != "durations":
        equal, worse = {**EQUAL}, {**WORSE}
    if given.only != "failures":
        equal, worse = {**equal, **EQUALLY_FAST}, {**worse, **SLOWER}
    for name, watch in equal.items():
        share = wrong_share(watch, runs)
        print(f"equal, {name}: worse {share[ArmVerdict.WORSE]:.1%}, better {share[ArmVerdict.BETTER]:.1%}", flush=True)
    for name, watch in worse.items():
        found = found_after(watch, runs)
        middle = f"{found[len(found) // 2]:,}" if found else "-"
        most = f"{found[int(len(found) * 0.95)]:,}" if found else "-"
        print(f"worse, {name}: found {len(found) / runs:.1%}; requests of the treatment: median {middle}, 95 % {most}")


if __name__ == "__main__":
    main()
