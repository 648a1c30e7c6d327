"""Back-off and single report of refusals."""

from cluster.refusals import FIRST_S, LAST_S, Refusals

DENIED, INVALID = ValueError("denied"), ValueError("invalid")


def test_the_time_to_the_next_try_doubles_up_to_minutes_and_a_new_text_starts_again() -> None:
    refusals: Refusals[str] = Refusals()
    now, waits = 0.0, []
    for _ in range(8):
        refusals.refused("iris", DENIED, now)
        wait_s = next(float(each) for each in range(1000) if refusals.is_due("iris", now + each))
        waits.append(wait_s)
        now += wait_s
    assert waits == [5.0, 10.0, 20.0, 40.0, 80.0, LAST_S, LAST_S, LAST_S]
    refusals.refused("iris", INVALID, now)
    assert refusals.is_due("iris", now + FIRST_S) and refusals.text("iris") == "invalid"


def test_each_text_is_new_once_and_success_ends_it() -> None:
    refusals: Refusals[str] = Refusals()
    told = [refusals.refused("iris", error, 0.0) for error in (DENIED, DENIED, INVALID, INVALID)]
    assert told == [True, False, True, False] and refusals.subjects() == ("iris",)
    refusals.settled("iris")
    assert refusals.text("iris") == "" and refusals.is_due("iris", 0.0) and refusals.refused("iris", DENIED, 1.0)
