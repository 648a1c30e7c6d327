"""F3: the admission policy asks for the requester's own rights. A real API server tries it in tests/cluster."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.models import MAX_VERSIONS
from tests.unit.deploy.conftest import CHART, Objects, build, chart, overlay

__all__ = ["build", "chart", "overlay"]

FILE = Path(__file__).parents[2] / "deploy" / "base" / "admission.yaml"
POLICY, BINDING = yaml.safe_load_all(FILE.read_text(encoding="utf-8"))
SPEC: dict[str, Any] = POLICY["spec"]
AUTHORIZATION_CHECKS = 2
"""Per expression; Kubernetes' CEL cost limit (1,000,000) allows no more at 350,000 each."""
ALL_CHECKS = 28
"""In all expressions of one policy: 10,000,000."""
EXPRESSIONS = [
    *(each["expression"] for part in ("matchConditions", "variables", "validations") for each in SPEC[part]),
    *(each["messageExpression"] for each in SPEC["validations"]),
]


def test_it_denies_and_fails_closed() -> None:
    assert POLICY["kind"] == "ValidatingAdmissionPolicy"
    assert (POLICY["apiVersion"], BINDING["apiVersion"]) == ("admissionregistration.k8s.io/v1",) * 2
    assert SPEC["failurePolicy"] == "Fail"
    assert BINDING["spec"] == {"policyName": POLICY["metadata"]["name"], "validationActions": ["Deny"]}
    [rule] = SPEC["matchConstraints"]["resourceRules"]
    assert rule["operations"] == ["CREATE", "UPDATE"]
    # Not status, written by the control plane; deletion and finalizers do not affect the question.
    assert rule["resources"] == ["scoringendpoints"]


@pytest.mark.parametrize(
    ("right", "words"),
    [
        ("deployments", "check('create')"),
        ("deployments/scale", "check('update')"),
        ("statefulsets/scale", "check('update')"),
        ("secrets", "check('get')"),
    ],
)
def test_every_right_that_is_lent_is_asked_for(right: str, words: str) -> None:
    resource, _, sub = right.partition("/")
    asking = [each for each in EXPRESSIONS if f"'{resource}'" in each and words in each]
    assert any(f"subresource('{sub}')" in each if sub else "subresource" not in each for each in asking)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_no_expression_costs_more_than_the_api_server_allows(expression: str) -> None:
    assert expression.count(".check(") <= AUTHORIZATION_CHECKS
    assert len(expression) < 5_000


def test_all_expressions_cost_no_more_than_the_api_server_allows() -> None:
    assert sum(each.count(".check(") for each in EXPRESSIONS) <= ALL_CHECKS


def test_every_adopted_workload_of_six_versions_is_asked_for() -> None:
    found = [
        re.findall(r"variables\.adopted\[(\d)\]", each["expression"])
        for each in SPEC["validations"]
        if "variables.adopted[" in each["expression"]
    ]
    assert found == [[str(index)] * 2 for index in range(MAX_VERSIONS)]


def test_a_list_that_is_cut_off_is_refused() -> None:
    [bound] = [each["expression"] for each in SPEC["validations"] if "references) <=" in each["expression"]]
    named = [each for each in SPEC["validations"] if "variables.secrets[" in each["expression"]]
    assert f"size(variables.secrets) <= {len(named)}" in bound
    [secrets] = [each["expression"] for each in SPEC["variables"] if each["name"] == "secrets"]
    indexes = secrets[1 : secrets.index("]")].split(",")
    assert f"size(variables.references) <= {len(indexes)}" in bound


def test_variables_are_defined_before_they_are_used() -> None:
    known: set[str] = set()
    for each in SPEC["variables"]:
        assert set(re.findall(r"variables\.(\w+)", each["expression"])) <= known, each["name"]
        known.add(each["name"])
    for expression in EXPRESSIONS:
        assert set(re.findall(r"variables\.(\w+)", expression)) <= known


@pytest.mark.parametrize("name", ["dev-test", "production", "production-without-prometheus"])
def test_every_overlay_has_it(name: str, overlay: Callable[[str], Objects]) -> None:
    rendered = overlay(name)
    assert rendered["ValidatingAdmissionPolicy", "scorefront-authors"]["spec"] == SPEC
    assert rendered["ValidatingAdmissionPolicyBinding", "scorefront-authors"]["spec"] == BINDING["spec"]


def test_the_chart_has_it_word_for_word() -> None:
    assert (CHART / "files" / "admission.yaml").resolve() == FILE.resolve()
    assert 'Files.Get "files/admission.yaml"' in (CHART / "templates" / "copied.yaml").read_text(encoding="utf-8")


def test_the_right_to_speak_for_others_is_one_that_no_wildcard_of_our_group_grants() -> None:
    [condition] = SPEC["matchConditions"]
    assert "group('authors.scorefront.io')" in condition["expression"]
    assert "represent" in condition["expression"]
