"""What a worker that takes over may use of each replica, while the one before it still uses some of it."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from cluster.link import Holding
from router.succession import Succession
from serving.endpoint import VersionKey
from serving.replica import Replica, ReplicaState

BLUE = VersionKey("iris", "blue")


def replica(name: str = "a", slots: int = 3, state: ReplicaState = ReplicaState.READY) -> Replica:
    return Replica(name, "iris", "blue", "127.0.0.1", 1, state, slots)


def holding(*wanting: VersionKey, retired: tuple[str, ...] = (), **busy: int) -> Holding:
    return Holding(wanting, busy, retired)


def test_nothing_is_shown_before_the_predecessor_has_said_what_it_uses() -> None:
    succession = Succession()
    assert succession.show([replica()]) == []
    assert succession.drained("a") == []


def test_a_version_that_requests_still_wait_for_is_the_predecessors_whole() -> None:
    succession = Succession()
    succession.update(holding(BLUE, a=1))
    assert succession.show([replica()]) == []
    succession.update(holding(a=1))
    assert succession.show([replica()]) == [replica(slots=2)]


def test_each_replica_is_shown_with_the_slots_that_are_left_and_only_when_they_change() -> None:
    succession = Succession()
    succession.update(holding(a=2))
    both = [replica("a"), replica("b")]
    assert succession.show(both) == [replica("a", slots=1), replica("b")]
    assert succession.show(both) == []
    succession.update(holding())
    assert succession.show(both) == [replica("a")]


def test_a_replica_with_fewer_slots_than_are_in_use_has_none_left() -> None:
    succession = Succession()
    succession.update(holding(a=3))
    assert succession.show([replica(slots=1)]) == [replica(slots=0)]


def test_a_replica_that_was_withdrawn_before_is_shown_as_such() -> None:
    succession = Succession()
    succession.update(holding(a=1, retired=("a",)))
    assert succession.show([replica()]) == [replica(slots=2, state=ReplicaState.DRAINING)]


def test_a_replica_is_drained_when_neither_has_anything_on_it_and_is_told_once() -> None:
    succession = Succession()
    succession.update(holding(a=1))
    assert succession.drained("a") == []
    succession.update(holding())
    assert succession.settled() == ["a"]
    assert succession.settled() == []


def test_when_the_predecessor_has_ended_everything_is_shown_as_it_is() -> None:
    succession = Succession()
    succession.update(holding(BLUE, a=1, b=1))
    assert succession.drained("b") == []
    succession.end()
    assert succession.show([replica()]) == [replica()]
    assert succession.settled() == ["b"]


def test_a_replica_that_is_gone_is_owed_nothing() -> None:
    succession = Succession()
    succession.update(holding(a=1))
    succession.drained("a")
    succession.forget("a")
    succession.end()
    assert succession.settled() == []


@given(st.integers(1, 9), st.lists(st.integers(0, 9), max_size=6))
def test_the_two_together_never_have_more_than_the_slots(slots: int, falling: list[int]) -> None:
    succession = Succession()
    left = 0
    for busy in sorted((min(each, slots) for each in falling), reverse=True):
        succession.update(holding(**({"a": busy} if busy else {})))
        for shown in succession.show([replica(slots=slots)]):
            left = shown.slots
        assert left + busy <= slots
    succession.end()
    assert replace(replica(), slots=slots) in [*succession.show([replica(slots=slots)]), replica(slots=left)]
