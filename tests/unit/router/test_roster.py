"""Existing and wanted workers: decided from events, in virtual time."""

import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.view import Departed, Member
from router.membership.agreement import MembershipPart, merged_view
from router.supervisor.roster import (
    DEPARTED_S,
    MOST_BETWEEN_TICKS_S,
    NEXT,
    PRESENT,
    RESTART_DELAYS_S,
    STABLE_S,
    START_S,
    DrainWorker,
    KillWorker,
    PublishPart,
    Roster,
    RosterAction,
    SpawnWorker,
    WorkerEvent,
    WorkerPhase,
)

SILENT_S = 5.0


@dataclass
class Group:
    """A roster and its requests."""

    roster: Roster = field(default_factory=lambda: Roster("g", lambda serial: f"unix:{serial}", SILENT_S))
    now: float = 100.0
    part: MembershipPart = field(default_factory=MembershipPart)
    spawned: list[str] = field(default_factory=list)
    dismissed: list[str] = field(default_factory=list)
    killed: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    beats: dict[str, int] = field(default_factory=dict)

    def do(self, actions: list[RosterAction]) -> list[RosterAction]:
        for action in actions:
            match action:
                case PublishPart(part):
                    assert part != self.part, "told twice"
                    self.part = part
                case SpawnWorker(name):
                    self.spawned.append(name)
                case DrainWorker(name):
                    self.dismissed.append(name)
                case KillWorker(name, _, silent):
                    self.killed.append(name)
                    if silent:
                        self.silent.append(name)
        return actions

    def resize(self, count: int) -> list[RosterAction]:
        return self.do(self.roster.resize(count, self.now))

    def serve(self, *names: str) -> None:
        for name in names:
            self.do(self.roster.joined(name, self.now))
            self.do(self.roster.serving(name, self.now))

    def end(self, name: str, held: dict[str, int] | None = None) -> None:
        self.do(self.roster.gone(name, {} if held is None else held, self.now))

    def replace(self, name: str) -> None:
        self.do(self.roster.replace(name, self.now))

    def wait(self, seconds: float, lively: bool = True) -> None:
        """Look every 100 ms, as the supervisor does."""
        for _ in range(round(seconds / 0.1)):
            self.now += 0.1
            if lively:
                self.beats = {name: self.beats.get(name, 0) + 1 for name in self.roster.workers}
            self.do(self.roster.tick(self.beats, self.now))

    def phases(self) -> dict[str, WorkerPhase]:
        return {name: worker.phase for name, worker in self.roster.workers.items()}

    def eligible(self) -> list[str]:
        return [member.name for member in self.part.members if member.eligible]


def grown(count: int) -> Group:
    """A group with this many serving workers."""
    group = Group()
    group.resize(count)
    group.serve(*group.spawned)
    return group


# ---- joining


def test_a_worker_is_no_member_before_its_peers_can_reach_it_and_owns_nothing_before_it_serves() -> None:
    group = Group()
    assert group.resize(1) == [SpawnWorker("w0-g-0", 0, "unix:0")]
    assert group.part == MembershipPart()
    group.do(group.roster.joined("w0-g-0", group.now))
    assert group.part.members == (Member("w0-g-0", "unix:0", eligible=False),)
    group.do(group.roster.serving("w0-g-0", group.now))
    assert group.part.members == (Member("w0-g-0", "unix:0", eligible=True),)


def test_others_get_a_change_before_the_worker_concerned_acts_on_it() -> None:
    group = grown(2)
    actions = group.resize(1)
    assert actions == [PublishPart(group.part), DrainWorker("w1-g-1")]
    assert group.eligible() == ["w0-g-0"]


def test_the_table_has_a_next_phase_for_everything_that_can_happen() -> None:
    assert NEXT.keys() == set(itertools.product(WorkerPhase, WorkerEvent))
    assert {NEXT[WorkerPhase.KILLED, step] for step in WorkerEvent} == {WorkerPhase.KILLED}
    assert all(NEXT[WorkerPhase.DRAINING, step] not in PRESENT for step in WorkerEvent)


# ---- dying


