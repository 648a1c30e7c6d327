"""The JSON Schema of the declared object, from the models that check it."""

from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from serving.declared_model import DeclaredModel
from serving.faults import shown
from serving.models import ScoringEndpoint
from serving.validation_messages import sentence


def json_schema() -> dict[str, Any]:
    """A JSON Schema (2020-12) of the format: every field with its meaning, unit, rule and default.

    Rules between fields are not included; `parse` checks them. Null is allowed if `parse` takes it as the default.
    """
    schema = ScoringEndpoint.model_json_schema()
    models: dict[str, type[BaseModel]] = {model.__name__: model for model in DeclaredModel.__subclasses__()}
    for name, part in ((ScoringEndpoint.__name__, schema), *schema["$defs"].items()):
        for field, info in models[name].model_fields.items():
            part["properties"][field] = _described(part["properties"][field], info)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema


def _described(property_: dict[str, Any], info: FieldInfo) -> dict[str, Any]:
    """The schema of one field with a full description; null is allowed for optional fields."""
    kind = {key: value for key, value in property_.items() if key not in ("title", "description", "default")}
    rule = sentence(info)
    words = [info.description or "", f"Must be {rule}." if rule else ""]
    shape = kind if info.is_required() else _or_null(kind)
    described = {**shape, "description": " ".join(word for word in words if word)}
    default = property_.get("default")
    if default is not None and not isinstance(default, dict):
        described["default"] = default
        described["description"] += f" Default: {shown(default)}."
    return described


def _or_null(kind: dict[str, Any]) -> dict[str, Any]:
    if "anyOf" in kind:
        return kind
    return {"anyOf": [kind, {"type": "null"}]}
