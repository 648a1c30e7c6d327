"""One truth about slots in several workers, sentence by sentence. Any order of events: test_group_model, tests/sim."""

import pytest

from router.core.dispatcher import Ticket
from router.core.health import LONGEST_PAUSE_S, Failure
from router.core.ledger import ReplicaSlots
from router.core.router_errors import NoReadyReplicas, Overloaded, RouterError
from router.core.slot_messages import Declare, Recall, Return
from router.core.view import Departed
from serving.replica import Replica, ReplicaState
from tests.unit.router.records import replica
from tests.unit.router.workers import BLUE, KEEP_S, LEASE_S, Workers, follower, successor

NAMES = ("a", "b", "c")


def workers(*replicas: Replica) -> tuple[Workers, str, str, str]:
    """Three workers: the owner of BLUE, and two borrowers."""
    group = Workers(*NAMES, replicas=replicas or (replica("r"),))
    one, other = (name for name in NAMES if name != group.owner)
    return group, group.owner, one, other


def fill(group: Workers, name: str, count: int) -> list[Ticket]:
    """Enqueue several requests at one worker."""
    tickets = [group.request(name) for _ in range(count)]
    group.flow()
    return tickets


# ---- ask, grant, return


def test_a_worker_alone_in_its_view_uses_every_slot_at_once_and_says_nothing() -> None:
    group = Workers("a", replicas=[replica("r", slots=2)])
    assert group.runs(*fill(group, "a", 3)) == [True, True, False]
    assert not group.sent


def test_a_worker_without_a_name_needs_no_view_but_one_with_a_name_does_not_speak_for_a_group_it_has_not_seen() -> None:
    group = Workers(replicas=[replica("r", ReplicaState.DRAINING)])
    group.start("")
    group.start("named")
    group.did("", [])
    group.did("named", [])
    assert group.drained == [("", "r")]
    group.publish("named")
    group.see("named")
    assert group.drained == [("", "r"), ("named", "r")]


def test_a_borrower_gets_a_slot_for_an_ask_and_gives_it_back_after_use() -> None:
    group, owner, one, _ = workers()
    (ticket,) = fill(group, one, 1)
    assert group.runs(ticket) == [True]
    assert group.queue(owner).ledger.busy == 0 and group.queue(one).ledger.busy == 1
    group.end(ticket)
    group.pass_time(2 * KEEP_S)
    assert group.runs(*fill(group, owner, 1)) == [True]


def test_a_worker_that_all_clients_come_to_gets_every_slot_though_it_owns_none() -> None:
    # Knative gives each activator a part of the pods: with skewed clients the parts of the others lie idle.
    group, _, one, _ = workers(replica("r", slots=3), replica("s", slots=2))
    assert group.runs(*fill(group, one, 6)) == [True] * 5 + [False]


def test_requests_are_served_in_the_order_of_their_arrival_over_all_workers() -> None:
    group, owner, one, other = workers()
    (running,) = fill(group, owner, 1)
    line = []
    for name in (one, owner, other, other, one, owner):
        group.pass_time(0.001)
        line += fill(group, name, 1)
    while line:
        assert not any(group.runs(*line))
        group.end(running)
        group.flow()
        assert group.runs(*line) == [True] + [False] * (len(line) - 1)
        running = line.pop(0)


def test_a_ticket_with_a_late_ask_takes_its_place_by_its_age() -> None:
    group, owner, one, other = workers()
    (running,) = fill(group, owner, 1)
    group.cut(one, owner)
    early = group.request(one)
    group.pass_time(0.001)
    (late,) = fill(group, other, 1)
    group.connect(one, owner)
    group.flow()
    group.end(running)
    group.flow()
    assert group.runs(early, late) == [True, False]


def test_placement_counts_loans() -> None:
    group, owner, one, _ = workers(replica("r", slots=2), replica("s", slots=2))
    (lent,) = fill(group, one, 1)
    (own,) = fill(group, owner, 1)
    assert {group.ran_at(lent), group.ran_at(own)} == {"r", "s"}


# ---- the mistakes of others


def test_a_slot_returned_twice_frees_no_other() -> None:
    # Ray's capacity queue counts: a second release of the same token makes room beside a request that runs.
    group, owner, one, other = workers()
    (ticket,) = fill(group, one, 1)
    lease = group.running[ticket][1].id
    (waits,) = fill(group, other, 1)
    group.end(ticket)
    group.flow()
    assert group.runs(waits) == [True]
    group.say(one, owner, Return((lease,)))
    assert group.runs(*fill(group, owner, 1)) == [False]
    assert group.dispatchers[owner].counters["double_returns"] == 1


def test_the_second_release_of_a_borrowed_slot_changes_nothing() -> None:
    group, owner, one, _ = workers()
    (ticket,) = fill(group, one, 1)
    _, lease = group.running[ticket]
    group.end(ticket)
    assert group.queue(one).release(lease, group.now) is None
    group.did(one, [])
    assert group.queue(one).ledger.double_releases == 1
    first, second = fill(group, one, 2)  # the slot was kept once, not twice
    assert group.runs(first, second) == [True, False]
    group.end(first)
    group.flow()
    assert group.queue(one).release(lease, group.now) is None, "not that of the request that runs now"
    group.did(one, [])
    group.flow()
    assert group.runs(second) == [True]
    group.end(second)
    group.pass_time(2 * KEEP_S)
    assert group.sent["Return"] == 1
    assert group.dispatchers[owner].counters["double_returns"] == 0
    assert group.runs(*fill(group, owner, 2)) == [True, False]


