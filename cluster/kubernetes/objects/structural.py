"""Turns a JSON Schema of pydantic into the structural schema of a CRD.

Rules beyond a structural schema are validation rules (bounds on names in a mapping) or the API server's own: strict
validation refuses unknown fields, so `additionalProperties: false` is left out.
"""

from collections.abc import Mapping
from typing import Any

PRESERVE = "x-kubernetes-preserve-unknown-fields"
VALIDATIONS = "x-kubernetes-validations"

Schema = dict[str, Any]

# No defaults: some rules depend on the fields that the user has set, and a stored default looks the same.
_LEFT_OUT = frozenset({"title", "default", "$defs", "$schema"})
_KEPT = frozenset(
    {
        *("type", "description", "enum", "required", "nullable"),
        *("minimum", "maximum", "minLength", "maxLength", "pattern", "minItems", "maxItems"),
        *("minProperties", "maxProperties"),
    }
)


def structural(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    """The structural schema of `schema`; `definitions` has its references.

    Raises ValueError for an unknown keyword: none is dropped silently.
    """
    if "$ref" in schema:
        return structural({**_referenced(schema["$ref"], definitions), **_less(schema, "$ref")}, definitions)
    if "anyOf" in schema:
        made = structural({**_or_null(schema["anyOf"]), **_less(schema, "anyOf"), "nullable": True}, definitions)
        # The API server accepts null for no value of an `enum`, not even if null is one of them.
        return {**_less(made, "enum"), "pattern": f"^({'|'.join(made['enum'])})$"} if "enum" in made else made
    said: Schema = {}
    for keyword, value in schema.items():
        said |= _translated(keyword, value, schema, definitions)
    return said


def _translated(keyword: str, value: Any, schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    match keyword:
        case "properties":
            return {keyword: {name: structural(part, definitions) for name, part in value.items()}}
        case "items":
            return {keyword: structural(value, definitions)}
        case "const":
            return {"enum": [value]}
        case "exclusiveMinimum":
            return {"minimum": value, "exclusiveMinimum": True}
        case "additionalProperties" if value is True:
            return {PRESERVE: True}
        case "additionalProperties" if value:
            return _entries(value, schema.get("propertyNames", {}), definitions)
        case "patternProperties":
            ((pattern, part),) = value.items()
            return _entries(part, {**schema.get("propertyNames", {}), "pattern": pattern}, definitions)
        case "additionalProperties" | "propertyNames":
            return {}
        case _ if keyword in _KEPT:
            return {keyword: value}
        case _ if keyword in _LEFT_OUT:
            return {}
        case _:
            raise ValueError(f"{keyword!r} has no counterpart in a structural schema")


def _entries(values: Mapping[str, Any], names: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    """A mapping with any names that keep the bounds of `names`."""
    # An entry that is null and may not be is dropped by the API server without a word; one that may be can be refused.
    held = {**structural(values, definitions), "nullable": True}
    nulls = {"rule": "self.all(name, dyn(self[name]) != null)", "message": "no value may be null"}
    return {"additionalProperties": held, VALIDATIONS: [_names_rule(names), nulls]}


def _names_rule(names: Mapping[str, Any]) -> Schema:
    least, most = names.get("minLength", 1), names["maxLength"]
    checks, words = [f"size(name) >= {least}", f"size(name) <= {most}"], f"names must have {least} to {most} characters"
    if pattern := names.get("pattern"):
        checks.append(f"name.matches('{pattern}')")
        words += f" and match {pattern}"
    return {"rule": f"self.all(name, {' && '.join(checks)})", "message": words}


def _referenced(reference: str, definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = definitions[reference.removeprefix("#/$defs/")]
    return found


def _or_null(choices: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    kinds = [choice for choice in choices if choice != {"type": "null"}]
    if len(kinds) != 1 or len(choices) != 2:
        raise ValueError("only a choice between one kind of value and null has a counterpart in a structural schema")
    return kinds[0]


def _less(schema: Mapping[str, Any], keyword: str) -> Schema:
    return {name: value for name, value in schema.items() if name != keyword}
