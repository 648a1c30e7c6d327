"""The CRD agrees with the models, and the file in deploy/ is the CRD."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from cluster.kubernetes.objects.crd import at, crd, schema
from cluster.kubernetes.objects.endpoint_status import EndpointStatus, Trouble, VersionStatus, status_of
from cluster.kubernetes.objects.validations import (
    ADDRESS,
    ANNOTATIONS,
    CORS_LISTS,
    CROSS_FIELD,
    ISSUER,
    LABELS,
    OBJECT,
    PULL_SECRET,
    REPLICA,
    RESOURCES,
    SCALER,
    SECRET_NAME,
    SPEC,
    SPLIT_BY,
    STATIC,
    TOLERATION,
    VERSION,
    WORKLOAD,
)
from scorefront.print_crd import text
from serving import access_rules, rules
from serving.models import API_VERSION, KIND
from serving.schema import json_schema
from tests.unit.serving.documents import valid_documents

FILE = Path(__file__).parents[5] / "deploy" / "base" / "crd.yaml"
SCHEMA = schema()
VERSIONS = ("spec", "versions")


def test_the_crd_file_is_generated_from_the_models() -> None:
    assert FILE.read_text(encoding="utf-8") == text(), "make crd"


def test_it_is_served_under_the_name_that_manifests_give() -> None:
    [served] = crd()["spec"]["versions"]
    assert f"{crd()['spec']['group']}/{served['name']}" == API_VERSION
    assert crd()["spec"]["names"]["kind"] == KIND
    assert crd()["metadata"]["name"] == "scoringendpoints.scorefront.io"
    assert served["subresources"] == {"status": {}}
    assert [column["name"] for column in served["additionalPrinterColumns"]] == [
        "Ready",
        "Replicas",
        "Default",
        "URL",
        "Age",
    ]


def fields(part: dict[str, Any], definitions: dict[str, Any], place: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The place of every field that the models have, below `place`."""
    for choice in (part, *part.get("anyOf", ())):
        if "$ref" in choice:
            choice = definitions[choice["$ref"].removeprefix("#/$defs/")]
        for name, field in choice.get("properties", {}).items():
            yield (*place, name)
            yield from fields(field, definitions, (*place, name))
        if "items" in choice:
            yield from fields(choice["items"], definitions, (*place, "[]"))


def test_every_field_of_the_models_is_in_it_and_no_other() -> None:
    source = json_schema()
    expected = set(fields(source["properties"]["spec"], source["$defs"], ("spec",)))
    found = set(fields(SCHEMA["properties"]["spec"], {}, ("spec",)))
    pod_template = (*REPLICA, "podTemplate")
    assert len(expected) > 50
    assert found - expected == {
        *((*pod_template, "spec"), (*pod_template, "spec", "containers")),
        *((*pod_template, "metadata", *inner) for inner in ((), ("labels",), ("annotations",))),
    }
    assert expected - found == set()


