"""Heads through the caches and through the parser alone: same verdict, same bytes out, same framing, same errors.

Millions by hand: `python -m tests.fuzz.heads --heads 5000000`.
"""

import logging
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.heads.compare import HeadsDiffer, compare, compare_drawn
from tests.fuzz.heads.planted import MISTAKES, planted

pytestmark = pytest.mark.slow

HEADS = 3_000
WITHIN = 40_000
"""Heads within which each planted mistake is found; most show in the first hundreds."""
drawn = st.lists(st.randoms(use_true_random=False), min_size=1, max_size=8)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """No log of the many invalid responses."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(("direction", "share"), [("requests", 0.25), ("responses", 0.15)])
def test_changed_heads_have_the_same_outcome_as_by_the_parser_alone(direction: str, share: float) -> None:
    tally = compare(HEADS, 1, direction)
    assert tally.found > share * HEADS and tally.passed > share * HEADS


@pytest.mark.parametrize("direction", ["requests", "responses"])
def test_for_any_drawn_heads_the_outcome_is_that_of_the_parser_alone(direction: str) -> None:
    @settings(max_examples=settings().max_examples // 2)
    @given(drawn)
    def run(chances: list[Random]) -> None:
        compare_drawn(chances, direction)

    run()


def compare_both(heads: int) -> None:
    for seed in range(4):
        for direction in ("requests", "responses"):
            compare(heads // 8, seed, direction)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_found(mistake: str) -> None:
    with planted(mistake), pytest.raises(HeadsDiffer):
        compare_both(WITHIN)


def test_a_mistake_is_gone_with_its_planting() -> None:
    for mistake, (owners, name, _) in MISTAKES.items():
        right = getattr(owners[0], name)
        with planted(mistake):
            assert getattr(owners[0], name) is not right
        assert all(getattr(owner, name) is right for owner in owners)
