"""The rules of a Lease, one at a time."""

import copy
from typing import Any

import pytest

from cluster.kubernetes.client.election import LINK, REST, Election, ElectionSettings, LeaderInfo

S = ElectionSettings(lease_s=8.0, renew_deadline_s=5.0, retry_s=1.0)


def candidate(identity: str = "me", **annotations: str) -> Election:
    return Election("scorefront-control", "home", identity, annotations, S)


def lease(
    holder: str = "other", transitions: int = 3, renewed: str = "t1", version: str = "1", length_s: int = 8
) -> dict[str, Any]:
    spec = {
        "holderIdentity": holder,
        "leaseTransitions": transitions,
        "renewTime": renewed,
        "leaseDurationSeconds": length_s,
    }
    return {"metadata": {"name": "scorefront-control", "resourceVersion": version, "uid": "u"}, "spec": spec}


def leader(fence: int = 4, asked_at: float = 100.0) -> Election:
    me = candidate()
    me.seen(lease(holder="", transitions=fence - 1), asked_at)
    me.won(me.bid("now"), asked_at, asked_at + 1)
    return me


def test_without_a_lease_the_first_candidate_may_create_it() -> None:
    me = candidate()
    me.seen(None, 100.0)
    assert me.free_at() <= 100.0
    bid = me.bid("2026-01-01T00:00:00.000000Z")
    assert "resourceVersion" not in bid["metadata"]
    assert bid["spec"]["holderIdentity"] == "me" and bid["spec"]["leaseTransitions"] == 1


def test_a_lease_of_another_holder_is_left_alone_until_it_is_unchanged_for_its_length() -> None:
    me = candidate()
    me.seen(lease(renewed="t1"), 100.0)
    me.seen(lease(renewed="t2", version="2"), 107.0)
    me.seen(lease(renewed="t2", version="2"), 114.9)
    assert me.free_at() == 115.0


def test_the_times_that_stand_in_a_lease_are_never_believed() -> None:
    me = candidate()
    me.seen(lease(renewed="1970-01-01T00:00:00.000000Z"), 100.0)
    me.seen(lease(renewed="2999-01-01T00:00:00.000000Z", version="2"), 101.0)
    assert me.free_at() == 109.0


def test_a_change_of_other_fields_does_not_keep_a_dead_leader_alive() -> None:
    me = candidate()
    me.seen(lease(), 100.0)
    noted = lease(version="2")
    noted["metadata"]["annotations"] = {"a": "b"}
    me.seen(noted, 107.0)
    assert me.free_at() == 108.0


def test_a_leader_with_a_longer_lease_than_ours_is_given_its_own_time() -> None:
    me = candidate()
    me.seen(lease(length_s=30), 100.0)
    assert me.free_at() == 130.0


def test_a_lease_that_was_stepped_down_from_is_taken_at_once() -> None:
    me = candidate()
    me.seen(lease(), 100.0)
    me.seen(lease(holder="", version="2"), 101.0)
    assert me.leader is None
    assert me.free_at() <= 101.0


def test_a_lease_that_is_deleted_under_a_leader_is_not_taken_before_that_leader_must_have_stopped() -> None:
    me = candidate()
    me.seen(lease(transitions=7), 100.0)
    me.seen(None, 101.0)
    assert me.free_at() == 109.0
    assert me.bid("now")["spec"]["leaseTransitions"] == 8


def test_every_new_leader_has_a_higher_fence_and_so_has_a_returning_one() -> None:
    me = candidate()
    me.seen(lease(holder="me", transitions=7), 100.0)  # its bid arrived, but the answer did not
    assert me.free_at() <= 100.0
    assert me.bid("now")["spec"]["leaseTransitions"] == 8


def test_a_leader_stops_five_seconds_after_it_asked_for_its_last_renewal() -> None:
    me = leader(asked_at=100.0)
    assert me.leads(104.9) and not me.leads(105.0)
    me.renewed(me.renewal("later"), asked_at=103.0, now=104.5)
    assert me.leads(107.9) and not me.leads(108.0)


def test_a_candidate_that_never_won_does_not_lead() -> None:
    me = candidate()
    me.seen(lease(), 100.0)
    assert not me.leads(100.0)


def test_leaders_of_the_same_name_differ_by_their_fence() -> None:
    me = leader(fence=4)
    assert me.is_mine()
    me.seen(lease(holder="me", transitions=5), 101.0)
    assert not me.is_mine()
    me.seen(lease(holder="other", transitions=4), 101.0)
    assert not me.is_mine()
    me.seen(None, 101.0)
    assert not me.is_mine()


def test_a_bid_keeps_foreign_fields_of_the_lease() -> None:
    me = candidate(**{LINK: "10.0.0.1:8083"})
    found = lease()
    found["metadata"] |= {"labels": {"team": "a"}, "annotations": {"other": "kept", LINK: "old", REST: "old"}}
    found["spec"]["strategy"] = "kept"
    before = copy.deepcopy(found)
    me.seen(found, 100.0)
    bid = me.bid("now")
    assert found == before
    assert bid["metadata"]["labels"] == {"team": "a"} and bid["spec"]["strategy"] == "kept"
    assert bid["metadata"]["annotations"] == {"other": "kept", LINK: "10.0.0.1:8083", REST: "old"}
    assert bid["metadata"]["resourceVersion"] == "1"


def test_a_release_has_no_holder_and_keeps_the_fence() -> None:
    released = leader(fence=4).release("now")
    assert released["spec"]["holderIdentity"] == "" and released["spec"]["leaseTransitions"] == 4


def test_the_lease_has_the_addresses_of_the_leader() -> None:
    me = candidate()
    assert me.leader is None
    found = lease(holder="pod_1a2b3c4d", transitions=5)
    found["metadata"]["annotations"] = {LINK: "10.0.0.1:8083", REST: "http://10.0.0.1:8081"}
    me.seen(found, 100.0)
    assert me.leader == LeaderInfo("pod_1a2b3c4d", "10.0.0.1:8083", "http://10.0.0.1:8081", 5)


def test_a_lease_created_by_hand_is_free() -> None:
    me = candidate()
    me.seen({"metadata": {"name": "scorefront-control", "resourceVersion": "1"}}, 100.0)
    assert me.leader is None and me.free_at() <= 100.0
    assert me.bid("now")["spec"]["leaseTransitions"] == 1


@pytest.mark.parametrize(("lease_s", "renew_deadline_s", "retry_s"), [(5, 5, 1), (8, 2, 1), (8, 5, 0)])
def test_settings_that_leave_no_room_for_a_lost_request_are_refused(
    lease_s: float, renew_deadline_s: float, retry_s: float
) -> None:
    with pytest.raises(AssertionError):
        ElectionSettings(lease_s, renew_deadline_s, retry_s)
