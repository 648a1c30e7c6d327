"""The Secret with the two keys of an endpoint. What routers learn of them is their SHA-256, through the status."""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.kubernetes.objects.labels import ENDPOINT, MANAGED_BY, MANAGER, OwnerRef, keys_name, owner_references
from cluster.provider import ProviderError

LEAST_CHARACTERS = 32
"""A digest of a short key, which anybody who may read the status sees, could be searched backwards."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one endpoint, in the clear; never part of a repr."""

    primary: str = field(repr=False)
    secondary: str = field(repr=False)


def key_secret(endpoint: str, namespace: str, owner: OwnerRef, keys: Keys) -> dict[str, Any]:
    """The apply configuration of the Secret `<endpoint>-keys`."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": keys_name(endpoint),
            "namespace": namespace,
            "labels": {ENDPOINT: endpoint, MANAGED_BY: MANAGER},
            "ownerReferences": owner_references(owner),
        },
        "type": "Opaque",
        # `data`, not `stringData`: that is merged on writing and owned by nobody afterwards.
        "data": {"primaryKey": _encoded(keys.primary), "secondaryKey": _encoded(keys.secondary)},
    }


def keys_of(secret: Mapping[str, Any]) -> Keys:
    """The keys in a Secret. Raises ProviderError, which names what to mend and shows no key."""
    return Keys(_key(secret, "primaryKey"), _key(secret, "secondaryKey"))


def digests_of(keys: Keys) -> dict[str, str]:
    """`status.keys`: hex SHA-256 of both keys."""
    return {
        "primarySha256": hashlib.sha256(keys.primary.encode()).hexdigest(),
        "secondarySha256": hashlib.sha256(keys.secondary.encode()).hexdigest(),
    }


def _encoded(key: str) -> str:
    return base64.b64encode(key.encode()).decode()


def _key(secret: Mapping[str, Any], field_name: str) -> str:
    name = secret["metadata"]["name"]
    encoded = (secret.get("data") or {}).get(field_name)
    if not encoded:
        raise ProviderError(f"Secret {name} has no {field_name}; delete the Secret to have new keys made")
    try:
        key = base64.b64decode(encoded, validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        raise ProviderError(f"{field_name} in Secret {name} is no ASCII text") from None
    if len(key) < LEAST_CHARACTERS or not key.isprintable() or " " in key:
        rule = f"must have at least {LEAST_CHARACTERS} characters, no spaces and no control characters"
        raise ProviderError(f"{field_name} in Secret {name} {rule}")
    return key
