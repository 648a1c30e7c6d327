"""Connections to a replica that stalls are not kept for a while, which grows with repetition and is forgotten."""

import pytest

from router.proxy.unkept_replicas import FIRST_S, LONGEST_S, REPORT_S, UnkeptReplicas


def length_s(unkept: UnkeptReplicas, since: float) -> float:
    """Time from `since` until connections are kept again, in whole seconds."""
    return next(after for after in range(100) if not unkept.includes("a", since + after))


@pytest.mark.parametrize("slots", [1, 4])
def test_the_first_time_depends_on_the_slots(slots: int) -> None:
    unkept = UnkeptReplicas()
    unkept.add("a", slots, 100.0)
    assert length_s(unkept, 100.0) == FIRST_S[slots == 1] and not unkept.includes("b", 100.0)


def test_the_time_doubles_with_each_repetition_up_to_a_bound() -> None:
    unkept, now, lengths = UnkeptReplicas(), 100.0, []
    for _ in range(8):
        unkept.add("a", 4, now)
        lengths.append(length_s(unkept, now))
        now += lengths[-1] + 0.5
    assert lengths == [1, 2, 4, 8, 16, 30, 30, 30]


def test_many_stalls_at_once_count_once() -> None:
    unkept = UnkeptReplicas()
    for moment in (100.0, 100.0, 100.2, 100.9):
        unkept.add("a", 4, moment)
    assert length_s(unkept, 100.0) == 1


def test_repetition_long_after_counts_as_the_first_time() -> None:
    unkept = UnkeptReplicas()
    for moment in (100.0, 101.5, 103.5 + LONGEST_S):
        unkept.add("a", 4, moment)
    assert length_s(unkept, 103.5 + LONGEST_S) == 1


def test_stalls_of_a_replica_are_reported_from_time_to_time() -> None:
    unkept = UnkeptReplicas()
    moments = (100.0, 100.1, 100.0 + REPORT_S - 0.01, 100.0 + REPORT_S, 100.1 + REPORT_S)
    assert [unkept.reports("a", moment) for moment in moments] == [True, False, False, True, False]
    assert unkept.reports("b", 100.1)
    unkept.forget_old(101.0 + REPORT_S)
    assert unkept.reports("a", 101.0 + REPORT_S)


def test_a_time_is_forgotten_once_it_counts_no_longer() -> None:
    unkept = UnkeptReplicas()
    unkept.add("a", 4, 100.0)
    unkept.forget_old(101.0 + LONGEST_S)
    assert len(unkept) == 1
    unkept.forget_old(101.1 + LONGEST_S)
    assert len(unkept) == 0
