"""Rights that are taken away, and the count of a rival's fights."""

from typing import Any

import pytest

from tests.cluster.played.causes import Right, every_right, fewer
from tests.cluster.played.records import Scale
from tests.cluster.played.rivals import raises

RULES: list[dict[str, Any]] = [
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
    {"apiGroups": ["apps"], "resources": ["deployments/scale", "statefulsets/scale"], "verbs": ["update"]},
    {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"], "verbs": ["get"]},
]


@pytest.mark.parametrize(
    ("right", "left"),
    [
        (Right("control", "", "pods", "get"), [{**RULES[0], "verbs": ["list"]}, *RULES[1:]]),
        (
            Right("control", "apps", "deployments/scale", "update"),
            [RULES[0], {**RULES[1], "resources": ["statefulsets/scale"]}, RULES[2]],
        ),
        (Right("control", "", "secrets", "get"), RULES[:2]),
        (Right("control", "apps", "pods", "get"), RULES),
    ],
    ids=str,
)
def test_one_right_is_taken_away_and_no_other(right: Right, left: list[dict[str, Any]]) -> None:
    assert list(fewer(RULES, right)) == left


def test_every_right_is_named_once() -> None:
    found = every_right()
    assert len(found) == len(set(found)) > 50
    assert {each.process for each in found} == {"router", "control"}


def test_a_number_that_is_raised_again_is_a_fight() -> None:
    numbers = [1, 6, 1, 6, 1, 1, 2]
    assert raises([Scale(float(at), "w", number) for at, number in enumerate(numbers)]) == 3
