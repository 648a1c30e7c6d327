"""The ideal queue as the reference for the tail, and the count of overlaps."""

from hypothesis import given
from hypothesis import strategies as st

from loadtests.openloop import Outcomes
from loadtests.peers import scorefront
from loadtests.peers.replicas import Job
from loadtests.tail import REPLICAS, Case, ideal_fifo, idle_times_s, overlapping, row

moments = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 9)), max_size=25)


def brute_force(arrivals: list[int], work: list[int], servers: int) -> list[int]:
    """The same queue tick by tick: at each tick, ends first, then arrivals, then starts in order of arrival."""
    waiting: list[int] = []
    running: dict[int, int] = {}
    latencies = [0] * len(arrivals)
    now = 0
    while len(waiting) or len(running) or now <= max(arrivals, default=0):
        for index in [index for index, ends in running.items() if ends == now]:
            latencies[index] = now - arrivals[index]
            del running[index]
        waiting += [index for index, arrival in enumerate(arrivals) if arrival == now]
        while waiting and len(running) < servers:
            index = waiting.pop(0)
            if work[index]:
                running[index] = now + work[index]
            else:
                latencies[index] = now - arrivals[index]
        now += 1
    return latencies


@given(moments, st.integers(1, 4))
def test_the_ideal_queue_equals_a_simulation_by_ticks(found: list[tuple[int, int]], servers: int) -> None:
    found.sort(key=lambda each: each[0])
    arrivals, work = [at for at, _ in found], [ticks for _, ticks in found]
    assert ideal_fifo(arrivals, work, servers) == brute_force(arrivals, work, servers)


def test_a_request_that_finds_a_server_free_takes_as_long_as_its_work() -> None:
    assert ideal_fifo([0.0, 1.0, 2.0], [5.0, 5.0, 5.0], 3) == [5.0, 5.0, 5.0]


def test_a_request_that_finds_none_waits_for_the_first_that_is_free() -> None:
    assert ideal_fifo([0.0, 0.0, 1.0], [4.0, 2.0, 1.0], 2) == [4.0, 2.0, 2.0]


def job(replica: int, came: float, ended: float, index: int = 0) -> Job:
    return Job(index, replica, came, came, ended)


def test_requests_one_after_the_other_do_not_overlap_even_without_a_gap() -> None:
    assert overlapping([job(0, 0, 1), job(0, 1, 2), job(1, 0.5, 1.5)]) == 0


def test_a_request_that_comes_while_its_replica_works_overlaps() -> None:
    assert overlapping([job(0, 0, 2), job(0, 1.9, 3), job(0, 3, 4), job(1, 1.9, 3)]) == 1


def test_a_short_job_does_not_hide_the_long_one_that_still_runs() -> None:
    assert overlapping([job(0, 0, 10), job(0, 1, 2), job(0, 5, 11)]) == 2


def test_a_proxy_that_adds_nothing_is_at_one_times_the_ideal() -> None:
    arrivals = [0.0, 1.0, 2.0]
    outcomes = Outcomes(arrivals)
    for index, at in enumerate(arrivals):
        outcomes.sent_s[index], outcomes.done_s[index], outcomes.status[index] = at, at + 3.0, 200
    # In the order of their ends, on another clock.
    jobs = [job(index, 100 + arrivals[index], 103 + arrivals[index], index) for index in (1, 0, 2)]
    found = row(Case("perfect", scorefront.start), 0.5, outcomes, jobs, float("nan"))
    assert found.mean_ratio == found.p99_ratio == 1.0
    assert found.overlaps == found.failed == 0
    assert len(found.ideal_s) == 3 <= REPLICAS
    assert not found.idle_s and found.p99_ratio_at_p50 == 1.0


def test_a_replica_is_idle_from_the_end_of_a_request_to_one_that_was_waiting() -> None:
    jobs = [job(0, 0, 10, 0), job(1, 0, 10, 1), job(0, 10.5, 20, 2), job(1, 12, 22, 3), job(0, 20.25, 30, 4)]
    arrived = [0, 0, 5, 11, 6]
    assert idle_times_s(jobs, lambda index: arrived[index]) == [0.5, 0.25], "the fourth came when its replica was free"


def test_idle_time_between_requests_explains_the_tail_of_a_proxy_that_adds_nothing_else() -> None:
    arrivals = [0.0] * (3 * REPLICAS)
    outcomes = Outcomes(arrivals)
    outcomes.began_s = 100.0
    jobs = []
    for index in range(len(arrivals)):
        came = 1.5 * (index // REPLICAS)
        outcomes.done_s[index], outcomes.status[index] = came + 1.0, 200
        jobs.append(job(index % REPLICAS, 100 + came, 101 + came, index))
    found = row(Case("idle", scorefront.start), 0.5, outcomes, jobs, float("nan"))
    assert found.idle_s == [0.5] * (2 * REPLICAS)
    assert found.p99_ratio == 4 / 3 and found.p99_ratio_at_p50 == 4.5 / 3
