from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.replica_facts import ReplicaFacts
from cluster.changes import Remove, Reset, Upsert
from controlplane.cluster_view import ClusterView, Shortfall, shortfalls
from serving.endpoint import (
    Auth,
    AutoscalePolicy,
    Endpoint,
    ReplicaKind,
    ReplicaSource,
    Version,
    VersionKey,
    VersionType,
)
from serving.replica import Replica, ReplicaState

BLUE = VersionKey("iris", "blue")
READY, STARTING, FAILED, DRAINING = (
    ReplicaState.READY,
    ReplicaState.STARTING,
    ReplicaState.FAILED,
    ReplicaState.DRAINING,
)


def replica(name: str, state: ReplicaState = READY, reason: str = "", version: str = "blue", slots: int = 1) -> Replica:
    return Replica(name, "iris", version, "127.0.0.1", 9000, state, slots, reason)


def endpoint(minimum: int = 1, kind: ReplicaKind = ReplicaKind.COMMAND) -> Endpoint:
    source = ReplicaSource(kind, command=("x",), static=("127.0.0.1:1", "127.0.0.1:2"))
    policy = AutoscalePolicy(min_replicas=minimum)
    return Endpoint("iris", Auth.KEY, (Version("blue", 1.0, True, VersionType.CONTROL, source, policy),))


def view_of(*replicas: Replica) -> ClusterView:
    view = ClusterView()
    view.apply(Reset(replicas), 0.0)
    return view


def test_a_reset_keeps_unchanged_and_drops_absent_replicas() -> None:
    view = view_of(replica("a"), replica("b"))
    changes = view.apply(Reset((replica("a"), replica("c"))), 1.0)
    assert changes == (Remove("b"), Upsert(replica("c")))
    assert {each.id for each in view.of(BLUE)} == {"a", "c"}


def test_the_same_change_twice_is_no_change() -> None:
    view = view_of()
    assert view.apply(Upsert(replica("a")), 0.0) == (Upsert(replica("a")),)
    assert view.apply(Upsert(replica("a")), 1.0) == ()
    assert view.apply(Remove("a"), 2.0) == (Remove("a"),)
    assert view.apply(Remove("a"), 3.0) == ()


def test_replicas_are_counted_by_state() -> None:
    view = view_of(replica("a"), replica("b", STARTING), replica("c", FAILED), replica("d", READY, slots=4))
    assert view.counts(BLUE) == {READY: 2, STARTING: 1, FAILED: 1, DRAINING: 0}
    assert view.ready_slots(BLUE) == 5


changes = st.lists(
    st.one_of(
        st.builds(
            lambda i, s, v: Upsert(replica(f"{v}-{i}", s, version=v)),
            st.integers(0, 3),
            st.sampled_from(ReplicaState),
            st.sampled_from(["blue", "green"]),
        ),
        st.builds(lambda i, v: Remove(f"{v}-{i}"), st.integers(0, 3), st.sampled_from(["blue", "green"])),
        st.builds(lambda ids: Reset(tuple(replica(f"blue-{i}") for i in ids)), st.sets(st.integers(0, 3)).map(sorted)),
    ),
    max_size=20,
)


@given(changes)
def test_the_reported_changes_lead_to_the_state_of_the_view(history: Any) -> None:
    view, follower = ClusterView(), {}
    for now, change in enumerate(history):
        for step in view.apply(change, float(now)):
            if isinstance(step, Upsert):
                follower[step.replica.id] = step.replica
            else:
                del follower[step.replica_id]
    assert follower == {each.id: each for each in view.replicas()}
    assert sum(sum(view.counts(VersionKey("iris", v)).values()) for v in ("blue", "green")) == len(follower)


def test_the_last_failure_is_the_message_even_beside_a_start() -> None:
    view = view_of(replica("a", FAILED, "exit 1"), replica("b", STARTING, "waiting for /"))
    view.apply(Upsert(replica("c", FAILED, "exit 2")), 5.0)
    assert view.message(BLUE) == "exit 2"


def test_a_report_that_changes_nothing_but_the_address_is_not_a_newer_message() -> None:
    view = view_of(replica("a", FAILED, "exit 1"))
    view.apply(Upsert(replica("b", FAILED, "exit 2")), 5.0)
    moved = Replica("a", "iris", "blue", "127.0.0.1", 9999, FAILED, 1, "exit 1")
    view.apply(Upsert(moved), 9.0)
    assert view.message(BLUE) == "exit 2"


