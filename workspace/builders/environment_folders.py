"""Folders of virtual environments: one per key, complete or absent. Blocking.

<root>/<key>/                 a complete environment
<root>/<key>/environment.json its definition and size; its time of change is that of its last use
<root>/.part-…                under construction, or being removed
"""

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

RECORD = "environment.json"
PART = ".part-"
KEPT_S = 600.0
"""Time after its last use in which an environment is not removed: its user may not have declared it yet."""
_KEY = re.compile(r"[0-9a-f]{64}")


class EnvironmentFolders:
    """The environments under one root."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def prepare(self) -> None:
        """Make the root, and remove what an interrupted run has left. Raises OSError."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in self.root.glob(f"{PART}*"):
            shutil.rmtree(path, ignore_errors=True)

    def find(self, key: str) -> Path | None:
        """The interpreter of a complete environment, which counts as used now; None: it has to be built."""
        python = self.python(key)
        if not python.exists():  # False, too, once the Python below it was removed
            return None
        try:
            os.utime(self.root / key / RECORD)
        except OSError:
            return None
        return python

    def python(self, key: str) -> Path:
        """The path of an environment's interpreter."""
        return self.root / key / "bin" / "python"

    def key_of(self, interpreter: str) -> str:
        """The key of the environment with that interpreter; "": it is none of these."""
        path = Path(interpreter)
        inside = len(path.parents) > 2 and path.parents[2] == self.root and _KEY.fullmatch(path.parents[1].name)
        return path.parents[1].name if inside else ""

    def new_part(self) -> Path:
        """A path for an environment under construction."""
        return self.root / f"{PART}{secrets.token_hex(8)}"

    def complete(self, part: Path, key: str, record: Mapping[str, Any]) -> Path:
        """Turn a folder under construction into the environment of `key`. Raises OSError.

        part: the folder. key: of its definition. record: facts of it for people.
        """
        content = {**record, "bytes": _size_bytes(part)}
        with open(part / RECORD, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        self.remove(key)
        os.rename(part, self.root / key)
        return self.python(key)

    def remove(self, key: str) -> None:
        """Remove an environment; it is gone at once."""
        going = self.new_part()
        try:
            os.rename(self.root / key, going)
        except FileNotFoundError:
            return
        shutil.rmtree(going, ignore_errors=True)

    def collect(self, used: Collection[str], most_bytes: int) -> list[str]:
        """Remove unused environments, the longest unused first, while all take more than `most_bytes`.

        used: keys that stay.
        most_bytes: limit of the sum of sizes.
        Returns the removed keys.
        """
        kept: list[tuple[float, str, int]] = []
        for path in self.root.iterdir() if self.root.is_dir() else ():
            if _KEY.fullmatch(path.name):
                kept.append((_used_at(path), path.name, _recorded_bytes(path)))
        total, removed = sum(size for _, _, size in kept), []
        now = time.time()  # noqa: TID251 - compared with times of files
        for used_at, key, size in sorted(kept):
            if total <= most_bytes:
                break
            if key not in used and now - used_at > KEPT_S:
                self.remove(key)
                removed.append(key)
                total -= size
        return removed


def _used_at(folder: Path) -> float:
    try:
        return (folder / RECORD).stat().st_mtime
    except OSError:
        return 0.0


def _recorded_bytes(folder: Path) -> int:
    try:
        return int(json.loads((folder / RECORD).read_text(encoding="utf-8"))["bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _size_bytes(folder: Path) -> int:
    total = 0
    for top, _, names in os.walk(folder):
        for name in names:
            total += os.lstat(os.path.join(top, name)).st_size
    return total
