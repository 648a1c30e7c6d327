"""Dropped payloads are a problem of their version for a while."""

from cluster.provider import Problem
from telemetry.dropped_payloads import DROPPING_S, DroppedPayloads, dropping_problem
from telemetry.ring import PayloadCounts
from tests.unit.telemetry.collecting import BLUE


def test_payloads_dropped_lately_are_a_problem_and_older_ones_are_not() -> None:
    dropped = DroppedPayloads()
    dropped.note({BLUE: PayloadCounts(stored=5)}, 0.0)
    assert dropped.recent(0.0) == {}
    dropped.note({BLUE: PayloadCounts(stored=5, dropped=3)}, 10.0)
    dropped.note({BLUE: PayloadCounts(stored=9, dropped=3)}, 100.0)
    assert dropped.recent(10.0 + DROPPING_S) == {BLUE: 3}
    assert dropped.recent(11.0 + DROPPING_S) == {}
    dropped.note({BLUE: PayloadCounts(dropped=4)}, 2000.0)
    assert dropped.recent(2000.0) == {BLUE: 4}


def test_the_problem_has_the_number() -> None:
    assert dropping_problem(0) == {}
    assert dropping_problem(7)[Problem.DROPPING].startswith("7 collected payloads dropped")
