"""The requests in flight of a worker are known after its end at any instruction."""

import os
import random
import signal
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.inflight_table import MAX_ID_BYTES, InflightTable, WorkerRow
from serving.usage import Work


class Replica:
    def __init__(self, replica_id: str) -> None:
        self.id = replica_id
        self.table_index = -1


@pytest.fixture
def row() -> Iterator[WorkerRow]:
    with WorkerRow() as made:
        yield made


@pytest.fixture
def flights(row: WorkerRow) -> Iterator[InflightTable]:
    made = InflightTable(row.fd)
    yield made
    made.close()


def test_nothing_is_in_flight_at_first(row: WorkerRow) -> None:
    assert row.held() == {}
    assert (row.beats, row.connections) == (0, 0)
    assert row.work == Work(0, 0, 0, 0, 0, 0)


def test_every_request_is_in_flight_from_its_start_to_its_end(row: WorkerRow, flights: InflightTable) -> None:
    one, two = Replica("one"), Replica("two")
    for replica in (one, two, one):
        flights.started(replica)
    assert row.held() == {"one": 2, "two": 1}
    flights.ended(one)
    flights.ended(two)
    assert row.held() == {"one": 1}
    flights.ended(one)
    assert row.held() == {}
    assert flights.missed == 0


def test_two_objects_for_one_replica_count_together(row: WorkerRow, flights: InflightTable) -> None:
    flights.started(Replica("r"))
    flights.started(Replica("r"))
    assert row.held() == {"r": 2}


def test_ids_may_be_long_and_of_any_script(row: WorkerRow, flights: InflightTable) -> None:
    longest = "ü" * (MAX_ID_BYTES // 2)
    flights.started(Replica(longest))
    flights.started(Replica("模型-1"))
    assert row.held() == {longest: 1, "模型-1": 1}


def test_while_a_request_without_an_entry_runs_nothing_is_said(row: WorkerRow, flights: InflightTable) -> None:
    nameless, plain = Replica("x" * (MAX_ID_BYTES + 1)), Replica("plain")
    flights.started(plain)
    flights.started(nameless)
    assert row.held() is None
    assert flights.missed == 1
    flights.ended(nameless)
    assert row.held() == {"plain": 1}


def test_the_entry_of_an_idle_replica_is_used_again() -> None:
    with WorkerRow() as row:
        flights = InflightTable(row.fd, entries=2)
        busy, idle, new = Replica("busy"), Replica("idle"), Replica("new")
        flights.started(busy)
        flights.started(idle)
        flights.ended(idle)
        flights.started(new)
        assert row.held() == {"busy": 1, "new": 1}
        assert idle.table_index == -1
        flights.started(idle)  # no entry is left
        assert row.held() is None
        flights.ended(new)
        flights.started(idle)
        flights.ended(idle)
        flights.ended(idle)  # the one that had no entry
        assert row.held() == {"busy": 1}
        flights.close()


STEPS = st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=60)


@given(STEPS)
def test_the_row_has_exactly_the_requests_in_flight_or_unknown(steps: list[tuple[bool, int]]) -> None:
    """Three entries for six replicas: each is taken from one replica and given to another all the time."""
    with WorkerRow() as row:
        flights = InflightTable(row.fd, entries=3)
        replicas = [Replica(f"r{number}") for number in range(6)]
        running = [0] * 6
        for start, number in steps:
            if start:
                flights.started(replicas[number])
                running[number] += 1
            elif running[number]:
                flights.ended(replicas[number])
                running[number] -= 1
            held = row.held()
            assert held is None or held == {f"r{n}": count for n, count in enumerate(running) if count}
            if flights.missed == 0:
                assert held is not None
        for number, count in enumerate(running):
            for _ in range(count):
                flights.ended(replicas[number])
        assert row.held() == {}
        flights.close()


def test_the_pulse_moves_with_every_beat_and_is_never_that_of_an_unborn_worker(
    row: WorkerRow, flights: InflightTable
) -> None:
    seen = []
    for connections in (3, 4):
        flights.beat(connections)
        seen.append((row.beats, row.connections))
    assert seen == [(1, 3), (2, 4)]
    flights._header[0] = 0xFFFF_FFFF
    flights.beat(5)
    assert row.beats == 1


def test_work_is_recorded_with_the_pulse_and_stays_without_a_new_one(row: WorkerRow, flights: InflightTable) -> None:
    done = Work(at_s=12345.678, beats=7, late_s=0.25, cpu_s=1e6, routed=2**40, routing_s=0.1)
    flights.started(Replica("r"))
    flights.beat(3, done)
    assert row.work == done
    flights.beat(4)
    assert (row.work, row.beats, row.connections, row.held()) == (done, 2, 4, {"r": 1})


def test_a_row_of_a_killed_process_has_its_promised_requests_in_flight() -> None:
    """The child keeps r0 to r4 in flight at all times, and takes and frees entries as fast as it can beside."""
    for seed in range(5):
        with WorkerRow() as row:
            child = os.fork()
            if child == 0:
                churn(row.fd)
            while row.beats == 0:
                time.sleep(0.001)
            time.sleep(random.Random(seed).uniform(0.001, 0.02))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            held = row.held()
            assert held is not None
            assert {f"r{number}": 1 for number in range(5)}.items() <= held.items()
            assert sum(held.values()) in (5, 6)
            assert all(len(name) == 2 or name == "churning-" + name[9] * 40 for name in held)


def churn(fd: int) -> None:
    """Never returns."""
    try:
        flights = InflightTable(fd, entries=7)
        for number in range(5):
            flights.started(Replica(f"r{number}"))
        flights.beat(0)
        while True:
            for letter in "abcdefgh":
                replica = Replica("churning-" + letter * 40)
                flights.started(replica)
                flights.ended(replica)
    finally:
        os._exit(1)