def test_a_slot_is_not_taken_back_on_the_word_of_another_worker() -> None:
    group, owner, one, other = workers()
    (ticket,) = fill(group, one, 1)
    group.say(other, owner, Return((group.running[ticket][1].id, 12345)))
    assert group.runs(*fill(group, owner, 1)) == [False]
    assert group.dispatchers[owner].counters["double_returns"] == 2


def test_a_replica_that_flaps_while_lent_still_carries_its_requests() -> None:
    # Ray's comes back with nothing in flight.
    group, owner, one, _ = workers()
    (ticket,) = fill(group, one, 1)
    for dispatcher in group.dispatchers.values():
        dispatcher.remove("r")
    group.did(owner, [])
    group.flow()
    group.tell(replica("r"))
    (waits,) = fill(group, owner, 1)
    assert group.runs(waits) == [False]
    group.end(ticket)
    group.flow()
    assert group.runs(waits) == [True]


def test_a_grant_for_a_client_that_has_left_meanwhile_goes_to_the_next_one() -> None:
    # Ray's waiters are futures: one that is cancelled right after its grant keeps the token.
    group, owner, one, other = workers()
    (running,) = fill(group, owner, 1)
    gone, waits = *fill(group, one, 1), *fill(group, other, 1)
    group.end(running)
    assert group.queue(one).abandon(gone)
    group.did(one, [])
    group.flow()
    assert group.runs(gone, waits) == [False, True]


def test_a_granted_slot_without_its_ticket_serves_the_next_one_here() -> None:
    group, owner, one, _ = workers(replica("r"), replica("s"))
    first, second = fill(group, one, 1), fill(group, owner, 1)
    waits, more = fill(group, one, 2)
    group.end(second[0])  # the owner grants to the first ask …
    group.end(first[0])  # … and the slot at hand serves it: the grant finds another ticket
    group.flow()
    assert group.runs(waits, more) == [True, True]


def test_a_slot_without_work_goes_home_when_its_moment_is_over() -> None:
    # Join-idle-queue: dispatchers without work hoard idle servers.
    group, owner, one, _ = workers(replica("r", slots=2))
    for ticket in fill(group, one, 2):
        group.end(ticket)
    group.flow()
    assert not group.queue(owner).ledger.has_free()
    group.pass_time(KEEP_S)
    assert group.runs(*fill(group, owner, 3)) == [True, True, False]


def test_a_loan_without_work_returns_at_once_under_recall() -> None:
    group, owner, one, other = workers(replica("r", slots=2))
    for ticket in fill(group, one, 2):
        group.end(ticket)
    assert group.runs(*fill(group, owner, 1), *fill(group, other, 1)) == [True, True]


def test_a_slot_without_work_is_used_for_a_request_that_comes_soon_without_a_message() -> None:
    group, _, one, _ = workers()
    (ticket,) = fill(group, one, 1)
    group.end(ticket)
    before = group.sent.copy()
    group.pass_time(KEEP_S / 2)
    assert group.runs(group.request(one)) == [True]
    group.pass_time(2 * KEEP_S)
    assert group.sent == before


def test_of_several_slots_without_work_the_ones_that_are_not_needed_go_home() -> None:
    group, owner, one, _ = workers(replica("r", slots=2))
    for ticket in fill(group, one, 2):
        group.end(ticket)
    for _ in range(4):
        group.pass_time(KEEP_S / 2)
        group.end(group.request(one))
    assert group.runs(*fill(group, owner, 1)) == [True]
    assert group.queue(owner).replicas["r"].busy == 2, "one is kept, by one who needs one"


def test_a_worker_under_load_pays_one_message_per_request() -> None:
    group, _, one, _ = workers()
    running, *line = fill(group, one, 50)
    before = group.sent.total()
    for ticket in line:
        group.end(running)
        group.flow()
        assert group.runs(ticket) == [True]
        running = ticket
    assert group.sent.total() - before == len(line), "Forget, each"


def test_a_slot_is_not_used_again_while_an_older_ticket_waits_elsewhere() -> None:
    group, owner, one, other = workers()
    (running,) = fill(group, one, 1)
    group.pass_time(0.001)
    (elder,) = fill(group, other, 1)
    group.pass_time(0.001)
    younger, own = *fill(group, one, 1), *fill(group, owner, 1)
    group.end(running)
    group.flow()
    assert group.runs(elder, younger, own) == [True, False, False]


def behind_elders(group: Workers, owner: str, one: str, elders: int) -> tuple[Ticket, Ticket, list[Ticket], Ticket]:
    """Running tickets of owner and borrower, some that wait at the owner, and a younger one at the borrower."""
    (at_owner,), (running,) = fill(group, owner, 1), fill(group, one, 1)
    group.pass_time(0.001)
    waiting = fill(group, owner, elders)
    group.pass_time(0.001)
    (last,) = fill(group, one, 1)
    return at_owner, running, waiting, last


def test_a_borrower_uses_its_slot_for_its_ticket_once_the_older_ones_of_others_are_served() -> None:
    group, owner, one, _ = workers(replica("r", slots=2))
    at_owner, running, (elder,), last = behind_elders(group, owner, one, 1)
    group.end(at_owner)
    group.flow()
    assert group.runs(elder, last) == [True, False]
    group.end(running)
    assert group.runs(last) == [True], "without a message"
    assert not group.sent["Return"]


def test_a_borrower_returns_its_slot_while_an_older_ticket_of_others_is_left() -> None:
    group, owner, one, _ = workers(replica("r", slots=2))
    at_owner, running, elders, last = behind_elders(group, owner, one, 2)
    group.end(at_owner)
    group.flow()
    group.end(running)
    group.flow()
    assert group.runs(*elders, last) == [True, True, False]
    assert group.sent["Return"] == 1