def test_a_dead_worker_is_departed_at_once_and_another_one_is_started() -> None:
    group = grown(2)
    group.wait(STABLE_S + 0.2)
    group.end("w0-g-0", {"r1": 3})
    assert [member.name for member in group.part.members] == ["w1-g-1"]
    assert group.part.departed == (Departed("w0-g-0", {"r1": 3}),)
    assert group.spawned[2:] == ["w0-g-2"]


def test_one_that_was_never_a_member_does_not_depart() -> None:
    group = Group()
    group.resize(1)
    group.end("w0-g-0")
    assert group.part == MembershipPart()


def test_a_departed_worker_stays_listed_for_a_minute() -> None:
    group = grown(1)
    group.end("w0-g-0")
    group.wait(DEPARTED_S - 0.5)
    assert [each.name for each in group.part.departed] == ["w0-g-0"]
    group.wait(1)
    assert group.part.departed == ()


def test_a_later_member_gets_the_age_of_departures() -> None:
    group = grown(2)
    group.wait(STABLE_S + 0.2)
    group.end("w0-g-0", {"r1": 3})
    assert group.part.departed[0].age_s == 0.0
    group.wait(1.5)
    group.serve("w0-g-2")
    assert group.part.departed[0].age_s == pytest.approx(1.5, abs=0.2)


def test_workers_that_do_not_live_are_started_later_and_later_but_for_ever() -> None:
    group = grown(1)
    delays = []
    for _ in range(8):
        group.end(group.spawned[-1])
        died, known = group.now, len(group.spawned)
        while len(group.spawned) == known:
            group.wait(0.1)
        delays.append(group.now - died)
    assert delays == pytest.approx([*RESTART_DELAYS_S[1:], 5, 5, 5], abs=0.11)
    group.wait(STABLE_S + 0.2)
    group.end(group.spawned[-1])
    assert len(group.spawned) == 10


def test_deaths_at_one_place_do_not_delay_the_others() -> None:
    group = grown(2)
    for _ in range(5):
        group.wait(6)
        group.end(next(name for name in group.roster.workers if name.startswith("w0")))
    group.wait(STABLE_S + 0.2)
    known = len(group.spawned)
    group.end("w1-g-1")
    assert len(group.spawned) == known + 1


# ---- standing still


def test_a_worker_with_a_blocked_loop_is_killed_and_another_one_started() -> None:
    group = grown(1)
    group.wait(1)
    group.wait(SILENT_S - 0.2, lively=False)
    assert not group.killed
    group.wait(0.4, lively=False)
    assert group.silent == ["w0-g-0"]
    assert group.eligible() == []
    assert group.spawned == ["w0-g-0", "w0-g-1"]
    group.wait(3, lively=False)
    assert group.killed == ["w0-g-0"]
    assert [member.name for member in group.part.members] == ["w0-g-0"]  # it may still run
    group.end("w0-g-0", {"r1": 1})
    assert group.part == MembershipPart((), (Departed("w0-g-0", {"r1": 1}),))
    group.wait(3, lively=False)
    assert len(group.spawned) == 2


def test_one_that_is_leaving_is_watched_too() -> None:
    group = grown(2)
    group.wait(1)
    group.resize(1)
    group.wait(SILENT_S + 0.2, lively=False)
    assert set(group.silent) == {"w0-g-0", "w1-g-1"}


def test_a_starting_worker_has_time_to_come_to_life() -> None:
    group = Group()
    group.resize(1)
    group.wait(START_S - 0.5, lively=False)
    assert not group.killed
    group.wait(1, lively=False)
    assert group.silent == ["w0-g-0"]


def test_a_blocked_supervisor_counts_no_worker_as_silent() -> None:
    group = grown(1)
    group.wait(1)
    for _ in range(round(SILENT_S / MOST_BETWEEN_TICKS_S) - 1):
        group.now += 3600
        group.do(group.roster.tick(group.beats, group.now))
    assert not group.killed


# ---- growing and shrinking


def test_the_last_places_leave_first() -> None:
    group = grown(4)
    group.resize(2)
    assert group.dismissed == ["w2-g-2", "w3-g-3"]
    assert group.eligible() == ["w0-g-0", "w1-g-1"]
    group.end("w3-g-3")
    group.end("w2-g-2")
    group.wait(30)
    assert list(group.phases().values()) == [WorkerPhase.SERVING] * 2
    assert len(group.spawned) == 4


