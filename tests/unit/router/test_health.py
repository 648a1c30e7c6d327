"""Length of ejection after a failure."""

import pytest

from router.core.health import FIRST_EJECTION_S, LAST_REPLICA_EJECTION_S, LONGEST_EJECTION_S, Failure, ejection_seconds

TABLE = [
    # failure, in a row, others, seconds
    (Failure.UNREACHABLE, 1, True, 0.05),
    (Failure.UNREACHABLE, 1, False, 0.05),
    (Failure.UNREACHABLE, 2, True, 0.1),
    (Failure.UNREACHABLE, 5, False, 0.8),
    (Failure.UNREACHABLE, 8, True, LONGEST_EJECTION_S),
    (Failure.BROKEN, 1, True, 0.1),
    (Failure.BROKEN, 2, True, 0.2),
    (Failure.BROKEN, 7, True, LONGEST_EJECTION_S),
    (Failure.BROKEN, 1, False, LAST_REPLICA_EJECTION_S),
    (Failure.BROKEN, 50, False, LAST_REPLICA_EJECTION_S),
]


@pytest.mark.parametrize(("failure", "in_a_row", "others", "seconds"), TABLE)
def test_the_table(failure: Failure, in_a_row: int, others: bool, seconds: float) -> None:
    assert ejection_seconds(failure, in_a_row, others) == pytest.approx(seconds)


@pytest.mark.parametrize("failure", Failure)
def test_a_hold_grows_with_failures_up_to_a_bound_however_many_there_are(failure: Failure) -> None:
    holds = [ejection_seconds(failure, number, True) for number in range(1, 2000)]
    assert holds == sorted(holds) and holds[0] == FIRST_EJECTION_S[failure]
    assert set(holds[10:]) == {LONGEST_EJECTION_S} and all(isinstance(hold, float) for hold in holds)


def test_the_last_replica_is_left_alone_more_shortly_than_one_of_several() -> None:
    for number in range(1, 10):
        assert 0 < ejection_seconds(Failure.BROKEN, number, False) < ejection_seconds(Failure.BROKEN, number, True)
