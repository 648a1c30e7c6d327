"""From JSON Schema to the structural schema of a CRD."""

from typing import Any

import pytest

from cluster.kubernetes.objects.structural import structural

NAMES = {"maxLength": 9, "minLength": 2}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "integer", "minimum": 1, "title": "N", "default": 5}, {"type": "integer", "minimum": 1}),
        ({"type": "number", "exclusiveMinimum": 0}, {"type": "number", "minimum": 0, "exclusiveMinimum": True}),
        ({"const": "a", "type": "string"}, {"enum": ["a"], "type": "string"}),
        (
            {"anyOf": [{"type": "string"}, {"type": "null"}], "description": "d"},
            {"type": "string", "description": "d", "nullable": True},
        ),
        (
            {"anyOf": [{"type": "string", "enum": ["a", "b"]}, {"type": "null"}]},
            {"type": "string", "pattern": "^(a|b)$", "nullable": True},
        ),
        ({"$ref": "#/$defs/Part", "description": "mine"}, {"type": "boolean", "description": "mine"}),
        (
            {"anyOf": [{"$ref": "#/$defs/Part"}, {"type": "null"}]},
            {"type": "boolean", "description": "part", "nullable": True},
        ),
        (
            {"type": "array", "items": {"$ref": "#/$defs/Part"}},
            {"type": "array", "items": {"type": "boolean", "description": "part"}},
        ),
        ({"type": "object", "additionalProperties": False}, {"type": "object"}),
        (
            {"type": "object", "additionalProperties": True},
            {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        ),
    ],
)
def test_a_schema_is_said_in_other_words(schema: dict[str, Any], expected: dict[str, Any]) -> None:
    assert structural(schema, {"Part": {"type": "boolean", "description": "part"}}) == expected


def test_the_names_in_a_mapping_are_bound_by_a_rule_and_null_is_no_value() -> None:
    made = structural({"type": "object", "additionalProperties": {"type": "string"}, "propertyNames": NAMES}, {})
    assert made["additionalProperties"] == {"type": "string", "nullable": True}
    names, nulls = made["x-kubernetes-validations"]
    assert names["rule"] == "self.all(name, size(name) >= 2 && size(name) <= 9)"
    assert "!= null" in nulls["rule"]


def test_a_pattern_of_names_is_part_of_that_rule() -> None:
    made = structural({"type": "object", "patternProperties": {"^a": {"type": "string"}}, "propertyNames": NAMES}, {})
    assert "propertyNames" not in made
    assert "name.matches('^a')" in made["x-kubernetes-validations"][0]["rule"]


@pytest.mark.parametrize(
    "schema",
    [{"type": "integer", "multipleOf": 5}, {"anyOf": [{"type": "string"}, {"type": "integer"}]}, {"anyOf": []}],
)
def test_nothing_is_dropped_unseen(schema: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="counterpart"):
        structural(schema, {})
