"""Operations on the document of a declared object: filling in defaults, making paths absolute, taking lists apart."""

from pathlib import PurePath
from typing import Any

from serving.faults import Fault, InvalidManifest
from serving.models import API_VERSION, DEFAULT_PORT, KIND, SCALER_DEFAULTS, DeclaredVersion, ScoringEndpoint

LISTS = {"List": "v1", f"{KIND}List": API_VERSION}
"""Kind of a list -> its apiVersion: as kubectl prints several objects, and as an API server lists endpoints."""
SERVER_METADATA = frozenset(
    {
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generation",
        "managedFields",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
        "uid",
    }
)
"""Fields of `metadata` that an API server adds, and its controllers."""
TOOL_ANNOTATIONS = frozenset({"kubectl.kubernetes.io/last-applied-configuration"})
"""Annotations that kubectl adds."""


def default_version(declared: ScoringEndpoint) -> str:
    """The name of the version that gets unclaimed traffic: the first by default."""
    versions = declared.spec.versions
    return next((version.name for version in versions if version.isDefault), versions[0].name)


def key_auth(declared: ScoringEndpoint) -> bool:
    """True if the endpoint demands a key: by default, unless it demands a token."""
    enabled = declared.spec.authEnabled
    return not declared.spec.tokenAuthEnabled if enabled is None else enabled


def scaler_settings(version: DeclaredVersion) -> dict[str, Any] | None:
    """`autoScaler` with its defaults; None for static replicas, which are never scaled."""
    if version.replica.static is not None:
        return None
    if version.numReplicas is not None:
        return {"autoscaleEnabled": False}
    given = version.autoScaler.model_dump(exclude_none=True)
    return {"autoscaleEnabled": True, **SCALER_DEFAULTS, **given}


def to_document(declared: ScoringEndpoint) -> dict[str, Any]:
    """The declared object with its defaults filled in, JSON-able, in fresh containers; accepted by `parse`.

    Optional fields without a value are left out.
    """
    document: dict[str, Any] = declared.model_dump(mode="json")
    default = default_version(declared)
    spec = document["spec"]
    spec["authEnabled"] = key_auth(declared)
    spec["versions"] = [
        _filled(version, dumped, version.name == default)
        for version, dumped in zip(declared.spec.versions, spec["versions"], strict=True)
    ]
    document["metadata"], document["spec"] = _given(document["metadata"]), _given(spec)
    return document


def _filled(version: DeclaredVersion, dumped: dict[str, Any], is_default: bool) -> dict[str, Any]:
    replica = dumped["replica"]
    if version.replica.static is None and version.replica.port is None:
        replica["port"] = DEFAULT_PORT
    if replica["tolerations"] is not None:
        replica["tolerations"] = [_given(each) for each in replica["tolerations"]]
    filled = {
        **dumped,
        "isDefault": is_default,
        "replica": _given(replica),
        "autoScaler": scaler_settings(version),
        "containerResourceRequirements": _given(dumped["containerResourceRequirements"]),
    }
    return _given(filled)


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def as_declared(document: Any) -> Any:
    """`document` without the fields that a server adds: `status`, SERVER_METADATA, TOOL_ANNOTATIONS."""
    if not isinstance(document, dict):
        return document
    declared = {name: value for name, value in document.items() if name != "status"}
    metadata = declared.get("metadata")
    if not isinstance(metadata, dict):
        return declared
    metadata = {name: value for name, value in metadata.items() if name not in SERVER_METADATA}
    declared["metadata"] = metadata
    notes = metadata.get("annotations")
    if isinstance(notes, dict) and not TOOL_ANNOTATIONS.isdisjoint(notes):
        metadata["annotations"] = {name: value for name, value in notes.items() if name not in TOOL_ANNOTATIONS} or None
    return declared


def items_of(document: Any) -> list[Any] | None:
    """The documents in a list of endpoints; None if `document` is no list.

    A list has a kind of LISTS, or is a response of REST: `value`, beside `skipped`. Raises InvalidManifest.
    """
    if not isinstance(document, dict):
        return None
    kind = document.get("kind")
    if "kind" not in document and "value" in document:
        field, others = "value", frozenset({"skipped"})
    elif isinstance(kind, str) and kind in LISTS:
        field, others = "items", frozenset({"apiVersion", "kind", "metadata"})
        if document.get("apiVersion") != LISTS[kind]:
            raise InvalidManifest((Fault("apiVersion", document.get("apiVersion"), f"must be {LISTS[kind]}"),))
    else:
        return None
    faults = [
        Fault(str(name), value, f"is not a field of a list; known here: {field}, {', '.join(sorted(others))}")
        for name, value in document.items()
        if name != field and name not in others
    ]
    items = document.get(field)
    if not isinstance(items, list) or not items:
        faults.append(Fault(field, items, f"must be a list of at least one {KIND}"))
    if faults:
        raise InvalidManifest(tuple(faults))
    return list(items or ())


def resolve_paths(document: Any, base: PurePath) -> Any:
    """A copy of `document` with its relative paths made absolute.

    `base`: the folder of the manifest. `entryScript` is relative to `sourceDirectory`, which defaults to `base` for
    entryScript and command. Malformed parts stay as they are: `parse` reports them.
    """
    match document:
        case {"spec": {"versions": [*versions], **spec}, **rest}:
            resolved = [_resolved_version(version, base) for version in versions]
            return {**rest, "spec": {**spec, "versions": resolved}}
        case _:
            return document


def _resolved_version(version: Any, base: PurePath) -> Any:
    match version:
        case {"replica": dict() as replica}:
            return {**version, "replica": _resolved_replica(replica, base)}
        case _:
            return version


def _resolved_replica(replica: dict[Any, Any], base: PurePath) -> dict[Any, Any]:
    resolved = dict(replica)
    folder = base
    if isinstance(source := replica.get("sourceDirectory"), str) and source:
        folder = base / source
        resolved["sourceDirectory"] = str(folder)
    elif source is None and (replica.get("entryScript") is not None or replica.get("command") is not None):
        resolved["sourceDirectory"] = str(base)
    for field, start in (("entryScript", folder), ("modelDir", base), ("environment", base)):
        # An empty path stays empty: it is a fault, not the folder itself.
        if isinstance(path := replica.get(field), str) and path:
            resolved[field] = str(start / path)
    return resolved
