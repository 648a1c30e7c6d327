"""Translation of pydantic's errors into faults: path, value and the rule of the field."""

import difflib
import re
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from serving.declared_model import FieldRule
from serving.faults import Fault, Path, written
from serving.models import ScoringEndpoint

HIDDEN = "(not shown)"
_SECRET = re.compile(r"key|secret|token|password|credential|^env$|environment", re.IGNORECASE)


def complaints(error: ValidationError) -> Iterator[tuple[Path, Fault]]:
    """Every fault of `error`, a validation of `ScoringEndpoint`, with its path."""
    for detail in error.errors(include_url=False, include_context=False):
        path: Path = detail["loc"]
        if path and path[-1] == "[key]":
            path = path[:-1]
        value = None if detail["type"] == "missing" else shareable(path, detail["input"])
        yield path, Fault(written(path), value, _rule(detail["type"], path))


def _rule(kind: str, path: Path) -> str:
    if kind == "extra_forbidden":
        parent = _model_at(path[:-1]) or ScoringEndpoint
        return unknown_field(str(path[-1]), list(parent.model_fields))
    if kind == "missing":
        return f"is required: {_sentence_at(path)}"
    return f"must be {_sentence_at(path)}"


def shareable(path: Path, value: Any) -> Any:
    """`value`, or HIDDEN if it may hold a secret: in `env`, in `secretEnv`, and near names of keys, tokens and the
    like."""
    if not isinstance(value, str | dict | list):
        return value
    names = [step for step in path if isinstance(step, str)]
    # A known text field holds no secret; a wrong value of it may be shown.
    foreign = _field_at(path) is None or isinstance(value, dict | list)
    if {"env", "secretEnv"}.intersection(names) or (
        foreign and (any(map(_SECRET.search, names)) or _speaks_of_secrets(value))
    ):
        return HIDDEN
    return value


def _speaks_of_secrets(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_SECRET.search(str(key)) or _speaks_of_secrets(item) for key, item in value.items())
    return isinstance(value, list) and any(map(_speaks_of_secrets, value))


MAX_LISTED = 32


def unknown_field(name: str, known: list[str]) -> str:
    """The rule for an unknown field: the probably intended one, or the known ones."""
    plain = {_letters(field): field for field in known}
    close = difflib.get_close_matches(_letters(name), plain, n=1) if len(name) <= 64 else []
    if close:
        return f"is not a known field; did you mean {plain[close[0]]}?"
    more = ", …" if len(known) > MAX_LISTED else ""
    return f"is not a known field; known here: {', '.join(known[:MAX_LISTED])}{more}"


def _letters(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside an annotation such as `list[Model]` or `Model | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for argument in get_args(annotation) if (model := _model_in(argument))), None)


def _field_at(path: Path) -> FieldInfo | None:
    """The field that holds the value at `path`, or None; elements of a list or mapping belong to its field."""
    model: type[BaseModel] | None = ScoringEndpoint
    field: FieldInfo | None = None
    keyed = False
    for step in path:
        if keyed or isinstance(step, int) or model is None:
            keyed = False
            continue
        field = model.model_fields.get(step)
        if field is None:
            return None
        model = _model_in(field.annotation)
        keyed = model is not None and get_origin(field.annotation) is dict
    return field


def _model_at(path: Path) -> type[BaseModel] | None:
    if not path:
        return ScoringEndpoint
    field = _field_at(path)
    return _model_in(field.annotation) if field else None


def _sentence_at(path: Path) -> str:
    model = _model_at(path)
    field = _field_at(path)
    mapping = field is not None and get_origin(field.annotation) is dict and _field_at(path[:-1]) is not field
    if model is not None and not mapping:
        listed = field is not None and get_origin(field.annotation) is list and not isinstance(path[-1], int)
        return f"{'a list of mappings' if listed else 'a mapping'} with the fields {', '.join(model.model_fields)}"
    return sentence(field) if field else "a mapping of fields"


def sentence(field: FieldInfo) -> str:
    """The rule of a field, to be read after "must be"; "" for a field that is a model."""
    kind, marks = _taken_apart(field)
    for mark in marks:
        if isinstance(mark, FieldRule):
            return mark.sentence
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        return f"one of {', '.join(choices)}" if len(choices) > 1 else str(choices[0])
    if kind is str:
        longest = _bound(marks, "max_length")
        return f"text of at most {longest} characters" if longest else "text"
    names = {bool: "true or false", int: "a whole number", float: "a number"}
    return f"{names[kind]}{_range(marks)}" if kind in names else ""


def _taken_apart(field: FieldInfo) -> tuple[Any, list[Any]]:
    """The type of a field without `| None` and Annotated, and all its annotations."""
    kind, marks = field.annotation, list(field.metadata)
    if get_origin(kind) in (Union, UnionType):
        kind = next(member for member in get_args(kind) if member is not NoneType)
    if get_origin(kind) is Annotated:
        kind, *more = get_args(kind)
        marks += more
    return kind, marks


def _bound(marks: list[Any], name: str) -> float | None:
    """The bound of this name (`ge`, `gt`, `le`, `max_length`) among pydantic's annotations."""
    return next((getattr(mark, name) for mark in marks if getattr(mark, name, None) is not None), None)


def _range(marks: list[Any]) -> str:
    """` from 1 to 100`, ` above 0 and at most 10`, or "" without bounds."""
    least, above, most = (_bound(marks, name) for name in ("ge", "gt", "le"))
    if most is None:
        return ""
    return f" from {least} to {most}" if least is not None else f" above {above} and at most {most}"