def test_a_borrower_hears_of_its_turn_when_an_older_ask_of_another_borrower_is_cancelled() -> None:
    group, _, one, other = workers(replica("r"))
    (running,) = fill(group, one, 1)
    group.pass_time(0.001)
    (elder,) = fill(group, other, 1)
    group.pass_time(0.001)
    (last,) = fill(group, one, 1)
    assert group.queue(other).abandon(elder)
    group.did(other, [])
    group.flow()
    group.end(running)
    assert group.runs(last) == [True], "without a message"


def test_a_recall_is_sent_once_to_a_borrower_with_loans() -> None:
    group, owner, one, _ = workers(replica("r", slots=2))
    fill(group, one, 2)
    fill(group, owner, 5)
    assert group.sent["Recall"] == 1


# ---- views


def test_a_learning_owner_grants_nothing_before_all_have_declared() -> None:
    group, owner, one, other = workers(replica("r", slots=2))
    (running,) = fill(group, one, 1)
    new = successor(*NAMES)
    group.start(new)
    group.publish(*NAMES, new)
    for name in NAMES:
        group.connect(name, new)
    group.see(new, owner, one)
    group.flow()
    (waits,) = fill(group, new, 1)
    assert group.runs(waits) == [False] and group.dispatchers[new].retire(BLUE, 1) == []
    group.see(other)
    group.flow()
    assert group.runs(waits, running) == [True, True]
    assert group.runs(*fill(group, new, 1)) == [False]


def test_a_learning_owner_may_grant_returned_slots_before_all_have_declared() -> None:
    group, owner, one, _ = workers(replica("r", slots=2))
    (running,) = fill(group, one, 1)
    new = successor(*NAMES)
    group.start(new)
    group.publish(*NAMES, new)
    for name in NAMES:
        group.connect(name, new)
    group.see(new, owner, one)
    group.flow()
    waits, more = fill(group, new, 2)
    group.end(running)
    group.flow()
    assert group.runs(waits, more) == [True, False]


def test_a_learning_owner_may_reuse_its_own_slots() -> None:
    group, owner, one, other = workers(replica("r", slots=2))
    (running,) = fill(group, one, 1)
    group.publish(one, other, owner, leaving=(owner, other))
    group.see(one)
    waits, more = fill(group, one, 2)
    group.end(running)
    assert group.runs(waits, more) == [True, False]


def test_a_grant_that_is_under_way_when_its_ticket_moves_to_another_view_is_void() -> None:
    group, owner, one, other = workers()
    ticket = group.request(one)
    group.deliver(one, owner)
    new = follower(*NAMES)
    group.publish(*NAMES, new)
    group.see(one)
    assert group.wires[owner, one]
    group.flow()
    assert group.runs(ticket) == [False] and group.dispatchers[one].counters["stale_grants"] == 1
    group.start(new)
    group.see(owner, other, new)
    for name in NAMES:
        group.connect(name, new)
    group.flow()
    assert group.runs(ticket) == [True]


def test_two_workers_that_have_skipped_different_views_do_not_believe_each_other() -> None:
    # N owns the version in views 1 and 3, M in view 2. P is in 2, declares to M, returns to M; M uses the slot. N goes
    # from 1 to 3: that P declares nothing in 3 must not make the slot free.
    group = Workers("a", "b", replicas=[replica("r")])
    before, borrower = group.owner, next(name for name in "ab" if name != group.owner)
    (ticket,) = fill(group, borrower, 1)
    between = successor("a", "b")
    group.start(between)
    group.publish("a", "b", between)
    group.see(borrower, between)
    group.connect(borrower, between)
    group.flow()
    group.end(ticket)
    group.flow()
    (used,) = fill(group, between, 1)
    assert group.runs(used) == [True], "what came back is passed on"
    group.publish("a", "b", between, leaving=(between,))
    group.see(before, borrower)
    group.connect(before, between)
    group.flow()
    (waits,) = fill(group, before, 1)
    assert group.runs(waits) == [False]
    group.see(between)
    group.flow()
    assert group.runs(waits) == [False]
    group.end(used)
    group.flow()
    assert group.runs(waits) == [True]


def test_a_message_of_a_newer_view_is_kept_until_the_others_get_there() -> None:
    group, owner, one, other = workers()
    (running,) = fill(group, owner, 1)
    group.publish(*NAMES, "z")
    group.see(one, other)
    waits, gone = group.request(one), group.request(one)
    group.queue(one).abandon(gone)
    group.did(one, [])
    group.flow()
    group.see(owner)
    group.end(running)
    group.flow()
    assert group.runs(waits, gone) == [True, False]


def test_an_owner_that_stays_one_goes_on_through_a_change_of_view() -> None:
    group, owner, one, _ = workers(replica("r", slots=3))
    (lent,) = fill(group, one, 1)
    group.publish(*NAMES, follower(*NAMES))
    group.see(owner)
    assert group.runs(*fill(group, owner, 3)) == [True, True, False]
    group.end(lent)
    group.pass_time(2 * KEEP_S)
    assert group.in_flight("r") == 3, "a slot that is given back in an older view is free"


def test_a_version_comes_back_to_its_owner_after_two_changes_in_a_row() -> None:
    group, owner, one, _ = workers()
    (running,) = fill(group, one, 1)
    group.publish(*NAMES, leaving=(owner,))
    group.see(owner)
    group.publish(*NAMES)
    group.see_all()
    (waits,) = fill(group, owner, 1)
    assert group.runs(running, waits) == [True, False]
    group.end(running)
    group.flow()
    assert group.runs(waits) == [True]


