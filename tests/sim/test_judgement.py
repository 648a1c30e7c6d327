"""The judges of the simulation judge: each broken promise is seen, and permitted behaviour is not."""

from dataclasses import replace

import pytest

from serving.endpoint import VersionKey
from serving.replica import Replica, ReplicaState
from tests.sim.failures import PromiseBroken
from tests.sim.judge import Judge
from tests.sim.replicas import Site
from tests.sim.scenario import draw
from tests.sim.worker import Request

KEY = VersionKey("iris", "a")
SCENARIO = replace(draw(0), link_s=0.001)


def site_with(slots: int) -> Site:
    site = Site()
    site.add(Replica("r1", "iris", "a", "127.0.0.1", 9001, ReplicaState.READY, slots), 0.0)
    return site


def request(number: int, arrived: float = 0.0) -> Request:
    return Request(number, KEY, 1.0, "w0.1", arrived)


def test_a_replica_sees_a_request_over_its_slots() -> None:
    one = site_with(2).replicas["r1"]
    one.start(request(1), 0.0)
    one.start(request(2), 0.0)
    with pytest.raises(PromiseBroken, match="3 requests in flight and 2 slots"):
        one.start(request(3), 0.0)


def test_a_replica_with_fewer_slots_may_end_its_requests_but_start_none_once_all_know() -> None:
    site = site_with(2)
    one = site.replicas["r1"]
    first, second, third = (request(number) for number in range(3))
    one.start(first, 0.0)
    one.change(replace(one.declared, slots=1), 0.0)
    one.start(second, 0.0)
    site.settle()
    one.end(first, 1.0)
    with pytest.raises(PromiseBroken, match="2 requests in flight and 1 slots"):
        one.start(third, 1.0)


def test_a_double_release_frees_one_slot() -> None:
    one = site_with(1).replicas["r1"]
    work = request(1)
    one.start(work, 0.0)
    assert one.end(work, 1.0)
    assert not one.end(work, 2.0)
    assert list(one.free_since) == [1.0]


def test_a_ticket_beside_a_free_slot_for_longer_than_the_bound_is_seen() -> None:
    judge = Judge(SCENARIO, site_with(1))
    judge.waits(request(1), 0.0)
    judge.audit(SCENARIO.stuck_s * 0.9)
    with pytest.raises(PromiseBroken, match="waits while a slot of r1 is free"):
        judge.audit(SCENARIO.stuck_s * 1.1)


def test_a_ticket_beside_busy_slots_is_right() -> None:
    site = site_with(1)
    judge = Judge(SCENARIO, site)
    site.replicas["r1"].start(request(1), 0.0)
    judge.waits(request(2), 0.0)
    judge.audit(100.0)
    site.replicas["r1"].end(request(1), 100.0)
    assert judge.audits == 1


def test_nothing_is_judged_until_a_disturbance_has_settled() -> None:
    judge = Judge(SCENARIO, site_with(1))
    judge.waits(request(1), 0.0)
    judge.disturb(0.0, 10.0)
    judge.audit(9.0)
    judge.audit(10.0)
    with pytest.raises(PromiseBroken):
        judge.audit(11.0)


def test_a_ticket_overtaken_by_more_than_the_bound_after_a_possible_grant_is_seen() -> None:
    judge = Judge(SCENARIO, site_with(0))
    judge.waits(request(1, arrived=0.0), 0.0)
    judge.served(request(2, arrived=SCENARIO.unfair_s * 0.9), 1.0)
    judge.audit(2.0)
    judge.served(request(3, arrived=SCENARIO.unfair_s * 1.1), 3.0)
    judge.audit(3.0 + SCENARIO.link_s * 0.9)
    with pytest.raises(PromiseBroken, match="is served after #3"):
        judge.audit(3.0 + SCENARIO.link_s * 1.1)


def test_a_ticket_overtaken_by_a_grant_on_a_shorter_way_is_served_in_time() -> None:
    judge = Judge(SCENARIO, site_with(0))
    first = request(1, arrived=0.0)
    judge.waits(first, 0.0)
    judge.served(request(2, arrived=0.5), 1.0)
    judge.served(first, 1.0)
    judge.audit(2.0)