def test_a_version_with_its_minimum_ready_is_ready() -> None:
    assert shortfalls([endpoint(minimum=2)], view_of(replica("a"), replica("b"))) == []


def test_a_version_short_of_its_minimum_says_why() -> None:
    (short,) = shortfalls([endpoint(minimum=2)], view_of(replica("a"), replica("b", FAILED, "no module named x")))
    assert str(short) == "iris/blue: 1 of 2 ready: no module named x"


def test_a_version_that_nothing_is_known_of_is_starting() -> None:
    (short,) = shortfalls([endpoint()], view_of())
    assert str(short) == "iris/blue: 0 of 1 ready: starting"


def test_one_static_replica_that_answers_is_enough() -> None:
    assert shortfalls([endpoint(minimum=2, kind=ReplicaKind.STATIC)], view_of(replica("a"))) == []


def test_a_draining_replica_is_not_ready() -> None:
    assert len(shortfalls([endpoint()], view_of(replica("a", DRAINING)))) == 1


def test_facts_tell_the_newest_template_from_older_ones_and_first_starts_from_repeated_ones() -> None:
    view = view_of(
        replace(replica("a"), template="old"),
        replace(replica("b", FAILED, "exited with code 3\nTraceback"), template="new"),
        replace(replica("c", STARTING), template="new", failures=2),
        replace(replica("d", STARTING), template="new"),
        replace(replica("e", STARTING, "no room"), template="new", placed=False),
        replace(replica("f", DRAINING), template="newer"),
    )
    assert view.facts(BLUE) == ReplicaFacts(
        ready=0, failing=2, starting=1, unplaced=1, start_s=0.0, hindrance="exited with code 3"
    )
    assert view.facts(VersionKey("iris", "green")) == ReplicaFacts()


def test_a_first_start_ends_with_the_first_replica_that_is_ready_even_if_it_fails_later() -> None:
    view = view_of(replica("a", STARTING), replica("b", FAILED, "exited"))
    assert view.facts(BLUE).first_start
    view.apply(Upsert(replica("a")), 5.0)
    assert not view.facts(BLUE).first_start
    view.apply(Upsert(replica("a", FAILED, "exited")), 9.0)
    assert not view.facts(BLUE).first_start


def test_a_start_takes_from_the_place_to_the_first_readiness() -> None:
    view = view_of()
    waiting = replace(replica("a", STARTING, "no room"), placed=False)
    view.apply(Upsert(waiting), 10.0)
    view.apply(Upsert(replica("a", STARTING)), 100.0)
    view.apply(Upsert(replica("a", STARTING, "loading")), 110.0)
    view.apply(Upsert(replica("a")), 115.0)
    assert view.facts(BLUE).start_s == 15.0
    view.apply(Upsert(replica("a", STARTING)), 200.0)  # restarted in place
    view.apply(Upsert(replica("a")), 900.0)
    assert view.facts(BLUE).start_s == 15.0
    view.apply(Upsert(replica("b")), 901.0)  # known as ready: its start was not seen
    assert view.facts(BLUE).start_s == 15.0


def test_a_replica_that_the_routers_suspect_is_not_ready_and_the_message_names_it() -> None:
    view = view_of(replica("r1"), replica("r2"))
    view.suspects = lambda key: {"r1"}
    assert view.counts(BLUE)[READY] == 1 and [one.id for one in view.of(BLUE)] == ["r1", "r2"]
    assert view.message(BLUE).startswith("r1: no answer of the health path")
    assert shortfalls([endpoint(minimum=2)], view)[0].ready == 1


def test_a_shortfall_is_one_line_without_the_log_of_its_replica() -> None:
    for message in ("exited with code 3; its last lines:\nloading\nKeyError: 'w'", "exited with code 3"):
        assert str(Shortfall(BLUE, 0, 1, message)) == "iris/blue: 0 of 1 ready: exited with code 3"
    for message in ("starting; its last log lines:\nloading", ""):
        assert str(Shortfall(BLUE, 0, 1, message)) == "iris/blue: 0 of 1 ready: starting"
