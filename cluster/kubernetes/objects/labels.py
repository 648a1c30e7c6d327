"""Labels, annotations, the finalizer, and names of objects made by scorefront."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serving.endpoint import VersionKey

GROUP = "scorefront.io"
MANAGER = "scorefront"
"""Field manager of everything that scorefront writes."""

ENDPOINT = f"{GROUP}/endpoint"
VERSION = f"{GROUP}/version"
MANAGED_BY = "app.kubernetes.io/managed-by"
COMPONENT = f"{GROUP}/component"
"""Label of the pods of the installation: `router` or `control`. Reserved, so no pod of an endpoint has it."""

DRAINING = f"{GROUP}/draining"
"""Annotation of a pod that is to go: it takes no new request."""
FENCE = f"{GROUP}/fence"
"""Annotation of a workload that the leader has written: `<uid of the Lease>/<number of the leadership>`."""
RESTARTED = f"{GROUP}/restarted-at"
"""Annotation of a pod template: the generation of the workload that a restart replaced."""
CLAIM = f"{GROUP}/claimed-by"
"""Annotation of an adopted workload: the uid of the ScoringEndpoint that scales it."""
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"

FINALIZER = f"{GROUP}/drain"


@dataclass(frozen=True, slots=True)
class OwnerRef:
    """The ScoringEndpoint that owns a made object, which is deleted with it."""

    name: str
    uid: str


def owner_references(owner: OwnerRef) -> list[dict[str, Any]]:
    """The `metadata.ownerReferences` of an object owned by `owner`."""
    # Not blocking: the finalizer does the draining, and to block needs a right on the owner's finalizers.
    reference = {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": "ScoringEndpoint",
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
    return [reference]


def labels_of(key: VersionKey) -> dict[str, str]:
    """The labels of the pods of a version, and of its Deployment."""
    return {ENDPOINT: key.endpoint, VERSION: key.version}


def selector(key: VersionKey) -> str:
    """The label selector of the pods of a version, as the API takes it in a query."""
    return ",".join(f"{name}={value}" for name, value in labels_of(key).items())


def key_of(metadata: Mapping[str, Any]) -> VersionKey | None:
    """The version named by the labels in `metadata`, None without them."""
    labels = metadata.get("labels") or {}
    endpoint, version = labels.get(ENDPOINT), labels.get(VERSION)
    return VersionKey(endpoint, version) if endpoint and version else None


def workload_name(key: VersionKey) -> str:
    """The name of the Deployment of a version: `iris-blue`.

    Names may hold dashes: `fraud-eu` + `blue` and `fraud` + `eu-blue` are two versions. If there are more dashes than
    the
    one in the middle, eight hex digits of the pair's SHA-256 follow.
    """
    joined = f"{key.endpoint}-{key.version}"
    if joined.count("-") == 1:
        return joined
    # No name has a slash, so no two pairs are written alike.
    return f"{joined}-{hashlib.sha256(str(key).encode()).hexdigest()[:8]}"