def test_a_worker_that_leaves_serves_its_clients_with_slots_of_others() -> None:
    group, owner, *_ = workers()
    (running,) = fill(group, owner, 1)
    group.publish(*NAMES, leaving=(owner,))
    group.see_all()
    waits = group.request(owner)
    group.end(running)
    group.flow()
    assert group.runs(waits) == [True] and group.queue(owner).ledger.total == 0


def test_without_a_possible_owner_requests_wait_and_nothing_is_lost() -> None:
    group, owner, one, _ = workers()
    (running,) = fill(group, one, 1)
    group.publish(*NAMES, leaving=NAMES)
    group.see_all()
    (waits,) = fill(group, owner, 1)
    group.publish(*NAMES)
    group.see_all()
    assert group.runs(waits) == [False]
    group.end(running)
    group.flow()
    assert group.runs(waits) == [True]


def test_a_worker_that_is_not_in_its_view_begins_nothing() -> None:
    group, owner, one, other = workers()
    (running,) = fill(group, owner, 1)
    group.publish(one, other)
    group.see(owner)
    (waits,) = fill(group, owner, 1)
    group.end(running)
    group.flow()
    assert group.runs(waits) == [False]


def test_an_old_view_is_ignored() -> None:
    group, owner, *_ = workers()
    group.publish(owner)
    old = group.view
    group.publish(*NAMES)
    group.see_all()
    group.see(owner, view=old)
    assert group.runs(*fill(group, owner, 1)) == [True]


# ---- the dead


def test_slots_in_flight_of_a_dead_worker_are_in_quarantine_for_a_lease_and_its_other_loans_are_free() -> None:
    group, owner, one, other = workers(replica("r", slots=3))
    fill(group, one, 2)
    kept = fill(group, one, 1)[0]
    group.end(kept)  # lent, and idle
    held = group.kill(one)
    assert held == {"r": 2}
    group.publish(owner, other, departed=[Departed(one, held)])
    group.see_all()
    running, waits = fill(group, owner, 2)
    assert group.runs(running, waits) == [True, False]
    group.pass_time(LEASE_S - 0.01)
    assert group.runs(waits) == [False]
    group.ghosts.clear()
    group.pass_time(0.01)
    assert group.runs(waits) == [True]


def test_a_replica_at_work_for_a_dead_worker_for_longer_gets_nothing_before_its_health_path_answers() -> None:
    group, owner, one, other = workers(replica("r", slots=2))
    fill(group, one, 1)
    group.publish(owner, other, departed=[Departed(one, group.kill(one))])
    group.see_all()
    group.silent.add("r")
    running, waits = fill(group, other, 2)
    group.pass_time(2 * LEASE_S)
    assert group.runs(running, waits) == [True, False]
    group.ghosts.clear()
    group.silent.clear()
    group.pass_time(LONGEST_PAUSE_S)
    assert group.runs(waits) == [True]


def test_the_successor_of_a_dead_owner_waits_only_for_its_requests_in_flight() -> None:
    group, owner, one, other = workers(replica("r", slots=2))
    fill(group, owner, 1)
    group.publish(one, other, departed=[Departed(owner, group.kill(owner))])
    group.see_all()
    assert group.runs(*fill(group, one, 2)) == [True, False]


def test_all_slots_are_in_quarantine_for_a_lease_after_a_dead_worker_without_a_record() -> None:
    group, owner, one, other = workers(replica("r", slots=2))
    (running,) = fill(group, one, 1)
    fill(group, owner, 1)
    group.kill(owner)
    group.publish(one, other, departed=[Departed(owner, None)])
    group.see_all()
    waits, more = fill(group, other, 2)
    assert group.runs(waits, more) == [False, False]
    group.end(running)
    group.flow()
    assert group.runs(waits, more) == [True, False], "what was declared and came back is known to be free"
    group.ghosts.clear()
    group.pass_time(LEASE_S)
    assert group.runs(more) == [True]


def test_a_request_that_waits_for_the_next_owner_is_not_told_of_overload() -> None:
    group, owner, one, other = workers(replica("r", slots=2))
    group.kill(owner)
    assert type(refusal(group, other)) is NoReadyReplicas, "its owner is out of reach"
    group.publish(one, other, departed=[Departed(owner, None)])
    group.see_all()
    assert type(refusal(group, group.owner)) is NoReadyReplicas, "it does not know which slots are in use"
    group.pass_time(LEASE_S)
    fill(group, one, 2)
    assert [type(refusal(group, each)) for each in (one, other)] == [Overloaded, Overloaded]


def refusal(group: Workers, name: str) -> RouterError:
    """The error of a request that has waited for too long at a worker."""
    fill(group, name, 1)
    queue = group.dispatchers[name].queue(BLUE)
    ((_, error),) = queue.expire(group.now + queue.queue_wait_s + 0.001)
    group.flow()
    return error


def test_an_owner_keeps_its_own_free_slots_when_a_borrower_without_a_record_dies() -> None:
    group, owner, one, other = workers(replica("r", slots=2))
    fill(group, one, 1)
    group.kill(one)
    group.publish(owner, other, departed=[Departed(one, None)])
    group.see_all()
    assert group.runs(*fill(group, other, 2)) == [True, False]


