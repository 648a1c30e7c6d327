"""The Secret `scorefront-keys` with the keys of all endpoints. Routers get SHA-256 digests, through the status.

One entry per endpoint: `<namespace>.<name>` -> JSON, bound to the uid of the ScoringEndpoint. An entry of another uid
is stale. 1,000 entries take less than 450 KB of the 1 MiB limit of a Secret.

The incarnation of an endpoint, named by its tokens, is `<uid>.<part>`: the entry holds the part, and replacing it
revokes all tokens; the uid invalidates tokens of a deleted endpoint, and a status copied from another object.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from cluster.kubernetes.objects.secret import DamagedSecret, clearing, value_in
from cluster.provider import ProviderError

KEYS_SECRET = "scorefront-keys"
MIN_KEY_CHARACTERS = 32
"""Shorter keys could be found by search from their digests, which every reader of the status sees."""
MAX_KEY_CHARACTERS = 256
"""Keeps the Secret below its 1 MiB."""

_part = re.compile(r"[0-9a-f]{32}")


class KeyEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The keys of one endpoint in clear text; its repr shows the uid only."""

    uid: str
    """Uid of the ScoringEndpoint object."""
    primary_key: str
    secondary_key: str
    incarnation: str = ""
    """The revocable part; "": not yet written."""

    def __repr__(self) -> str:
        return f"KeyEntry(uid={self.uid!r})"


def entry_key(found: Mapping[str, Any]) -> str:
    """The data key of a ScoringEndpoint. A namespace has no dot, so no two objects share one."""
    metadata = found["metadata"]
    return f"{metadata['namespace']}.{metadata['name']}"


def encoded_entry(entry: KeyEntry) -> bytes:
    """The value of a data key."""
    return msgspec.json.encode(entry)


def entry_in(secret: Mapping[str, Any], found: Mapping[str, Any]) -> KeyEntry | None:
    """The entry of the ScoringEndpoint `found`; None if there is none, or a stale one.

    Raises ProviderError with the command that removes the entry; the text shows no key.
    """
    key = entry_key(found)
    try:
        entry = _decoded(secret, key)
        if entry is None or entry.uid != found["metadata"]["uid"]:
            return None
        _check(entry)
    except (DamagedSecret, msgspec.MsgspecError, ValueError) as error:
        remedy = clearing(secret["metadata"]["namespace"], KEYS_SECRET, key)
        raise ProviderError(
            f"entry {key} in Secret {KEYS_SECRET}: {error}; for new keys remove the entry: {remedy}"
        ) from None
    return entry


def incarnation_of(uid: str, part: str) -> str:
    """The incarnation of the ScoringEndpoint with this uid; "" without a part."""
    return f"{uid}.{part}" if part else ""


def part_of(incarnation: str) -> str:
    """The revocable part of an incarnation."""
    return incarnation.rpartition(".")[2]


def stale_entries(secret: Mapping[str, Any], uids: Mapping[str, str], namespaces: frozenset[str]) -> Iterator[str]:
    """Data keys of entries of endpoints that no longer exist.

    uids: data key -> uid of every existing ScoringEndpoint.
    namespaces: the watched ones; empty: all. Entries of other namespaces are left alone.
    """
    for key in secret.get("data") or {}:
        if namespaces and key.partition(".")[0] not in namespaces:
            continue
        if key not in uids:
            yield key
            continue
        try:
            entry = _decoded(secret, key)
        except (DamagedSecret, msgspec.MsgspecError):
            continue  # reported with the endpoint
        if entry is not None and entry.uid != uids[key]:
            yield key


def digests_of(primary: str, secondary: str) -> dict[str, str]:
    """`status.keys`: hex SHA-256 of both keys."""
    return {
        "primarySha256": hashlib.sha256(primary.encode()).hexdigest(),
        "secondarySha256": hashlib.sha256(secondary.encode()).hexdigest(),
    }


def _decoded(secret: Mapping[str, Any], key: str) -> KeyEntry | None:
    """Raises DamagedSecret, msgspec.MsgspecError."""
    value = value_in(secret, key)
    return msgspec.json.decode(value, type=KeyEntry) if value else None


def _check(entry: KeyEntry) -> None:
    """Raises ValueError."""
    for field, value in (("primaryKey", entry.primary_key), ("secondaryKey", entry.secondary_key)):
        if not value.isascii() or not value.isprintable() or " " in value:
            raise ValueError(f"{field} must be printable ASCII text without spaces")
        if not MIN_KEY_CHARACTERS <= len(value) <= MAX_KEY_CHARACTERS:
            rule = f"must have {MIN_KEY_CHARACTERS} to {MAX_KEY_CHARACTERS} characters"
            raise ValueError(f"{field} {rule}, has {len(value)}")
    if entry.incarnation and not _part.fullmatch(entry.incarnation):
        raise ValueError("incarnation must have 32 hexadecimal digits in lower case")
