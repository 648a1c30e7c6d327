"""Slots in a group of workers under any order of events: never too many in flight, all returned at the end.

The view of the replicas is checked with every request that begins (`Workers`); times are judged by `tests/sim`.
"""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from router.core.version_queue import Ticket
from router.core.view import Departed, View
from tests.unit.router.records import replica
from tests.unit.router.workers import KEEP_S, LEASE_S, Workers

pytestmark = pytest.mark.slow

PICK = st.integers(0, 1000)
MOST = 5


class GroupUnderAnyOrder(RuleBasedStateMachine):
    """Messages arrive one by one, views at any moment or never, sessions break, workers come, stop and die."""

    def __init__(self) -> None:
        super().__init__()
        self.started = 0
        self.members: list[str] = []
        self.leaving: set[str] = set()
        self.departed: list[Departed] = []
        self.views: list[View] = []
        self.waiting: list[tuple[str, Ticket]] = []

    @initialize(count=st.integers(2, 3), slots=st.lists(st.integers(1, 2), min_size=1, max_size=2))
    def workers_start(self, count: int, slots: list[int]) -> None:
        names = [f"w{number}" for number in range(count)]
        self.group = Workers(*names, replicas=[replica(f"r{number}", slots=many) for number, many in enumerate(slots)])
        self.members, self.started = names, count
        self.views = [self.group.view]

    def pick(self, number: int) -> str:
        names = list(self.group.dispatchers)
        return names[number % len(names)]

    # ---- requests

    @rule(pick=PICK, count=st.integers(1, 3))
    def requests_come(self, pick: int, count: int) -> None:
        name = self.pick(pick)
        for _ in range(count):
            self.waiting.append((name, self.group.request(name)))

    @precondition(lambda self: self.group.running)
    @rule(pick=PICK)
    def a_request_ends(self, pick: int) -> None:
        running = list(self.group.running)
        self.group.end(running[pick % len(running)])

    @precondition(lambda self: self.waiting)
    @rule(pick=PICK)
    def a_client_leaves(self, pick: int) -> None:
        name, ticket = self.waiting.pop(pick % len(self.waiting))
        if name in self.group.dispatchers:
            self.group.queue(name).abandon(ticket)
            self.group.did(name, [])

    # ---- messages, sessions, time

    @rule(pick=PICK, count=st.integers(1, 3))
    def messages_arrive(self, pick: int, count: int) -> None:
        wires = [wire for wire, messages in self.group.wires.items() if messages]
        if wires:
            wire = wires[pick % len(wires)]
            self.group.deliver(*wire, count=min(count, len(self.group.wires[wire])))

    @rule()
    def everything_arrives(self) -> None:
        self.group.flow()

    @rule(one=PICK, other=PICK, again=st.booleans())
    def a_session_breaks(self, one: int, other: int, again: bool) -> None:
        if self.pick(one) != self.pick(other):
            self.group.cut(self.pick(one), self.pick(other))
            if again:
                self.group.connect(self.pick(one), self.pick(other))

    @rule(seconds=st.sampled_from([KEEP_S / 2, KEEP_S, LEASE_S / 2, 2 * LEASE_S]), pick=PICK, stopped=st.booleans())
    def time_passes(self, seconds: float, pick: int, stopped: bool) -> None:
        before = self.group.now
        self.group.pass_time(seconds, *([self.pick(pick)] if stopped else []))
        # The replicas have ended the requests of dead workers before the quarantine is over.
        if self.group.now - before >= LEASE_S / 2:
            self.group.ghosts.clear()

    # ---- views

    def publish(self) -> None:
        view = self.group.publish(*self.members, departed=self.departed, leaving=self.leaving)
        self.views.append(view)

    @rule(pick=PICK, which=PICK)
    def a_worker_sees_a_view(self, pick: int, which: int) -> None:
        self.group.see(self.pick(pick), view=self.views[-1 - which % min(3, len(self.views))])

    @precondition(lambda self: len(self.members) < MOST)
    @rule()
    def a_worker_joins(self) -> None:
        name = f"w{self.started}"
        self.started += 1
        self.group.start(name)
        self.members.append(name)
        self.publish()
        self.group.see(name)
        for other in self.group.dispatchers:
            if other != name:
                self.group.connect(name, other)

    @rule(pick=PICK)
    def a_worker_may_own_nothing_any_more_or_again(self, pick: int) -> None:
        self.leaving ^= {self.pick(pick)}
        self.publish()

    @precondition(lambda self: len(self.members) > 1)
    @rule(pick=PICK, known=st.booleans())
    def a_worker_dies(self, pick: int, known: bool) -> None:
        name = self.pick(pick)
        held = self.group.kill(name)
        self.members.remove(name)
        self.leaving.discard(name)
        self.departed.append(Departed(name, held if known else None))
        self.publish()

    # ---- invariants

    @invariant()
    def nothing_is_given_beyond_its_slots(self) -> None:
        ledgers = [self.group.queue(name).ledger for name in self.group.dispatchers] if self.members else []
        assert all(ledger.violations == 0 == ledger.double_releases for ledger in ledgers)

    def teardown(self) -> None:
        if not self.members:
            return
        group = self.group
        self.leaving.clear()
        self.publish()
        group.see_all()
        names = list(group.dispatchers)
        for number, name in enumerate(names):
            for other in names[:number]:
                group.connect(name, other)
        group.ghosts.clear()
        group.pass_time(2 * LEASE_S)
        while group.running:
            group.end(next(iter(group.running)))
            group.flow()
        group.pass_time(2 * KEEP_S)
        assert not any(group.queue(name).waiting for name in names)
        slots = sum(one.slots for one in group.replicas.values())
        tickets = [group.request(group.owner) for _ in range(slots + 1)]
        assert sum(group.runs(*tickets)) == slots, "not every slot is home"


TestGroupUnderAnyOrder = GroupUnderAnyOrder.TestCase
TestGroupUnderAnyOrder.settings = settings(settings.default, max_examples=150, stateful_step_count=40)
