"""Timers fire in order, once, and not too early."""

from router.core.timers import Timers


def test_due_timers_run_in_the_order_of_their_times_and_then_of_their_planning() -> None:
    timers = Timers()
    done: list[tuple[str, float]] = []

    def note(name: str, now: float) -> list[None]:
        done.append((name, now))
        return []

    for moment, name in ((2.0, "c"), (1.0, "a"), (1.0, "b"), (3.0, "d")):
        timers.at(moment, note, name)
    assert timers.next() == 1.0
    timers.run(0.9)
    assert done == []
    timers.run(2.0)
    assert done == [("a", 2.0), ("b", 2.0), ("c", 2.0)] and timers.next() == 3.0
    timers.run(5.0)
    assert done[3:] == [("d", 5.0)] and timers.next() is None


def test_a_timer_may_plan_others_that_run_at_once_if_due() -> None:
    timers = Timers()

    def first(now: float) -> list[str]:
        timers.at(now, second)
        timers.at(now + 1, second)
        return ["first"]

    def second(now: float) -> list[str]:
        return ["second"]

    timers.at(1.0, first)
    assert timers.run(1.0) == ["first", "second"] and timers.next() == 2.0
