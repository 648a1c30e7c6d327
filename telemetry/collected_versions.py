"""List of the versions that collect payloads, from the control process to the collector. Blocking."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from cluster import atomic_files
from serving.endpoint import PayloadCollection, VersionKey

FILE: Final = "versions.json"


class _Listed(msgspec.Struct):
    endpoint: str
    version: str
    collection: PayloadCollection


class CollectedVersions:
    """The list as read by the collector, again after each change."""

    def __init__(self, folder: Path) -> None:
        """`folder`: of the rings."""
        self._path = folder / FILE
        self._stamp = 0
        self._listed: Mapping[VersionKey, PayloadCollection] = {}

    def all(self) -> Mapping[VersionKey, PayloadCollection]:
        """Version -> its collection. Raises OSError."""
        try:
            stamp = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return {}
        if stamp != self._stamp:
            listed = msgspec.json.decode(self._path.read_bytes(), type=list[_Listed])
            self._listed = {VersionKey(each.endpoint, each.version): each.collection for each in listed}
            self._stamp = stamp
        return self._listed


def write_versions(folder: Path, versions: Mapping[VersionKey, PayloadCollection]) -> None:
    """Replace the list. `folder`: of the rings. `versions`: those that collect. Raises OSError."""
    listed = [_Listed(*key, collection) for key, collection in versions.items()]
    atomic_files.write_atomically(folder / FILE, msgspec.json.encode(listed), durable=False)
