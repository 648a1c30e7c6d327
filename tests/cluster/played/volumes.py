"""Volumes of a pod as folders: written as a node agent writes them, whole versions that are swapped in at once."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

_DATA = "..data"


def write(folder: Path, files: Mapping[str, bytes]) -> bool:
    """Write the files of a volume; True if anything changed.

    Every file is a link into `..data`, itself a link to the newest version: readers see the old files or the new
    ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / _DATA
    if data.is_symlink() and held(data) == dict(files):
        return False
    old = data.resolve() if data.is_symlink() else None
    number = int(old.name.removeprefix("..")) + 1 if old else 1
    fresh = folder / f"..{number}"
    for name, content in files.items():
        (fresh / name).parent.mkdir(parents=True, exist_ok=True)
        (fresh / name).write_bytes(content)
    fresh.mkdir(exist_ok=True)
    swap = folder / "..next"
    swap.symlink_to(fresh.name)
    os.replace(swap, data)
    _link(folder, files)
    if old is not None:
        shutil.rmtree(old)
    return True


def _link(folder: Path, files: Mapping[str, bytes]) -> None:
    wanted = {name.split("/")[0] for name in files}
    for there in folder.iterdir():
        if not there.name.startswith("..") and there.name not in wanted:
            there.unlink()
    for name in wanted:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"{_DATA}/{name}")


def held(data: Path) -> dict[str, bytes]:
    """Files of the newest version."""
    root = data.resolve()
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
