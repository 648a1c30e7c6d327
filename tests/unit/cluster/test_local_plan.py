"""Scaling and rolling replacement of one version, step by step in a small made-up fleet."""

from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from cluster.local.replacement import SURGE, ActiveReplica, ReplacementPlan, plan


def standing(*marks: str) -> list[ActiveReplica]:
    """Oldest first; r ready, s starting, upper case: of an older template."""
    return [ActiveReplica(str(age), age, mark.lower() == "r", mark.islower()) for age, mark in enumerate(marks)]


def test_missing_replicas_are_started_all_at_once() -> None:
    assert plan(50, standing("r")) == ReplacementPlan(start=49)


def test_as_many_as_wanted_is_left_alone() -> None:
    assert plan(2, standing("r", "s")) == ReplacementPlan()


def test_those_not_ready_go_first_then_the_youngest() -> None:
    assert plan(2, standing("r", "s", "r", "r")).retire == ("1", "3")
    assert plan(0, standing("r", "s")).retire == ("1", "0")


def test_a_new_template_starts_one_before_it_takes_one() -> None:
    assert plan(3, standing("R", "R", "R")) == ReplacementPlan(start=1)
    assert plan(3, standing("R", "R", "R", "s")) == ReplacementPlan()
    assert plan(3, standing("R", "R", "R", "r")) == ReplacementPlan(start=1, retire=("2",))


def test_a_large_fleet_is_replaced_a_quarter_at_a_time() -> None:
    assert plan(8, standing(*"RRRRRRRR")) == ReplacementPlan(start=2)


def test_old_replicas_that_serve_nothing_go_at_once() -> None:
    assert plan(2, standing("S", "S")) == ReplacementPlan(start=2, retire=("0", "1"))


def test_scaling_up_goes_on_while_templates_change() -> None:
    assert plan(6, standing("R", "R")) == ReplacementPlan(start=5)


@dataclass
class Fleet:
    """The target of plans: nothing happens by itself."""

    members: list[ActiveReplica]
    age: int = 1000
    serving_least: int = field(init=False, default=10**6)

    def settle(self, wanted: int) -> bool:
        todo = plan(wanted, self.members)
        self.members = [one for one in self.members if one.id not in todo.retire]
        for _ in range(todo.start):
            self.age += 1
            self.members.append(ActiveReplica(f"n{self.age}", self.age, False, True))
        self.serving_least = min(self.serving_least, sum(one.ready for one in self.members))
        return bool(todo.start or todo.retire)

    def make_ready(self, chosen: int) -> None:
        waiting = [at for at, one in enumerate(self.members) if not one.ready and one.current]
        if waiting:
            at = waiting[chosen % len(waiting)]
            self.members[at] = replace(self.members[at], ready=True)


fleets = st.lists(st.sampled_from("rsRS"), max_size=12).map(lambda marks: standing(*marks))


@given(fleets, st.integers(0, 12), st.lists(st.integers(0, 99), min_size=40, max_size=40))
def test_every_fleet_arrives_without_serving_less_than_it_could(
    members: list[ActiveReplica], wanted: int, choices: list[int]
) -> None:
    fleet = Fleet(members)
    able = min(wanted, sum(one.ready for one in members))
    for chosen in choices:
        while fleet.settle(wanted):
            limit = max(wanted + max(1, int(wanted * SURGE)), len(members))
            assert len(fleet.members) <= limit
        fleet.make_ready(chosen)
    assert len(fleet.members) == wanted and all(one.current and one.ready for one in fleet.members)
    assert fleet.serving_least >= able


@given(fleets, st.integers(0, 12))
def test_a_template_that_never_gets_ready_takes_no_serving_replica(members: list[ActiveReplica], wanted: int) -> None:
    fleet = Fleet(members)
    able = min(wanted, sum(one.ready for one in members))
    for _ in range(20):
        fleet.settle(wanted)
    assert sum(one.ready for one in fleet.members) >= able