def test_a_quarantine_lasts_only_for_the_rest_of_the_lease() -> None:
    group = Workers(replicas=[replica("r")])
    group.start("a")
    group.publish("a", departed=[Departed("x", {"r": 1}, age_s=LEASE_S - 0.5), Departed("y", None, age_s=LEASE_S)])
    group.see_all()
    (waits,) = fill(group, "a", 1)
    assert group.runs(waits) == [False]
    group.pass_time(0.5)
    assert group.runs(waits) == [True]


def test_a_quarantine_holds_for_a_later_owner_of_the_version() -> None:
    group, owner, one, other = workers()
    fill(group, one, 1)
    group.publish(owner, other, departed=[Departed(one, group.kill(one))])
    group.see_all()
    group.publish(owner, other, departed=group.view.departed, leaving=(owner,))
    group.see_all()
    (waits,) = fill(group, other, 1)
    group.pass_time(LEASE_S - 0.01)
    assert group.runs(waits) == [False]
    group.ghosts.clear()
    group.pass_time(0.02)
    assert group.runs(waits) == [True]


def test_a_dead_worker_counts_for_a_replica_that_is_heard_of_only_later() -> None:
    group = Workers()
    group.start("a")
    group.publish("a", departed=[Departed("x", {"r": 1})])
    group.see_all()
    group.tell(replica("r"))
    assert group.runs(*fill(group, "a", 1)) == [False]


def test_slots_granted_by_a_dead_borrowers_other_owner_are_not_free_before_it_has_declared() -> None:
    group = Workers("a", "b", replicas=[replica("r")])
    before, borrower = group.owner, next(name for name in "ab" if name != group.owner)
    (ticket,) = fill(group, borrower, 1)
    between = successor("a", "b")
    group.start(between)
    group.publish("a", "b", between)
    group.see(borrower, between)
    group.connect(borrower, between)
    group.flow()
    group.end(ticket)
    group.flow()
    (used,) = fill(group, between, 1)
    group.publish(before, between, departed=[Departed(borrower, group.kill(borrower))], leaving=(between,))
    group.see(before)
    (waits,) = fill(group, before, 1)
    assert group.runs(used, waits) == [True, False]
    group.see(between)
    group.connect(before, between)
    group.flow()
    assert group.runs(waits) == [False]


# ---- links


def test_the_loss_of_a_link_frees_nothing() -> None:
    group, owner, one, _ = workers()
    fill(group, one, 1)
    group.cut(owner, one)
    assert group.runs(*fill(group, owner, 1)) == [False]


def test_a_slot_with_a_grant_lost_with_the_session_is_free_in_the_next_one() -> None:
    group, owner, one, _ = workers()
    lost = group.request(one)
    group.deliver(one, owner)
    group.queue(one).abandon(lost)
    group.connect(owner, one)
    group.flow()
    assert group.runs(*fill(group, owner, 1)) == [True]


def test_a_slot_with_a_return_lost_with_the_session_is_free_in_the_next_one() -> None:
    group, owner, one, _ = workers()
    (ticket,) = fill(group, one, 1)
    (waits,) = fill(group, owner, 1)
    group.end(ticket)
    group.connect(owner, one)
    group.flow()
    assert group.runs(waits) == [True]


def test_tickets_are_asked_for_anew_in_the_next_session() -> None:
    group, owner, one, _ = workers()
    (running,) = fill(group, owner, 1)
    group.cut(owner, one)
    waits = group.request(one)
    group.end(running)
    group.connect(owner, one)
    group.flow()
    assert group.runs(waits) == [True]


def test_messages_without_a_session_are_ignored() -> None:
    group, owner, one, _ = workers()
    (ticket,) = fill(group, one, 1)
    lease = group.running[ticket][1].id
    group.cut(owner, one)
    group.say(one, owner, Return((lease,)))
    group.say(one, owner, Declare(group.view.epoch, ()))
    assert group.runs(*fill(group, owner, 1)) == [False]
    assert group.dispatchers[owner].counters["messages_without_session"] == 2


def test_nothing_begins_on_a_kept_slot_when_its_owner_has_been_silent_for_a_lease() -> None:
    group, _, one, _ = workers()
    (ticket,) = fill(group, one, 1)
    group.end(ticket)
    group.now += LEASE_S + 0.1  # it was stopped: no timer has run
    assert group.runs(group.request(one)) == [False]


def test_nothing_begins_on_a_slot_that_was_in_use_when_its_owner_has_been_silent_for_a_lease() -> None:
    group, _, one, _ = workers()
    running, waits = fill(group, one, 2)
    group.now += LEASE_S + 0.1
    group.end(running)
    assert group.runs(waits) == [False]
    group.flow()
    group.pass_time(0.1)
    assert group.runs(waits) == [True], "given back, and asked for again"


def test_nothing_begins_on_a_grant_that_was_read_a_lease_too_late() -> None:
    group, owner, one, _ = workers()
    ticket = group.request(one)
    group.deliver(one, owner)
    group.now += LEASE_S + 0.1
    group.deliver(owner, one, len(group.wires[owner, one]))
    assert group.runs(ticket) == [False] and group.dispatchers[one].counters["late_grants"] == 1
    group.flow()
    group.pass_time(0.1)
    assert group.runs(ticket) == [True]


def test_an_owner_takes_back_the_expired_loans_of_a_silent_peer_and_nothing_sooner() -> None:
    group, owner, one, _ = workers()
    (lost,) = fill(group, one, 1)
    (waits,) = fill(group, owner, 1)
    group.queue(owner).queue_wait_s = 1000
    group.pass_time(1.0)
    group.cut(owner, one)
    group.pass_time(LEASE_S + 60.0)  # the scoring timeout
    assert group.runs(waits) == [False]
    group.running.pop(lost)  # the borrower has ended it by its timeout
    group.pass_time(LEASE_S)
    assert group.runs(waits) == [True]


