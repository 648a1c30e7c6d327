"""The data of a Secret. Pure."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any


class DamagedSecret(Exception):
    """A Secret has content that cannot be decoded; the text names the Secret and the key, never a value."""


def value_in(secret: Mapping[str, Any], key: str) -> bytes:
    """The value of one key; empty if it is missing. Raises DamagedSecret."""
    encoded = (secret.get("data") or {}).get(key) or ""
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise DamagedSecret(f"Secret {secret['metadata']['name']}: {key} is no base64") from error


def clearing(namespace: str, name: str, key: str = "") -> str:
    """The command that removes one key of the Secret, or all keys by default."""
    data = f'{{"{key}":null}}' if key else "null"
    return f"kubectl -n {namespace} patch secret {name} --type=merge -p '{{\"data\":{data}}}'"
