"""The standing of a replica, and its times."""

import pytest

from router.core.health import (
    FIRST_EJECTION_S,
    FIRST_PAUSE_S,
    LONGEST_EJECTION_S,
    LONGEST_PAUSE_S,
    STANDINGS,
    UNCERTAIN,
    HealthSign,
    Standing,
    StandingEvent,
    ejection_seconds,
    is_sign_of_life,
    probe_pause_s,
)


def test_the_table_has_every_pair_and_only_an_answer_ends_a_suspicion() -> None:
    assert len(STANDINGS) == len(Standing) * len(StandingEvent)
    ways_out = {
        event for (standing, event), after in STANDINGS.items() if standing in UNCERTAIN and after not in UNCERTAIN
    }
    assert ways_out == {StandingEvent.ANSWERED, StandingEvent.RELAPSED}
    assert STANDINGS[Standing.SUSPECT, StandingEvent.ANSWERED] is Standing.SUSPECT, "an answer to an older request"


@pytest.mark.parametrize("standing", Standing)
def test_whatever_its_standing_a_replica_in_doubt_is_suspect(standing: Standing) -> None:
    assert STANDINGS[standing, StandingEvent.DOUBTED] is Standing.SUSPECT


def test_an_ejection_grows_with_failures_up_to_a_bound_however_many_there_are() -> None:
    ejections = [ejection_seconds(number) for number in range(1, 2000)]
    assert ejections == sorted(ejections) and ejections[0] == FIRST_EJECTION_S
    assert set(ejections[10:]) == {LONGEST_EJECTION_S} and all(isinstance(one, float) for one in ejections)


def test_the_first_health_request_is_sent_at_once_and_the_others_at_least_every_second() -> None:
    pauses = [probe_pause_s(number, queue_wait_s=60.0) for number in range(2000)]
    assert pauses == sorted(pauses) and pauses[:2] == [0.0, FIRST_PAUSE_S]
    assert pauses[-1] == LONGEST_PAUSE_S == 1.0


@pytest.mark.parametrize("queue_wait_s", [0.2, 0.5, 1.5])
def test_a_waiting_request_outlasts_the_pause_between_health_requests(queue_wait_s: float) -> None:
    assert max(probe_pause_s(number, queue_wait_s) for number in range(2000)) == queue_wait_s / 2


def test_health_requests_of_versions_whose_requests_do_not_wait_have_a_pause_too() -> None:
    assert probe_pause_s(9, queue_wait_s=0.0) == FIRST_PAUSE_S


def test_any_answer_is_a_sign_of_life_while_the_replica_is_at_work() -> None:
    assert is_sign_of_life(HealthSign.WELL, at_work=False)
    assert is_sign_of_life(HealthSign.UNREADY, at_work=True) and not is_sign_of_life(HealthSign.UNREADY, at_work=False)
    assert not is_sign_of_life(HealthSign.NONE, at_work=True)
