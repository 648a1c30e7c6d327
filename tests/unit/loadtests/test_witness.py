"""Conclusions from the replicas' log."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.witness import Span, busy_share, full_at, most_at_once, over, read, repeated, span


def ran(began: float, ended: float, replica: str = "r", request: str = "") -> Span:
    return Span(began, ended, replica, request)


spans = st.lists(
    st.builds(
        lambda began, length, replica: ran(began, began + length, replica),
        st.integers(0, 20),
        st.integers(1, 6),
        st.sampled_from("ab"),
    ),
    max_size=20,
)


@given(spans, st.integers(1, 3))
def test_the_sweep_finds_the_same_overlaps_as_counting_at_every_moment(found: list[Span], slots: int) -> None:
    def running(replica: str, moment: float) -> int:
        return sum(each.replica == replica and each.began_s <= moment < each.ended_s for each in found)

    too_many = any(running(replica, moment) > slots for replica in "ab" for moment in range(27))
    assert bool(over(found, slots)) == too_many


def test_each_request_that_begins_without_a_slot_counts_once() -> None:
    assert over([ran(0, 9), ran(1, 2), ran(3, 4), ran(5, 10)], slots=1) == 3
    assert over([ran(0, 9), ran(1, 2), ran(3, 4), ran(5, 10)], slots=2) == 0


def test_one_that_begins_as_the_other_ends_does_not_overlap_it() -> None:
    assert over([ran(0, 1), ran(1, 2)], slots=1) == 0


def test_replicas_have_slots_of_their_own() -> None:
    assert over([ran(0, 9, "a"), ran(0, 9, "b")], slots=1) == 0
    assert most_at_once([ran(0, 9, "a"), ran(0, 9, "b"), ran(9, 10, "b")]) == 2
    assert most_at_once([]) == 0


def test_a_request_that_ran_twice_is_seen() -> None:
    assert repeated([ran(0, 1, request="x"), ran(1, 2, request="y"), ran(5, 6, request="x")]) == 1


def test_slots_are_home_when_all_are_in_use_by_requests_that_began_later() -> None:
    found = [ran(0, 9, "a"), ran(5, 7, "a"), ran(6, 8, "b"), ran(8, 9, "b"), ran(8.5, 9, "a")]
    assert full_at(found, since_s=4, slots=2) == 6
    assert full_at(found, since_s=6, slots=2) == 8.5
    assert full_at(found, since_s=4, slots=3) == float("inf")


def test_work_counts_as_far_as_it_lies_in_the_time_that_is_looked_at() -> None:
    assert busy_share([ran(0, 2), ran(3, 4), ran(9, 20)], since_s=1, until_s=10, slots=1) == pytest.approx(3 / 9)
    assert busy_share([ran(0, 10), ran(0, 5)], since_s=0, until_s=10, slots=2) == pytest.approx(0.75)


def test_lines_of_replicas_are_read_and_none_is_no_line(tmp_path: Path) -> None:
    written = tmp_path / "witness"
    assert read(written) == []
    written.write_text("1.000000 2.500000 77 abc 1\n")
    assert read(written) == [Span(1.0, 2.5, "77", "abc")]
    with pytest.raises(ValueError):
        span("1.0 2.0")
