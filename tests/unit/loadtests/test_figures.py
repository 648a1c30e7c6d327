"""Percentiles, order of rounds, tables, promises."""

import math
from statistics import quantiles

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.bench.figures import Promise, Table, judged, median_difference, middle, percentile, rotated

values = st.lists(st.floats(0, 1000), min_size=1, max_size=50)


@given(values, st.floats(0.01, 1))
def test_a_percentile_is_the_smallest_value_that_enough_values_do_not_exceed(found: list[float], share: float) -> None:
    at = percentile(found, share)
    assert at in found
    assert sum(value <= at for value in found) >= share * len(found) - 1e-9
    assert sum(value < at for value in found) < share * len(found)


def test_percentiles_of_many_values_agree_with_the_standard_library() -> None:
    found = [float(number * 7919 % 10_007) for number in range(10_007)]
    assert percentile(found, 0.99) == pytest.approx(quantiles(found, n=100)[98], abs=1)
    assert percentile(found, 0.5) == pytest.approx(middle(found), abs=1)


def test_of_nothing_there_is_no_percentile_and_no_median() -> None:
    assert math.isnan(percentile([], 0.99)) and math.isnan(middle([]))


def test_every_round_has_every_item_and_begins_with_another() -> None:
    order = list(rotated("abc", 4))
    assert "".join(item for _, item in order) == "abc" + "bca" + "cab" + "abc"
    assert [number for number, _ in order] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3


def test_rounds_of_nothing_end() -> None:
    assert list(rotated([], 5)) == []


def test_a_difference_is_taken_within_each_round_so_that_drift_cancels() -> None:
    assert median_difference([11, 21, 31], [10, 20, 30]) == 1


def test_a_table_aligns_words_left_and_figures_right() -> None:
    table = Table(("name", "µs", "how"), (("nginx", "9", "a"), ("x", "1,000", "bc")), words=(0, 2))
    assert table.text() == "name      µs  how\nnginx      9  a\nx      1,000  bc"


def test_a_table_as_markdown_has_a_rule_that_aligns() -> None:
    table = Table(("name", "µs"), (("nginx", "9"),))
    assert table.markdown() == "| name | µs |\n| --- | ---: |\n| nginx | 9 |"


@pytest.mark.parametrize(
    ("measured", "bound", "at_least", "kept"),
    [(1.5, 1.5, True, True), (1.49, 1.5, True, False), (1.05, 1.05, False, True), (1.06, 1.05, False, False)],
)
def test_a_promise_is_kept_up_to_its_bound(measured: float, bound: float, at_least: bool, kept: bool) -> None:
    assert Promise("x", measured, bound, at_least).kept is kept


@pytest.mark.parametrize("at_least", [True, False])
def test_a_promise_without_a_measurement_is_not_kept(at_least: bool) -> None:
    promise = Promise("ratio to Envoy", math.nan, 1.5, at_least)
    assert not promise.kept
    assert "not measured" in str(promise) and "NOT KEPT" in str(promise)


def test_only_a_checked_run_fails_for_a_broken_promise(capsys: pytest.CaptureFixture[str]) -> None:
    broken, good = Promise("a", 1, 2), Promise("b", 2, 2)
    assert judged([good], check=True) == 0
    assert judged([good, broken], check=False) == 0
    assert judged([good, broken], check=True) == 1
    assert "a: 1.00 (promised ≥ 2) NOT KEPT" in capsys.readouterr().out
