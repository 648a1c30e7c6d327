"""Records of registered models and their rules. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from serving.faults import shown
from workspace.relative_paths import clash, path_fault
from workspace.workspace_errors import InvalidModel

MODEL_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9\-._]{0,254}")
NAME_RULE: Final = "must have 1 to 255 letters, digits, dashes, dots and underscores, a letter or digit first"
MAX_VERSION = 2**31 - 1
MAX_FILES = 10_000
MAX_PAIRS = 1000
"""Most tags, and most properties."""
MAX_TEXT_CHARACTERS = 10_000
"""Longest description, tag or property."""


class ModelFile(msgspec.Struct, frozen=True, rename="camel"):
    """One file of a model."""

    path: str
    """Relative to the model's own folder, `/` between its parts."""
    sha256: str
    size_bytes: int


class ModelResources(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Resources that a deployment of the model needs; None: the default."""

    cpu: float | None = None
    """Cores."""
    memory_in_gb: float | None = msgspec.field(default=None, name="memoryInGB")
    gpu: int | None = None


class ModelDraft(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A model to register; its version is counted up by the registry."""

    name: str
    files: tuple[ModelFile, ...]
    tags: dict[str, str] = {}
    properties: dict[str, str] = {}
    description: str = ""
    framework: str = ""
    """Name as in Azure ML: Custom, ScikitLearn, Onnx, TensorFlow, …; empty: unknown."""
    framework_version: str = ""
    sample_input: str = ""
    """Id of a data set with example input; kept, not read."""
    sample_output: str = ""
    resources: ModelResources | None = None
    asset_id: str = ""
    """Id of the v1 asset that the files came from; empty: registered by the native REST."""
    unpack: bool = False
    """True: the v1 client sent an archive; `files` are its content."""


class RegisteredModel(ModelDraft, frozen=True, kw_only=True, rename="camel"):
    """A registered model."""

    version: int
    created: float
    """Unix seconds."""
    modified: float
    """Unix seconds of the last change of tags, properties or description."""

    @property
    def id(self) -> str:
        """`name:version`, as in Azure ML."""
        return f"{self.name}:{self.version}"

    @property
    def size_bytes(self) -> int:
        """Sum over the files."""
        return sum(file.size_bytes for file in self.files)


class ModelRecord(msgspec.Struct, frozen=True):
    """The stored form: a model, or the trace of a deleted one, which keeps its number from being used again."""

    model: RegisteredModel | None = None
    deleted: float | None = None
    """Unix seconds of the deletion."""


def check_draft(draft: ModelDraft) -> None:
    """Raises InvalidModel with all broken rules."""
    if faults := list(_faults(draft)):
        raise InvalidModel("\n".join(faults))


def check_texts(tags: Mapping[str, str], properties: Mapping[str, str], description: str) -> None:
    """Raises InvalidModel with all broken rules of the fields that can change."""
    if faults := list(_text_faults(tags, properties, description)):
        raise InvalidModel("\n".join(faults))


def name_fault(name: str) -> str | None:
    """The rule that the name of a model breaks; None: valid."""
    return None if MODEL_NAME.fullmatch(name) else NAME_RULE


def new_properties(present: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Properties after a change: new ones may be added, present ones never change. Raises InvalidModel."""
    for key, value in given.items():
        if present.get(key, value) != value:
            raise InvalidModel(f"properties.{key}: cannot be changed once set (is {shown(present[key])})")
    return {**present, **given}


def has_tags(pairs: Mapping[str, str], wanted: Sequence[tuple[str, str | None]]) -> bool:
    """True if all wanted tags are there. `wanted`: (key, value), None for any value."""
    return all(key in pairs and value in (None, pairs[key]) for key, value in wanted)


def parsed_id(text: str) -> tuple[str, int | None]:
    """`NAME` or `NAME:VERSION` -> name and version. Raises InvalidModel."""
    name, colon, version = text.partition(":")
    if fault := name_fault(name):
        raise InvalidModel(f"name: {fault} (got {shown(name)})")
    return name, parsed_version(version) if colon else None


def parsed_version(text: str) -> int:
    """A version number. Raises InvalidModel."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and 1 <= int(text) <= MAX_VERSION):
        raise InvalidModel(f"version: must be a whole number from 1 to {MAX_VERSION} (got {shown(text)})")
    return int(text)


def _faults(draft: ModelDraft) -> Iterator[str]:
    if fault := name_fault(draft.name):
        yield f"name: {fault} (got {shown(draft.name)})"
    yield from _file_faults(draft.files)
    yield from _text_faults(draft.tags, draft.properties, draft.description)
    for field in ("framework", "framework_version", "sample_input", "sample_output", "asset_id"):
        text = getattr(draft, field)
        if len(text) > MAX_TEXT_CHARACTERS:
            yield f"{field}: must have at most {MAX_TEXT_CHARACTERS} characters (got {len(text)})"
    for name, value in msgspec.to_builtins(draft.resources or {}).items():
        if value is not None and not 0 <= value <= 1_000_000:
            yield f"resources.{name}: must be a number from 0 to 1000000 (got {value})"


def _file_faults(files: Sequence[ModelFile]) -> Iterator[str]:
    if not 1 <= len(files) <= MAX_FILES:
        yield f"files: must be 1 to {MAX_FILES} files (got {len(files)})"
        return
    for number, file in enumerate(files):
        if fault := path_fault(file.path):
            yield f"files[{number}].path: {fault} (got {shown(file.path)})"
            return
    if twice := clash(file.path for file in files):
        yield f"files: {shown(twice)} occurs twice, or is a file and a folder"


def _text_faults(tags: Mapping[str, str], properties: Mapping[str, str], description: str) -> Iterator[str]:
    if len(description) > MAX_TEXT_CHARACTERS:
        yield f"description: must have at most {MAX_TEXT_CHARACTERS} characters (got {len(description)})"
    for field, pairs in (("tags", tags), ("properties", properties)):
        if len(pairs) > MAX_PAIRS:
            yield f"{field}: must be at most {MAX_PAIRS} (got {len(pairs)})"
        for key, value in pairs.items():
            if not key or len(key) > MAX_TEXT_CHARACTERS or len(value) > MAX_TEXT_CHARACTERS:
                rule = f"key and value must have at most {MAX_TEXT_CHARACTERS} characters, the key at least one"
                yield f"{field}.{key[:80]}: {rule}"


def from_json(data: bytes) -> ModelRecord:
    """A stored record. Raises msgspec.ValidationError, ValueError."""
    return msgspec.json.decode(data, type=ModelRecord)


def to_json_values(record: ModelRecord) -> Any:
    """The record as JSON values; defaults included."""
    return msgspec.to_builtins(record)
