"""What a document must be, beyond what it declares, to be taken over."""

import msgspec

from cluster.link import ToWorker, UpsertEndpoint, encode
from controlplane.state import StoredEndpoint
from serving.endpoint import Endpoint
from serving.faults import Fault, InvalidManifest
from serving.manifest import ScoringEndpoint, parse, to_document


def stored_manifest(name: str, stored: StoredEndpoint) -> ScoringEndpoint:
    """What was declared under this name. Raises InvalidManifest."""
    manifest = parse(stored.document, f"{name}.json")
    if manifest.metadata.name != name:
        raise InvalidManifest((Fault("metadata.name", manifest.metadata.name, f"must be '{name}', as the file"),))
    return manifest


def unencodable(manifest: ScoringEndpoint, endpoint: Endpoint) -> list[Fault]:
    """A document may hold what no message can: a number beyond 64 bits or half a character in a free-form field.

    Found here it is a fault of the document; found after the write it would be a broken link to every router.
    """
    message: ToWorker = UpsertEndpoint(endpoint)
    try:
        encode(message)
        msgspec.json.encode(to_document(manifest))
    except (ValueError, OverflowError, TypeError, msgspec.MsgspecError) as error:
        return [Fault("spec", endpoint.name, f"must hold only text and numbers that can be passed on: {error}")]
    return []
