"""Records of models in requests and responses of REST. Pure."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from controlplane.answers import Answer, Count
from workspace.models.model_records import ModelDraft, ModelFile, ModelResources, RegisteredModel

MOST_ENCODED = 20_000
"""Models whose JSON is kept, deleted ones included."""

_Unix = Annotated[float, Meta(description="unix seconds")]


class BlobAnswer(Answer, frozen=True):
    """A stored blob."""

    sha256: str
    size_bytes: Count


class ModelSummaryAnswer(Answer, frozen=True):
    """A model without its files."""

    id: Annotated[str, Meta(description="name:version")]
    name: str
    version: int
    created: _Unix
    modified: _Unix
    description: str
    tags: dict[str, str]
    properties: dict[str, str]
    framework: str
    framework_version: str
    size_bytes: Annotated[int, Meta(description="sum over the files")]
    file_count: Count


class ModelListAnswer(Answer, frozen=True):
    """Models by name, the latest version of each first."""

    value: list[ModelSummaryAnswer]


class ModelAnswer(ModelSummaryAnswer, frozen=True):
    """A model with its files."""

    files: list[ModelFile]
    sample_input: str
    sample_output: str
    resources: ModelResources | None


class UploadedFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A file of a model to register; its content is a blob that was uploaded before."""

    path: str
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    size_bytes: Annotated[int | None, Meta(description="not needed: that of the blob counts")] = None


class ModelRegistration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Request to register a model."""

    name: str
    files: list[UploadedFile]
    tags: dict[str, str] = {}
    properties: dict[str, str] = {}
    description: str = ""
    framework: str = ""
    framework_version: str = ""
    sample_input: str = ""
    sample_output: str = ""
    resources: ModelResources | None = None

    def draft(self) -> ModelDraft:
        """The model to register."""
        fields = msgspec.structs.asdict(self)
        return ModelDraft(**{**fields, "files": tuple(ModelFile(file.path, file.sha256, 0) for file in self.files)})


class ModelChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Change of a model: all tags, further properties, description; None = unchanged."""

    tags: dict[str, str] | None = None
    properties: dict[str, str] | None = None
    description: str | None = None


class ModelListEncoder:
    """Encodes `ModelListAnswer`, each model once: a listing of 10,000 costs 3 ms instead of 30."""

    def __init__(self) -> None:
        self._encoded: dict[str, tuple[RegisteredModel, bytes]] = {}

    def encode(self, models: Sequence[RegisteredModel]) -> bytes:
        """JSON of the models without their files."""
        if len(self._encoded) > MOST_ENCODED:
            self._encoded.clear()
        return b'{"value":[%s]}' % b",".join(map(self._one, models))

    def _one(self, model: RegisteredModel) -> bytes:
        known = self._encoded.get(model.id)
        if known is None or known[0] is not model:
            known = model, msgspec.json.encode(ModelSummaryAnswer(**_summary_fields(model)))
            self._encoded[model.id] = known
        return known[1]


def answer(model: RegisteredModel) -> ModelAnswer:
    """A model with its files."""
    return ModelAnswer(
        **_summary_fields(model),
        files=list(model.files),
        sample_input=model.sample_input,
        sample_output=model.sample_output,
        resources=model.resources,
    )


def _summary_fields(model: RegisteredModel) -> dict[str, Any]:
    fields = {name: getattr(model, name) for name in ModelSummaryAnswer.__struct_fields__ if name != "file_count"}
    return {**fields, "file_count": len(model.files)}


RECORDS = (BlobAnswer, ModelListAnswer, ModelAnswer, ModelRegistration, ModelChange)
