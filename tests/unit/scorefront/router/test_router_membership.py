"""One history of views for several routers: writers, burial of dead routers, and continuation alone."""

import pytest

from cluster.kubernetes.client.paths import CONFIGMAPS
from router.core.view import Departed, Member, View
from router.membership.agreement import MembershipPart
from router.membership.history import NAME, HistoryError, PodRecord, after_end, decoded
from router.membership.router_membership import FORGET_LEASES, RouterMembership, Suspect
from tests.fakes.routers_object import RoutersObject

LEASE_S = 2.0


class Router:
    """A router that reads and writes without delay."""

    def __init__(self, store: RoutersObject, pod: str, uid: str = "", group: str = "") -> None:
        self.store = store
        self.now = 100.0
        self.decisions = RouterMembership(pod, uid or f"uid-{pod}", group or f"group-{pod}", "home", LEASE_S)

    def read(self) -> "Router":
        self.decisions.read(self.store.newest, self.now)
        return self

    def write(self) -> bool:
        """True if there was something to write, and it was accepted."""
        draft = self.decisions.draft(self.now)
        taken = self.store.put(draft) if draft is not None else None
        if taken is not None:
            self.decisions.read(taken, self.now)
        return taken is not None

    def announce(self, *names: str, gone: tuple[Departed, ...] = ()) -> "Router":
        self.decisions.announce(MembershipPart(tuple(Member(name, f"{name}:1") for name in names), gone))
        return self

    @property
    def view(self) -> View:
        view = self.decisions.view(self.now)
        assert view is not None
        return view

    def names(self) -> tuple[str, ...]:
        return self.view.names()


@pytest.fixture
def store() -> RoutersObject:
    return RoutersObject()


def joined(store: RoutersObject, pod: str, *names: str, group: str = "") -> Router:
    router = Router(store, pod, group=group).read().announce(*names)
    assert router.write()
    return router


def test_nothing_is_written_before_the_first_read(store: RoutersObject) -> None:
    assert Router(store, "a").announce("a1").decisions.draft(100.0) is None


def test_nothing_is_written_without_a_change(store: RoutersObject) -> None:
    assert not Router(store, "a").read().write()
    a = joined(store, "a", "a1")
    assert not a.write()


def test_a_view_has_the_members_of_all_routers(store: RoutersObject) -> None:
    a, b = joined(store, "a", "a1", "a2"), joined(store, "b", "b1")
    assert b.names() == ("a1", "a2", "b1")
    assert a.read().names() == b.names()
    assert b.view.epoch == 2


def test_of_two_that_write_at_once_the_second_reads_again_and_nothing_is_lost(store: RoutersObject) -> None:
    a, b = joined(store, "a", "a1"), joined(store, "b", "b1")
    a.read().announce("a1", "a2")
    b.read().announce("b1", "b2")
    assert a.write()
    assert not b.write(), "b did not know what a had written"
    assert b.read().write()
    assert a.read().names() == ("a1", "a2", "b1", "b2")


def test_an_older_version_that_comes_late_changes_nothing(store: RoutersObject) -> None:
    a = joined(store, "a", "a1")
    old = store.newest
    joined(store, "b", "b1")
    a.read().decisions.read(old, a.now)
    assert a.names() == ("a1", "b1")


def test_foreign_changes_of_the_object_are_kept(store: RoutersObject) -> None:
    a = joined(store, "a", "a1")
    store.kubernetes.edit(CONFIGMAPS, NAME, {"metadata": {"labels": {"team": "x"}}})
    assert a.read().announce("a1", "a2").write()
    assert store.newest is not None
    assert store.newest["metadata"]["labels"] == {"team": "x"}


# ---- the end of routers


def test_a_router_without_its_pod_is_buried_with_unknown_leases(store: RoutersObject) -> None:
    a = joined(store, "a", "a1")
    joined(store, "b", "b1", "b2")
    (suspect,) = a.read().decisions.suspects()
    a.decisions.gone(suspect)
    assert a.write()
    assert a.names() == ("a1",)
    assert a.view.departed == (Departed("b1", None), Departed("b2", None))


def test_what_an_ended_router_had_in_flight_is_noted_whoever_removes_it_first(store: RoutersObject) -> None:
    held = {"b1": {"replica": 2}, "b2": {}}
    a = joined(store, "a", "a1")
    joined(store, "b", "b1", "b2")
    before = a.read().decisions.history
    assert before is not None
    known = (Departed("b1", {"replica": 2}), Departed("b2", {}))
    assert after_end(before, "b", "group-b", held).departed == known
    (suspect,) = a.decisions.suspects()
    a.decisions.gone(suspect)
    assert a.write()
    assert a.decisions.history is not None
    late = after_end(a.decisions.history, "b", "group-b", held)
    assert late.departed == known
    assert after_end(late, "b", "group-b", held) == late


