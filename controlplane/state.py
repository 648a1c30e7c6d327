"""Durable state of an installation, independent of the store."""

from dataclasses import dataclass, field
from typing import Any

from controlplane.keys import KeyPair
from controlplane.tokens import Keyring
from serving.endpoint import VersionKey


@dataclass(frozen=True, slots=True)
class StoredEndpoint:
    """Stored record of one endpoint: the declared document with defaults filled in, and its keys."""

    document: dict[str, Any]
    keys: KeyPair
    replicas: dict[VersionKey, int] = field(default_factory=dict)
    """Last desired replicas of its versions, if stored with the endpoint."""


@dataclass(frozen=True, slots=True)
class InstallationState:
    """Content of a store."""

    endpoints: dict[str, StoredEndpoint] = field(default_factory=dict)
    desired: dict[VersionKey, int] = field(default_factory=dict)
    keyring: Keyring | None = None
    damaged: dict[str, str] = field(default_factory=dict)
    """Endpoint -> fault of its stored record: location, field and rule."""
    unread: dict[str, str] = field(default_factory=dict)
    """Endpoint -> refused read or write of its record; it is tried again."""
    lost: tuple[str, ...] = ()
    """Other unreadable parts and their location, as text for people."""
