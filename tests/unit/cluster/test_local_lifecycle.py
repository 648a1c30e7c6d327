"""The tables of a replica's life, and its times."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.local import lifecycle
from cluster.local.lifecycle import (
    PROCESS,
    STATIC,
    LifecycleEvent,
    LifecycleState,
    backoff,
    start_deadline_s,
    start_poll_s,
)
from serving.endpoint import LivenessProbe


@pytest.mark.parametrize("table", [PROCESS, STATIC])
def test_every_state_has_a_transition_for_every_event(table: lifecycle.Table) -> None:
    assert table.keys() == set(itertools.product(LifecycleState, LifecycleEvent))
    assert all(table[LifecycleState.GONE, event] is LifecycleState.GONE for event in LifecycleEvent)


def test_every_state_but_gone_is_reported() -> None:
    assert lifecycle.OUTWARD.keys() == set(LifecycleState) - {LifecycleState.GONE}


@given(st.sampled_from([PROCESS, STATIC]), st.lists(st.sampled_from(LifecycleEvent)))
def test_a_retired_replica_never_serves_again(table: lifecycle.Table, events: list[LifecycleEvent]) -> None:
    for state in LifecycleState:
        at = table[state, LifecycleEvent.RETIRED]
        for event in events:
            at = table[at, event]
            assert at not in lifecycle.WANTED


@given(st.lists(st.sampled_from(LifecycleEvent)))
def test_a_replica_that_served_drains_before_it_is_stopped(events: list[LifecycleEvent]) -> None:
    at = LifecycleState.STARTING
    for event in events:
        before, at = at, PROCESS[at, event]
        if before is LifecycleState.READY:
            assert at in (LifecycleState.READY, LifecycleState.DRAINING, LifecycleState.FAILED)


def test_a_failed_child_is_only_ever_replaced_while_a_static_replica_recovers() -> None:
    assert PROCESS[LifecycleState.FAILED, LifecycleEvent.HEALTHY] is LifecycleState.FAILED
    assert STATIC[LifecycleState.FAILED, LifecycleEvent.HEALTHY] is LifecycleState.READY


def waits(ready_s: float | None, count: int) -> list[float]:
    failures, found = 0, []
    for _ in range(count):
        failures, wait_s = backoff(failures, ready_s)
        found.append(wait_s)
    return found


def test_a_replica_that_served_is_replaced_at_once_the_first_time_and_soon_ever_after() -> None:
    assert waits(5.0, 6) == [0, 0.5, 1, 2, 2, 2]


def test_a_replica_that_never_served_waits_from_the_first_time_on() -> None:
    assert waits(None, 9) == [0.5, 0.5, 1, 2, 4, 8, 16, 30, 30]


def test_a_minute_of_service_makes_up_for_all_failures_before() -> None:
    assert backoff(40, 60.0) == (1, 0.0)
    assert backoff(40, 59.9) == (41, 2.0)
    assert backoff(40, None) == (41, 30.0)


def test_a_model_gets_the_time_to_start_that_kubernetes_would_give_it() -> None:
    assert start_deadline_s(LivenessProbe()) == 340.0


@given(st.floats(0, 1000))
def test_readiness_is_noticed_soon_and_asked_for_seldom(waited_s: float) -> None:
    assert 0.05 <= start_poll_s(waited_s) <= max(0.05, 0.05 * waited_s)


def test_an_ending_names_its_signal() -> None:
    assert lifecycle.exit_text(-9, {9: "SIGKILL"}) == "killed by SIGKILL"
    assert lifecycle.exit_text(-64, {}) == "killed by signal 64"
    assert lifecycle.exit_text(3, {}) == "exited with code 3"


def test_failures_of_one_cause_have_one_gist() -> None:
    told = "exited with code 3; its last lines:\n[11] booting\n  File x, line 2\nKeyError: 'w 17'\n[11] bye"
    again = "exited with code 3; its last lines:\n[13] booting\n[12] booting\n  File x, line 2\nKeyError: 'w 18'"
    assert lifecycle.gist(told) == lifecycle.gist(again) == "exited with code 3; its last lines:\nKeyError: 'w #'"
    assert lifecycle.gist(told) != lifecycle.gist(told.replace("code 3", "code 4"))
    assert lifecycle.gist(told) != lifecycle.gist(told.replace("KeyError", "OSError"))
    assert lifecycle.gist("") == ""
