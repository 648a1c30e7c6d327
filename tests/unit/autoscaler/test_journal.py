"""Which decisions are recorded."""

from autoscaler.journal import SAME_RULE_EVERY_S, Journal
from autoscaler.policy import Decision, Direction, Observation, Rule
from serving.endpoint import VersionKey


def decision(at_s: float, rule: Rule, direction: Direction = Direction.HOLD) -> Decision:
    nothing = Observation(0.0, 0, 0, 0, True)
    return Decision(VersionKey("iris", "blue"), at_s, 1, 1, 1, direction, rule, "", nothing, 0.0)


def recorded(*decisions: Decision) -> list[tuple[float, str]]:
    journal = Journal()
    return [(each.at_s, each.rule) for each in decisions if journal.wants(each)]


def test_every_change_is_recorded():
    story = [decision(float(at), Rule.DEMAND, Direction.UP) for at in range(5)]
    assert len(recorded(*story)) == 5


def test_of_decisions_that_hold_by_the_same_rule_the_first_is_recorded():
    story = [decision(float(at), Rule.MIN if at < 10 else Rule.INCOMPLETE) for at in range(20)]
    assert recorded(*story) == [(0.0, Rule.MIN), (10.0, Rule.INCOMPLETE)]


def test_a_rule_that_just_explained_a_change_is_not_told_again():
    story = [decision(0.0, Rule.DEMAND, Direction.UP), decision(1.0, Rule.DEMAND), decision(2.0, Rule.WINDOW)]
    assert recorded(*story) == [(0.0, Rule.DEMAND), (2.0, Rule.WINDOW)]


def test_a_load_that_wavers_between_two_rules_leaves_a_record_of_each_per_minute_at_most():
    story = [decision(float(at), Rule.DEMAND if at % 2 else Rule.WINDOW) for at in range(int(3 * SAME_RULE_EVERY_S))]
    times = [at_s for at_s, _ in recorded(*story)]
    assert times[:2] == [0.0, 1.0]
    assert len(times) == 6


def test_after_a_change_each_rule_may_explain_itself_anew():
    story = [
        decision(0.0, Rule.WINDOW),
        decision(1.0, Rule.DEMAND, Direction.UP),
        decision(2.0, Rule.WINDOW),
    ]
    assert len(recorded(*story)) == 3
