"""Rules of a deployment request. Pure."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from serving.credentials import KEY_RULE, is_key
from serving.faults import Fault, InvalidManifest
from serving.manifest import parse, to_document
from workspace.deployments.documents import placed, version_of
from workspace.deployments.records import DeploymentRequest, SourceFile
from workspace.relative_paths import clash, path_fault

MAX_MODELS = 1000
"""Most models of one deployment, as in Azure ML."""
MAX_SOURCE_FILES = 20_000
PLACED_FIELDS = ("sourceDirectory", "modelDir", "environment")
"""Fields of a replica that the deployment itself fills in."""
_ANYWHERE = PurePosixPath("/deployment")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def check(request: DeploymentRequest) -> dict[str, Any]:
    """The declared document with its defaults filled in, as it would be with placeholders for its files.

    Raises InvalidManifest with every fault of the request.
    """
    faults = [*_document_faults(request), *_source_faults(request.source), *_model_faults(request)]
    faults += _key_faults(request)
    declared: dict[str, Any] = {}
    if not faults:
        source = _ANYWHERE / "source"
        models = _ANYWHERE / "models" if request.models else None
        declared = to_document(parse(placed(request.document, request.version, source, models, None)))
    if faults:
        raise InvalidManifest(tuple(faults))
    return declared


def _document_faults(request: DeploymentRequest) -> Iterator[Fault]:
    document: Any = request.document
    try:
        name = document["metadata"]["name"]
        entry: Any = version_of(document, request.version)
        replica = None if entry is None else entry["replica"]
    except (KeyError, TypeError, AttributeError):
        yield Fault("document", document, "must be a ScoringEndpoint with metadata.name and spec.versions")
        return
    if name != request.endpoint:
        yield Fault("metadata.name", name, f"must be '{request.endpoint}', the deployed endpoint")
    if entry is None:
        yield Fault("spec.versions", request.version, "must have the deployed version")
        return
    where = f"spec.versions[{document['spec']['versions'].index(entry)}].replica"
    if not isinstance(replica, dict):
        yield Fault(where, replica, "must be a mapping with entryScript")
        return
    for field in PLACED_FIELDS:
        if replica.get(field) is not None:
            yield Fault(f"{where}.{field}", replica[field], "is set by the deployment; leave it out")
    script = replica.get("entryScript")
    if script not in {file.path for file in request.source}:
        yield Fault(f"{where}.entryScript", script, "must be a file of the source directory, relative to it")


def _source_faults(files: Sequence[SourceFile]) -> Iterator[Fault]:
    if len(files) > MAX_SOURCE_FILES:
        yield Fault("source", len(files), f"must have at most {MAX_SOURCE_FILES} files; leave others out by .amlignore")
        return
    if (twice := clash(file.path for file in files)) is not None:
        yield Fault("source", twice, "must be the path of one file only")
    for place, file in enumerate(files):
        if (rule := path_fault(file.path)) is not None:
            yield Fault(f"source[{place}].path", file.path, rule)
        if not _SHA256.fullmatch(file.sha256):
            yield Fault(f"source[{place}].sha256", file.sha256, "must be 64 hexadecimal digits")
        if file.size_bytes < 0:
            yield Fault(f"source[{place}].sizeBytes", file.size_bytes, "must not be negative")


def _model_faults(request: DeploymentRequest) -> Iterator[Fault]:
    if len(request.models) > MAX_MODELS:
        yield Fault("models", len(request.models), f"must have at most {MAX_MODELS} models")
    for model, count in Counter(request.models).items():
        if count > 1:
            yield Fault("models", ":".join(map(str, model)), "must have each model once")


def _key_faults(request: DeploymentRequest) -> Iterator[Fault]:
    given = [key for key in request.keys or () if key is not None]
    for name, key in zip(("primaryKey", "secondaryKey"), request.keys or (), strict=False):
        if key is not None and not is_key(key):
            yield Fault(f"keys.{name}", "***", KEY_RULE)
    if len(given) == 2 and given[0] == given[1]:
        yield Fault("keys.secondaryKey", "***", "must differ from the primary key")
