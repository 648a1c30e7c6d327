"""A small file that is there only while a router that is started again in its pod may go on alone (`seat`).

What it holds is the last version of the object that says who takes part. It is gone, for certain, before the router
tells its workers of others, or tells others that it has no workers any more: from then on nobody waits for this pod.
Blocking, for microseconds: it changes only when routers come and go.
"""

import contextlib
import json
import logging
from pathlib import Path
from typing import Any

from cluster.atomic_files import remove_durably, write_atomically

_log = logging.getLogger("scorefront.membership")


class SoleMemberMarker:
    """Of one pod."""

    def __init__(self, path: Path, pod: str, uid: str) -> None:
        self._path = path
        self._whose = {"pod": pod, "uid": uid}
        self._kept: str | None = None

    def load(self) -> dict[str, Any] | None:
        """What the last process in this pod knew when it was alone; None: it may not have been, or is not known."""
        try:
            found = json.loads(self._path.read_bytes())
            known: dict[str, Any] = found["routers"]
            return known if {name: found[name] for name in self._whose} == self._whose else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("%s is not used: %s", self._path, error)
            return None

    def keep(self, config_map: dict[str, Any]) -> None:
        """The router is alone. If it cannot be written down, it will only not be known."""
        text = json.dumps({**self._whose, "routers": config_map})
        if text == self._kept:
            return
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(self._path, text.encode(), durable=False)
            self._kept = text
        except OSError as error:
            _log.warning("%s cannot be written to: %s", self._path.parent, error.strerror or error)

    def drop(self) -> None:
        """The router is not alone any more, or about to be nobody. Raises OSError where the file cannot be removed."""
        if self._kept == "":
            return
        # A machine that loses power must not bring it back.
        with contextlib.suppress(FileNotFoundError):
            remove_durably(self._path)
        self._kept = ""
