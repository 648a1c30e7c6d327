"""Placement: the choice of the next slot, sentence by sentence."""

import pytest

from router.core.ledger import Lease, Ledger, ReplicaSlots


def ledger_of(**slots: int) -> tuple[Ledger, dict[str, ReplicaSlots]]:
    """A ledger with these replicas, ready in this order."""
    ledger = Ledger()
    replicas = {name: ReplicaSlots(name, "127.0.0.1", 1) for name in slots}
    for name, replica in replicas.items():
        ledger.resize(replica, slots[name])
        ledger.enable(replica)
    return ledger, replicas


def take(ledger: Ledger, now: float = 0.0) -> Lease:
    lease = ledger.acquire("holder", now)
    assert lease is not None
    return lease


def names(ledger: Ledger, count: int) -> str:
    return "".join(take(ledger).replica.id for _ in range(count))


def test_the_replica_that_became_free_last_is_taken_first() -> None:
    ledger, _ = ledger_of(a=1, b=1, c=1)
    leases = {lease.replica.id: lease for lease in (take(ledger) for _ in range(3))}
    for name in "bca":
        ledger.release(leases[name], 0.0)
    assert names(ledger, 3) == "acb"


def test_with_little_load_the_same_replica_is_used_again_and_again_and_the_others_stay_idle() -> None:
    ledger, _ = ledger_of(a=1, b=1, c=1)
    used = set()
    for _ in range(10):
        lease = take(ledger)
        used.add(lease.replica.id)
        ledger.release(lease, 0.0)
    assert len(used) == 1


def test_the_replica_with_the_fewest_in_flight_is_taken_first() -> None:
    ledger, _ = ledger_of(a=3, b=3)
    assert sorted(names(ledger, 2)) == ["a", "b"]
    assert sorted(names(ledger, 2)) == ["a", "b"]
    assert sorted(names(ledger, 2)) == ["a", "b"]
    assert ledger.acquire("holder", 0.0) is None


def test_a_replica_that_comes_later_gets_its_share_at_once() -> None:
    ledger, _ = ledger_of(a=2)
    take(ledger), take(ledger)
    late = ReplicaSlots("late", "127.0.0.1", 1)
    ledger.resize(late, 1)
    ledger.enable(late)
    assert ledger.has_free() and names(ledger, 1) == "late"


def test_a_new_idle_replica_is_preferred_to_one_that_is_half_busy() -> None:
    ledger, _ = ledger_of(a=4)
    names(ledger, 2)
    late = ReplicaSlots("late", "127.0.0.1", 1)
    ledger.resize(late, 4)
    ledger.enable(late)
    assert names(ledger, 2) == "latelate"


def test_a_shrunk_replica_gives_nothing_until_enough_has_come_back() -> None:
    ledger, replicas = ledger_of(a=3)
    leases = [take(ledger) for _ in range(3)]
    ledger.resize(replicas["a"], 1)
    assert ledger.total == 1 and ledger.busy == 3
    for lease in leases[:2]:
        assert not ledger.release(lease, 0.0)
        assert ledger.acquire("holder", 0.0) is None
    assert ledger.release(leases[2], 0.0)
    assert names(ledger, 1) == "a" and not ledger.has_free() and ledger.violations == 0


def test_a_grown_replica_gives_its_new_slots() -> None:
    ledger, replicas = ledger_of(a=1)
    take(ledger)
    ledger.resize(replicas["a"], 3)
    assert names(ledger, 2) == "aa" and ledger.acquire("holder", 0.0) is None and ledger.total == 3


def test_a_replica_that_is_left_alone_counts_but_gives_nothing() -> None:
    ledger, replicas = ledger_of(a=2)
    lease = take(ledger)
    ledger.bar(replicas["a"])
    assert ledger.total == 2 and not ledger.has_free()
    assert not ledger.release(lease, 0.0) and not ledger.has_free()
    ledger.readmit(replicas["a"])
    assert names(ledger, 2) == "aa" and ledger.acquire("holder", 0.0) is None


def test_a_replica_out_of_service_gives_nothing_and_comes_back_with_its_requests() -> None:
    ledger, replicas = ledger_of(a=2)
    lease = take(ledger)
    ledger.disable(replicas["a"])
    assert ledger.total == 0 and ledger.busy == 1 and not ledger.has_free()
    ledger.enable(replicas["a"])
    assert names(ledger, 1) == "a" and not ledger.has_free()
    assert ledger.release(lease, 0.0)


def test_a_double_release_frees_no_other_slot_and_is_counted() -> None:
    ledger, _ = ledger_of(a=1)
    first = take(ledger)
    ledger.release(first, 0.0)
    second = take(ledger)
    assert not ledger.release(first, 0.0)
    assert ledger.double_releases == 1 and ledger.busy == 1 and not ledger.has_free()
    assert list(ledger.leases.values()) == [second]


def test_entering_and_leaving_twice_changes_nothing() -> None:
    ledger, replicas = ledger_of(a=2)
    ledger.enable(replicas["a"])
    assert ledger.total == 2
    ledger.disable(replicas["a"])
    ledger.disable(replicas["a"])
    assert ledger.total == 0


def test_busy_slot_seconds_are_the_area_under_the_curve_of_busy_slots() -> None:
    ledger, _ = ledger_of(a=2)
    first = take(ledger, 100.0)
    second = take(ledger, 101.0)
    assert ledger.busy_slot_seconds(103.0) == pytest.approx(3 + 2)
    ledger.release(first, 104.0)
    assert ledger.busy_slot_seconds(110.0) == pytest.approx(4 + 9)
    ledger.release(second, 110.0)
    assert ledger.busy_slot_seconds(1e6) == pytest.approx(4 + 9)


def test_the_integral_keeps_its_precision_after_many_requests_late_in_the_life_of_a_machine() -> None:
    ledger, _ = ledger_of(a=1)
    start = 3e7  # a year of uptime
    for number in range(20_000):
        lease = take(ledger, start + number * 0.01)
        ledger.release(lease, start + number * 0.01 + 0.001)
    assert ledger.busy_slot_seconds(start + 1000) == pytest.approx(20.0, abs=0.01)


def test_idle_replicas_come_first_and_among_them_the_longest_idle_one() -> None:
    ledger, _ = ledger_of(a=2, b=2, c=2)
    busy = take(ledger)
    lease = take(ledger)
    ledger.release(lease, 0.0)
    idle = [name for name in "abc" if name not in (busy.replica.id, lease.replica.id)]
    assert [replica.id for replica in ledger.idle_first()] == [*idle, lease.replica.id, busy.replica.id]


def test_the_ledger_counts_when_a_replica_ever_had_more_in_flight_than_slots() -> None:
    ledger, replicas = ledger_of(a=1)
    take(ledger)
    ledger._levels[0][replicas["a"]] = None  # a corrupted book: the slot that is out is offered once more
    replicas["a"].slots = 0
    take(ledger)
    assert ledger.violations == 1


def test_the_repr_of_a_replica_has_its_state() -> None:
    _, replicas = ledger_of(a=2)
    assert repr(replicas["a"]) == "<a 0/2 pd serving>"
