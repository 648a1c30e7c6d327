"""Givers and receivers of client connections."""

from hypothesis import given
from hypothesis import strategies as st

from router.supervisor.connection_balance import LEAST, MOST_AT_ONCE, SLACK, ConnectionMove, balancing_moves

CLIENTS = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 20_000), max_size=8)


def test_a_new_worker_gets_its_part() -> None:
    assert balancing_moves({"old": 40, "new": 0}) == [ConnectionMove("old", "new", 20)]


def test_the_busiest_gives_to_the_idlest_first() -> None:
    assert balancing_moves({"a": 90, "b": 10, "c": 0, "d": 100}) == [
        ConnectionMove("d", "c", 50),
        ConnectionMove("a", "b", 40),
    ]


def test_a_small_difference_is_left_alone() -> None:
    assert balancing_moves({"a": 54, "b": 46}) == []
    assert balancing_moves({"a": 2, "b": 0}) == []
    assert balancing_moves({"a": 1, "b": 0, "c": 0}) == []


def test_a_single_worker_keeps_its_connections() -> None:
    assert balancing_moves({"a": 1000}) == []
    assert balancing_moves({}) == []


def test_no_worker_gives_so_many_at_once_that_its_loop_stops_for_it() -> None:
    assert balancing_moves({"a": 10_000, "b": 0}) == [ConnectionMove("a", "b", MOST_AT_ONCE)]


def after(clients: dict[str, int], found: list[ConnectionMove]) -> dict[str, int]:
    then = dict(clients)
    for move in found:
        then[move.source] -= move.count
        then[move.target] += move.count
    return then


@given(CLIENTS)
def test_no_worker_gives_below_its_share_or_gets_above_it(clients: dict[str, int]) -> None:
    found = balancing_moves(clients)
    then = after(clients, found)
    for move in found:
        assert move.count > 0
        part = sum(clients.values()) / len(clients)
        assert then[move.source] >= part - 1 and then[move.target] <= part + 1


@given(CLIENTS)
def test_after_enough_rounds_all_have_about_the_same_and_nothing_moves(clients: dict[str, int]) -> None:
    for _ in range(200):
        found = balancing_moves(clients)
        if not found:
            break
        clients = after(clients, found)
    assert not found
    part = sum(clients.values()) // len(clients) if clients else 0
    assert all(count - part <= max(LEAST, SLACK * part) + 1 for count in clients.values())
