"""The promises about slots hold over many workers in any sequence of faults; a seed is deterministic."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.scenario import draw
from tests.sim.world import run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
SEEDS = 240
CHUNK = 30


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_promise_holds_for_any_seed(first: int) -> None:
    for seed in range(first, first + CHUNK):
        outcome = run(seed)
        assert outcome.requests


def test_a_seed_replays_exactly_in_another_process() -> None:
    full = next(seed for seed in range(1000) if draw(seed).workers > 4 and len(draw(seed).faults) > 10)
    traces = [traced(full, hash_seed) for hash_seed in ("1", "2")]
    assert len(traces[0].splitlines()) > 1000
    assert traces[0] == traces[1]


def traced(seed: int, hash_seed: str) -> str:
    """The output of a run, in a process with its own hash seed."""
    return subprocess.run(
        [sys.executable, "-m", "tests.sim", "--seed", str(seed), "--trace"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
