"""Declared endpoints in memory: one record per endpoint, and the lock that serialises its changes."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from weakref import WeakValueDictionary

from controlplane.control_errors import EndpointSkipped, NoSuchEndpoint, NoSuchVersion
from controlplane.keys import KeyPair
from serving.endpoint import Endpoint, ReplicaKind, Version, VersionKey
from serving.manifest import ScoringEndpoint, to_document


@dataclass(frozen=True, slots=True)
class DeclaredEndpoint:
    """One endpoint: its manifest, its domain record and its keys."""

    manifest: ScoringEndpoint
    endpoint: Endpoint
    keys: KeyPair


class ApplyOutcome(StrEnum):
    """Effect of a declaration on the declared state."""

    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"

    @classmethod
    def of(cls, old: DeclaredEndpoint | None, new: ScoringEndpoint, edited: bool = False) -> "ApplyOutcome":
        """The outcome of declaring `new` in the place of `old`.

        old: None: not declared.
        new: the declaration.
        edited: files behind the replicas have changed.
        """
        if old is None:
            return cls.CREATED
        return cls.UNCHANGED if not edited and to_document(old.manifest) == to_document(new) else cls.CHANGED


@dataclass(frozen=True, slots=True)
class SkippedEndpoint:
    """A declared endpoint with a damaged stored record, or without keys."""

    why: str
    """The file, the field and the rule; or the failed read or write."""
    remedy: str
    """Advice for people."""
    keys: KeyPair | None = None
    """None: unreadable."""
    is_retried: bool = False
    """True if the store failed: it is read again without a change."""


class Registry:
    """All declared endpoints. Change an entry only while holding its lock, and only after the store has it."""

    def __init__(self) -> None:
        self._declared: dict[str, DeclaredEndpoint] = {}
        self._skipped: dict[str, SkippedEndpoint] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def lock(self, name: str) -> asyncio.Lock:
        """The lock of one endpoint, declared or not; it exists while held or awaited."""
        return self._locks.setdefault(name, asyncio.Lock())

    def put(self, declared: DeclaredEndpoint) -> None:
        """Add or replace an endpoint."""
        self._declared[declared.endpoint.name] = declared
        self._skipped.pop(declared.endpoint.name, None)

    def skip(self, name: str, skipped: SkippedEndpoint) -> None:
        """Mark an endpoint as skipped."""
        self._skipped[name] = skipped

    def drop(self, name: str) -> None:
        """Forget an endpoint, declared or skipped."""
        self._declared.pop(name, None)
        self._skipped.pop(name, None)

    def skipped(self) -> Mapping[str, SkippedEndpoint]:
        """All skipped endpoints, by name."""
        return self._skipped

    def find(self, name: str) -> DeclaredEndpoint | None:
        """The endpoint, or None."""
        return self._declared.get(name)

    def get(self, name: str) -> DeclaredEndpoint:
        """The endpoint. Raises NoSuchEndpoint, or its subclass EndpointSkipped."""
        declared = self._declared.get(name)
        if declared is None and (skipped := self._skipped.get(name)) is not None:
            raise EndpointSkipped(name, skipped.why, skipped.remedy)
        if declared is None:
            raise NoSuchEndpoint(name)
        return declared

    def all(self) -> tuple[DeclaredEndpoint, ...]:
        """All endpoints, ordered by name."""
        return tuple(self._declared[name] for name in sorted(self._declared))

    def endpoints(self) -> tuple[Endpoint, ...]:
        """The domain records of all endpoints, ordered by name."""
        return tuple(declared.endpoint for declared in self.all())

    def version(self, key: VersionKey) -> Version | None:
        """The version, or None if it is not declared."""
        declared = self._declared.get(key.endpoint)
        return declared.endpoint.version(key.version) if declared else None

    def keys_of(self, name: str, version: str | None) -> list[VersionKey]:
        """The keys of one version; `version` None: of all. Raises NoSuchEndpoint, NoSuchVersion."""
        endpoint = self.get(name).endpoint
        if version is None:
            return [VersionKey(name, each.name) for each in endpoint.versions]
        if endpoint.version(version) is None:
            raise NoSuchVersion(VersionKey(name, version))
        return [VersionKey(name, version)]


def is_scaled(version: Version) -> bool:
    """True if the control plane scales the version; static replicas run elsewhere, in a fixed number."""
    return version.replica.kind is not ReplicaKind.STATIC
