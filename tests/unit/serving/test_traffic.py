"""Division of traffic."""

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.endpoint import Endpoint
from serving.faults import InvalidManifest
from serving.manifest import parse, to_document, to_endpoint
from serving.traffic import effective_shares, with_traffic
from tests.unit.serving.documents import document, splits, version


def endpoint(percentiles: dict[str, float | None], default: str | None = None) -> Endpoint:
    return to_endpoint(
        parse(
            document(*(version(n, trafficPercentile=p, isDefault=n == default) for n, p in percentiles.items())),
        )
    )


VECTORS = [
    ({"aaa": 20}, "aaa", {"aaa": 1.0}),
    ({"aaa": 20, "bbb": 10}, "aaa", {"aaa": 0.9, "bbb": 0.1}),
    ({"aaa": 20, "bbb": 40}, "bbb", {"aaa": 0.2, "bbb": 0.8}),
    ({"test": 10, "prod": 30, "third": None}, "third", {"test": 0.1, "prod": 0.3, "third": 0.6}),
]


@pytest.mark.parametrize(("percentiles", "default", "shares"), VECTORS)
def test_the_default_version_gets_the_unassigned_traffic(
    percentiles: dict[str, Any], default: str, shares: dict[str, float]
) -> None:
    assert effective_shares(percentiles, default) == pytest.approx(shares)
    assert {v.name: v.share for v in endpoint(percentiles, default).versions} == pytest.approx(shares)


def test_the_first_version_is_the_default_if_none_says_so() -> None:
    assert [v.share for v in endpoint({"aaa": None, "bbb": 12.5}).versions] == [0.875, 0.125]


@given(splits(), st.integers(0, 5))
def test_shares_follow_the_rule_and_sum_to_one(percentiles: list[Any], pick: int) -> None:
    by_name = {f"ver-{i}": percentile for i, percentile in enumerate(percentiles)}
    default = f"ver-{pick % len(percentiles)}"
    shares = effective_shares(by_name, default)
    unclaimed = 100 - sum(Fraction(percentile or 0) for percentile in percentiles)
    for name, percentile in by_name.items():
        expected = Fraction(percentile or 0) + (unclaimed if name == default else 0)
        assert shares[name] == pytest.approx(float(expected) / 100, abs=1e-9)
        assert shares[name] >= 0
    assert math.fsum(shares.values()) == pytest.approx(1, abs=1e-9)


def test_a_hair_of_binary_rounding_does_not_become_traffic() -> None:
    drawn = endpoint({"aaa": None, "bbb": 33.3, "ccc": 33.3, "ddd": 33.4}, "aaa")
    assert drawn.default.share == 0


# ---- another split


def test_a_traffic_change_keeps_the_unnamed_versions() -> None:
    declared = parse(
        document(version("blue", trafficPercentile=20, type="Control"), version("green"), authEnabled=False)
    )
    changed = with_traffic(declared, {"green": 40})
    before = to_document(declared)
    assert changed["spec"]["versions"][1].pop("trafficPercentile") == 40
    assert before["spec"]["versions"][1].pop("trafficPercentile") == 0
    assert changed == before


def test_the_default_and_the_control_move_from_one_version_to_another() -> None:
    declared = parse(document(version("blue", isDefault=True, type="Control"), version("green")))
    changed = to_endpoint(parse(with_traffic(declared, {"blue": 20}, default="green", control="green")))
    assert [(v.name, v.share, v.is_default, v.type.value) for v in changed.versions] == [
        ("blue", 0.2, False, "Treatment"),
        ("green", 0.8, True, "Control"),
    ]


def test_a_split_over_versions_that_do_not_exist_is_refused_with_each_of_them() -> None:
    declared = parse(document(version("blue"), version("green")))
    with pytest.raises(InvalidManifest) as refusal:
        with_traffic(declared, {"red": 10, "blue": 20}, default="pink", control="grey")
    assert [(fault.path, fault.value) for fault in refusal.value.faults] == [
        ("traffic.red", "red"),
        ("default", "pink"),
        ("control", "grey"),
    ]
    assert all("blue, green" in fault.rule for fault in refusal.value.faults)


def test_a_split_that_breaks_a_rule_is_left_to_the_judge() -> None:
    declared = parse(document(version("blue", trafficPercentile=70), version("green")))
    with pytest.raises(InvalidManifest) as refusal:
        parse(with_traffic(declared, {"green": 31}))
    assert [(fault.path, fault.value) for fault in refusal.value.faults] == [("spec.versions", 101)]
