"""Quarantine of the slots of dead members, and ownership of versions."""

import pytest

from router.core.quarantine import DeadMember, Quarantine
from router.core.timers import Timers
from router.core.view import Departed, Member, View, owner_of
from serving.endpoint import VersionKey

LEASE_S = 3.0


class Ends:
    """A quarantine with the times of its ends."""

    def __init__(self) -> None:
        self.timers = Timers()
        self.ended_at: list[float] = []
        self.quarantine = Quarantine(LEASE_S, self.timers, self._note)

    def _note(self, now: float) -> list[None]:
        self.ended_at.append(now)
        return []


@pytest.fixture
def ends() -> Ends:
    return Ends()


def test_a_quarantine_lasts_for_the_rest_of_the_lease(ends: Ends) -> None:
    assert ends.quarantine.add((Departed("w1", {"r": 1}, 1.0), Departed("w2", None)), 10.0) == ("w1", "w2")
    assert ends.quarantine.members == {"w1": DeadMember({"r": 1}, 12.0), "w2": DeadMember(None, 13.0)}
    assert ends.quarantine.unknown_use
    ends.timers.run(12.0)
    assert list(ends.quarantine.members) == ["w2"] and ends.ended_at == [12.0]
    ends.timers.run(13.0)
    assert ends.quarantine.members == {} and not ends.quarantine.unknown_use


@pytest.mark.parametrize("age_s", [LEASE_S, LEASE_S + 1])
def test_a_member_dead_for_a_lease_is_not_in_quarantine_and_seen_once(ends: Ends, age_s: float) -> None:
    departed = (Departed("w1", {}, age_s),)
    assert ends.quarantine.add(departed, 10.0) == ("w1",)
    assert ends.quarantine.members == {} and ends.timers.next() is None
    assert ends.quarantine.add(departed, 11.0) == ()


def test_a_departed_member_listed_again_during_its_quarantine_is_not_new(ends: Ends) -> None:
    departed = (Departed("w1", {}),)
    ends.quarantine.add(departed, 10.0)
    assert ends.quarantine.add((), 11.0) == ends.quarantine.add(departed, 12.0) == ()
    assert ends.quarantine.members["w1"].until == 13.0


def test_requests_in_flight_that_get_known_later_end_the_doubt(ends: Ends) -> None:
    assert ends.quarantine.add((Departed("w1", None),), 10.0) == ("w1",)
    assert ends.quarantine.add((Departed("w1", {"r": 1}),), 11.0) == ("w1",)
    assert ends.quarantine.members == {"w1": DeadMember({"r": 1}, 13.0)} and not ends.quarantine.unknown_use
    assert ends.quarantine.add((Departed("w1", {"r": 1}),), 12.0) == ()
    ends.timers.run(13.0)
    assert ends.quarantine.members == {} and ends.ended_at == [13.0]
    assert ends.quarantine.add((Departed("w1", {"r": 1}),), 14.0) == ()


def test_the_owner_is_the_same_in_every_release() -> None:
    """Workers of two releases run side by side during an update: they must agree on the owner."""
    owners = [owner_of(VersionKey(name, "blue"), ("w1", "w2", "w3")) for name in ("iris", "rose", "tulip", "lily")]
    assert owners == ["w2", "w1", "w1", "w3"]


def test_without_an_eligible_member_there_is_no_owner() -> None:
    view = View(1, (Member("w1", "unix:a", eligible=False),))
    assert view.owner(VersionKey("iris", "blue")) == "" and view.names() == ("w1",)
