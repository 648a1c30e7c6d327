"""Late binding and the lifecycle of replicas, sentence by sentence. Arbitrary sequences: `test_dispatcher_model`."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from router.core import version_queue
from router.core.dispatcher import Dispatcher, Ticket, VersionQueue
from router.core.ledger import Lease
from router.core.router_errors import NoReadyReplicas, Overloaded
from serving.endpoint import VersionKey
from serving.replica import ReplicaState
from tests.unit.router.records import readmitted, replica, version

BLUE = VersionKey("iris", "blue")
NOW = 1000.0


@pytest.fixture
def dispatcher() -> Dispatcher:
    return Dispatcher()


@pytest.fixture
def queue(dispatcher: Dispatcher) -> VersionQueue:
    return dispatcher.queue(BLUE)


def served(queue: VersionQueue, now: float = NOW) -> Lease:
    lease = queue.enqueue(Ticket(), now)
    assert lease is not None
    return lease


def waits(queue: VersionQueue, now: float = NOW) -> Ticket:
    ticket = Ticket()
    assert queue.enqueue(ticket, now) is None
    return ticket


def drained(dispatcher: Dispatcher) -> list[str]:
    told = list(dispatcher.drained)
    dispatcher.drained.clear()
    return told


# ---- waiting


def test_a_free_slot_goes_to_the_oldest_ticket_even_if_the_clock_stands_still(
    dispatcher: Dispatcher, queue: VersionQueue
) -> None:
    dispatcher.upsert(replica("a"), NOW)
    lease = served(queue)
    tickets = [waits(queue) for _ in range(5)]
    order = []
    while (grant := queue.release(lease, NOW)) is not None:
        order.append(grant.ticket)
        lease = grant.lease
    assert order == tickets


def test_a_replica_that_becomes_ready_serves_the_queue_at_once(dispatcher: Dispatcher, queue: VersionQueue) -> None:
    first, second, third = waits(queue), waits(queue), waits(queue)
    grants = dispatcher.upsert(replica("a", slots=2), NOW)
    assert [grant.ticket for grant in grants] == [first, second] and third.waiting
    assert dispatcher.upsert(replica("b", ReplicaState.STARTING), NOW) == []


def test_a_grown_replica_serves_the_queue_at_once(dispatcher: Dispatcher, queue: VersionQueue) -> None:
    dispatcher.upsert(replica("a"), NOW)
    served(queue)
    ticket = waits(queue)
    assert [grant.ticket for grant in dispatcher.upsert(replica("a", slots=2), NOW)] == [ticket]


def test_a_client_that_leaves_frees_its_place_in_the_line(dispatcher: Dispatcher, queue: VersionQueue) -> None:
    dispatcher.upsert(replica("a"), NOW)
    lease = served(queue)
    gone, stays = waits(queue), waits(queue)
    assert queue.abandon(gone) and not queue.abandon(gone)
    grant = queue.release(lease, NOW)
    assert grant is not None and grant.ticket is stays
    assert not queue.abandon(stays), "it has a slot: that is given back, not abandoned"


def test_nothing_is_kept_of_cancelled_tickets_while_another_waits(queue: VersionQueue) -> None:
    waits(queue)
    for _ in range(1000):
        queue.abandon(waits(queue))
    assert len(queue._fifo) == queue.waiting == 1


def test_a_full_queue_refuses(dispatcher: Dispatcher, queue: VersionQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version_queue, "MAX_WAITING", 3)
    tickets = [waits(queue) for _ in range(3)]
    with pytest.raises(Overloaded):
        queue.enqueue(Ticket(), NOW)
    assert queue.waiting == 3
    queue.abandon(tickets[1])
    waits(queue)


def test_a_wait_is_over_when_its_time_is_up_and_not_before(dispatcher: Dispatcher, queue: VersionQueue) -> None:
    early, late = waits(queue, NOW), waits(queue, NOW + 0.2)
    assert queue.next_deadline() == NOW + 0.5
    assert queue.expire(NOW + 0.49) == []
    assert [ticket for ticket, _ in queue.expire(NOW + 0.5)] == [early]
    assert not early.waiting and late.waiting and queue.next_deadline() == pytest.approx(NOW + 0.7)


def test_an_expired_queue_wait_has_its_reason(dispatcher: Dispatcher, queue: VersionQueue) -> None:
    waits(queue)
    dispatcher.upsert(replica("a", ReplicaState.STARTING), NOW)
    ((_, error),) = queue.expire(NOW + 1)
    assert isinstance(error, NoReadyReplicas) and str(error) == "No ready replicas for service iris."
    dispatcher.upsert(replica("a"), NOW)
    served(queue)
    waits(queue)
    ((_, error),) = queue.expire(NOW + 1)
    assert isinstance(error, Overloaded) and str(error) == "Too many requests for service iris (overloaded)"


def test_a_changed_queue_wait_holds_for_queued_requests(dispatcher: Dispatcher, queue: VersionQueue) -> None:
    dispatcher.configure("iris", dataclasses.replace(version(), queue_wait_s=10.0))
    patient = waits(queue, NOW)
    dispatcher.configure("iris", dataclasses.replace(version(), queue_wait_s=0.5))
    assert queue.next_deadline() == NOW + 0.5
    hasty = waits(queue, NOW + 0.1)
    assert [ticket for ticket, _ in queue.expire(NOW + 0.6)] == [patient, hasty]


def test_a_version_is_starved_once_per_look(dispatcher: Dispatcher, queue: VersionQueue) -> None:
    waits(queue), waits(queue)
    assert dispatcher.starved == [queue]
    dispatcher.starved.clear()
    queue.starved = False
    waits(queue)
    assert dispatcher.starved == [queue]


def test_a_request_that_runs_is_overdue_from_the_scoring_timeout_on_and_stays_so_until_it_ends(
    dispatcher: Dispatcher, queue: VersionQueue
) -> None:
    dispatcher.upsert(replica("a", slots=2), NOW)
    first, second = served(queue, NOW), served(queue, NOW + 1)
    assert queue.next_overdue() == NOW + 60 and queue.overdue(NOW + 59.9) == []
    assert queue.overdue(NOW + 60) == [first] == queue.overdue(NOW + 60)
    queue.release(first, NOW + 60)
    assert queue.next_overdue() == NOW + 61 and queue.overdue(NOW + 61) == [second]
    queue.release(second, NOW + 61)
    assert queue.next_overdue() is None


# ---- a replica that is not reached


def test_a_request_to_an_unreachable_replica_is_served_by_another_one_at_once(
    dispatcher: Dispatcher, queue: VersionQueue
) -> None:
    dispatcher.upsert(replica("a"), NOW)
    dispatcher.upsert(replica("b"), NOW)
    lease = served(queue)
    queue.ledger.bar(lease.replica)
    grant = queue.requeue(lease, NOW)
    assert grant is not None and grant.ticket is lease.holder and grant.lease.replica is not lease.replica


def test_the_next_deadline_is_that_of_the_oldest_ticket_though_a_retry_waits_before_it(
    dispatcher: Dispatcher, queue: VersionQueue
) -> None:
    dispatcher.upsert(replica("a"), NOW)
    lease = served(queue)
    waits(queue, NOW + 0.1)
    queue.ledger.bar(lease.replica)
    assert queue.requeue(lease, NOW + 0.3) is None
    assert queue.next_deadline() == pytest.approx(NOW + 0.1 + queue.queue_wait_s)
    ((ticket, _),) = queue.expire(NOW + 0.1 + queue.queue_wait_s)
    assert ticket.enqueued_at == NOW + 0.1
    assert queue.next_deadline() == pytest.approx(NOW + 0.3 + queue.queue_wait_s)


def test_a_request_to_an_unreachable_replica_comes_before_the_queue(
    dispatcher: Dispatcher, queue: VersionQueue
) -> None:
    dispatcher.upsert(replica("a"), NOW)
    lease = served(queue)
    other = waits(queue)
    queue.ledger.bar(lease.replica)
    ticket = lease.holder
    assert queue.requeue(lease, NOW) is None and isinstance(ticket, Ticket) and ticket.waiting
    (grant,) = readmitted(queue, lease.replica, NOW)
    assert grant.ticket is lease.holder and other.waiting


def test_requests_that_were_not_begun_keep_their_order_among_themselves(
    dispatcher: Dispatcher, queue: VersionQueue
) -> None:
    dispatcher.upsert(replica("a", slots=2), NOW)
    first, second = served(queue), served(queue)
    queue.ledger.bar(first.replica)
    queue.requeue(second, NOW)
    queue.requeue(first, NOW)
    grants = readmitted(queue, first.replica, NOW)
    assert [grant.ticket for grant in grants] == [second.holder, first.holder]


def test_a_request_that_is_tried_elsewhere_gets_a_new_wait(dispatcher: Dispatcher, queue: VersionQueue) -> None:
    dispatcher.upsert(replica("a"), NOW)
    lease = served(queue, NOW)
    queue.ledger.bar(lease.replica)
    queue.requeue(lease, NOW + 3)
    assert queue.next_deadline() == NOW + 3.5


def test_other_replicas_count_only_if_in_service_and_not_ejected(dispatcher: Dispatcher, queue: VersionQueue) -> None:
    dispatcher.upsert(replica("a"), NOW)
    dispatcher.upsert(replica("b"), NOW)
    a, b = queue.replicas["a"], queue.replicas["b"]
    assert queue.health.others_serve(a)
    queue.ledger.bar(b)
    assert not queue.health.others_serve(a)
    readmitted(queue, b, NOW)
    dispatcher.upsert(replica("b", ReplicaState.FAILED), NOW)
    assert not queue.health.others_serve(a)


# ---- replicas that go


def test_idle_replicas_are_retired_first_then_those_with_the_fewest_in_flight(
    dispatcher: Dispatcher, queue: VersionQueue
) -> None:
    for name in "abc":
        dispatcher.upsert(replica(name, slots=2), NOW)
    busy = [served(queue) for _ in range(3)]  # one on each, then
    busy.append(served(queue))  # a second on one of them
    twice = busy[3].replica.id
    idle_now = next(lease for lease in busy if lease.replica.id != twice)
    queue.release(idle_now, NOW)
    assert dispatcher.retire(BLUE, 3) == [
        idle_now.replica.id,
        *({"a", "b", "c"} - {idle_now.replica.id, twice}),
        twice,
    ]


def test_an_idle_replica_that_is_left_alone_is_retired_before_a_busy_one(
    dispatcher: Dispatcher, queue: VersionQueue
) -> None:
    dispatcher.upsert(replica("busy", slots=2), NOW)
    served(queue)
    dispatcher.upsert(replica("alone"), NOW)
    queue.ledger.bar(queue.replicas["alone"])
    assert dispatcher.retire(BLUE, 1) == ["alone"]


def test_a_busy_replica_that_is_left_alone_is_not_retired_before_an_idle_one(
    dispatcher: Dispatcher, queue: VersionQueue
) -> None:
    dispatcher.upsert(replica("busy"), NOW)
    served(queue)
    queue.ledger.bar(queue.replicas["busy"])
    dispatcher.upsert(replica("idle"), NOW)
    assert dispatcher.retire(BLUE, 1) == ["idle"]


def test_a_full_replica_with_one_request_is_retired_before_one_with_two_and_a_free_slot(
    dispatcher: Dispatcher, queue: VersionQueue
) -> None:
    dispatcher.upsert(replica("large", slots=3), NOW)
    served(queue), served(queue)
    dispatcher.upsert(replica("small", slots=1), NOW)
    served(queue)
    assert dispatcher.retire(BLUE, 1) == ["small"]


def test_no_more_are_retired_than_there_are_in_service(dispatcher: Dispatcher, queue: VersionQueue) -> None:
    dispatcher.upsert(replica("a"), NOW)
    dispatcher.upsert(replica("b", ReplicaState.STARTING), NOW)
    assert dispatcher.retire(BLUE, 5) == ["a"]
    assert dispatcher.retire(BLUE, 5) == []
    assert dispatcher.retire(BLUE, 0) == []
    assert dispatcher.retire(VersionKey("iris", "unknown"), 1) == []


def test_a_retired_replica_takes_no_request_ends_its_own_and_is_drained_once(
    dispatcher: Dispatcher, queue: VersionQueue
) -> None:
    dispatcher.upsert(replica("a"), NOW)
    lease = served(queue)
    assert dispatcher.retire(BLUE, 1) == ["a"]
    ticket = waits(queue)
    assert drained(dispatcher) == []
    assert queue.release(lease, NOW) is None and ticket.waiting
    assert drained(dispatcher) == ["a"]
    queue.release(lease, NOW)
    assert drained(dispatcher) == [] and queue.ledger.double_releases == 1


def test_an_idle_replica_that_is_retired_is_drained_at_once(dispatcher: Dispatcher) -> None:
    dispatcher.upsert(replica("a"), NOW)
    dispatcher.retire(BLUE, 1)
    assert drained(dispatcher) == ["a"]


def test_a_retired_replica_does_not_come_back_by_an_echo_of_ready(dispatcher: Dispatcher, queue: VersionQueue) -> None:
    dispatcher.upsert(replica("a"), NOW)
    dispatcher.retire(BLUE, 1)
    waits(queue)
    assert dispatcher.upsert(replica("a"), NOW) == []
    assert dispatcher.upsert(replica("a", slots=4), NOW) == []
    assert queue.ledger.total == 0


def test_a_draining_replica_is_reported_again_whenever_it_is_listed_so(dispatcher: Dispatcher) -> None:
    # The draining side may have been notified before it knew that it would ask.
    dispatcher.upsert(replica("a", ReplicaState.DRAINING), NOW)
    dispatcher.upsert(replica("a", ReplicaState.DRAINING), NOW)
    assert drained(dispatcher) == ["a", "a"]


@pytest.mark.parametrize("state", [ReplicaState.STARTING, ReplicaState.FAILED])
def test_a_replica_that_is_not_ready_takes_nothing_is_not_drained_and_may_come_back(
    dispatcher: Dispatcher, queue: VersionQueue, state: ReplicaState
) -> None:
    dispatcher.upsert(replica("a"), NOW)
    lease = served(queue)
    dispatcher.upsert(replica("a", state), NOW)
    queue.release(lease, NOW)
    ticket = waits(queue)
    assert drained(dispatcher) == []
    (grant,) = dispatcher.upsert(replica("a"), NOW)
    assert grant.ticket is ticket


def test_a_replica_that_vanishes_and_returns_still_carries_its_requests(
    dispatcher: Dispatcher, queue: VersionQueue
) -> None:
    dispatcher.upsert(replica("a"), NOW)
    lease = served(queue)
    dispatcher.remove("a")
    dispatcher.upsert(replica("a"), NOW)
    ticket = waits(queue)
    assert queue.replicas["a"].busy == 1 == queue.ledger.total
    grant = queue.release(lease, NOW)
    assert grant is not None and grant.ticket is ticket and queue.ledger.violations == 0


def test_a_replica_that_is_gone_is_forgotten_with_its_last_request(dispatcher: Dispatcher, queue: VersionQueue) -> None:
    dispatcher.upsert(replica("a"), NOW)
    lease = served(queue)
    dispatcher.remove("a")
    assert "a" in queue.replicas and list(dispatcher.known()) == []
    queue.release(lease, NOW)
    assert queue.replicas == {} and drained(dispatcher) == [] and dispatcher.retired == set()


def test_removing_a_missing_replica_is_harmless(dispatcher: Dispatcher) -> None:
    dispatcher.remove("a")
    dispatcher.upsert(replica("a"), NOW)
    dispatcher.remove("a")
    dispatcher.remove("a")
    assert list(dispatcher.known()) == []


def test_the_end_of_a_hold_on_a_replica_that_is_gone_is_harmless(dispatcher: Dispatcher, queue: VersionQueue) -> None:
    dispatcher.upsert(replica("a"), NOW)
    gone = queue.replicas["a"]
    queue.ledger.bar(gone)
    dispatcher.remove("a")
    dispatcher.upsert(replica("a"), NOW)
    served(queue)
    waits(queue)
    assert readmitted(queue, gone, NOW) == [] and queue.ledger.total == 1


def test_a_replica_may_change_its_address(dispatcher: Dispatcher, queue: VersionQueue) -> None:
    dispatcher.upsert(replica("a", port=1), NOW)
    dispatcher.upsert(replica("a", port=2), NOW)
    assert served(queue).replica.port == 2


# ---- versions


def test_tickets_of_a_removed_version_are_answered_and_running_requests_go_on(
    dispatcher: Dispatcher, queue: VersionQueue
) -> None:
    dispatcher.upsert(replica("a"), NOW)
    lease = served(queue)
    first, second = waits(queue), waits(queue)
    refused = dispatcher.forget(BLUE)
    assert [ticket for ticket, _ in refused] == [first, second]
    assert all(isinstance(error, NoReadyReplicas) for _, error in refused)
    assert queue.waiting == 0 and queue.next_deadline() is None
    assert queue.release(lease, NOW) is None and queue.ledger.busy == 0
    assert dispatcher.forget(VersionKey("iris", "unknown")) == []


def test_versions_do_not_lend_slots_to_each_other(dispatcher: Dispatcher, queue: VersionQueue) -> None:
    dispatcher.upsert(replica("g", version="green"), NOW)
    waits(queue)
    assert dispatcher.queue(VersionKey("iris", "green")).ledger.has_free()


def test_events_of_a_version_cause_a_report(dispatcher: Dispatcher, queue: VersionQueue) -> None:
    def changed_by(event: Callable[..., Any]) -> bool:
        queue.changed = False
        event()
        return queue.changed

    assert changed_by(lambda: dispatcher.upsert(replica("a"), NOW))
    lease = served(queue)
    ticket = Ticket()
    assert changed_by(lambda: queue.enqueue(ticket, NOW))
    assert changed_by(lambda: queue.abandon(ticket))
    assert changed_by(lambda: queue.release(lease, NOW))
    assert changed_by(lambda: dispatcher.retire(BLUE, 1))
    assert changed_by(lambda: dispatcher.remove("a"))
    assert not changed_by(lambda: queue.expire(NOW))


def test_a_forgotten_version_is_dropped_once_nothing_of_it_is_left_and_not_before(
    dispatcher: Dispatcher, queue: VersionQueue
) -> None:
    dispatcher.configure("iris", version())
    dispatcher.upsert(replica("r"), NOW)
    lease = served(queue)
    dispatcher.forget(BLUE)
    dispatcher.remove("r")
    dispatcher.prune()
    assert BLUE in dispatcher.queues
    queue.release(lease, NOW)
    dispatcher.prune()
    assert BLUE not in dispatcher.queues


def test_a_version_that_is_declared_again_is_kept(dispatcher: Dispatcher, queue: VersionQueue) -> None:
    dispatcher.forget(BLUE)
    dispatcher.configure("iris", version())
    dispatcher.prune()
    assert dispatcher.queues[BLUE] is queue
