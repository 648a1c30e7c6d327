"""The commands that break things: that they run, and that they can tell good from bad."""

import asyncio

import pytest

from loadtests.bench.figures import poisson_for
from loadtests.faults.__main__ import SCENARIOS
from loadtests.faults.caller import Outcome, quantile, statuses
from loadtests.soak import TOLERATED, Record, grown, unexplained


def outcome(status: int = 200, done_at: float = 1.0, due_at: float = 0.0) -> Outcome:
    return Outcome(1, due_at, done_at, status)


def test_every_scenario_of_the_data_plane_is_there_and_has_a_description() -> None:
    assert set(SCENARIOS) == {*range(2, 9), *range(13, 17), *range(20, 31), 33, 34, 36, 37}
    for number, scenario in SCENARIOS.items():
        assert (scenario.__doc__ or "").startswith(f"{number}: ")


@pytest.mark.parametrize("number", [7, 8])
@pytest.mark.timeout(90)
def test_a_scenario_runs_and_passes(number: int) -> None:
    verdict = asyncio.run(SCENARIOS[number](True))
    assert verdict.passed, verdict.figures


def test_arrivals_are_fixed_by_the_seed_and_as_many_as_asked_for() -> None:
    assert poisson_for(100, 10, 1) == poisson_for(100, 10, 1) != poisson_for(100, 10, 2)
    assert 850 < len(poisson_for(100, 10, 1)) < 1150


def test_latency_counts_from_when_the_request_was_due() -> None:
    slow = [outcome(due_at=0.0, done_at=float(number)) for number in range(1, 101)]
    assert quantile(slow, 0.99) == 99.0
    assert quantile(slow, 0.5) == 50.0
    assert statuses([outcome(), outcome(502)]) == {200: 1, 502: 1}


def test_only_a_502_right_after_a_kill_is_explained() -> None:
    record = Record(kills=[10.0])
    record.failures = [outcome(502, 10.2), outcome(502, 9.9), outcome(502, 12.0), outcome(503, 10.2)]
    assert unexplained(record) == record.failures[1:]


def test_growth_in_the_last_third_is_seen_and_warming_up_is_not() -> None:
    steady = [dict.fromkeys(TOLERATED, 50.0) for _ in range(30)]
    for number, sample in enumerate(steady[:10]):
        sample["worker MB"] = float(number)
    assert set(grown(steady).values()) == {0.0}
    leaking = [{**sample, "tasks": float(number)} for number, sample in enumerate(steady)]
    assert grown(leaking)["tasks"] > TOLERATED["tasks"]
