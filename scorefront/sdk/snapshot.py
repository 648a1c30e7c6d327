"""Snapshot of a source directory: one zip archive, the same for the same files."""

import io
import os
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

from cluster.local.fingerprint import ENVIRONMENT, ignored_patterns
from scorefront.sdk.exceptions import UserErrorException

MAX_BYTES = 300 * 1024 * 1024
"""Largest source directory, as in Azure ML."""
MAX_FILES = 20_000
LEFT_OUT_FOLDERS = frozenset({".git", "__pycache__", ".ipynb_checkpoints", ".scorefront", "node_modules"})
FIRST_TIME = (1980, 1, 1, 0, 0, 0)
"""Time of every entry, so that equal files make equal archives."""


def snapshot(source_directory: Path | None, entry_script: Path) -> tuple[bytes, str]:
    """An archive of the code, and the path of the entry script in it.

    source_directory: folder; files named by .amlignore, else by .gitignore, are left out; None: the script alone.
    entry_script: relative to the source directory; without one, to the working directory.
    Raises UserErrorException.
    """
    if source_directory is None:
        return _zipped([(entry_script, entry_script.name)]), entry_script.name
    top = Path(os.path.realpath(source_directory))
    files = list(_files(top))
    script = entry_script.as_posix()
    if script not in (name for _, name in files):
        raise UserErrorException(
            f"entry_script: {script!r} is left out of the snapshot by .amlignore or .gitignore in {source_directory}"
        )
    return _zipped(files), script


def _zipped(files: list[tuple[Path, str]]) -> bytes:
    """`files`: each with its name in the archive."""
    output = io.BytesIO()
    total_bytes = 0
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, name in files:
            try:
                total_bytes += path.stat().st_size
                if total_bytes > MAX_BYTES:
                    raise UserErrorException(
                        f"source_directory: must have at most {MAX_BYTES // 1024**2} MB (at {name}); leave out files by"
                        " .amlignore, and register large files as a model"
                    )
                entry = zipfile.ZipInfo(name, FIRST_TIME)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = (stat.S_IFREG | 0o644) << 16
                archive.writestr(entry, path.read_bytes())
            except OSError as error:
                raise UserErrorException(f"source_directory: cannot read {name}: {error.strerror}") from None
    return output.getvalue()


def _files(top: Path) -> Iterator[tuple[Path, str]]:
    """Files of the snapshot, each with its path below `top`. Raises UserErrorException."""
    patterns = ignored_patterns(top)
    count = 0
    for folder, folders, names in os.walk(top):
        here = Path(folder)
        start = "" if here == top else f"{here.relative_to(top).as_posix()}/"
        folders[:] = sorted(
            name
            for name in folders
            if name not in LEFT_OUT_FOLDERS
            and not (here / name / ENVIRONMENT).exists()
            and not patterns.match_file(f"{start}{name}/")
        )
        for name in [each for each in folders if (here / each).is_symlink()]:
            _refuse_outside(here / name, start + name, top)
        for name in sorted(names):
            if name.endswith(".pyc") or patterns.match_file(start + name) or not (here / name).is_file():
                continue
            _refuse_outside(here / name, start + name, top)
            count += 1
            if count > MAX_FILES:
                raise UserErrorException(f"source_directory: must have at most {MAX_FILES} files; see .amlignore")
            yield here / name, start + name


def _refuse_outside(path: Path, name: str, top: Path) -> None:
    """Raise UserErrorException for a link to a place outside the source directory.

    path: of the file. name: for the message. top: the source directory.
    """
    if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(top):
        raise UserErrorException(
            f"source_directory: {name!r} is a link to {os.path.realpath(path)}, outside the source directory; copy the"
            " file, or leave it out by .amlignore"
        )
