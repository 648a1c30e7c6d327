"""Command lines of this installation that can be pasted into another terminal."""

import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

DEFAULT_CONTROL_URL = "http://127.0.0.1:8081"


@dataclass(frozen=True, slots=True)
class CommandHints:
    """Writes commands that reach the control port at `control_url`."""

    control_url: str
    program: str
    """The command `scorefront`, as a shell finds it."""

    def line(self, *words: str) -> str:
        """A command line; with --control-url unless that is the default."""
        where = () if self.control_url == DEFAULT_CONTROL_URL else ("--control-url", self.control_url)
        return f"{self.program} {shlex.join([*words, *where])}"


def program() -> str:
    """`scorefront` if a shell finds this installation by that name, else the path by which it was started."""
    started = Path(sys.argv[0])
    if started.name == "__main__.py":
        return f"{shlex.quote(_short(Path(sys.executable)))} -m scorefront"
    found = shutil.which("scorefront")
    if found is None or not started.exists() or not os.path.samefile(found, started):
        return shlex.quote(_short(started))
    return "scorefront"


def _short(path: Path) -> str:
    """`path` relative to the current folder, if it is below."""
    absolute = path.absolute()
    return str(absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute)
