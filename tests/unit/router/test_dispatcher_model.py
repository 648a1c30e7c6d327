"""The dispatcher against a model without bookkeeping: it scans every replica, lease and ticket each time.

Times are multiples of 1/8 s, so that integrals can be compared exactly; the clock may stand still between events.
"""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from router.core.dispatcher import Dispatcher, Grant, Ticket, VersionQueue
from router.core.ledger import Lease, ReplicaSlots
from router.core.router_errors import NoReadyReplicas, Overloaded
from serving.endpoint import VersionKey
from serving.replica import ReplicaState
from tests.unit.router.records import readmitted, replica, version

pytestmark = pytest.mark.slow

VERSIONS = ("blue", "green")
NAMES = st.sampled_from(("blue", "blue", "blue", "green"))  # mostly one, so that much happens to it
NUMBERS = st.integers(0, 2)
PICK = st.integers(0, 1000)


@dataclass(eq=False)
class ModelReplica:
    """One replica and its leases."""

    slots: int
    state: ReplicaState
    seen: ReplicaSlots
    listed: bool = True
    retired: bool = False
    held: bool = False
    leases: list[Lease] = field(default_factory=list)

    @property
    def in_service(self) -> bool:
        return self.listed and self.state is ReplicaState.READY and not self.retired

    @property
    def free(self) -> bool:
        return self.in_service and not self.held and len(self.leases) < self.slots


class ModelVersion:
    """One version: replicas by id, waiting tickets (retries first), and the busy time so far."""

    def __init__(self) -> None:
        self.replicas: dict[str, ModelReplica] = {}
        self.retries: list[Ticket] = []
        self.line: list[Ticket] = []
        self.waits_since: dict[Ticket, float] = {}
        self.busy_seconds = 0.0
        self.queue_wait_s = 0.5
        self.double_releases = 0
        self.last_lease = 0
        self.starved = False

    @property
    def waiting(self) -> list[Ticket]:
        return [*self.retries, *self.line]

    @property
    def leases(self) -> list[Lease]:
        return [lease for one in self.replicas.values() for lease in one.leases]

    @property
    def has_free(self) -> bool:
        return any(one.free for one in self.replicas.values())

    def wait(self, ticket: Ticket, line: list[Ticket], now: float) -> None:
        line.append(ticket)
        self.waits_since[ticket] = now
        self.starved = True

    def leave(self, ticket: Ticket) -> None:
        (self.retries if ticket in self.retries else self.line).remove(ticket)

    def lend(self, lease: Lease) -> None:
        """Check that the slot was free and on the best replica, and record the lease."""
        one = self.replicas[lease.replica.id]
        assert one.seen is lease.replica and one.free
        assert len(one.leases) == min(len(other.leases) for other in self.replicas.values() if other.free)
        one.leases.append(lease)
        assert len(one.leases) <= one.slots
        assert lease.id > self.last_lease, "an id is used again"
        self.last_lease = lease.id

    def end(self, lease: Lease) -> list[str]:
        """End the lease; returns the ids of drained replicas."""
        one = self.replicas[lease.replica.id]
        one.leases.remove(lease)
        if one.leases:
            return []
        self.drop_gone()
        return [lease.replica.id] if one.retired else []

    def drop_gone(self) -> None:
        self.replicas = {name: one for name, one in self.replicas.items() if one.listed or one.leases}