def test_a_worker_that_is_stopped_takes_no_slot_with_it_and_has_its_place_again_when_it_goes_on() -> None:
    group, owner, one, other = workers()
    (running,) = fill(group, owner, 1)
    (of_stopped,) = fill(group, one, 1)
    group.pass_time(0.001)
    (younger,) = fill(group, other, 1)
    group.pass_time(LEASE_S / 4, one)
    to_stopped = [wire for wire in group.wires if wire[1] == one]
    group.end(running)
    group.flow(*to_stopped)
    assert group.runs(of_stopped, younger) == [False, True]
    (youngest,) = fill(group, other, 1)
    group.flow()  # it goes on
    group.end(younger)
    group.flow()
    assert group.runs(of_stopped, youngest) == [True, False]


def test_an_owner_that_was_stopped_itself_does_not_blame_the_others() -> None:
    group, owner, one, _ = workers()
    (lent,) = fill(group, one, 1)
    (waits,) = fill(group, owner, 1)
    group.now += 1000.0
    group.did(owner, group.dispatchers[owner].tick(group.now))
    assert group.runs(lent, waits) == [True, False]


def test_an_owner_that_knows_of_a_newer_view_takes_nothing_back() -> None:
    group, owner, one, other = workers()
    (lent,) = fill(group, one, 1)
    group.publish(*NAMES, "z")
    group.see(other)
    group.flow()
    group.cut(owner, one)
    (waits,) = fill(group, owner, 1)
    group.pass_time(LEASE_S + 60.0 + LEASE_S)
    assert group.runs(lent, waits) == [True, False]


def test_a_tunnel_ends_at_the_scoring_timeout_after_its_owner_was_lost() -> None:
    group, owner, one, _ = workers()
    (ticket,) = fill(group, one, 1)
    lease = group.running[ticket][1]
    lease.exempt_from_timeout()
    group.pass_time(120.0)
    assert group.dispatchers[one].lapsed == []
    group.cut(owner, one)
    group.pass_time(LEASE_S + 59.0)
    assert group.dispatchers[one].lapsed == []
    group.pass_time(1.0)
    assert group.dispatchers[one].lapsed == [lease]


# ---- replicas


def test_a_replica_that_shrinks_while_it_is_lent_is_given_again_when_enough_has_come_back() -> None:
    group, owner, one, _ = workers(replica("r", slots=3))
    tickets = fill(group, one, 3)
    group.tell(replica("r", slots=1))
    (waits,) = fill(group, owner, 1)
    for ticket in tickets:
        assert group.runs(waits) == [False]
        group.end(ticket)
        group.flow()
    assert group.runs(waits) == [True]


def test_loans_beyond_the_slots_of_a_shrunken_replica_are_returned_though_their_holder_has_work() -> None:
    group, owner, one, other = workers(replica("r", slots=2))
    first, second, waits = *fill(group, one, 1), *fill(group, other, 1), group.request(one)
    group.flow()
    group.tell(replica("r", slots=1), owner)
    group.flow()
    group.end(first)
    group.flow()
    assert group.runs(second, waits) == [True, False]
    group.end(second)
    group.flow()
    assert group.runs(waits) == [True]


def test_a_borrower_that_knows_that_a_replica_has_shrunk_uses_no_more_of_it_though_its_owner_does_not() -> None:
    group, owner, one, _ = workers(replica("r", slots=2))
    first, second, waits = fill(group, one, 3)
    group.tell(replica("r", slots=1), one)
    group.cut(owner, one)
    group.end(first)
    assert group.runs(second, waits) == [True, False]


def test_a_replica_that_grows_while_lent_serves_the_queue_anywhere() -> None:
    group, _, one, other = workers()
    fill(group, one, 1)
    (waits,) = fill(group, other, 1)
    group.tell(replica("r", slots=2))
    group.flow()
    assert group.runs(waits) == [True]


def test_a_replica_that_shrank_may_be_used_by_others_beyond_its_slots_until_they_have_declared() -> None:
    group, owner, one, other = workers(replica("r", slots=2))
    first, second = *fill(group, one, 1), *fill(group, other, 1)
    group.tell(replica("r", slots=1))
    new = successor(*NAMES)
    group.start(new)
    group.tell(replica("r", slots=2), new)
    group.tell(replica("r", slots=1), new)
    group.publish(*NAMES, new)
    for name in NAMES:
        group.connect(name, new)
    group.see(new, owner, one)
    group.flow()
    (waits,) = fill(group, new, 1)
    group.end(first)
    group.flow()
    assert group.runs(second, waits) == [True, False]
    group.see(other)
    group.flow()
    assert group.runs(second, waits) == [True, False]


def test_a_replica_that_is_taken_out_of_service_is_used_for_nothing_more_by_borrowers() -> None:
    group, owner, one, _ = workers(replica("r"), replica("s"))
    running, other = fill(group, one, 2)
    (waits,) = fill(group, one, 1)
    gone = group.ran_at(running)
    group.tell(replica(gone, ReplicaState.FAILED), owner)
    group.flow()
    group.end(running)
    group.flow()
    assert group.runs(waits) == [False]
    group.end(other)
    assert group.runs(waits) == [True]


def test_only_the_owner_retires_a_replica_and_says_when_it_is_drained() -> None:
    group, owner, one, other = workers()
    (ticket,) = fill(group, one, 1)
    assert group.dispatchers[one].retire(BLUE, 1) == [] == group.dispatchers[other].retire(BLUE, 1)
    assert group.dispatchers[owner].retire(BLUE, 1) == ["r"]
    group.tell(replica("r", ReplicaState.DRAINING))
    group.flow()
    assert group.drained == []
    group.end(ticket)
    group.flow()
    assert group.drained == [(owner, "r")]


