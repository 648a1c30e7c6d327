"""Files of a model on this machine: the paths that they get, their digests. Blocking."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from workspace.relative_paths import path_fault

CHUNK_BYTES = 1024 * 1024


class NotAModel(Exception):
    """A file or folder that cannot be registered; the text names it and the rule."""


@dataclass(frozen=True, slots=True)
class LocalModelFile:
    """One file of a model."""

    path: str
    """Relative to the model's own folder."""
    file: Path
    size_bytes: int

    def sha256(self) -> str:
        """Digest of the content, in hexadecimal. Raises OSError."""
        with self.file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()

    def pieces(self, progress: Callable[[int], None]) -> Iterator[bytes]:
        """The content. `progress`: called with the bytes of each piece. Raises OSError."""
        with self.file.open("rb") as content:
            while piece := content.read(CHUNK_BYTES):
                yield piece
                progress(len(piece))


def local_model_files(path: Path) -> list[LocalModelFile]:
    """The files of a model by path: a file under its name, a folder with everything in it under the folder's name.

    Links to files are followed. Raises NotAModel, OSError.
    """
    if not path.exists():
        raise NotAModel(f"there is no file or folder {path}")
    top = path.absolute() if path.name not in ("", ".", "..") else path.resolve()
    if not top.is_dir():
        return [_file(top, top.name)]
    found = [_file(file, f"{top.name}/{file.relative_to(top).as_posix()}") for file in _below(top)]
    if not found:
        raise NotAModel(f"the folder {path} has no files")
    return sorted(found, key=lambda each: each.path)


def _below(top: Path) -> Iterator[Path]:
    def unreadable(error: OSError) -> None:
        raise error

    for folder, folders, files in os.walk(top, onerror=unreadable):
        for name in folders:
            if (link := Path(folder, name)).is_symlink():
                raise NotAModel(f"{link} is a link to a folder; only links to files are followed")
        yield from (Path(folder, name) for name in files)


def _file(file: Path, path: str) -> LocalModelFile:
    status = file.stat()
    if not stat.S_ISREG(status.st_mode):
        raise NotAModel(f"{file} is neither a file nor a folder")
    if fault := path_fault(path):
        raise NotAModel(f"{file}: its path in the model {fault} (got {path!r})")
    return LocalModelFile(path, file, status.st_size)
