"""Marker file of a router that is the sole member: after a restart in its pod it may continue alone.

It holds the last version of the membership object. It is removed before the router publishes a view with others to its
workers, and before it announces that it has no workers: from then on other routers do not wait for this pod. Blocking,
for microseconds: it changes only when routers come and go.
"""

import contextlib
import json
import logging
from pathlib import Path
from typing import Any

from cluster.atomic_files import remove_durably, write_atomically

_log = logging.getLogger("scorefront.membership")


class SoleMemberMarker:
    """The marker of one pod."""

    def __init__(self, path: Path, pod: str, uid: str) -> None:
        self._path = path
        self._whose = {"pod": pod, "uid": uid}
        self._kept: str | None = None

    def load(self) -> dict[str, Any] | None:
        """The object known to the last process of this pod as sole member; None: not the sole member, or unknown."""
        try:
            found = json.loads(self._path.read_bytes())
            known: dict[str, Any] = found["routers"]
            return known if {name: found[name] for name in self._whose} == self._whose else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("%s: not used: %s", self._path, error)
            return None

    def keep(self, config_map: dict[str, Any]) -> None:
        """The router is the sole member; a failed write only loses the marker."""
        text = json.dumps({**self._whose, "routers": config_map})
        if text == self._kept:
            return
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(self._path, text.encode(), durable=False)
            self._kept = text
        except OSError as error:
            _log.warning("%s: not writable: %s", self._path.parent, error.strerror or error)

    def drop(self) -> None:
        """The router is not the sole member any more, or is leaving. Raises OSError if the file cannot be removed."""
        if self._kept == "":
            return
        # A machine that loses power must not bring it back.
        with contextlib.suppress(FileNotFoundError):
            remove_durably(self._path)
        self._kept = ""
