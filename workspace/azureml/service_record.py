"""What a service of Azure ML v1 has beyond the declared object: kind, compute target, times, texts of versions. Pure.

Kept as one annotation of the endpoint, so that it is declared, replaced and deleted together with it.
"""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

ANNOTATION = "azureml.scorefront.io/service"
AKS = "AKS"
AKS_ENDPOINT = "AKSENDPOINT"
DEFAULT_COMPUTE = "local"
UNKNOWN_TIME = "1970-01-01T00:00:00+00:00"
"""Creation time of endpoints that were declared otherwise."""


@dataclass(frozen=True, slots=True)
class VersionTexts:
    """Description, tags and properties of one version."""

    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    created: str = UNKNOWN_TIME
    """ISO 8601."""


@dataclass(frozen=True, slots=True)
class ServiceRecord:
    """The facts of one service."""

    compute_type: str = AKS
    """AKS: one version under the name of the service; AKSENDPOINT: named versions."""
    compute_name: str = DEFAULT_COMPUTE
    created: str = UNKNOWN_TIME
    """ISO 8601."""
    updated: str = ""
    """ISO 8601; "": never."""
    storage_init: bool = False
    """`storageInitEnabled`; without effect here."""
    versions: Mapping[str, VersionTexts] = field(default_factory=dict)
    """Version -> its texts, for AKSENDPOINT."""

    def with_version(self, name: str, texts: VersionTexts | None) -> "ServiceRecord":
        """The record with the texts of one version; None: without them."""
        others = {each: found for each, found in self.versions.items() if each != name}
        return replace(self, versions=others if texts is None else {**others, name: texts})


def record_of(document: Mapping[str, Any]) -> ServiceRecord:
    """The record of a declared object; one made up for an endpoint that was declared otherwise."""
    annotations = document.get("metadata", {}).get("annotations") or {}
    try:
        kept = json.loads(annotations[ANNOTATION])
        kept.pop("insights", None)  # now a field of the declared object
        versions = {name: VersionTexts(**texts) for name, texts in kept.pop("versions", {}).items()}
        return ServiceRecord(**kept, versions=versions)
    except (KeyError, ValueError, TypeError, AttributeError):
        return _made_up(document)


def with_record(document: Mapping[str, Any], record: ServiceRecord) -> dict[str, Any]:
    """A copy of the declared object that carries the record."""
    changed = copy.deepcopy(dict(document))
    versions = {
        name: {
            "description": texts.description,
            "tags": dict(texts.tags),
            "properties": dict(texts.properties),
            "created": texts.created,
        }
        for name, texts in record.versions.items()
    }
    kept = {
        "compute_type": record.compute_type,
        "compute_name": record.compute_name,
        "created": record.created,
        "updated": record.updated,
        "storage_init": record.storage_init,
        "versions": versions,
    }
    annotations = changed["metadata"].get("annotations") or {}
    changed["metadata"]["annotations"] = {**annotations, ANNOTATION: json.dumps(kept, separators=(",", ":"))}
    return changed


def _made_up(document: Mapping[str, Any]) -> ServiceRecord:
    versions = document.get("spec", {}).get("versions") or []
    return ServiceRecord(compute_type=AKS if len(versions) == 1 else AKS_ENDPOINT)
