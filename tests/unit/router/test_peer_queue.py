"""The tickets of one peer in an owner's line."""

from hypothesis import given
from hypothesis import strategies as st

from router.core.declared_leases import PeerAsk
from router.core.lending import PeerQueue


def drain(line: PeerQueue) -> list[int]:
    order = []
    while line:
        _, number = line.head()
        order.append(number)
        assert line.remove(number) and not line.remove(number)
    return order


def test_those_that_had_a_slot_before_come_first() -> None:
    line = PeerQueue()
    line.add(1, PeerAsk(1.0, False))
    line.add(2, PeerAsk(5.0, True))
    assert line.head() == ((0, 5.0), 2) and list(line) == [2, 1]
    assert drain(line) == [2, 1]


def test_equally_old_tickets_keep_their_order() -> None:
    line = PeerQueue()
    for number in (3, 1, 2):
        line.add(number, PeerAsk(1.0, False))
    assert drain(line) == [3, 1, 2]


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans())))
def test_whenever_a_ticket_comes_its_place_is_that_of_its_age(wishes: list[tuple[int, bool]]) -> None:
    line = PeerQueue()
    for number, (since, retry) in enumerate(wishes):
        line.add(number, PeerAsk(float(since), retry))
    expected = sorted(range(len(wishes)), key=lambda number: (not wishes[number][1], wishes[number][0]))
    assert drain(line) == expected
