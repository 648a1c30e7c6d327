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
    """The known objects at one time."""

    pod: str
    """Name of the router pod that wrote it."""
    uid: str
    endpoints: Objects
    pods: Objects
    trust: list[dict[str, Any]]


class SnapshotFile:
    """One file; whole or absent. Its methods block: call them in a thread once something else runs."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self, pod: str, uid: str) -> Snapshot | None:
        """The last snapshot of this pod; None if there is no usable one."""
        try:
            found = msgspec.json.decode(self._path.read_bytes(), type=Snapshot)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("snapshot %s: ignored: %s", self._path, error)
            return None
        return found if (found.pod, found.uid) == (pod, uid) else None

    def write(self, snapshot: Snapshot) -> None:
        """Replace the snapshot. Raises OSError.

        There is no fsync: the file has to survive the end of the process, not of the machine.
        """
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(self._path, msgspec.json.encode(snapshot), durable=False)
