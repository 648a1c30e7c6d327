"""Recorded inputs of scaling decisions, and their replay through a changed policy."""

from dataclasses import replace

import pytest

from autoscaler.input_log import KEPT_S, InputLog, ScalingInput, what_if
from autoscaler.policy import Observation
from autoscaler.policy_text import policy_changes, policy_text, with_changes
from autoscaler.replica_facts import ReplicaFacts
from serving.endpoint import AutoscalePolicy, VersionKey

KEY, OTHER = VersionKey("iris", "blue"), VersionKey("iris", "green")
FACTS = ReplicaFacts(ready=1)


def given(at_s: float, busy_mean: float = 0.0, desired: int = 1) -> ScalingInput:
    observation = Observation(busy_mean, round(busy_mean), 0, desired, complete=True)
    return ScalingInput(at_s, observation, FACTS, desired)


def test_equal_inputs_in_a_row_are_kept_once() -> None:
    log = InputLog()
    for at_s in range(100):
        log.add(KEY, given(float(at_s)))
    log.add(KEY, given(100.0, 2.0))
    log.add(KEY, given(101.0, 2.00001))  # the same to three digits
    assert [each.at_s for each in log.of(KEY)] == [0.0, 100.0]


def test_an_hour_is_kept_and_the_input_in_force_at_its_beginning() -> None:
    log = InputLog()
    for at_s in range(0, 7200, 10):
        log.add(KEY, given(float(at_s), at_s / 10))
    kept = log.of(KEY)
    assert kept[-1].at_s == 7190.0
    assert kept[0].at_s <= 7190.0 - KEPT_S < kept[1].at_s


def test_all_versions_share_one_bound() -> None:
    log = InputLog(most=10)
    for at_s in range(12):
        log.add(KEY, given(float(at_s), float(at_s)))
    log.add(OTHER, given(12.0))
    assert len(log.of(KEY)) + len(log.of(OTHER)) == 10 and len(log.of(OTHER)) == 1
    log.forget(KEY)
    assert log.of(KEY) == ()


def test_the_same_policy_makes_no_difference() -> None:
    policy = AutoscalePolicy(max_replicas=20)
    inputs = [given(0.0), given(10.0, 7.0, 10), given(20.0, 0.0, 10)]
    found = what_if(KEY, policy, 1, inputs, 60.0)
    assert found.differences == ()
    assert found.recorded_replica_seconds == found.alternative_replica_seconds == pytest.approx(10 * 1 + 50 * 10)


def test_a_lower_target_wants_more_at_the_same_time_and_says_why() -> None:
    policy = AutoscalePolicy(max_replicas=20)
    inputs = [given(0.0), given(10.0, 7.0, 10), given(20.0, 0.0, 10)]
    found = what_if(KEY, replace(policy, target_utilization=0.5), 1, inputs, 60.0)
    (difference,) = found.differences
    assert (difference.from_s, difference.to_s, difference.recorded, difference.alternative) == (10.0, 60.0, 10, 14)
    assert "up from 1 to 14" in difference.reason
    assert found.alternative_replica_seconds == pytest.approx(10 * 1 + 50 * 14)


def test_a_shorter_window_gives_replicas_back_earlier() -> None:
    inputs = [given(0.0), given(10.0, 7.0, 10), given(20.0, 0.0, 10)]
    found = what_if(KEY, AutoscalePolicy(max_replicas=20, scale_down_window_s=10.0), 1, inputs, 60.0)
    (difference,) = found.differences
    assert (difference.recorded, difference.alternative) == (10, 1)
    assert 29.0 <= difference.from_s <= 31.0


def test_the_outcome_moves_to_another_clock() -> None:
    found = what_if(KEY, AutoscalePolicy(min_replicas=3), 1, [given(5.0)], 15.0).shifted(100.0)
    assert (found.from_s, found.to_s) == (105.0, 115.0)
    assert (found.differences[0].from_s, found.differences[0].to_s) == (105.0, 115.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be NAME=N with one of target, min, max, window, refresh"),
        ("target=0", "target: must be a whole number from 1 to 100; got '0'"),
        ("min=1,min=2", "each once"),
        ("min=x", "min: must be a whole number"),
    ],
)
def test_a_wrong_change_is_named_with_its_rule(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        policy_changes(text)


def test_changes_apply_and_the_bounds_must_fit() -> None:
    changed = with_changes(AutoscalePolicy(), policy_changes("target=50, min=2,max=5,window=30"))
    assert policy_text(changed) == "target=50,min=2,max=5,window=30"
    with pytest.raises(ValueError, match=r"min: must be at most max \(10\); got 11"):
        with_changes(AutoscalePolicy(), {"min": 11})