def parts(part: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(part, dict):
        yield place, part
        for name, inner in part.items():
            yield from parts(inner, f"{place}.{name}")


def test_nothing_is_filled_in_by_the_api_server() -> None:
    schemas = [(place, part) for place, part in parts(SCHEMA) if "type" in part and isinstance(part["type"], str)]
    assert len(schemas) > 50
    assert [place for place, part in schemas if "default" in part] == []


def test_unknown_fields_are_kept_in_a_pod_template_only() -> None:
    keeping = {place for place, part in parts(SCHEMA) if part.get("x-kubernetes-preserve-unknown-fields")}
    assert keeping and all(".podTemplate" in place for place in keeping)


def test_lists_that_must_not_repeat_themselves_say_so() -> None:
    assert at(SCHEMA, VERSIONS)["x-kubernetes-list-map-keys"] == ["name"]
    assert at(SCHEMA, STATIC)["x-kubernetes-list-type"] == "set"


SAID_WHERE = {
    "_reserved_versions": lambda: says(OBJECT, "Deployments of scorefront"),
    "_unique_workloads": lambda: says(SPEC, "workloadRef must be unique"),
    "_foreign_workload": lambda: says(WORKLOAD, "a Deployment of scorefront itself"),
    "_number_of_versions": lambda: {"minItems", "maxItems"} <= at(SCHEMA, VERSIONS).keys(),
    "_unique_names": lambda: at(SCHEMA, VERSIONS)["x-kubernetes-list-type"] == "map",
    "_traffic_sum": lambda: says(SPEC, "add up to at most 100"),
    "_one_default": lambda: says(SPEC, "the default"),
    "_one_control": lambda: says(SPEC, "the Control"),
    "one_auth": lambda: says(SPEC, "exclude each other"),
    "lone_wildcards": lambda: all(says(place, access_rules.LONE_WILDCARD_RULE) for place in CORS_LISTS),
    "token_issuers": lambda: says(SPEC, access_rules.ISSUER_AUTH_RULE) and says(ISSUER, access_rules.ISSUER_URL_RULE),
    "one_split_value": lambda: says(SPLIT_BY, access_rules.ONE_SPLIT_RULE),
    "_one_kind": lambda: says(REPLICA, f"exactly one of {', '.join(rules.KINDS)}"),
    "_companions": lambda: all(f".{field}" in fields_named(REPLICA) for field in rules.COMPANIONS),
    "_reserved_variables": lambda: says(REPLICA, "env must leave out the variables that scorefront sets"),
    "_program": lambda: says((*REPLICA, "command"), "not empty"),
    "_unique_addresses": lambda: says(STATIC, "unique"),
    "_pod_template": lambda: at(SCHEMA, (*REPLICA, "podTemplate", "spec"))["required"] == ["containers"],
    "_template_notes": lambda: says(LABELS, "is reserved") and says(ANNOTATIONS, "is reserved"),
    "_secret_variables": lambda: says(REPLICA, rules.NAMED_TWICE) and says(SECRET_NAME, rules.OWN_SECRETS_RULE),
    "_pull_secrets": lambda: says(PULL_SECRET, rules.OWN_SECRETS_RULE),
    "_tolerations": lambda: all(
        says(TOLERATION, rule) for rule in (rules.TOLERATED_KEY, rules.TOLERATED_TIME, rules.TOLERATED_VALUE)
    ),
    "_never_scaled": lambda: says(VERSION, "never scaled"),
    "_fixed_or_scaled": lambda: says(VERSION, "autoscaling is off") and says(VERSION, "is required while"),
    "_least_below_most": lambda: says(SCALER, "at most maxReplicas"),
    "_request_below_limit": lambda: fields_named(RESOURCES) == {".cpuLimit", ".memoryInGBLimit"},
}
"""Every rule of `serving.rules` -> True if the CRD has it too."""


def says(place: tuple[str, ...], words: str) -> bool:
    return any(words in rule["message"] for rule in at(SCHEMA, place)["x-kubernetes-validations"])


def fields_named(place: tuple[str, ...]) -> set[str]:
    return {rule["fieldPath"] for rule in at(SCHEMA, place)["x-kubernetes-validations"] if "fieldPath" in rule}


def test_no_rule_between_fields_is_forgotten() -> None:
    every = (*rules.DOCUMENT_RULES, *rules.SPEC_RULES, *rules.VERSION_RULES)
    assert {check.__name__ for check in every} == SAID_WHERE.keys()


@pytest.mark.parametrize("rule", SAID_WHERE)
def test_a_rule_between_fields_is_said_in_the_crd(rule: str) -> None:
    assert SAID_WHERE[rule]()


@pytest.mark.parametrize("place", CROSS_FIELD, ids=".".join)
def test_a_rule_speaks_of_fields_that_exist(place: tuple[str, ...]) -> None:
    part = at(SCHEMA, place)
    for validation in part["x-kubernetes-validations"]:
        known = {"versions", "replica", "autoScaler", *part.get("properties", {})}
        assert set(re.findall(r"self\.([A-Za-z]+)(?!\w*\()", validation["rule"])) <= known, validation
        assert validation.get("fieldPath", "").removeprefix(".").partition(".")[0] in {"", *known}


def test_an_address_is_bound_in_length_and_by_rules() -> None:
    assert at(SCHEMA, ADDRESS)["maxLength"] == 259
    assert len(at(SCHEMA, ADDRESS)["x-kubernetes-validations"]) == 4


def conforms(value: Any, part: dict[str, Any], place: str = "") -> list[str]:
    """Places of a value that violate the schema; the rules in CEL aside."""
    if value is None:
        return [] if part.get("nullable") else [f"{place}: null"]
    kinds: dict[str, type | tuple[type, ...]] = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
    }
    if not isinstance(value, kinds[part["type"]]):
        return [f"{place}: {value!r} is no {part['type']}"]
    found = []
    if "enum" in part and value not in part["enum"]:
        found.append(f"{place}: {value!r}")
    if isinstance(value, dict):
        known, others = part.get("properties", {}), part.get("additionalProperties")
        found += [f"{place}.{name}: missing" for name in part.get("required", ()) if name not in value]
        for name, inner in value.items():
            inside = known.get(name, others)
            if inside is not None:
                found += conforms(inner, inside, f"{place}.{name}")
            elif not part.get("x-kubernetes-preserve-unknown-fields"):
                found.append(f"{place}.{name}: unknown")
    if isinstance(value, list):
        found += [
            line for index, item in enumerate(value) for line in conforms(item, part["items"], f"{place}[{index}]")
        ]
    return found


@given(valid_documents())
def test_valid_objects_fit_the_schema(manifest: dict[str, Any]) -> None:
    assert (
        conforms(manifest, {**SCHEMA, "properties": {**SCHEMA["properties"], "metadata": at(SCHEMA, ("metadata",))}})
        == []
    )


def test_a_written_status_fits_the_schema() -> None:
    version = VersionStatus("blue", 1, 2, 3, 4, selector="app=own", limited="x", conflict="y")
    keys = {"primarySha256": "0" * 64, "secondarySha256": "f" * 64}
    seen = EndpointStatus("iris", 1, (version,), "blue", "http://x", keys, Trouble("Why", "because"), "u-1.00")
    status = status_of(None, seen, "2026-01-01T00:00:00Z")
    assert conforms(status, at(SCHEMA, ("status",))) == []
    assert status.keys() == at(SCHEMA, ("status",))["properties"].keys()
    assert conforms(status_of(None, EndpointStatus("iris", 1), "2026-01-01T00:00:00Z"), at(SCHEMA, ("status",))) == []


def test_a_status_of_another_shape_would_be_seen() -> None:
    assert conforms({"colour": "red", "replicas": "2", "versions": [{}]}, at(SCHEMA, ("status",))) == [
        ".colour: unknown",
        ".replicas: '2' is no integer",
        ".versions[0].name: missing",
    ]
