"""Memory of bodies held for slow clients."""

from hypothesis import given
from hypothesis import strategies as st

from router.core.body_budget import BodyBudget


def test_a_charge_grows_until_the_total_is_reached() -> None:
    budget = BodyBudget(100)
    assert budget.resize(0, 60) and budget.resize(0, 40)
    assert not budget.resize(60, 61)
    assert budget.resize(40, 0) and budget.resize(60, 100)
    assert budget.used_bytes == 100


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 50))))
def test_the_total_is_the_sum_of_the_charges_and_never_above_the_limit(steps: list[tuple[int, int]]) -> None:
    budget, charged = BodyBudget(100), [0] * 6
    for who, wanted in steps:
        if budget.resize(charged[who], wanted):
            charged[who] = wanted
        assert budget.used_bytes == sum(charged) <= 100
