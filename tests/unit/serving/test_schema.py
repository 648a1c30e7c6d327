"""The JSON Schema agrees with the models."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given

from serving.faults import InvalidManifest
from serving.manifest import json_schema, parse, to_document
from tests.unit.serving.documents import document, valid_documents, version

SCHEMA = json_schema()
TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}
APPLIES_TO: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("minimum", "exclusiveMinimum", "maximum"), (int, float)),
    **dict.fromkeys(("minLength", "maxLength", "pattern"), str),
    **dict.fromkeys(("minItems", "maxItems", "items"), list),
    **dict.fromkeys(("properties", "required", "additionalProperties", "patternProperties", "propertyNames"), dict),
    "maxProperties": dict,
}
"""A keyword says nothing about values of other types."""
WRONG = yaml.safe_load((Path(__file__).parents[2] / "data" / "wrong_manifests.yaml").read_text(encoding="utf-8"))


def conforms(value: Any, schema: dict[str, Any]) -> bool:
    """The part of JSON Schema that the format uses; any other keyword fails the test."""
    if "$ref" in schema:
        return conforms(value, SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")])
    if "anyOf" in schema:
        return any(conforms(value, choice) for choice in schema["anyOf"])
    return all(
        holds(keyword, bound, value, schema)
        for keyword, bound in schema.items()
        if keyword not in APPLIES_TO or isinstance(value, APPLIES_TO[keyword])
    )


def holds(keyword: str, bound: Any, value: Any, schema: dict[str, Any]) -> bool:
    match keyword:
        case "type":
            return isinstance(value, TYPES[bound]) and (bound == "boolean" or not isinstance(value, bool))
        case "const":
            return value == bound
        case "enum":
            return value in bound
        case "minimum":
            return value >= bound
        case "exclusiveMinimum":
            return value > bound
        case "maximum":
            return value <= bound
        case "minLength" | "minItems" | "minProperties":
            return value is None or len(value) >= bound
        case "maxLength" | "maxItems" | "maxProperties":
            return len(value) <= bound
        case "pattern":
            # In JSON Schema, as in Rust, `$` is the very end.
            return re.search(bound.replace("$", r"\Z") if bound.endswith("$") else bound, value) is not None
        case "properties":
            return all(conforms(value[name], part) for name, part in bound.items() if name in value)
        case "required":
            return all(name in value for name in bound)
        case "additionalProperties":
            others = [item for name, item in value.items() if name not in schema.get("properties", {})]
            return not others if bound is False else bound is True or all(conforms(item, bound) for item in others)
        case "patternProperties":
            return all(conforms(item, part) for item in value.values() for part in bound.values())
        case "propertyNames":
            return all(conforms(name, bound) for name in value)
        case "items":
            return all(conforms(item, bound) for item in value)
        case "title" | "description" | "default" | "$defs" | "$schema":
            return True
        case _:
            raise AssertionError(f"unexpected keyword {keyword}")


def fields() -> dict[str, dict[str, Any]]:
    """Model.field -> its schema, for every field of the format."""
    parts = {"ScoringEndpoint": SCHEMA, **SCHEMA["$defs"]}
    return {f"{model}.{name}": field for model, part in parts.items() for name, field in part["properties"].items()}


def test_every_field_has_a_description() -> None:
    assert len(fields()) > 50
    assert [name for name, field in fields().items() if len(field.get("description", "")) < 15] == []


def test_a_description_gives_unit_rule_and_default() -> None:
    description = fields()["DeclaredVersion.scoringTimeoutMs"]["description"]
    assert "Milliseconds" in description
    assert "Must be a whole number from 1 to 300000." in description
    assert "Default: 60000." in description
    assert fields()["AutoScaler.targetUtilization"]["default"] == 70
    assert "Default: true." not in fields()["DeclaredVersion.isDefault"]["description"]
    assert "Default: false." in fields()["DeclaredVersion.isDefault"]["description"]


def test_a_mapping_allows_no_unknown_field() -> None:
    models = [SCHEMA, *SCHEMA["$defs"].values()]
    assert all(model["additionalProperties"] is False for model in models)


def test_it_is_plain_json() -> None:
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


@given(valid_documents())
def test_accepted_manifests_conform_with_and_without_defaults(candidate: dict[str, Any]) -> None:
    assert conforms(candidate, SCHEMA)
    assert conforms(to_document(parse(candidate)), SCHEMA)


def test_a_manifest_with_a_broken_field_does_not_conform() -> None:
    assert conforms(document(), SCHEMA)
    for wrong in ({"trafficPercentile": 101}, {"numReplicas": 0}, {"type": "control"}, {"colour": 1}, {"name": "X"}):
        assert not conforms(document({**version(), **wrong}), SCHEMA), wrong


def test_most_wrong_manifests_are_seen_by_the_schema_alone() -> None:
    """The rest breaks rules between fields, or rules that JSON Schema cannot say."""
    seen = [case["name"] for case in WRONG if not conforms(case["manifest"], SCHEMA)]
    assert len(seen) > len(WRONG) / 2


def test_more_than_a_thousand_environment_variables_are_refused_by_both() -> None:
    for count in (1000, 1001):
        many = document(version(replica={"image": "m:1", "env": {f"V{number}": "" for number in range(count)}}))
        assert conforms(many, SCHEMA) == (count == 1000)
        if count == 1000:
            parse(many)
        else:
            with pytest.raises(InvalidManifest, match=r"replica.env: must be a mapping of at most 1000"):
                parse(many)
