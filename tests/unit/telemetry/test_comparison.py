"""Comparison of a treatment with the control under continuous looks."""

import dataclasses
import math
from itertools import pairwise

import pytest

from telemetry.comparison import LEAST_DURATIONS, ArmPairSums, ArmTally, ArmVerdict, compare, error_of
from tests.unit.telemetry.comparison_runs import EQUAL, EQUALLY_FAST, SLOWER, WORSE, found_after, wrong_share

RUNS = 50
DAY_S, HOUR_S = 86_400.0, 3600.0


@pytest.mark.parametrize("name", [name for name in EQUAL if "day" not in name])
def test_an_equal_treatment_is_rarely_called_different(name: str) -> None:
    shares = wrong_share(EQUAL[name], RUNS)
    assert shares[ArmVerdict.WORSE] + shares[ArmVerdict.BETTER] <= 0.02


def test_the_simulation_finds_bounds_that_hold_at_one_look_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def usual(sums: ArmPairSums, error: float) -> tuple[float, float]:
        middle, half = sums.weighted / sums.weight, 1.96 * math.sqrt(sums.variance()) / sums.weight
        return middle - half, middle + half

    monkeypatch.setattr(ArmPairSums, "bounds", usual)
    shares = wrong_share(EQUAL["1 hour, half and half, 2 % fail"], RUNS)
    assert shares[ArmVerdict.WORSE] + shares[ArmVerdict.BETTER] > 0.1


@pytest.mark.parametrize("name", WORSE)
def test_three_points_more_failures_are_found(name: str) -> None:
    found = found_after(WORSE[name], 20)
    assert len(found) >= 19
    assert found[-1] <= 4000


@pytest.mark.parametrize("name", [name for name in EQUALLY_FAST if "usual" not in name])
def test_an_equally_fast_treatment_is_rarely_called_slower(name: str) -> None:
    watch = dataclasses.replace(EQUALLY_FAST[name], intervals=60)
    shares = wrong_share(watch, 20)
    assert shares[ArmVerdict.WORSE] + shares[ArmVerdict.BETTER] == 0


@pytest.mark.parametrize("name", SLOWER)
def test_a_slower_treatment_is_found_even_within_a_bucket(name: str) -> None:
    found = found_after(dataclasses.replace(SLOWER[name], intervals=200), 10)
    assert len(found) == 10 and found[-1] <= 6000


def test_bounds_of_durations_hold_the_difference_and_narrow_with_traffic() -> None:
    fast, slow = ArmTally(100, 0, 5.0, 0.5), ArmTally(100, 0, 6.0, 0.72)
    found = [compare([(fast, slow)] * count, HOUR_S) for count in (1, 10, 100, 1000)]
    bounds_s = [each.duration_bounds_s for each in found if each.duration_bounds_s is not None]
    assert len(bounds_s) == 4 and all(low < 0.01 < high for low, high in bounds_s)
    assert all(more[1] - more[0] < less[1] - less[0] for less, more in pairwise(bounds_s))
    assert found[0].duration_verdict is ArmVerdict.UNDECIDED and found[-1].duration_verdict is ArmVerdict.WORSE
    assert compare([(slow, fast)] * 1000, HOUR_S).duration_verdict is ArmVerdict.BETTER
    assert {each.verdict for each in found} == {ArmVerdict.UNDECIDED}


def test_few_requests_have_no_bounds_of_durations() -> None:
    pair = (ArmTally(100, 0, 5.0, 0.5), ArmTally(LEAST_DURATIONS - 1, 0, 500.0, 5000.0))
    found = compare([pair], HOUR_S)
    assert found.duration_bounds_s is None and found.duration_verdict is ArmVerdict.UNDECIDED


def test_the_difference_is_that_within_intervals() -> None:
    """All failures come from a bad hour, and the treatment got most of its traffic then: Simpson's paradox."""
    good = (ArmTally(900, 9, 9.0), ArmTally(100, 1, 1.0))
    bad = (ArmTally(100, 40, 20.0), ArmTally(900, 360, 180.0))
    found = compare([good] * 20 + [bad] * 20, HOUR_S)
    assert found.difference == pytest.approx(0.0)
    assert found.duration_difference_s == pytest.approx(0.0)
    assert found.verdict is ArmVerdict.UNDECIDED
    assert found.treatment.failures == 361 * 20


def test_bounds_hold_the_difference_and_narrow_with_traffic() -> None:
    pair = (ArmTally(100, 2, 4.0), ArmTally(100, 5, 5.0))
    found = [compare([pair] * count, DAY_S) for count in (1, 5, 100, 1000)]
    assert all(each.low < each.difference < each.high for each in found if each.difference is not None)
    assert all(more.high - more.low < less.high - less.low for less, more in pairwise(found))
    assert [each.verdict for each in found] == [
        ArmVerdict.UNDECIDED,
        ArmVerdict.UNDECIDED,
        ArmVerdict.WORSE,
        ArmVerdict.WORSE,
    ]
    assert found[0].difference == pytest.approx(0.03)
    assert found[0].duration_difference_s == pytest.approx(0.01)
    mirrored = compare([(treatment, control) for control, treatment in [pair] * 100], DAY_S)
    assert mirrored.verdict is ArmVerdict.BETTER


def test_a_shorter_span_has_wider_bounds() -> None:
    pairs = [(ArmTally(100, 2), ArmTally(100, 5))] * 30
    assert compare(pairs, 300.0).low < compare(pairs, DAY_S).low
    assert error_of(DAY_S) == error_of(2 * DAY_S) == 0.05


@pytest.mark.parametrize("pairs", [[], [(ArmTally(0, 0), ArmTally(50, 5))], [(ArmTally(50, 5), ArmTally(0, 0))] * 3])
def test_without_common_traffic_there_is_no_difference(pairs: list[tuple[ArmTally, ArmTally]]) -> None:
    found = compare(pairs, HOUR_S)
    assert (found.difference, found.low, found.high, found.verdict) == (None, -1.0, 1.0, ArmVerdict.UNDECIDED)


def test_intervals_with_few_requests_are_merged() -> None:
    """One request every 10 s, by turns: no interval has both arms, their sums have."""
    turns = [(ArmTally(1, 0), ArmTally(0, 0)), (ArmTally(0, 0), ArmTally(1, 1))] * 200
    found = compare(turns, HOUR_S)
    assert found.difference == pytest.approx(1.0)
    assert found.verdict is ArmVerdict.WORSE
    assert found.control.requests == found.treatment.requests == 200
