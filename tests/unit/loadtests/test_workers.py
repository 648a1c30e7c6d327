"""Results of runs with one and with several workers; cost of borrowing; shares of a core."""

import math

from loadtests import lending, quota
from loadtests.bench.wrk import Run
from loadtests.peers.replicas import Job
from loadtests.peers.rig import Target
from loadtests.placing import Place
from loadtests.tail import BOUND, BOUND_OF_SEVERAL, Row, cases, promises
from loadtests.utilization import busy_share, gaps
from loadtests.workers import LIMITED, SHARED, WAYS, Measured, gain
from loadtests.workers import promises as promises_of_workers
from router.core.dispatcher import Ticket


def measured(way: str, count: int, rate: int, cpu_s: float = 1.0) -> Measured:
    target = Target("t", 80, pids=tuple(range(count)))
    return Measured(way, target, [Run(rate, 1.0, 0, cpu_s)] if rate else [])


def test_two_workers_are_compared_with_one_in_the_same_way() -> None:
    runs = [measured(way, count, 1000 * count) for way in WAYS for count in (1, 2)]
    assert {gain(runs, way) for way in WAYS} == {2.0}
    assert all(promise.kept for promise in promises_of_workers(runs))


def test_a_promise_that_the_machine_cannot_measure_is_not_kept() -> None:
    runs = [measured(way, count, 0 if way == LIMITED else 1000) for way in WAYS for count in (1, 2)]
    assert math.isnan(gain(runs, LIMITED))
    assert not promises_of_workers(runs)[0].kept


def test_a_request_that_costs_more_with_two_workers_is_seen() -> None:
    runs = [
        measured(way, count, 1000, cpu_s=1.3 if (way, count) == (SHARED, 2) else 1.0)
        for way in WAYS
        for count in (1, 2)
    ]
    assert [promise.kept for promise in promises_of_workers(runs)] == [False, False, True]


def test_a_borrowed_slot_comes_home_again_and_again() -> None:
    pair = lending.Pair()
    for _ in range(3 * lending.REPLICAS):
        pair.borrow()
        pair.take()
    assert pair.owner.ledger.busy == pair.borrower.ledger.busy == 0
    at_once = [pair.owner.enqueue(Ticket(), lending.NOW) for _ in range(lending.REPLICAS + 1)]
    assert [lease is not None for lease in at_once] == [True] * lending.REPLICAS + [False]


def test_both_versions_of_control_groups_get_the_same_share() -> None:
    period, allowed = quota.PERIOD_US, int(0.45 * quota.PERIOD_US)
    assert quota.settings(0.45, 2) == {"cpu.max": f"{allowed} {period}"}
    assert quota.settings(0.45, 1) == {"cpu.cfs_period_us": str(period), "cpu.cfs_quota_us": str(allowed)}


def test_one_worker_is_held_to_less_than_several_and_skew_is_measured_on_either_side() -> None:
    plain = cases([1, 2, 4], skew=False, peers=False)
    assert [case.bound for case in plain] == [BOUND, BOUND_OF_SEVERAL, BOUND_OF_SEVERAL]
    skewed = cases([2], skew=True, peers=False)
    assert [case.place for case in skewed] == list(Place)
    rows = [Row(case.name, 0.8, [1.09], [1.0], [0.0], 0, 0, case.bound) for case in plain]
    kept = [promise.kept for promise in promises(rows)]
    assert kept == [False, False, True, True, True, True, True]


def test_a_replica_that_works_without_a_pause_is_busy_all_the_time() -> None:
    jobs = [Job(number, 0, float(number), float(number), number + 1.0) for number in range(5)]
    assert busy_share(jobs) == 1.0
    assert gaps(jobs) == [0.0] * 4


def test_pauses_between_requests_are_time_that_is_lost() -> None:
    jobs = [Job(number, 0, 2.0 * number, 2.0 * number, 2.0 * number + 1.0) for number in range(3)]
    assert busy_share(jobs) == 3 / 5
    assert gaps(jobs) == [1.0, 1.0]
    assert math.isnan(busy_share([]))
