"""What an installation keeps, whatever keeps it."""

from dataclasses import dataclass, field
from typing import Any

from controlplane.keys import KeyPair
from controlplane.tokens import Keyring
from serving.endpoint import VersionKey


@dataclass(frozen=True, slots=True)
class StoredEndpoint:
    """What is kept of one endpoint: the document as declared (defaults filled in), and its keys."""

    document: dict[str, Any]
    keys: KeyPair
    replicas: dict[VersionKey, int] = field(default_factory=dict)
    """What its versions were last asked to have, where that is kept with it."""


@dataclass(frozen=True, slots=True)
class InstallationState:
    """Everything that was found."""

    endpoints: dict[str, StoredEndpoint] = field(default_factory=dict)
    wanted: dict[VersionKey, int] = field(default_factory=dict)
    keyring: Keyring | None = None
    damaged: dict[str, str] = field(default_factory=dict)
    """Endpoint -> what is wrong with what is kept of it: where it is kept, field and rule."""
    lost: tuple[str, ...] = ()
    """What else could not be read, and where it is kept; for people."""
