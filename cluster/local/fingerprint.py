"""Fingerprint of the files that a replica starts from: its code and its model.

Equal contents give equal fingerprints, whatever their times. The cost is bounded: large files, and all beyond a total,
count by size and time of change; at most `MOST_FILES` files count. Not counted: what .amlignore (else .gitignore) in
the top folder names, caches, environments, hidden folders, logs, manifests of endpoints, and the state directory.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

from cluster.local.command import directory
from serving.endpoint import Version

READ_BYTES = 1_000_000
"""Size up to which a file is read."""
TOTAL_BYTES = 64_000_000
"""Bytes read in all."""
MOST_FILES = 20_000
IGNORE_FILES = (".amlignore", ".gitignore")
LEFT_OUT_FOLDERS = frozenset({"__pycache__", "node_modules"})
LEFT_OUT_ENDINGS = (".pyc", ".pyo", ".log", ".pid", ".swp", "~", "nohup.out")
ENVIRONMENT = "pyvenv.cfg"
"""File in the top folder of a Python environment."""
MANIFEST = (b"scorefront.io/", b"ScoringEndpoint")
"""Texts of a manifest, which says how replicas run, and is compared on its own."""


def ignored_patterns(top: Path) -> GitIgnoreSpec:
    """Patterns of .amlignore, else of .gitignore, in a folder; none if there is neither, or an unreadable one."""
    for name in IGNORE_FILES:
        try:
            return GitIgnoreSpec.from_lines((top / name).read_text(errors="replace").splitlines())
        except FileNotFoundError:
            continue
        except (OSError, ValueError):
            break
    return GitIgnoreSpec([])


def fingerprint(version: Version, state_dir: Path) -> str:
    """The files of the entry script or command, the source directory and the model directory.

    `version`: with absolute paths. `state_dir`: of scorefront, left out.
    """
    source, files = version.replica, _Files(Path(os.path.realpath(state_dir)))
    if source.entry_script is not None:
        files.add(Path(source.entry_script), "entryScript")
    if source.source_directory is not None:
        files.add_folder(Path(source.source_directory))
    elif source.entry_script is not None:
        files.add_folder(Path(source.entry_script).parent, ending=".py")  # modules beside the script
    if source.environment is not None and not os.access(source.environment, os.X_OK):  # an interpreter has no contents
        files.add(Path(source.environment), "environment")
    if source.model_dir is not None:
        files.add_folder(Path(source.model_dir))
    for place, argument in enumerate(source.command[1:], start=1):
        path = os.path.join(directory(version) or os.curdir, argument)
        if os.path.isfile(path):  # False, not an error, for a text that is no path
            files.add(Path(path), f"command[{place}]")
    return files.digest()


@dataclass(frozen=True, slots=True)
class _Ignored:
    """The patterns in the top folder."""

    patterns: GitIgnoreSpec

    def has_file(self, relative: str) -> bool:
        return relative.endswith(LEFT_OUT_ENDINGS) or self.patterns.match_file(relative)

    def has_folder(self, path: Path, relative: str, state_dir: Path) -> bool:
        return (
            path.name in LEFT_OUT_FOLDERS
            or path.name.startswith(".")
            or os.path.realpath(path) == str(state_dir)
            or os.path.exists(path / ENVIRONMENT)
            or self.patterns.match_file(f"{relative}/")
        )


class _Files:
    """The digest of files, added in a fixed order."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._hash = hashlib.sha256()
        self._count = 0
        self._read_bytes = 0

    def digest(self) -> str:
        return self._hash.hexdigest()[:16]

    def add_folder(self, top: Path, ending: str = "") -> None:
        """Add the files below `top` whose names end with `ending`."""
        for path, relative in self._walk(top, ending):
            self.add(path, relative)

    def add(self, path: Path, label: str) -> None:
        """Add one file under a label."""
        if self._count >= MOST_FILES:
            return
        self._count += 1
        try:
            content = self._content(path)
        except OSError as error:
            content = f"errno {error.errno}".encode()
        if content is not None:
            self._hash.update(f"{label}\0{len(content)}\0".encode(errors="surrogateescape") + content)

    def _content(self, path: Path) -> bytes | None:
        """Bytes that stand for the file; None: not counted. Raises OSError."""
        status = path.stat()
        if status.st_size > READ_BYTES or self._read_bytes + status.st_size > TOTAL_BYTES:
            return f"size {status.st_size}, changed {status.st_mtime_ns}".encode()
        content = path.read_bytes()
        self._read_bytes += len(content)
        return None if all(text in content for text in MANIFEST) else hashlib.sha256(content).digest()

    def _walk(self, top: Path, ending: str) -> Iterator[tuple[Path, str]]:
        ignored = _Ignored(ignored_patterns(top))
        for folder, folders, names in os.walk(top):
            here = Path(folder)
            relative = "" if here == top else f"{here.relative_to(top)}/"
            folders[:] = sorted(
                name for name in folders if not ignored.has_folder(here / name, relative + name, self._state_dir)
            )
            for name in sorted(names):
                if name.endswith(ending) and not ignored.has_file(relative + name) and os.path.isfile(here / name):
                    yield here / name, relative + name
            if self._count >= MOST_FILES:
                return