def test_a_retired_replica_stays_retired_under_the_next_owner_though_control_has_not_said_so_yet() -> None:
    group, owner, one, _ = workers(replica("r"), replica("s"))
    (retired,) = group.dispatchers[owner].retire(BLUE, 1)
    group.publish(*NAMES, leaving=(owner,))
    group.see_all()
    running, waits = fill(group, one, 2)
    assert group.runs(running, waits) == [True, False] and group.ran_at(running) != retired
    assert (group.owner, retired) in group.drained


def test_a_replica_with_requests_of_a_dead_worker_is_drained_after_the_lease() -> None:
    group, owner, one, other = workers()
    fill(group, one, 1)
    group.publish(owner, other, departed=[Departed(one, group.kill(one))])
    group.see_all()
    group.dispatchers[owner].retire(BLUE, 1)
    group.did(owner, [])
    assert group.drained == []
    group.pass_time(LEASE_S)
    assert group.drained == [(owner, "r")]


def test_a_replica_unreachable_for_a_borrower_is_ejected_for_all() -> None:
    group, owner, one, other = workers()
    (ticket,) = fill(group, one, 1)
    _, lease = group.running.pop(ticket)
    queue = group.queue(one)
    group.silent.add("r")
    queue.health.failed(lease.replica, Failure.UNREACHABLE, group.now)
    assert queue.requeue(lease, group.now) is None
    group.did(one, [])
    group.flow()
    (waits,) = fill(group, other, 1)
    assert group.queue(owner).replicas["r"].barred and group.runs(ticket, waits) == [False, False]
    group.silent.clear()
    group.pass_time(0.05)
    assert group.runs(ticket, waits) == [True, False], "it keeps its place"


def test_an_answer_ends_a_row_of_failures_reported_by_borrowers() -> None:
    group, owner, one, _ = workers(replica("r", slots=2))
    (ticket,) = fill(group, one, 1)
    _, lease = group.running[ticket]
    group.queue(one).health.failed(lease.replica, Failure.BROKEN, group.now)
    group.did(one, [])
    group.flow()
    assert group.queue(owner).replicas["r"].failures == 1
    lease.replica.failures = 0
    group.end(ticket)
    group.flow()
    assert group.queue(owner).replicas["r"].failures == 0


def test_a_borrower_that_fails_on_one_replica_knows_of_the_others() -> None:
    group, _, one, _ = workers(replica("r"), replica("s"))
    (ticket,) = fill(group, one, 1)
    _, lease = group.running[ticket]
    queue = group.queue(one)
    assert queue.health.others_serve(lease.replica)
    for other in queue.replicas.values():
        queue.health.failed(other, Failure.UNREACHABLE, group.now)
    assert not queue.health.others_serve(lease.replica)


def test_an_owner_leaves_a_failed_replica_alone_for_its_time_without_help_of_the_shell() -> None:
    group = Workers("a", replicas=[replica("r")])
    queue = group.queue("a")
    group.silent.add("r")
    queue.health.failed(queue.replicas["r"], Failure.UNREACHABLE, group.now)
    (waits,) = fill(group, "a", 1)
    assert group.runs(waits) == [False]
    group.silent.clear()
    group.pass_time(0.05)
    assert group.runs(waits) == [True]


# ---- counters


def test_slots_are_counted_by_the_owner_and_requests_by_their_worker() -> None:
    group, owner, one, other = workers(replica("r", slots=2))
    fill(group, one, 2), fill(group, other, 1)
    ledgers = {name: group.queue(name).ledger for name in NAMES}
    assert {name: ledger.total for name, ledger in ledgers.items() if ledger.total} == {owner: 2}
    assert {name: ledger.busy for name, ledger in ledgers.items() if ledger.busy} == {one: 2}
    assert {name: group.queue(name).waiting for name in NAMES} == {owner: 0, one: 0, other: 1}
    assert group.queue(one).ledger.busy_by_replica() == {"r": 2} and group.queue(owner).ledger.busy_by_replica() == {}
    before = ledgers[owner].busy_slot_seconds(group.now)
    group.pass_time(1.0)
    assert ledgers[owner].busy_slot_seconds(group.now) == before


def starved(group: Workers) -> set[str]:
    return {name for name, dispatcher in group.dispatchers.items() if dispatcher.starved}


def queue_length(group: Workers) -> dict[str, int]:
    return {name: group.queue(name).queue_length for name in NAMES if group.queue(name).queue_length}


def test_a_request_at_a_borrower_with_a_free_slot_is_never_counted_as_starved() -> None:
    group, _, one, _ = workers()
    ticket = group.request(one)
    assert group.runs(ticket) == [False] and queue_length(group) == {} and starved(group) == set()
    group.flow()
    assert group.runs(ticket) == [True] and queue_length(group) == {} and starved(group) == set()


def test_starved_tickets_are_reported_by_the_owner() -> None:
    group, owner, one, other = workers()
    fill(group, one, 1), fill(group, other, 1), fill(group, owner, 1)
    assert queue_length(group) == {owner: 2} and starved(group) == {owner}
    assert group.queue(owner).changed


def test_starved_tickets_hidden_from_the_owner_are_reported_by_their_worker() -> None:
    group, owner, one, _ = workers()
    fill(group, owner, 1)
    group.cut(one, owner)
    fill(group, one, 1)
    assert queue_length(group) == {one: 1} and starved(group) == {one}
    group.connect(one, owner)
    group.flow()
    assert queue_length(group) == {owner: 1}


