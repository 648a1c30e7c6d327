"""A ScoringEndpoint as the API server holds it, and the endpoint that it declares."""

from collections.abc import Mapping
from typing import Any

from cluster.kubernetes.objects.labels import FENCE, OwnerRef
from serving.endpoint import Endpoint, ReplicaKind, VersionKey
from serving.manifest import parse, to_endpoint
from serving.replica import Replica, ReplicaState

# ObjectMeta less name, namespace, labels and annotations: written by the API server, or for machines.
OF_THE_SERVER = frozenset(
    {
        *("creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers", "generateName"),
        *("generation", "managedFields", "ownerReferences", "resourceVersion", "selfLink", "uid"),
    }
)
# kubectl's own annotation repeats the whole manifest.
OF_TOOLS = frozenset({"kubectl.kubernetes.io/last-applied-configuration", FENCE})


def document_of(cr: Mapping[str, Any]) -> dict[str, Any]:
    """The document for `serving.manifest.parse`: `cr` without its status and the additions of API server and kubectl.

    Unknown fields stay, so that they are reported as faults.
    """
    document = {name: value for name, value in cr.items() if name != "status"}
    if isinstance(metadata := cr.get("metadata"), Mapping):
        kept = {name: value for name, value in metadata.items() if name not in OF_THE_SERVER}
        if isinstance(annotations := kept.get("annotations"), Mapping):
            kept["annotations"] = {name: text for name, text in annotations.items() if name not in OF_TOOLS}
        document["metadata"] = kept
    return document


def endpoint_of(cr: Mapping[str, Any]) -> Endpoint:
    """The endpoint that `cr` declares. Raises InvalidManifest with every fault."""
    metadata = cr.get("metadata") or {}
    return to_endpoint(parse(document_of(cr), f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"))


def owner_of(cr: Mapping[str, Any]) -> OwnerRef:
    """The owner reference to `cr`."""
    return OwnerRef(cr["metadata"]["name"], cr["metadata"]["uid"])


def static_replicas(endpoint: Endpoint) -> tuple[Replica, ...]:
    """The replicas given by address. They run elsewhere, so the API has no state of them.

    Their ids depend on the endpoint alone.
    """
    return tuple(
        _static(VersionKey(endpoint.name, version.name), address, version.slots_per_replica)
        for version in endpoint.versions
        if version.replica.kind is ReplicaKind.STATIC
        for address in version.replica.static
    )


def _static(key: VersionKey, address: str, slots: int) -> Replica:
    host, _, port = address.rpartition(":")
    return Replica(f"{key}/{address}", *key, host.strip("[]"), int(port), ReplicaState.READY, slots, static=True)
