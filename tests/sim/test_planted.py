"""The simulation can fail: every planted mistake is found within a stated number of seeds."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.sim.failures import PromiseBroken
from tests.sim.planted import BUGS, WHERE, planted
from tests.sim.world import run

pytestmark = pytest.mark.slow

SEEDS = 150
"""Within so many. Most show in the first ten."""


def run_all(seeds: int, changes: Mapping[str, Any] | None) -> None:
    for seed in range(seeds):
        run(seed, changes=changes)


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_mistake_is_found(bug: str) -> None:
    with planted(bug), pytest.raises(PromiseBroken):
        run_all(SEEDS, WHERE.get(bug))


@pytest.mark.parametrize("bug", WHERE)
def test_without_the_mistake_the_same_scenarios_keep_every_promise(bug: str) -> None:
    run_all(25, WHERE[bug])


def test_a_mistake_is_gone_with_its_planting() -> None:
    before = {bug: getattr(owner, name) for bug, (owner, name, _) in BUGS.items()}
    for bug in BUGS:
        with planted(bug):
            owner, name, _ = BUGS[bug]
            assert getattr(owner, name) is not before[bug]
    assert before == {bug: getattr(owner, name) for bug, (owner, name, _) in BUGS.items()}
