"""Failures explained by a killed worker, and the choice of the worker."""

import random

from loadtests.closedloop import LOST, Failure, Tally
from loadtests.crew import Worker
from loadtests.faults.routers import CLIENTS
from loadtests.faults.routers import unexplained as unexplained_by_one
from loadtests.worker_kills import NOTICED_S, SHAPES, Kill, Record, promises, unexplained, victims

SPARED, OTHER = 1000, 2000
KILL = Kill(10.0, frozenset({SPARED}))


def lost(at_s: float, port: int = OTHER) -> Failure:
    return Failure(at_s, port, LOST)


def test_a_connection_of_the_killed_worker_that_breaks_at_once_is_explained() -> None:
    assert unexplained([lost(10.0), lost(10.0 + NOTICED_S)], [KILL]) == []


def test_a_connection_of_a_worker_that_lives_must_not_break() -> None:
    assert unexplained([lost(10.1, SPARED)], [KILL]) == [lost(10.1, SPARED)]


def test_an_idle_connection_may_be_on_its_way_to_the_worker_that_dies() -> None:
    idle = Failure(10.1, SPARED, LOST, idle=True)
    assert unexplained([idle], [KILL]) == []
    late = Failure(10.1 + NOTICED_S, SPARED, LOST, idle=True)
    assert unexplained([late], [KILL]) == [late]


def test_nothing_may_break_before_a_kill_or_long_after_it() -> None:
    strange = [lost(9.9), lost(10.1 + NOTICED_S)]
    assert unexplained(strange, [KILL]) == strange


def test_an_answer_other_than_200_is_never_explained() -> None:
    refused = Failure(10.1, OTHER, 503)
    assert unexplained([refused], [KILL]) == [refused]


def test_a_failure_beyond_one_kill_may_be_explained_by_another() -> None:
    assert unexplained([lost(12.1, SPARED)], [KILL, Kill(12.0, frozenset())]) == []


def test_one_worker_is_always_left() -> None:
    chance = random.Random(1)
    crew = [Worker(pid, f"w{pid}") for pid in range(4)]
    assert victims(crew[:1], chance) == []
    counts = [len(victims(crew, chance)) for _ in range(300)]
    assert set(counts) == {1, 2}
    assert {len(victims(crew[:2], chance)) for _ in range(300)} == {1}


def test_promises_are_broken_by_a_slot_that_stays_away_and_by_an_overlap() -> None:
    good = Record(SHAPES[0], [KILL], killed=1, home_s=[2.2], failures=[lost(10.0)], requests=100)
    assert all(promise.kept for promise in promises([good]))
    assert not all(promise.kept for promise in promises([good, Record(SHAPES[1], home_s=[float("inf")])]))
    assert not all(promise.kept for promise in promises([good, Record(SHAPES[1], overlaps=1)]))
    assert not any(promise.kept for promise in promises([])[:1])


def test_of_a_killed_router_each_client_may_lose_one_connection() -> None:
    tally = Tally(failures=[lost(10.1)] * CLIENTS)
    assert unexplained_by_one(tally, 10.0) == 0
    tally.failures += [lost(10.2), Failure(10.1, OTHER, 503), lost(20.0)]
    assert unexplained_by_one(tally, 10.0) == 3
