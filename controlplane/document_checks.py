"""Checks of a declared document beyond the rules of the manifest. Pure."""

import msgspec

from cluster.link import ToWorker, UpsertEndpoint, encode
from controlplane.state import StoredEndpoint
from serving.endpoint import Endpoint
from serving.faults import Fault, InvalidManifest
from serving.manifest import ScoringEndpoint, parse, to_document


def stored_manifest(name: str, stored: StoredEndpoint) -> ScoringEndpoint:
    """The stored document, parsed. Raises InvalidManifest, also for a document with another name."""
    manifest = parse(stored.document, f"{name}.json")
    if manifest.metadata.name != name:
        raise InvalidManifest((Fault("metadata.name", manifest.metadata.name, f"must be '{name}', as the file"),))
    return manifest


def unencodable(manifest: ScoringEndpoint, endpoint: Endpoint) -> list[Fault]:
    """The fault of a document that no message can carry: a number beyond 64 bits, half a surrogate pair.

    Checked before the write; afterwards it would break the link to every router.
    """
    message: ToWorker = UpsertEndpoint(endpoint)
    try:
        encode(message)
        msgspec.json.encode(to_document(manifest))
    except (ValueError, OverflowError, TypeError, msgspec.MsgspecError) as error:
        return [Fault("spec", endpoint.name, f"must hold only text and numbers that can be encoded: {error}")]
    return []
