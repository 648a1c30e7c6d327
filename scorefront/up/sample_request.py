"""Sample of a request that a model understands: from a file beside its source, or from its API description. Pure but
for `sample_file`."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SAMPLE = "sample.json"
DEFAULT = '{"data": []}'
SAMPLE_MAX_BYTES = 2000
"""Longer samples are sent from their file, and not taken from a description."""
MAX_DEPTH = 12
"""Nesting of a sample; a schema may contain itself."""
_PLAIN: dict[str, Any] = {"string": "text", "integer": 1, "number": 1.0, "boolean": True, "null": None}


def sample_file(spec: Mapping[str, Any]) -> Path | None:
    """`sample.json` beside the source of a version, in the order of versions; None without one that is JSON."""
    for version in spec.get("versions", ()):
        replica = version.get("replica", {})
        script = replica.get("entryScript")
        folders = [Path(script).parent] if script else []
        folders += [Path(source)] if (source := replica.get("sourceDirectory")) else []
        for folder in folders:
            path = folder / SAMPLE
            try:
                json.loads(path.read_bytes())
            except (OSError, ValueError):
                continue
            return path
    return None


def described_sample(description: Any) -> str:
    """Sample body of the scoring operation in a Swagger 2 or OpenAPI 3 document, as JSON; '' without one."""
    if not isinstance(description, dict):
        return ""
    for schema in _bodies(description):
        sample = _sample(schema, description, 0)
        text = json.dumps(sample)
        if sample not in (None, {}, []) and len(text) <= SAMPLE_MAX_BYTES:
            return text
    return ""


def _bodies(description: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Schema of the JSON body of each POST, that of a path that ends with /score first."""
    paths = _mapping(description.get("paths"))
    for path in sorted(paths, key=lambda path: not str(path).endswith("/score")):
        post = _mapping(_mapping(paths[path]).get("post"))
        for parameter in _list(post.get("parameters")):
            if _mapping(parameter).get("in") == "body":
                yield _mapping(parameter.get("schema"))
        body = _resolved(_mapping(post.get("requestBody")), description)
        for kind, content in _mapping(body.get("content")).items():
            if "json" in str(kind):
                content = _mapping(content)
                yield {"example": content["example"]} if "example" in content else _mapping(content.get("schema"))


def _sample(schema: dict[str, Any], description: dict[str, Any], depth: int) -> Any:
    schema = _resolved(schema, description)
    if depth > MAX_DEPTH:
        return None
    for field in ("example", "default", "const"):
        if field in schema:
            return schema[field]
    for field in ("examples", "enum"):
        if values := _list(schema.get(field)):
            return values[0]
    for field in ("anyOf", "oneOf"):
        for choice in _list(schema.get(field)):
            if _mapping(choice).get("type") != "null":
                return _sample(_mapping(choice), description, depth + 1)
    merged: dict[str, Any] = {}
    for part in _list(schema.get("allOf")):
        merged |= _mapping(_sample(_mapping(part), description, depth + 1))
    for name, field_schema in _mapping(schema.get("properties")).items():
        if "required" not in schema or name in _list(schema["required"]):
            merged[name] = _sample(_mapping(field_schema), description, depth + 1)
    if merged or schema.get("type") == "object":
        return merged
    if schema.get("type") == "array":
        return [_sample(_mapping(schema.get("items")), description, depth + 1)]
    kind = schema.get("type")
    return _PLAIN.get(kind) if isinstance(kind, str) else None


def _resolved(schema: dict[str, Any], description: dict[str, Any]) -> dict[str, Any]:
    """The schema that a chain of local references leads to; empty if it leads nowhere."""
    for _ in range(MAX_DEPTH):
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return schema
        found: Any = description
        for step in reference.removeprefix("#/").split("/"):
            found = _mapping(found).get(step.replace("~1", "/").replace("~0", "~"))
        schema = _mapping(found)
    return {}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