def test_the_owner_has_news_whenever_a_ticket_in_line_is_served_or_given_up() -> None:
    group, owner, one, other = workers()
    (running,) = fill(group, one, 1)
    _, impatient = fill(group, other, 2)
    queue = group.queue(owner)
    assert queue.queue_length == 2
    queue.changed = False
    group.end(running)
    group.flow()
    assert queue.changed and queue.queue_length == 1
    queue.changed = False
    group.queue(other).abandon(impatient)
    group.did(other, [])
    group.flow()
    assert queue.changed and queue.queue_length == 0


def test_a_version_that_only_peers_know_is_dropped_when_nothing_of_it_is_left() -> None:
    group, owner, one, _ = workers()
    for name, dispatcher in group.dispatchers.items():
        if name != one:
            dispatcher.forget(BLUE)
            dispatcher.remove("r")
    dispatcher = group.dispatchers[owner]
    (waits,) = fill(group, one, 1)
    dispatcher.prune()
    assert BLUE in dispatcher.queues
    group.queue(one).abandon(waits)
    group.did(one, [])
    group.flow()
    dispatcher.prune()
    assert BLUE not in dispatcher.queues
    (waits,) = fill(group, one, 1)
    assert group.runs(waits) == [False]


def test_a_recall_from_another_than_the_owner_is_ignored() -> None:
    group, _, one, other = workers()
    (ticket,) = fill(group, one, 1)
    group.end(ticket)
    group.say(other, one, Recall(BLUE, "", 10.0))
    assert group.runs(group.request(one)) == [True]


@pytest.mark.parametrize("name", ["owner", "borrower"])
def test_requests_in_flight_are_recorded_in_the_inflight_table(name: str) -> None:
    class Board:
        def __init__(self) -> None:
            self.flying: list[str] = []

        def started(self, one: ReplicaSlots) -> None:
            self.flying.append(one.id)

        def ended(self, one: ReplicaSlots) -> None:
            self.flying.remove(one.id)

    group, owner, one, _ = workers()
    board = Board()
    at = owner if name == "owner" else one
    group.dispatchers[at].queues[BLUE].ledger._flights = board
    (ticket,) = fill(group, at, 1)
    assert board.flying == ["r"]
    group.end(ticket)
    assert board.flying == []


# ---- suspect replicas


def abandon(group: Workers, name: str, ticket: Ticket) -> None:
    """The client of a running request leaves; the replica goes on and is silent."""
    lease = group.running[ticket][1]
    group.silent.add(lease.replica.id)
    group.queue(name).health.failed(lease.replica, Failure.ABANDONED, group.now)
    group.end(ticket)
    group.flow()


def test_a_replica_that_one_worker_gave_up_gets_no_request_of_any_until_its_health_path_answers() -> None:
    group, owner, one, other = workers(replica("r", slots=2))
    for name in (owner, one):
        (ticket,) = fill(group, name, 1)
        abandon(group, name, ticket)
        waiting = [*fill(group, owner, 1), *fill(group, one, 1), *fill(group, other, 1)]
        assert group.runs(*waiting) == [False] * 3
        group.silent.clear()
        group.pass_time(1.0)
        assert sum(group.runs(*waiting)) == 2
        while group.running:
            group.end(next(iter(group.running)))
            group.flow()
        group.pass_time(2 * KEEP_S)


def test_health_requests_are_sent_by_the_owner_alone() -> None:
    group, owner, one, _ = workers()
    (ticket,) = fill(group, one, 1)
    abandon(group, one, ticket)
    group.pass_time(3.0)
    asked = {name: group.queue(name).replicas["r"].unanswered for name in NAMES}
    assert [name for name, count in asked.items() if count] == [owner]


def test_a_suspect_stays_one_under_the_next_owner() -> None:
    group, owner, one, _ = workers()
    (ticket,) = fill(group, owner, 1)
    abandon(group, owner, ticket)
    group.publish(*NAMES, leaving=(owner,))
    group.see_all()
    (waits,) = fill(group, one, 1)
    assert group.owner != owner and group.runs(waits) == [False]
    group.silent.clear()
    group.pass_time(1.0)
    assert group.runs(waits) == [True]


def test_a_suspect_of_a_borrower_stays_one_though_its_owner_died() -> None:
    group, owner, one, other = workers()
    (ticket,) = fill(group, one, 1)
    abandon(group, one, ticket)
    group.publish(one, other, departed=[Departed(owner, group.kill(owner))])
    group.see_all()
    group.pass_time(LEASE_S)
    (waits,) = fill(group, one, 1)
    assert group.runs(waits) == [False]
    group.silent.clear()
    group.pass_time(1.0)
    assert group.runs(waits) == [True]


def test_a_replica_that_a_dead_worker_used_is_suspect_for_its_other_slots_too() -> None:
    group, owner, one, other = workers(replica("r", slots=2))
    fill(group, one, 1)
    group.silent.add("r")
    group.publish(owner, other, departed=[Departed(one, group.kill(one))])
    group.see_all()
    (waits,) = fill(group, other, 1)
    assert group.runs(waits) == [False]
    group.silent.clear()
    group.pass_time(1.0)
    assert group.runs(waits) == [True]


def test_idle_connections_to_a_suspect_are_closed_in_every_worker() -> None:
    group, _, one, _ = workers()
    (ticket,) = fill(group, one, 1)
    abandon(group, one, ticket)
    assert all("r" in group.dispatchers[name].unpooled for name in NAMES)
