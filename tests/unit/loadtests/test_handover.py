"""Slots passed between workers in virtual time."""

from statistics import median

import pytest

from loadtests.handover import passed

REQUESTS = 3000


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_without_delays_many_workers_are_one_ideal_queue(workers: int) -> None:
    run = passed(workers, 0.0, 0.0, 0.9, REQUESTS, 1)
    assert run.latencies_s == pytest.approx(run.ideal_s)
    assert not run.overtaken and not run.overlaps


@pytest.mark.parametrize(("workers", "most_hops"), [(2, 0.6), (4, 1.2)])
def test_a_slot_goes_to_the_next_request_by_few_messages(workers: int, most_hops: float) -> None:
    run = passed(workers, 0.0002, 0.00015, 0.9, REQUESTS, 1)
    assert sum(run.hops) / len(run.hops) <= most_hops
    assert not run.overlaps


@pytest.mark.parametrize(("workers", "most"), [(1, 1.05), (2, 1.1), (4, 1.1)])
def test_with_the_delays_of_a_quiet_machine_the_tail_is_as_promised(workers: int, most: float) -> None:
    runs = [passed(workers, 0.0002, 0.00015, 0.9, REQUESTS, seed) for seed in (1, 2, 3)]
    assert median(run.p99_ratio for run in runs) <= most


def test_a_message_under_way_is_the_only_reason_to_overtake() -> None:
    run = passed(4, 0.0002, 0.0, 0.9, REQUESTS, 1)
    assert run.overtaken < REQUESTS / 20