def test_an_ended_router_is_not_confused_with_its_successor(store: RoutersObject) -> None:
    a = joined(store, "a", "a1")
    joined(store, "b", "b1", group="first")
    joined(store, "b", "b2", group="second")
    history = a.read().decisions.history
    assert history is not None
    found = after_end(history, "b", "first", {"b1": {"replica": 1}})
    assert found.workers() == {"a1", "b2"}
    assert found.departed == (Departed("b1", {"replica": 1}),)


def test_a_buried_router_is_not_buried_twice(store: RoutersObject) -> None:
    a, b = joined(store, "a", "a1"), joined(store, "b", "b1")
    joined(store, "c", "c1")
    for router in (a, b):
        router.read().decisions.gone(Suspect("c", "uid-c", "group-c"))
    assert a.write()
    assert not b.write()
    assert not b.read().write()
    assert b.view.departed == (Departed("c1", None),)


def test_a_router_that_came_back_in_time_is_not_buried_for_its_predecessor(store: RoutersObject) -> None:
    a = joined(store, "a", "a1")
    joined(store, "b", "b1", group="first")
    a.read().decisions.gone(Suspect("b", "uid-b", "first"))
    joined(store, "b", "b2", group="second")
    assert not a.read().write()
    assert a.names() == ("a1", "b2")


def test_a_new_process_in_a_pod_buries_the_one_before_in_the_same_write(store: RoutersObject) -> None:
    a = joined(store, "a", "a1")
    joined(store, "b", "b1", group="first")
    joined(store, "b", "b2", group="second")
    assert a.read().names() == ("a1", "b2")
    assert a.view.departed == (Departed("b1", None),)


def test_departures_reported_by_a_buried_router_stay_reported(store: RoutersObject) -> None:
    a = joined(store, "a", "a1")
    Router(store, "b").read().announce("b2", gone=(Departed("b1", {"replica": 2}),)).write()
    a.read().decisions.gone(Suspect("b", "uid-b", "group-b"))
    assert a.write()
    assert set(map(repr, a.view.departed)) == {repr(Departed("b1", {"replica": 2})), repr(Departed("b2", None))}


def test_a_leaving_router_reports_the_leases_of_its_last_workers(store: RoutersObject) -> None:
    a, b = joined(store, "a", "a1"), joined(store, "b", "b1")
    b.announce(gone=(Departed("b1", {}),))
    assert b.write()
    farewell = b.decisions.departure()
    assert farewell is not None
    assert store.put(farewell)
    assert a.read().names() == ("a1",)
    assert a.view.departed == (Departed("b1", {}),)
    assert not a.decisions.suspects()


def test_departures_age_and_are_forgotten_after_their_quarantine(store: RoutersObject) -> None:
    a = joined(store, "a", "a1")
    joined(store, "b", "b1")
    a.read().decisions.gone(Suspect("b", "uid-b", "group-b"))
    a.write()
    a.now += LEASE_S
    assert list(a.view.departed) == [Departed("b1", None, LEASE_S)]
    assert not a.write(), "it is too early to forget"
    a.now += (FORGET_LEASES - 1) * LEASE_S
    assert a.write()
    assert list(a.view.departed) == []


def test_a_router_that_comes_late_counts_from_when_it_heard_of_the_dead(store: RoutersObject) -> None:
    a = joined(store, "a", "a1")
    joined(store, "b", "b1")
    a.read().decisions.gone(Suspect("b", "uid-b", "group-b"))
    a.write()
    late = Router(store, "c")
    late.now = 5000.0
    late.read()
    assert late.view.departed == (Departed("b1", None),)
    assert not late.write(), "what is new to it, it does not forget"


def test_a_router_that_was_taken_for_dead_knows_that_it_has_to_end(store: RoutersObject) -> None:
    a, b = joined(store, "a", "a1"), joined(store, "b", "b1")
    a.read().decisions.gone(Suspect("b", "uid-b", "group-b"))
    a.write()
    assert not b.decisions.expelled
    b.read()
    assert b.decisions.expelled
    assert not b.announce("b2").write(), "nobody would wait for its workers"


def test_a_group_outside_a_pod_is_never_buried(store: RoutersObject) -> None:
    a = joined(store, "a", "a1")
    by_hand = Router(store, "b")
    by_hand.decisions = RouterMembership("b", "", "group-b", "home", LEASE_S)
    by_hand.read().announce("b1").write()
    assert a.read().decisions.suspects() == []


# ---- without the API server


def restarted(store: RoutersObject, pod: str) -> Router:
    """A new process in the pod, with the kept state of its predecessor."""
    return Router(store, pod, group="again").read()


def test_a_router_that_was_alone_goes_on_alone(store: RoutersObject) -> None:
    joined(store, "a", "a1", "a2")
    again = restarted(store, "a").announce("a3")
    assert again.decisions.continue_alone()
    assert again.names() == ("a3",)
    assert again.view.departed == (Departed("a1", None), Departed("a2", None))
    first = again.view.epoch
    again.announce("a3", "a4")
    assert again.names() == ("a3", "a4")
    assert again.view.epoch > first


def test_a_router_that_was_not_alone_waits(store: RoutersObject) -> None:
    joined(store, "a", "a1")
    joined(store, "b", "b1")
    again = restarted(store, "a").announce("a2")
    assert not again.decisions.continue_alone()
    assert "a2" not in again.names()


