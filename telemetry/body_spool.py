"""Bodies that arrive in pieces, in files of this machine until their request ends. Blocking."""

import os
from pathlib import Path

from telemetry.payload_messages import BodyPiece

OLD_S = 2 * 3600.0
"""Age at which a file without the end of its request is removed; a streamed response may last for an hour."""


class BodySpool:
    """Folder of bodies under construction. A piece that is written twice changes nothing."""

    def __init__(self, folder: Path) -> None:
        """`folder`: exists."""
        self._folder = folder
        self._failed: set[tuple[str, str]] = set()
        """(ring, request id) of bodies that could not be written."""

    def add(self, ring: str, piece: BodyPiece) -> None:
        """Write a piece; a failure shows in `take`."""
        try:
            fd = os.open(self._path(ring, piece.request_id, piece.side), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                written = os.pwrite(fd, piece.data, piece.at)
            finally:
                os.close(fd)
            if written != len(piece.data):
                raise OSError
        except OSError:
            self._failed.add((ring, piece.request_id))

    def body(self, ring: str, request_id: str, side: int, size_bytes: int) -> Path | None:
        """File of a whole body; None if it is not complete. `size_bytes`: of the whole."""
        path = self._path(ring, request_id, side)
        if (ring, request_id) in self._failed:
            return None
        try:
            return path if path.stat().st_size == size_bytes else None
        except OSError:
            return None

    def abandon(self, ring: str, request_id: str) -> None:
        """Remove the bodies of a request that is dropped."""
        self._failed.discard((ring, request_id))
        for side in (0, 1):
            self._path(ring, request_id, side).unlink(missing_ok=True)

    def forget_ring(self, ring: str) -> None:
        """Remove the bodies of a worker that has ended."""
        for path in self._folder.glob(f"{ring}~*"):
            path.unlink(missing_ok=True)
        self._failed = {each for each in self._failed if each[0] != ring}

    def sweep(self, now: float) -> None:
        """Remove old files. `now`: unix seconds."""
        for path in self._folder.iterdir():
            if now - path.stat().st_mtime > OLD_S:
                path.unlink(missing_ok=True)

    def _path(self, ring: str, request_id: str, side: int) -> Path:
        return self._folder / f"{ring}~{request_id}~{side}"
