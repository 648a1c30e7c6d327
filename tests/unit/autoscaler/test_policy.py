"""The scaling rule, as tables and as properties."""

import copy
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.policy import Decision, Direction, Observation, ScalingRule, ScalingState, decide
from serving.endpoint import AutoscalePolicy, VersionKey

KEY = VersionKey("iris", "blue")
WINDOW_S = 60.0


def seen(busy_mean: float = 0.0, waiting: int = 0, complete: bool = True) -> Observation:
    return Observation(busy_mean, busy=round(busy_mean), waiting=waiting, total_slots=10, complete=complete)


UNIX_S = 1_800_000_000.0


def policy(least: int = 1, most: int = 10, target: float = 0.7, enabled: bool = True) -> AutoscalePolicy:
    return AutoscalePolicy(enabled, least, most, target, refresh_period_s=1.0, scale_down_window_s=WINDOW_S)


class Version:
    """One version's rule at work: remembers the state from decision to decision."""

    def __init__(self, desired: int = 1, rules: AutoscalePolicy | None = None, slots: int = 1) -> None:
        self.state = ScalingState(desired)
        self.rules = rules or policy()
        self.slots = slots

    def sees(self, observation: Observation, now: float) -> Decision:
        self.state, decision = decide(KEY, self.rules, self.slots, self.state, observation, now, UNIX_S)
        return decision

    def settled(self, observation: Observation, start_s: float = 0.0) -> "Version":
        """After a whole window of this."""
        for second in range(int(WINDOW_S) + 2):
            self.sees(observation, start_s + second)
        return self


@pytest.mark.parametrize(
    ("busy_mean", "waiting", "slots", "target", "wanted"),
    [
        (0.0, 0, 1, 0.7, 1),
        (0.7, 0, 1, 0.7, 1),
        (0.71, 0, 1, 0.7, 2),
        (7.0, 0, 1, 0.7, 10),  # float noise must not make it 11
        (2.1, 0, 1, 0.7, 3),
        (1.0, 4, 1, 0.7, 8),
        (0.0, 1, 1, 0.7, 2),
        (1.0, 4, 4, 0.7, 2),
        (5.0, 0, 1, 1.0, 5),
        (1e-9, 0, 1, 0.7, 1),
        (50.0, 0, 1, 0.7, 10),
    ],
)
def test_wanted_is_demand_over_slots_at_target_between_min_and_max(
    busy_mean: float, waiting: int, slots: int, target: float, wanted: int
) -> None:
    decision = Version(1, policy(target=target), slots).sees(seen(busy_mean, waiting), 5.0)
    assert (decision.wanted, decision.desired) == (wanted, wanted)
    assert decision.demand == busy_mean + waiting


def test_more_is_asked_for_in_the_very_decision_that_sees_the_need() -> None:
    decision = Version(desired=1).sees(seen(1.0, waiting=4), 0.0)
    assert (decision.previous, decision.desired, decision.direction) == (1, 8, Direction.UP)


def test_less_is_asked_for_when_it_was_enough_for_the_whole_window_and_then_the_most_that_was_wanted_in_it() -> None:
    version = Version(desired=1)
    version.sees(seen(6.3), 0.0)
    moves = {}
    for second in range(1, 200):
        busy = 2.1 if second == 30 else 0.5
        decision = version.sees(seen(busy), float(second))
        if decision.direction is not Direction.HOLD:
            moves[second] = (decision.direction, decision.desired)
    assert moves == {61: (Direction.DOWN, 3), 91: (Direction.DOWN, 1)}


def test_a_short_lull_gives_nothing_back() -> None:
    version = Version(desired=1).settled(seen(6.3))
    directions = {version.sees(seen(0.0 if now % 50 else 6.3), 100.0 + now).direction for now in range(300)}
    assert directions == {Direction.HOLD}


def test_after_a_restart_the_number_stands_until_a_whole_window_is_known() -> None:
    version = Version(desired=8)
    for second in range(60):
        decision = version.sees(seen(0.5), 1000.0 + second)
        assert (decision.desired, decision.rule) == (8, ScalingRule.WINDOW)
    assert version.sees(seen(0.5), 1060.0).desired == 1


def test_missing_data_raises() -> None:
    decision = Version(desired=2).sees(seen(3.5, complete=False), 0.0)
    assert (decision.desired, decision.direction) == (5, Direction.UP)


def test_missing_data_does_not_lower_and_the_end_of_an_outage_does_not_either() -> None:
    version = Version(desired=1).settled(seen(3.5))
    for second in range(300):
        decision = version.sees(seen(0.0, complete=False), 100.0 + second)
        assert (decision.desired, decision.rule) == (5, ScalingRule.INCOMPLETE)
    lowered = [second for second in range(100) if version.sees(seen(0.0), 400.0 + second).direction is Direction.DOWN]
    assert lowered == [60]


