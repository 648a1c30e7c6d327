"""What is to be done later is done in order, once, and not too early."""

from router.core.timers import Timers


def test_what_is_due_is_done_in_the_order_of_its_moments_and_then_of_its_planning():
    agenda = Timers()
    done: list[tuple[str, float]] = []

    def note(name: str, now: float) -> list[None]:
        done.append((name, now))
        return []

    for moment, name in ((2.0, "c"), (1.0, "a"), (1.0, "b"), (3.0, "d")):
        agenda.at(moment, note, name)
    assert agenda.next() == 1.0
    agenda.run(0.9)
    assert done == []
    agenda.run(2.0)
    assert done == [("a", 2.0), ("b", 2.0), ("c", 2.0)] and agenda.next() == 3.0
    agenda.run(5.0)
    assert done[3:] == [("d", 5.0)] and agenda.next() is None


def test_what_is_done_may_plan_more_which_is_done_in_the_same_run_if_it_is_due():
    agenda = Timers()

    def first(now: float) -> list[str]:
        agenda.at(now, second)
        agenda.at(now + 1, second)
        return ["first"]

    def second(now: float) -> list[str]:
        return ["second"]

    agenda.at(1.0, first)
    assert agenda.run(1.0) == ["first", "second"] and agenda.next() == 2.0