def test_a_router_that_never_knew_anything_waits(store: RoutersObject) -> None:
    assert not Router(store, "a").announce("a1").decisions.continue_alone()


def test_a_router_in_a_new_pod_of_the_old_name_waits_since_others_may_bury_the_old_one(store: RoutersObject) -> None:
    joined(store, "a", "a1")
    again = Router(store, "a", uid="another", group="again").read().announce("a2")
    assert not again.decisions.continue_alone()


def test_a_router_without_members_in_the_last_view_does_not_continue_alone(store: RoutersObject) -> None:
    a = joined(store, "a", "a1")
    a.announce().write()
    assert not a.announce("a2").decisions.continue_alone()


def test_a_router_that_may_have_announced_no_members_does_not_continue_alone(store: RoutersObject) -> None:
    a = joined(store, "a", "a1").announce()
    assert a.decisions.draft(a.now) is not None, "sent, and nobody knows whether it was taken"
    a.announce("a2")
    assert not a.decisions.continue_alone()


def test_back_from_alone_the_first_view_has_the_present_members(store: RoutersObject) -> None:
    joined(store, "a", "a1")
    again = restarted(store, "a").announce("a2")
    assert again.decisions.continue_alone()
    alone = again.view
    b = joined(store, "b", "b1")
    assert b.names() == ("a1", "b1"), "b waits for a1, which will never answer"
    assert again.read().view == alone, "a view without a2 would cost it what it has"
    assert again.write()
    assert again.names() == ("a2", "b1")
    assert again.view.epoch > alone.epoch
    assert b.read().view == again.view


def test_alone_and_changed_while_a_write_was_on_its_way_nothing_of_in_between_is_shown(store: RoutersObject) -> None:
    joined(store, "a", "a1")
    again = restarted(store, "a").announce("a2")
    again.decisions.continue_alone()
    draft = again.decisions.draft(again.now)
    assert draft is not None
    again.announce("a2", "a3")
    again.decisions.read(store.put(draft), again.now)
    assert again.names() == ("a2", "a3")
    local = again.view.epoch
    assert again.write()
    assert again.names() == ("a2", "a3")
    assert again.view.epoch > local


def test_a_router_alone_does_not_announce_an_empty_part_for_a_moment(store: RoutersObject) -> None:
    joined(store, "a", "a1")
    again = restarted(store, "a").announce("a2")
    assert again.decisions.continue_alone()
    again.announce()
    assert not again.write(), "others would take what the next worker begins to use"
    assert again.announce("a3").write()
    assert again.names() == ("a3",)


# ---- accidents


def test_an_object_that_was_deleted_is_made_anew_with_all_that_was_known(store: RoutersObject) -> None:
    a, b = joined(store, "a", "a1"), joined(store, "b", "b1")
    epoch = a.read().view.epoch
    store.delete()
    assert a.read().write()
    assert a.names() == ("a1", "b1")
    assert a.view.epoch > epoch
    assert b.read().names() == ("a1", "b1")
    assert not b.decisions.expelled


def test_a_fresh_history_after_a_deletion_is_joined_by_the_former_members(store: RoutersObject) -> None:
    a = joined(store, "a", "a1")
    store.delete()
    new = joined(store, "c", "c1")
    assert new.names() == ("c1",)
    assert a.read().write()
    assert not a.decisions.expelled
    assert a.names() == ("a1", "c1")
    assert new.read().names() == ("a1", "c1")


def test_an_object_that_was_put_back_from_a_backup_is_brought_up_to_date(store: RoutersObject) -> None:
    a, b = joined(store, "a", "a1"), joined(store, "b", "b1")
    epoch = a.read().view.epoch
    store.put_back(1)
    a.decisions.read(store.newest, a.now, asked_at=epoch)
    assert a.write()
    assert a.names() == ("a1", "b1")
    assert a.view.epoch > epoch
    assert b.read().names() == ("a1", "b1")
    assert not b.decisions.expelled


@pytest.mark.parametrize(
    "data",
    [{"epoch": "many"}, {"epoch": "1", "pod.a": "{"}, {"epoch": "1", "departed": "{}"}, {"epoch": "1", "pod.a": "[]"}],
)
def test_an_object_that_cannot_be_read_changes_nothing(store: RoutersObject, data: dict[str, str]) -> None:
    a = joined(store, "a", "a1")
    with pytest.raises(HistoryError):
        a.decisions.read({"metadata": {"resourceVersion": "9", "uid": "object-1"}, "data": data}, a.now)
    assert a.names() == ("a1",)


def test_the_workers_of_all_routers_can_be_read_off_the_object(store: RoutersObject) -> None:
    joined(store, "a", "a1", "a2")
    joined(store, "b", "b1")
    assert store.newest is not None
    history = decoded(store.newest)
    assert history.workers() == {"a1", "a2", "b1"}
    assert isinstance(history.records["a"], PodRecord)
    assert decoded({"metadata": {}}).workers() == frozenset()