def test_missing_data_does_not_lower_although_the_window_ran_out_just_now() -> None:
    version = Version(desired=1).settled(seen(3.5))  # the last of it at 61 s
    for second in range(62, 122):
        assert version.sees(seen(0.0), float(second)).desired == 5
    assert version.sees(seen(0.0, complete=False), 122.0).desired == 5


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize(
    ("least", "most", "desired", "rule"),
    [(1, 3, 3, ScalingRule.MAX), (7, 9, 7, ScalingRule.MIN), (1, 10, 5, None), (5, 5, 5, None)],
)
def test_a_changed_policy_bounds_the_number_at_once(
    least: int, most: int, desired: int, rule: ScalingRule | None, complete: bool
) -> None:
    version = Version(desired=1).settled(seen(3.5))
    version.rules = policy(least, most)
    decision = version.sees(seen(1.4, complete=complete), 62.0)
    assert decision.desired == desired
    assert rule is None or decision.rule == rule
    assert (decision.direction is Direction.HOLD) == (desired == 5)


def test_a_lowered_maximum_that_is_raised_again_does_not_bring_back_the_old_number() -> None:
    version = Version(desired=1).settled(seen(6.9))
    version.rules = policy(most=4)
    version.sees(seen(0.5), 62.0)
    version.rules = policy()
    assert version.sees(seen(0.5), 63.0).desired == 4


@pytest.mark.parametrize(("length_s", "lowered_s"), [(600.0, 662), (20.0, 110)])
def test_a_changed_window_counts_from_the_next_decision(length_s: float, lowered_s: int) -> None:
    version = Version(desired=1).settled(seen(3.5))
    for second in range(62, 110):
        version.sees(seen(0.5), float(second))
    version.rules = replace(policy(), scale_down_window_s=length_s)
    lowered = [second for second in range(110, 900) if version.sees(seen(0.5), float(second)).desired < 5]
    assert lowered[0] == lowered_s


def test_a_fixed_number_is_kept_under_any_load() -> None:
    version = Version(desired=2, rules=policy(4, 4, enabled=False))
    decision = version.sees(seen(0.0, waiting=100, complete=False), 0.0)
    assert (decision.desired, decision.rule, decision.direction) == (4, ScalingRule.FIXED, Direction.UP)
    decision = version.sees(seen(0.0), 1.0)
    assert (decision.desired, decision.rule, decision.direction) == (4, ScalingRule.FIXED, Direction.HOLD)


def test_a_number_that_was_fixed_is_given_back_only_after_a_window_of_its_own() -> None:
    version = Version(desired=6, rules=policy(6, 6, enabled=False)).settled(seen(0.0))
    version.rules = policy()
    lowered = [second for second in range(62, 200) if version.sees(seen(0.0), float(second)).desired < 6]
    assert lowered[0] == 122


@pytest.mark.parametrize(
    ("desired", "observation", "rule", "sentence"),
    [
        (
            2,
            seen(4.2, waiting=3),
            ScalingRule.MAX,
            "Demand 7.20 (4.20 busy on average + 3 waiting) ÷ (1 slot × 70 %) needs 11 replicas; "
            "the maximum is 10: up from 2 to 10.",
        ),
        (2, seen(1.4), ScalingRule.DEMAND, "needs 2 replicas; that is what there should be: stays at 2."),
        (1, seen(1.4), ScalingRule.DEMAND, "needs 2 replicas; more is asked for at once: up from 1 to 2."),
        (1, seen(0.5), ScalingRule.MIN, "needs 1 replica; the minimum is 1: stays at 1."),
        (6, seen(0.5), ScalingRule.WINDOW, "only 0 s of the 60 s window are known: stays at 6."),
        (6, seen(0.5, complete=False), ScalingRule.INCOMPLETE, "which may raise but never lower: stays at 6."),
        (12, seen(0.5), ScalingRule.MAX, "the maximum is 10 now: down from 12 to 10."),
        (10, seen(7.0), ScalingRule.DEMAND, "needs 10 replicas; that is what there should be: stays at 10."),
        (0, seen(0.5), ScalingRule.MIN, "needs 1 replica; the minimum is 1 now: up from 0 to 1."),
    ],
)
def test_a_decision_says_why_with_its_numbers(
    desired: int, observation: Observation, rule: ScalingRule, sentence: str
) -> None:
    decision = Version(desired).sees(observation, 0.0)
    assert decision.rule == rule
    assert decision.reason.endswith(sentence)


def test_a_raised_minimum_and_a_fixed_number_are_reasons() -> None:
    version = Version(2, policy(least=3), slots=4)
    assert version.sees(seen(9.0, waiting=1), 0.0).reason.endswith(
        "÷ (4 slots × 70 %) needs 4 replicas; more is asked for at once: up from 2 to 4."
    )
    assert (
        Version(2, policy(3)).settled(seen(0.0)).sees(seen(0.0), 70.0).reason.endswith("the minimum is 3: stays at 3.")
    )
    fixed = Version(4, policy(4, 9, enabled=False)).sees(seen(5.0), 0.0)
    assert (fixed.desired, fixed.wanted) == (4, 4)
    assert fixed.reason.endswith("needs 8 replicas; the number is fixed: stays at 4.")


