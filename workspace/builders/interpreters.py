"""Interpreters on this machine, and the choice of one for a wanted release of Python."""

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from workspace.builders.interface import BuildError

OLDEST = (3, 8)
"""Oldest release in which scorefront's part of a replica runs."""
Release = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Interpreter:
    """One Python."""

    path: Path
    release: Release
    """(major, minor, patch)."""

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.release))} ({self.path})"


def own_interpreter() -> Interpreter:
    """The Python below scorefront's own environment."""
    path = Path(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}")
    return Interpreter(path if path.exists() else Path(os.path.realpath(sys.executable)), sys.version_info[:3])


def listed(output: str) -> list[Interpreter]:
    """The interpreters in the JSON of `uv python list`."""
    try:
        entries = json.loads(output)
    except ValueError:
        return []
    found = []
    for entry in entries:
        path, parts = entry.get("path"), entry.get("version_parts", {})
        if path and entry.get("implementation") == "cpython" and entry.get("variant", "default") == "default":
            release = tuple(int(parts.get(part, 0)) for part in ("major", "minor", "patch"))
            found.append(Interpreter(Path(path), release))
    return [each for each in found if each.path.parent.name != "shims"]  # a shim may stand for no interpreter


def of_pyenv(environ: Mapping[str, str]) -> list[Interpreter]:
    """The interpreters that pyenv has installed; they need not be on PATH."""
    root = Path(environ.get("PYENV_ROOT") or Path(environ.get("HOME") or os.path.expanduser("~"), ".pyenv"))
    found = []
    for folder in sorted(root.glob("versions/*")):
        python = folder / "bin" / "python"
        if re.fullmatch(r"\d+\.\d+\.\d+", folder.name) and python.exists():
            found.append(Interpreter(python, tuple(map(int, folder.name.split(".")))))
    return found


def choose(wanted: str, found: Iterable[Interpreter], own: Interpreter) -> tuple[Interpreter, str]:
    """The interpreter for a wanted release, and a warning ("" without one).

    wanted: e.g. 3.9 or 3.9.18; "": any.
    found: interpreters of this machine.
    own: preferred among equals.
    Raises BuildError.
    """
    if not wanted:
        return own, ""
    release = tuple(map(int, wanted.split(".")))
    usable = sorted({each for each in (*found, own) if each.release >= OLDEST}, key=lambda each: each.release)
    same = [each for each in usable if each.release[: len(release)] == release]
    if same:
        return (own if own in same else same[-1]), ""
    minor = [each for each in usable if each.release[:2] == release[:2]]
    if len(release) == 3 and minor:  # another patch of the same release is nearer than any newer release
        chosen = own if own in minor else minor[-1]
        return chosen, f"warning: python={wanted} is not on this machine: {chosen} is used"
    newer = [each for each in usable if each.release > release]
    if not newer:
        known = ", ".join(dict.fromkeys(".".join(map(str, each.release)) for each in usable))
        raise BuildError(
            "python", f"python={wanted} is not on this machine, nor a newer release; found {known}; install it"
        )
    nearest = newer[0].release[:2]
    chosen = own if own.release[:2] == nearest else [each for each in newer if each.release[:2] == nearest][-1]
    return chosen, f"warning: python={wanted} is not on this machine: {chosen}, the nearest newer one, is used"
