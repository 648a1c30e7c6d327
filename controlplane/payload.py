"""Parsing of REST requests: strict JSON bodies and query parameters. Every error names the field or parameter."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from controlplane.control_errors import InvalidCall
from serving import strict_json

_T = TypeVar("_T")
_WORDS = {"true": True, "1": True, "false": False, "0": False}


class KeyChoice(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """Request to replace a key, in the words of v1: `primary` or `secondary`, and a key or None for a new one."""

    key_type: Annotated[str, Meta(extra_json_schema={"enum": ["primary", "secondary", "Primary", "Secondary"]})]
    key_value: Annotated[str, Meta(min_length=16, max_length=512, pattern="^[!-~]+$")] | None = None


class TrafficChange(msgspec.Struct, forbid_unknown_fields=True):
    """Change of the traffic split: version -> percent; default and control version, None = unchanged."""

    percentiles: dict[str, Annotated[int | float, Meta(extra_json_schema={"minimum": 0, "maximum": 100})]]
    default: str | None = None
    control: str | None = None


class RestartChoice(msgspec.Struct, forbid_unknown_fields=True):
    """Request to restart replicas: a version, or None for all."""

    version: str | None = None


def from_json(body: bytes) -> Any:
    """The JSON in `body`. Raises InvalidCall, also for NaN, duplicate fields, half a surrogate pair, deep nesting."""
    try:
        value = strict_json.parse(body.decode("utf-8"))
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise InvalidCall(f"the body is not valid JSON: {error}") from error
    return value


def read(body: bytes, shape: type[_T]) -> _T:
    """The body as a record. Raises InvalidCall naming the field."""
    try:
        return msgspec.convert(from_json(body), shape)
    except msgspec.ValidationError as error:
        raise InvalidCall(f"the body does not fit: {error}") from error


def only(query: Mapping[str, str], *names: str) -> None:
    """Refuse unknown query parameters. Raises InvalidCall."""
    unknown = sorted(set(query) - set(names))
    if unknown:
        raise InvalidCall(f"unknown query parameter '{unknown[0]}'; known: {', '.join(names) or 'none'}")


def whole_number(query: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    """An integer parameter.

    query: the query parameters.
    name: of the parameter.
    default: value if absent.
    least, most: inclusive bounds. Raises InvalidCall outside of them.
    """
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and least <= int(text) <= most):
        raise InvalidCall(f"query parameter '{name}' must be a whole number from {least} to {most} (got {text[:20]!r})")
    return int(text)


def yes_no(query: Mapping[str, str], name: str) -> bool:
    """A boolean parameter, False if absent. Raises InvalidCall."""
    text = query.get(name, "false").lower()
    if text not in _WORDS:
        raise InvalidCall(f"query parameter '{name}' must be true or false (got {text[:20]!r})")
    return _WORDS[text]
