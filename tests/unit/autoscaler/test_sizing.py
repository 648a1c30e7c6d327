"""The sizing formula: ceil(rate × time ÷ (slots × target))."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.sizing import replicas_for, replicas_needed


@pytest.mark.parametrize(
    ("rps", "seconds", "target", "concurrency", "replicas"),
    [
        (20, 10, 0.70, 1, 286),  # 285.7, the example of the service's own documentation
        (20, 10, 0.70, 4, 72),
        (0, 10, 0.70, 1, 0),
        (0.001, 1, 0.70, 1, 1),
        (1, 0.7, 0.70, 1, 1),
        (3, 0.7, 0.70, 1, 3),  # 2.0999999999999996 / 0.7
        (100, 1, 1.0, 1, 100),
        (100, 1, 1.0, 8, 13),
    ],
)
def test_replicas_follow_the_formula(
    rps: float, seconds: float, target: float, concurrency: int, replicas: int
) -> None:
    assert replicas_for(rps, seconds, target, concurrency) == replicas


def test_the_defaults_are_a_target_of_70_percent_and_one_slot() -> None:
    assert replicas_for(20, 10) == 286


@pytest.mark.parametrize("slots", [1, 2, 3, 7])
@pytest.mark.parametrize("replicas", [1, 3, 10, 99])
def test_a_load_that_fits_exactly_gets_no_replica_too_many(replicas: int, slots: int) -> None:
    for target in (percent / 100 for percent in range(1, 101)):
        assert replicas_needed(replicas * slots * target, slots, target) == replicas


def test_seven_busy_slots_at_70_percent_need_ten_replicas() -> None:
    assert replicas_needed(7, 1, 0.7) == 10
    assert replicas_needed(7.0001, 1, 0.7) == 11


@given(
    load=st.integers(0, 10**6).map(lambda thousandths: Fraction(thousandths, 1000)),
    slots=st.integers(1, 64),
    percent=st.integers(1, 100),
)
def test_the_number_is_the_exact_ceiling_but_for_a_millionth(load: Fraction, slots: int, percent: int) -> None:
    exact = load / (slots * Fraction(percent, 100))
    replicas = replicas_needed(float(load), slots, percent / 100)
    assert replicas - 1 < exact <= replicas + Fraction(2, 10**6)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((-1, 1), "rps"),
        ((float("nan"), 1), "rps"),
        ((1, float("inf")), "seconds"),
        ((1, -0.1), "seconds"),
        ((1, 1, 0.0), "target_utilization"),
        ((1, 1, 70), "target_utilization"),
        ((1, 1, 0.7, 0), "concurrency"),
    ],
)
def test_an_impossible_load_is_refused_by_name(arguments: Any, name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be"):
        replicas_for(*arguments)
