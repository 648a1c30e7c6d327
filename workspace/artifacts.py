"""Named artifacts and assets of the v1 protocol: names for blobs, kept as records of the store.

artifacts/ORIGIN/CONTAINER/<digest of the path>.json
assets/ID.json
"""

import asyncio
import hashlib
import re
import uuid
from collections.abc import Callable, Sequence, Set
from typing import TypeVar

import msgspec

from controlplane.control_errors import InvalidCall, StoreError
from serving.faults import shown
from workspace.relative_paths import path_fault
from workspace.store.file_store import Blob, FileStore
from workspace.workspace_errors import NoSuchArtifact, NoSuchAsset

_Record = TypeVar("_Record", "Artifact", "Asset")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
MAX_PREFIXES = 10_000


class Artifact(msgspec.Struct, frozen=True, rename="camel"):
    """A blob under a name of the v1 protocol."""

    origin: str
    """As in `LocalUpload`."""
    container: str
    path: str
    sha256: str
    size_bytes: int
    created: float
    """Unix seconds."""

    @property
    def id(self) -> str:
        """`origin/container/path`."""
        return f"{self.origin}/{self.container}/{self.path}"


class Asset(msgspec.Struct, frozen=True, rename="camel"):
    """A set of artifacts by the beginnings of their ids."""

    id: str
    name: str
    prefixes: tuple[str, ...]
    created: float
    """Unix seconds."""


class ArtifactRegistry:
    """Artifacts and assets; read from the store at each call, since each is used once or twice."""

    def __init__(self, store: FileStore, now: Callable[[], float]) -> None:
        """`now`: wall clock in unix seconds."""
        self._store = store
        self._now = now

    async def put(self, origin: str, container: str, path: str, blob: Blob) -> Artifact:
        """Name a blob; an artifact of the same name is replaced.

        origin, container: one word each. path: relative, without `..`.
        blob: stored content.
        Raises InvalidCall, StoreError.
        """
        place = _place(origin, container, path)
        artifact = Artifact(origin, container, path, blob.sha256, blob.size_bytes, self._now())
        await asyncio.to_thread(self._store.write_record, place, msgspec.to_builtins(artifact))
        return artifact

    async def get(self, origin: str, container: str, path: str) -> Artifact:
        """An artifact. Raises NoSuchArtifact, InvalidCall, StoreError."""
        place = _place(origin, container, path)
        found = await asyncio.to_thread(self._store.read_record, place)
        if found is None:
            raise NoSuchArtifact(f"{origin}/{container}/{path}")
        return _converted(place, found, Artifact)

    async def list(self, prefix: str) -> list[Artifact]:
        """Artifacts with ids that begin with `prefix` (origin/container/…), by id. Raises InvalidCall, StoreError."""
        origin, _, rest = prefix.partition("/")
        container, _, path = rest.partition("/")
        folder = f"artifacts/{_word('origin', origin)}/{_word('container', container)}"
        records = await asyncio.to_thread(lambda: [*self._store.read_records(folder)])
        found = (_decoded(place, data, Artifact) for place, data in records)
        return sorted((each for each in found if each.path.startswith(path)), key=lambda each: each.path)

    async def create_asset(self, name: str, prefixes: Sequence[str]) -> Asset:
        """Register an asset under a new id. Raises InvalidCall, StoreError."""
        if not 1 <= len(prefixes) <= MAX_PREFIXES:
            raise InvalidCall(f"artifacts: must be 1 to {MAX_PREFIXES} prefixes (got {len(prefixes)})")
        asset = Asset(uuid.uuid4().hex, name, tuple(prefixes), self._now())
        await asyncio.to_thread(self._store.create_record, f"assets/{asset.id}.json", msgspec.to_builtins(asset))
        return asset

    async def asset(self, identifier: str) -> Asset:
        """An asset. Raises NoSuchAsset, StoreError."""
        place = f"assets/{identifier}.json"
        found = await asyncio.to_thread(self._store.read_record, place) if _NAME.fullmatch(identifier) else None
        if found is None:
            raise NoSuchAsset(identifier)
        return _converted(place, found, Asset)

    async def artifacts_of(self, asset: Asset) -> tuple[Artifact, ...]:
        """The artifacts of an asset, in the order of its prefixes. Raises InvalidCall, StoreError."""
        found = [artifact for prefix in asset.prefixes for artifact in await self.list(prefix)]
        return tuple({artifact.id: artifact for artifact in found}.values())

    def expire(self, kept: Set[str], before: float) -> None:
        """Remove old assets, and old artifacts of no asset. Blocking.

        kept: ids of assets to keep. before: unix seconds; later ones are kept.
        Raises StoreError.
        """
        prefixes: list[str] = []
        for place, data in [*self._store.read_records("assets")]:
            asset = _decoded(place, data, Asset)
            if asset.id in kept or asset.created >= before:
                prefixes.extend(asset.prefixes)
            else:
                self._store.delete(place)
        beginnings = tuple(prefixes)
        for place, data in [*self._store.read_records("artifacts")]:
            artifact = _decoded(place, data, Artifact)
            if artifact.created < before and not artifact.id.startswith(beginnings):
                self._store.delete(place)

    def blobs_in_use(self) -> set[str]:
        """Digests of all artifacts. Blocking. Raises StoreError."""
        return {_decoded(place, data, Artifact).sha256 for place, data in self._store.read_records("artifacts")}


def _place(origin: str, container: str, path: str) -> str:
    if fault := path_fault(path):
        raise InvalidCall(f"path: {fault} (got {shown(path)})")
    digest = hashlib.sha256(path.encode()).hexdigest()
    return f"artifacts/{_word('origin', origin)}/{_word('container', container)}/{digest}.json"


def _word(field: str, text: str) -> str:
    if not _NAME.fullmatch(text):
        rule = "must have 1 to 128 letters, digits, dots, dashes and underscores, a letter or digit first"
        raise InvalidCall(f"{field}: {rule} (got {shown(text)})")
    return text


def _converted(place: str, value: object, shape: type[_Record]) -> _Record:
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        raise StoreError(f"{place}: damaged record: {error}") from error


def _decoded(place: str, data: bytes, shape: type[_Record]) -> _Record:
    try:
        return msgspec.json.decode(data, type=shape)
    except msgspec.DecodeError as error:
        raise StoreError(f"{place}: damaged record: {error}") from error
