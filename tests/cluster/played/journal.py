"""Journal of the played node agent, one line of JSON per event: with the witness of the replicas the only judge."""

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

BOUND, STARTED, READY, UNREADY = "bound", "started", "ready", "unready"
LEAVING, ENDED, GONE = "leaving", "ended", "gone"
"""BOUND: seen with its node; READY: the status that says so is being sent; LEAVING: its deletion is seen; GONE: its
object is removed."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One event. `pod`: namespace/name; `pid`: process id, or 0."""

    at_s: float
    what: str
    pod: str
    uid: str
    ip: str = ""
    container: str = ""
    pid: int = 0
    note: str = ""


class Journal:
    """Writes."""

    def __init__(self, path: Path) -> None:
        self._file: IO[str] = path.open("a", buffering=1)

    def note(
        self, what: str, pod: str, uid: str, ip: str = "", container: str = "", pid: int = 0, note: str = ""
    ) -> None:
        """Now."""
        entry = Entry(time.monotonic(), what, pod, uid, ip, container, pid, note)
        self._file.write(json.dumps(asdict(entry)) + "\n")

    def close(self) -> None:
        """Nothing more comes."""
        self._file.close()


def read(path: Path) -> list[Entry]:
    """All complete entries so far; an unfinished last line is left out."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [Entry(**json.loads(line)) for line in lines if line.endswith("\n")]


def pods(entries: Iterable[Entry]) -> dict[int, Entry]:
    """Process id -> its start entry."""
    return {entry.pid: entry for entry in entries if entry.what == STARTED}


def first(entries: Iterable[Entry], what: str) -> dict[str, Entry]:
    """Uid of a pod -> the first such entry of it."""
    found: dict[str, Entry] = {}
    for entry in entries:
        if entry.what == what:
            found.setdefault(entry.uid, entry)
    return found