class DispatcherAgainstModel(RuleBasedStateMachine):
    """Any order of events caused by clients, replicas, providers and users."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.dispatcher = Dispatcher()
        self.models = {name: ModelVersion() for name in VERSIONS}
        self.queues = {name: self.dispatcher.queue(VersionKey("iris", name)) for name in VERSIONS}
        self.tickets: list[Ticket] = []
        self.seen: list[tuple[str, ReplicaSlots]] = []
        self.over: list[tuple[str, Lease]] = []

    # ---- helpers of the tests of each event

    def queue_of(self, ticket: Ticket) -> tuple[ModelVersion, VersionQueue]:
        assert ticket.queue is not None
        return self.models[ticket.queue.key.version], ticket.queue

    def granted(self, model: ModelVersion, grants: list[Grant]) -> None:
        for grant in grants:
            assert grant.ticket is model.waiting[0], "not the oldest"
            model.leave(grant.ticket)
            model.lend(grant.lease)
            assert grant.ticket.lease is grant.lease and grant.lease.holder is grant.ticket

    def told(self, *replica_ids: str) -> None:
        assert self.dispatcher.drained == list(replica_ids)
        self.dispatcher.drained.clear()

    def running(self) -> list[tuple[str, Lease]]:
        return [(name, lease) for name in VERSIONS for lease in self.models[name].leases]

    @initialize(slots=st.lists(st.integers(1, 3), max_size=3))
    def some_replicas_are_ready(self, slots: list[int]) -> None:
        for number, count in enumerate(slots):
            self.a_replica_is_listed("blue", number, ReplicaState.READY, count)

    # ---- clients

    @rule(name=NAMES)
    def a_request_comes(self, name: str) -> None:
        model, ticket = self.models[name], Ticket()
        self.tickets.append(ticket)
        had_free = model.has_free
        lease = self.queues[name].enqueue(ticket, self.now)
        assert (lease is not None) == had_free
        if lease is not None:
            assert ticket.lease is lease and lease.holder is ticket and not ticket.waiting
            model.lend(lease)
        else:
            model.wait(ticket, model.line, self.now)

    @precondition(lambda self: self.running())
    @rule(pick=PICK)
    def a_request_ends(self, pick: int) -> None:
        name, lease = self.running()[pick % len(self.running())]
        self.end(name, lease)

    def end(self, name: str, lease: Lease) -> None:
        model = self.models[name]
        drained = model.end(lease)
        self.over.append((name, lease))
        assert isinstance(lease.holder, Ticket)
        lease.holder.lease = None
        had_free = model.has_free and bool(model.waiting)
        grant = self.queues[name].release(lease, self.now)
        assert (grant is not None) == had_free
        self.granted(model, [grant] if grant else [])
        self.told(*drained)

    @precondition(lambda self: self.over)
    @rule(pick=PICK)
    def a_lease_is_given_back_again(self, pick: int) -> None:
        name, lease = self.over[pick % len(self.over)]
        assert self.queues[name].release(lease, self.now) is None
        self.models[name].double_releases += 1
        self.told()

    @precondition(lambda self: self.tickets)
    @rule(pick=PICK)
    def a_client_leaves(self, pick: int) -> None:
        ticket = self.tickets[pick % len(self.tickets)]
        model, queue = self.queue_of(ticket)
        waited = ticket in model.waiting
        assert queue.abandon(ticket) == waited
        if waited:
            model.leave(ticket)
        elif ticket.lease is not None:
            self.end(queue.key.version, ticket.lease)

    @precondition(lambda self: self.running())
    @rule(pick=PICK, hold=st.booleans())
    def a_replica_is_not_reached(self, pick: int, hold: bool) -> None:
        name, lease = self.running()[pick % len(self.running())]
        model, ticket = self.models[name], lease.holder
        assert isinstance(ticket, Ticket)
        if hold:
            self.queues[name].ledger.bar(lease.replica)
            model.replicas[lease.replica.id].held = True
        drained = model.end(lease)
        self.over.append((name, lease))
        model.wait(ticket, model.retries, self.now)
        had_free = model.has_free
        grant = self.queues[name].requeue(lease, self.now)
        assert (grant is not None) == had_free
        self.granted(model, [grant] if grant else [])
        self.told(*drained)

    # ---- time

    @rule(eighths=st.sampled_from([0, 1, 3, 8, 100]))
    def time_passes(self, eighths: int) -> None:
        self.now += eighths / 8
        for model in self.models.values():
            model.busy_seconds += len(model.leases) * eighths / 8

    @rule(name=NAMES)
    def waits_end(self, name: str) -> None:
        model = self.models[name]
        expected = [one for one in model.waiting if model.waits_since[one] + model.queue_wait_s <= self.now]
        served = any(one.in_service for one in model.replicas.values())
        expired = self.queues[name].expire(self.now)
        assert [ticket for ticket, _ in expired] == expected
        assert {type(error) for _, error in expired} <= {Overloaded if served else NoReadyReplicas}
        for ticket in expected:
            model.leave(ticket)
        deadline = self.queues[name].next_deadline()
        assert deadline is None or deadline > self.now

    @rule(name=NAMES, queue_wait_s=st.sampled_from([0.125, 0.5, 10.0]))
    def the_wait_is_declared_anew(self, name: str, queue_wait_s: float) -> None:
        declared = version(name)
        object.__setattr__(declared, "queue_wait_s", queue_wait_s)
        object.__setattr__(declared, "scoring_timeout_s", queue_wait_s * 4)
        self.dispatcher.configure("iris", declared)
        self.models[name].queue_wait_s = queue_wait_s

    @rule()
    def the_shell_reports(self) -> None:
        starved = {queue.key.version for queue in self.dispatcher.starved}
        assert len(self.dispatcher.starved) == len(starved)
        assert starved == {name for name, model in self.models.items() if model.starved}
        self.dispatcher.starved.clear()
        for name in VERSIONS:
            self.queues[name].starved = self.models[name].starved = False

    # ---- replicas

    @rule(
        name=NAMES,
        number=NUMBERS,
        state=st.sampled_from([ReplicaState.READY, ReplicaState.READY, *ReplicaState]),
        slots=st.integers(1, 3),
    )
    def a_replica_changes(self, name: str, number: int, state: ReplicaState, slots: int) -> None:
        self.a_replica_is_listed(name, number, state, slots)

    def a_replica_is_listed(self, name: str, number: int, state: ReplicaState, slots: int) -> None:
        model, replica_id = self.models[name], f"{name}-{number}"
        grants = self.dispatcher.upsert(replica(replica_id, state, slots, name), self.now)
        one = model.replicas.get(replica_id)
        if one is None:
            seen = self.queues[name].replicas[replica_id]
            self.seen.append((name, seen))
            one = model.replicas[replica_id] = ModelReplica(slots, state, seen)
        one.slots, one.state, one.listed = slots, state, True
        one.retired |= state is ReplicaState.DRAINING
        self.granted(model, grants)
        self.told(*([replica_id] if state is ReplicaState.DRAINING and not one.leases else []))

    @rule(name=NAMES, number=NUMBERS)
    def a_replica_vanishes(self, name: str, number: int) -> None:
        model, replica_id = self.models[name], f"{name}-{number}"
        self.dispatcher.remove(replica_id)
        if replica_id in model.replicas:
            model.replicas[replica_id].listed = model.replicas[replica_id].retired = False
            model.drop_gone()
        self.told()

    @rule(name=NAMES, count=st.integers(0, 4))
    def replicas_are_retired(self, name: str, count: int) -> None:
        model = self.models[name]
        in_service = {one_id: one for one_id, one in model.replicas.items() if one.in_service}
        chosen = self.dispatcher.retire(VersionKey("iris", name), count)
        assert len(set(chosen)) == len(chosen) == min(count, len(in_service)) and set(chosen) <= set(in_service)
        busy = [len(one.leases) for one in in_service.values()]
        assert [len(in_service[one_id].leases) for one_id in chosen] == sorted(busy)[: len(chosen)]
        for one_id in chosen:
            model.replicas[one_id].retired = True
        self.told(*[one_id for one_id in chosen if not model.replicas[one_id].leases])

    @precondition(lambda self: self.seen)
    @rule(pick=PICK, held=st.booleans())
    def a_replica_is_left_alone_or_not(self, pick: int, held: bool) -> None:
        name, seen = self.seen[pick % len(self.seen)]  # maybe one that is gone: its hold may end after it
        model = self.models[name]
        one = model.replicas.get(seen.id)
        if one is not None and one.seen is seen:
            one.held = held
        if held:
            self.queues[name].ledger.bar(seen)
        else:
            self.granted(model, readmitted(self.queues[name], seen, self.now))

    @rule(name=NAMES)
    def a_version_is_no_longer_declared(self, name: str) -> None:
        model = self.models[name]
        waiting = model.waiting
        refused = self.dispatcher.forget(VersionKey("iris", name))
        assert [ticket for ticket, _ in refused] == waiting
        assert all(isinstance(error, NoReadyReplicas) for _, error in refused)
        model.retries, model.line = [], []

    # ---- invariants

    @invariant()
    def no_ticket_waits_while_a_slot_is_free(self) -> None:
        for name, model in self.models.items():
            assert self.queues[name].ledger.has_free() == model.has_free
            assert not (model.waiting and model.has_free)

    @invariant()
    def the_books_agree_with_a_recount(self) -> None:
        for name, model in self.models.items():
            queue, ledger = self.queues[name], self.queues[name].ledger
            assert ledger.violations == 0 and ledger.double_releases == model.double_releases
            assert list(ledger.leases.values()) == sorted(model.leases, key=lambda lease: lease.id)
            assert ledger.busy == len(model.leases)
            assert ledger.total == sum(one.slots for one in model.replicas.values() if one.in_service)
            assert ledger.busy_slot_seconds(self.now) == model.busy_seconds
            assert {one_id: one.busy for one_id, one in queue.replicas.items()} == {
                one_id: len(one.leases) for one_id, one in model.replicas.items()
            }

    @invariant()
    def the_lines_agree_with_a_recount(self) -> None:
        for name, model in self.models.items():
            queue = self.queues[name]
            assert queue.waiting == len(model.waiting)
            since = [model.waits_since[ticket] for ticket in model.waiting]
            assert queue.next_deadline() == (min(since) + model.queue_wait_s if since else None)
            started = [lease.granted_at for lease in model.leases]
            assert queue.next_overdue() == (min(started) + queue.scoring_timeout_s if started else None)
            late = [lease for lease in model.leases if lease.granted_at + queue.scoring_timeout_s <= self.now]
            assert set(queue.overdue(self.now)) == set(late)
        waiting = {ticket for model in self.models.values() for ticket in model.waiting}
        assert {ticket for ticket in self.tickets if ticket.waiting} == waiting
        holding = {lease.holder: lease for _, lease in self.running()}
        assert {ticket: ticket.lease for ticket in self.tickets if ticket.lease} == holding


TestDispatcherAgainstModel = DispatcherAgainstModel.TestCase
TestDispatcherAgainstModel.settings = settings(settings.default, max_examples=200, stateful_step_count=50)
