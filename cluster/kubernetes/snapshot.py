"""The last known objects in a file: with it a router that is started again serves while the API server is away.

It holds no secret: of keys it has digests only.
"""

import logging
from pathlib import Path
from typing import Any

import msgspec

from cluster.atomic_files import write_atomically

_log = logging.getLogger(__name__)

Objects = dict[str, list[dict[str, Any]]]
"""By namespace; "" stands for all of them."""


class Snapshot(msgspec.Struct, frozen=True):
    """What was known at one moment."""

    pod: str
    """Whose it is."""
    uid: str
    endpoints: Objects
    pods: Objects
    trust: list[dict[str, Any]]


class SnapshotFile:
    """One file; whole or absent. Its methods block: call them in a thread once something else runs."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self, pod: str, uid: str) -> Snapshot | None:
        """What this pod has known; None if there is nothing that can be used."""
        try:
            found = msgspec.json.decode(self._path.read_bytes(), type=Snapshot)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("%s is not used: %s", self._path, error)
            return None
        return found if (found.pod, found.uid) == (pod, uid) else None

    def write(self, snapshot: Snapshot) -> None:
        """In place of the one before. Raises OSError.

        Nothing is forced to the disk: what has to be survived is the end of the process, not that of the machine.
        """
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(self._path, msgspec.json.encode(snapshot), durable=False)
