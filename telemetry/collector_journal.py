"""Journal of the collector: what its successor must know after a kill. Blocking.

A batch is stored in three steps: the journal names the files and their sizes before; the files are written; the
journal names the positions up to which the rings are stored. A successor that finds the first cuts the files, and one
that finds the last frees the rings: no record is stored twice.
"""

import contextlib
from pathlib import Path
from typing import Final

import msgspec

from cluster import atomic_files
from serving.endpoint import VersionKey
from telemetry.ring import PayloadCounts, counts_in, ring_files

FILE: Final = "journal.json"


class JournalContent(msgspec.Struct):
    """Content of the journal."""

    writing: dict[str, int] = {}
    """File -> size before the batch that is being written."""
    positions: dict[str, int] = {}
    """Ring -> position up to which it is stored."""
    counts: dict[str, PayloadCounts] = {}
    """`endpoint/version` -> stored, sampled out and dropped, without the counts in rings."""
    absorbed: list[str] = []
    """Rings whose own counts are in `counts`."""


class CollectorJournal:
    """The journal in the folder of the rings."""

    def __init__(self, folder: Path) -> None:
        """Read it; a damaged one counts as empty."""
        self._path = folder / FILE
        self.content = _read(self._path)

    def write(self) -> None:
        """Replace the file by `content`. Raises OSError."""
        atomic_files.write_atomically(self._path, msgspec.json.encode(self.content), durable=False)

    def add(self, key: VersionKey, more: PayloadCounts) -> None:
        """Add to the counts of a version."""
        name = str(key)
        counts = self.content.counts.get(name, PayloadCounts())
        self.content.counts[name] = counts.plus(more)


def payload_counts(folder: Path) -> dict[VersionKey, PayloadCounts]:
    """The counts of every version, of the collector and of the rings. Raises OSError."""
    return {key: counts for key, counts in _all_counts(folder).items() if key.version}


def access_counts(folder: Path) -> dict[str, PayloadCounts]:
    """Access records of every endpoint that were exported (`stored`) and dropped. Raises OSError."""
    return {key.endpoint: counts for key, counts in _all_counts(folder).items() if not key.version}


def _all_counts(folder: Path) -> dict[VersionKey, PayloadCounts]:
    """Those of access records have "" as the version."""
    content = _read(folder / FILE)
    found = {_key(name): counts for name, counts in content.counts.items()}
    for path in ring_files(folder):
        if path.name not in content.absorbed:
            for key, counts in counts_in(path).items():
                found[key] = found.get(key, PayloadCounts()).plus(counts)
    return found


def _read(path: Path) -> JournalContent:
    with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
        return msgspec.json.decode(path.read_bytes(), type=JournalContent)
    return JournalContent()


def _key(name: str) -> VersionKey:
    endpoint, _, version = name.partition("/")
    return VersionKey(endpoint, version)