def test_a_serving_worker_stays_until_the_wanted_ones_serve() -> None:
    group = grown(2)
    group.end("w0-g-0")
    group.resize(1)
    assert group.dismissed == []
    assert group.eligible() == ["w1-g-1"]
    group.wait(0.2)
    group.serve("w0-g-2")
    assert group.dismissed == ["w1-g-1"]
    assert group.eligible() == ["w0-g-2"]


def test_one_that_does_not_serve_yet_and_is_not_wanted_any_more_is_killed() -> None:
    group = grown(1)
    group.resize(2)
    group.resize(1)
    assert group.killed == ["w1-g-1"]
    group.end("w1-g-1")
    group.wait(10)
    assert len(group.spawned) == 2


def test_a_place_that_is_wanted_again_while_its_worker_leaves_gets_another_one() -> None:
    group = grown(2)
    group.resize(1)
    group.resize(2)
    assert group.spawned == ["w0-g-0", "w1-g-1", "w1-g-2"]
    group.serve("w1-g-2")
    group.end("w1-g-1")
    assert group.eligible() == ["w0-g-0", "w1-g-2"]
    assert len(group.spawned) == 3


# ---- being replaced


def test_the_old_worker_leaves_when_the_new_one_serves() -> None:
    group = grown(1)
    group.replace("w0-g-0")
    assert group.roster.successor("w0-g-0") == "w0-g-1"
    assert group.eligible() == ["w0-g-0"]
    group.serve("w0-g-1")
    assert group.dismissed == ["w0-g-0"]
    assert group.eligible() == ["w0-g-1"]


def test_a_worker_is_replaced_once_at_a_time() -> None:
    group = grown(1)
    group.replace("w0-g-0")
    group.replace("w0-g-0")
    group.replace("nobody")
    assert group.spawned == ["w0-g-0", "w0-g-1"]


def test_a_new_worker_that_dies_leaves_the_old_one_in_its_place() -> None:
    group = grown(1)
    group.replace("w0-g-0")
    group.end("w0-g-1")
    group.wait(10)
    assert len(group.spawned) == 2
    assert (group.dismissed, group.eligible()) == ([], ["w0-g-0"])
    assert group.roster.successor("w0-g-0") is None


def test_when_the_old_worker_dies_first_the_new_one_has_its_place() -> None:
    group = grown(1)
    group.replace("w0-g-0")
    group.end("w0-g-0")
    group.wait(5)
    assert group.spawned == ["w0-g-0", "w0-g-1"]
    group.serve("w0-g-1")
    assert group.eligible() == ["w0-g-1"]


def test_when_the_new_worker_dies_too_soon_the_leaving_one_owns_again_until_another_serves() -> None:
    group = grown(1)
    group.replace("w0-g-0")
    group.serve("w0-g-1")
    group.end("w0-g-1")
    assert group.eligible() == ["w0-g-0"]
    group.wait(0.2)
    group.serve("w0-g-2")
    assert group.eligible() == ["w0-g-2"]
    assert group.dismissed == ["w0-g-0"]


def test_the_end_of_one_that_was_leaving_is_no_failure_of_its_place() -> None:
    group = grown(1)
    group.replace("w0-g-0")
    group.serve("w0-g-1")
    group.wait(STABLE_S + 1)
    group.end("w0-g-1")
    group.end("w0-g-0")
    assert group.spawned[2:] == ["w0-g-2"]


# ---- the end


def test_after_the_close_no_worker_is_started_and_ended_ones_are_reported() -> None:
    group = grown(2)
    group.do(group.roster.close(group.now))
    group.end("w0-g-0")
    group.wait(10)
    assert len(group.spawned) == 2
    assert group.eligible() == ["w1-g-1"]
    assert [each.name for each in group.part.departed] == ["w0-g-0"]


def test_a_closing_group_keeps_ownership_to_the_end_if_it_is_alone() -> None:
    group = grown(2)
    group.do(group.roster.close(group.now))
    assert group.eligible() == ["w0-g-0", "w1-g-1"]


