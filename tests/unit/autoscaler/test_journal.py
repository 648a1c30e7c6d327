"""Recorded decisions."""

from autoscaler.journal import SAME_RULE_EVERY_S, Journal
from autoscaler.policy import Decision, Direction, Observation, ScalingRule
from serving.endpoint import VersionKey


def decision(at_s: float, rule: ScalingRule, direction: Direction = Direction.HOLD) -> Decision:
    nothing = Observation(0.0, 0, 0, 0, True)
    return Decision(VersionKey("iris", "blue"), at_s, 1, 1, 1, direction, rule, "", nothing, 0.0)


def recorded(*decisions: Decision) -> list[tuple[float, str]]:
    journal = Journal()
    return [(each.at_s, each.rule) for each in decisions if journal.wants(each)]


def test_every_change_is_recorded() -> None:
    story = [decision(float(at), ScalingRule.DEMAND, Direction.UP) for at in range(5)]
    assert len(recorded(*story)) == 5


def test_of_decisions_that_hold_by_the_same_rule_the_first_is_recorded() -> None:
    story = [decision(float(at), ScalingRule.MIN if at < 10 else ScalingRule.INCOMPLETE) for at in range(20)]
    assert recorded(*story) == [(0.0, ScalingRule.MIN), (10.0, ScalingRule.INCOMPLETE)]


def test_a_rule_that_just_explained_a_change_is_not_recorded_again() -> None:
    story = [
        decision(0.0, ScalingRule.DEMAND, Direction.UP),
        decision(1.0, ScalingRule.DEMAND),
        decision(2.0, ScalingRule.WINDOW),
    ]
    assert recorded(*story) == [(0.0, ScalingRule.DEMAND), (2.0, ScalingRule.WINDOW)]


def test_a_load_that_wavers_between_two_rules_leaves_a_record_of_each_per_minute_at_most() -> None:
    story = [
        decision(float(at), ScalingRule.DEMAND if at % 2 else ScalingRule.WINDOW)
        for at in range(int(3 * SAME_RULE_EVERY_S))
    ]
    times = [at_s for at_s, _ in recorded(*story)]
    assert times[:2] == [0.0, 1.0]
    assert len(times) == 6


def test_after_a_change_each_rule_may_explain_itself_anew() -> None:
    story = [
        decision(0.0, ScalingRule.WINDOW),
        decision(1.0, ScalingRule.DEMAND, Direction.UP),
        decision(2.0, ScalingRule.WINDOW),
    ]
    assert len(recorded(*story)) == 3
