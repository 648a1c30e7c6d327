"""Busy polling before sleeping: its length, and the processor time that it counts."""

from collections.abc import Callable

import pytest

from router.busy_polling import BusyPoller

POLL_S = 0.010
TURN_S = 0.001


class Loop:
    """Turns when told; every turn takes TURN_S of time, and of the processor."""

    def __init__(self) -> None:
        self.now = 100.0
        self.due: list[Callable[[], None]] = []
        self.gave_way = 0
        self.poller = BusyPoller(POLL_S, lambda: self.now, lambda: self.now - 100.0, self.due.append, self._give_way)

    def _give_way(self) -> None:
        self.gave_way += 1

    def turn(self) -> None:
        due, self.due[:] = list(self.due), []
        for each in due:
            each()
        self.now += TURN_S

    def turns_until_it_sleeps(self) -> int:
        for turns in range(1_000):
            if not self.due:
                return turns
            self.turn()
        raise AssertionError("it does not sleep")


@pytest.fixture
def loop() -> Loop:
    return Loop()


def test_a_loop_that_nothing_has_stirred_sleeps(loop: Loop) -> None:
    assert loop.due == []


def test_busy_polling_lasts_for_its_time_and_sleeps_then(loop: Loop) -> None:
    loop.poller.note_activity()
    assert loop.turns_until_it_sleeps() in (11, 12)


def test_any_event_makes_busy_polling_last_as_long_again(loop: Loop) -> None:
    loop.poller.note_activity()
    for _ in range(5):
        loop.turn()
    loop.poller.note_activity()
    assert loop.turns_until_it_sleeps() in (11, 12)


def test_it_wakes_again_after_it_slept(loop: Loop) -> None:
    loop.poller.note_activity()
    loop.turns_until_it_sleeps()
    loop.poller.note_activity()
    assert loop.turns_until_it_sleeps() in (11, 12)


def test_however_often_it_is_stirred_it_looks_once_in_a_turn(loop: Loop) -> None:
    for _ in range(3):
        loop.poller.note_activity()
    assert len(loop.due) == 1
    loop.turn()
    loop.poller.note_activity()
    assert len(loop.due) == 1


def test_idle_turns_are_distinguished_from_work(loop: Loop) -> None:
    loop.poller.note_activity()
    loop.turn()
    for _ in range(4):
        loop.turn()
    assert loop.poller.idle_cpu_s == pytest.approx(4 * TURN_S)
    loop.poller.note_activity()
    loop.turn()
    assert loop.poller.idle_cpu_s == pytest.approx(4 * TURN_S)


def test_sleep_is_not_taken_for_looking(loop: Loop) -> None:
    loop.poller.note_activity()
    loop.turns_until_it_sleeps()
    looked_s = loop.poller.idle_cpu_s
    loop.now += 50.0
    loop.poller.note_activity()
    loop.turn()
    assert loop.poller.idle_cpu_s == looked_s


def test_others_of_its_core_go_first_while_it_has_nothing_to_do(loop: Loop) -> None:
    loop.poller.note_activity()
    loop.turn()
    assert loop.gave_way == 0
    loop.turn()
    assert loop.gave_way == 1