def test_a_closing_group_gives_up_ownership_while_its_workers_still_run() -> None:
    group = grown(2)
    group.do(group.roster.others(True, group.now))
    assert group.eligible() == ["w0-g-0", "w1-g-1"]
    group.do(group.roster.close(group.now))
    assert group.eligible() == []
    assert len(group.part.members) == 2


def test_if_the_others_leave_too_the_last_leaving_workers_keep_ownership() -> None:
    group = grown(1)
    group.do(group.roster.others(True, group.now))
    group.do(group.roster.close(group.now))
    assert group.do(group.roster.others(True, group.now)) == []
    group.do(group.roster.others(False, group.now))
    assert group.eligible() == ["w0-g-0"]


def test_others_reach_a_worker_at_its_address() -> None:
    group = Group()
    group.resize(1)
    group.roster.reached_at("w0-g-0", "10.0.0.1:7000")
    group.serve("w0-g-0")
    assert [each.address for each in group.part.members] == ["10.0.0.1:7000"]


def test_views_have_the_parts_of_all_groups() -> None:
    here, there = Member("a", "unix:a"), Member("b", "10.0.0.2:7000")
    gone = Departed("c", None)
    view = merged_view(7, (MembershipPart((here,)), MembershipPart((there,), (gone,))))
    assert (view.epoch, view.members, view.departed) == (7, (here, there), (gone,))


# ---- any sequence of events

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(("join", "serve", "serve", "serve", "gone", "resize", "replace", "kill", "wait", "freeze")),
        st.integers(0, 7),
    ),
    max_size=80,
)


@given(EVENTS)
def test_under_any_events_no_name_is_reused_and_a_serving_worker_always_has_an_owner(
    events: list[tuple[str, int]],
) -> None:
    group = Group()
    group.resize(2)
    ended: set[str] = set()
    for event, number in events:
        names = list(group.roster.workers)
        name = names[number % len(names)] if names else ""
        before = group.eligible()
        dismissed = len(group.dismissed)
        happen(group, event, number, name)
        if event == "gone" and name:
            ended.add(name)
        phases = group.phases()
        # Exactly the running workers that have joined are members.
        members = [member.name for member in group.part.members]
        assert members == [each.name for each in group.roster.workers.values() if each.joined]
        assert not ended & set(members) and not ended & set(phases)
        assert len(set(group.spawned)) == len(group.spawned)
        # A serving worker owns; while any worker can own, one does.
        if {WorkerPhase.SERVING, WorkerPhase.DRAINING} & set(phases.values()):
            assert group.eligible()
        assert all(phases[each] in (WorkerPhase.SERVING, WorkerPhase.DRAINING) for each in group.eligible())
        # Nobody is sent away unless somebody else serves.
        if len(group.dismissed) > dismissed:
            assert WorkerPhase.SERVING in phases.values()
        if before and event not in ("gone", "kill", "freeze"):
            assert group.eligible()


def happen(group: Group, event: str, number: int, name: str) -> None:
    match event:
        case "resize":
            group.resize(1 + number % 4)
        case "wait":
            group.wait(0.1 + number)
        case "freeze":
            group.wait(2, lively=False)
        case "join" if name:
            group.do(group.roster.joined(name, group.now))
        case "serve" if name:
            group.serve(name)
        case "gone" if name:
            group.end(name, {"r": number})
        case "replace" if name:
            group.replace(name)
        case "kill" if name:
            group.do(group.roster.kill(name, "a test says so", group.now))


@given(EVENTS, st.integers(1, 4))
def test_left_alone_a_group_comes_to_have_just_the_workers_it_should(events: list[tuple[str, int]], count: int) -> None:
    group = Group()
    group.resize(2)
    for event, number in events:
        names = list(group.roster.workers)
        happen(group, event, number, names[number % len(names)] if names else "")
    group.resize(count)
    for _ in range(8):
        group.wait(max(RESTART_DELAYS_S) + 0.1)
        for name, phase in group.phases().items():
            if phase in (WorkerPhase.DRAINING, WorkerPhase.KILLED):
                group.end(name)
            elif phase is not WorkerPhase.SERVING:
                group.serve(name)
    assert list(group.phases().values()) == [WorkerPhase.SERVING] * count
    assert {worker.place for worker in group.roster.workers.values()} == set(range(count))
    assert len(group.eligible()) == count