def test_a_decision_record_has_its_version_time_and_inputs() -> None:
    observation = seen(1.4)
    decision = Version(2).sees(observation, 7.0)
    assert (decision.key, decision.at_s, decision.observation) == (KEY, 7.0, observation)


def test_a_decision_that_lowers_names_the_peak_of_the_window() -> None:
    version = Version(desired=1).settled(seen(3.5))
    for second in range(62, 123):
        decision = version.sees(seen(1.4), float(second))
    assert decision.reason.endswith("the most that was wanted in the last 60 s is 2: down from 5 to 2.")


# ---- properties

POLICIES = st.tuples(st.integers(1, 5), st.integers(0, 40), st.integers(1, 100)).map(
    lambda drawn: policy(drawn[0], drawn[0] + drawn[1], drawn[2] / 100)
)
OBSERVATIONS = st.builds(
    seen, st.integers(0, 400).map(lambda tenths: tenths / 10), st.integers(0, 20), st.sampled_from([True, True, False])
)
STORIES = st.lists(st.tuples(st.sampled_from([0.0, 0.05, 1.0, 1.0, 20.0]), OBSERVATIONS), min_size=1, max_size=80)


def told(
    story: list[tuple[float, Observation]], rules: AutoscalePolicy, slots: int, desired: int
) -> list[tuple[float, Observation, Decision]]:
    version, now, decisions = Version(desired, rules, slots), 50.0, []
    for step_s, observation in story:
        now += step_s
        decisions.append((now, observation, version.sees(observation, now)))
    return decisions


@given(STORIES, POLICIES, st.integers(1, 8), st.integers(1, 60))
def test_the_number_is_always_between_min_and_max(
    story: list[tuple[float, Observation]], rules: AutoscalePolicy, slots: int, desired: int
) -> None:
    for _, _, decision in told(story, rules, slots, desired):
        assert rules.min_replicas <= decision.wanted <= decision.desired <= rules.max_replicas


@given(STORIES, POLICIES, st.integers(1, 8), st.integers(1, 60))
def test_the_number_is_never_lower_than_the_load_needs(
    story: list[tuple[float, Observation]], rules: AutoscalePolicy, slots: int, desired: int
) -> None:
    target = Fraction(round(rules.target_utilization * 100), 100)
    for _, _, decision in told(story, rules, slots, desired):
        enough = decision.desired * slots * target + Fraction(1, 1000) >= Fraction(decision.demand)
        assert enough or decision.desired == rules.max_replicas


@given(STORIES, POLICIES, st.integers(1, 8), st.integers(1, 60))
def test_missing_data_never_lowers(
    story: list[tuple[float, Observation]], rules: AutoscalePolicy, slots: int, desired: int
) -> None:
    for _, observation, decision in told(story, rules, slots, min(desired, rules.max_replicas)):
        assert observation.complete or decision.desired >= decision.previous


@given(STORIES, POLICIES, st.integers(1, 8), st.integers(1, 60), OBSERVATIONS, st.integers(1, 30))
def test_more_demand_never_means_fewer_replicas(
    story: list[tuple[float, Observation]],
    rules: AutoscalePolicy,
    slots: int,
    desired: int,
    last: Observation,
    more: int,
) -> None:
    version, now = Version(desired, rules, slots), 0.0
    for step_s, observation in story:
        now += step_s
        version.sees(observation, now)
    twin = copy.deepcopy(version)
    higher = seen(last.busy_mean, last.waiting + more, last.complete)
    assert twin.sees(higher, now + 1).desired >= version.sees(last, now + 1).desired


@given(STORIES, POLICIES, st.integers(1, 8), st.integers(1, 60))
def test_the_number_falls_only_to_the_most_that_was_wanted_in_a_whole_window(
    story: list[tuple[float, Observation]], rules: AutoscalePolicy, slots: int, desired: int
) -> None:
    """A reference without any cleverness: remember everything, look at all of it."""
    standing = max(rules.min_replicas, min(rules.max_replicas, desired))
    history: list[tuple[float, int]] = []
    for now, observation, decision in told(story, rules, slots, standing):
        history.append((now, decision.wanted if observation.complete else max(decision.wanted, standing)))
        ends = [*(at_s for at_s, _ in history[1:]), float("inf")]
        peak = max(value for (_, value), end_s in zip(history, ends, strict=True) if end_s > now - WINDOW_S)
        if decision.wanted >= standing:
            expected = decision.wanted
        elif observation.complete and now - WINDOW_S >= history[0][0]:
            expected = min(standing, peak)
        else:
            expected = standing
        assert decision.desired == expected
        standing = expected
