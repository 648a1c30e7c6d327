"""Folders of deployments: the source and the models of each, made of blobs. Blocking: call it in threads.

    <root>/<operation id>/source                                   copies, the replica's own
    <root>/<operation id>/models/azureml-models/<name>/<version>/  hard links into a local store, else copies

A folder is made under a temporary name and renamed, so it is complete or absent after a kill.
"""

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from cluster.atomic_files import TEMPORARY_PREFIX, make_private_directory

MODELS_FOLDER = "azureml-models"
COPY_BYTES = 1024 * 1024
NO_LINK = frozenset({errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP, errno.EACCES})
"""Errors of link(2) that a copy avoids: another file system, too many links, no permission for links."""


class BlobSource(Protocol):
    """Reader of blobs; implemented by `workspace.store.file_store.FileStore`."""

    def open_blob(self, sha256: str) -> BinaryIO:
        """The content of a blob. Raises OSError."""

    def local_path(self, sha256: str) -> Path | None:
        """The file of a blob in a local store; None in other stores."""


class PlacedFile(Protocol):
    """A file by its path and its blob."""

    @property
    def path(self) -> str:
        """Relative path, checked."""

    @property
    def sha256(self) -> str:
        """Of its content."""

    @property
    def size_bytes(self) -> int:
        """Of its content."""


@dataclass(frozen=True, slots=True)
class PlacedModel:
    """A model to place."""

    name: str
    version: int
    files: tuple[PlacedFile, ...]


class DamagedBlob(OSError):
    """A blob whose content is not that of its name."""


class Stopped(Exception):
    """The making of a folder was stopped."""


class DeploymentPlaces:
    """The folders of all deployments under one root."""

    def __init__(self, root: Path, blobs: BlobSource) -> None:
        self._root = root
        self._blobs = blobs

    @property
    def root(self) -> Path:
        """The folder of all."""
        return self._root

    def source(self, operation: str) -> Path:
        """The source directory of a deployment."""
        return self._root / operation / "source"

    def model_dir(self, operation: str, models: Sequence[tuple[str, int]]) -> Path | None:
        """AZUREML_MODEL_DIR: a single model's own folder, the folder of all for several; None without models."""
        top = self._root / operation / "models" / MODELS_FOLDER
        if not models:
            return None
        return top / models[0][0] / str(models[0][1]) if len(models) == 1 else top

    def make_source(self, operation: str, files: Iterable[PlacedFile], stop: Callable[[], bool]) -> None:
        """Make the source directory, unless it is there.

        operation: id. files: its files. stop: True ends the making with Stopped.
        Raises OSError, Stopped; then nothing is left.
        """
        with self._making(operation, "source") as folder:
            if folder is not None:
                self._fill(folder, files, stop, links=False)

    def make_models(self, operation: str, models: Iterable[PlacedModel], stop: Callable[[], bool]) -> None:
        """Make the tree of models, unless it is there. Arguments and errors as of `make_source`."""
        with self._making(operation, "models") as folder:
            if folder is not None:
                for model in models:
                    self._fill(folder / MODELS_FOLDER / model.name / str(model.version), model.files, stop, links=True)

    def remove(self, operation: str) -> None:
        """Remove the folders of a deployment. Raises OSError."""
        folder = self._root / operation
        if folder.exists():
            aside = self._root / f"{TEMPORARY_PREFIX}{operation}"
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
            shutil.rmtree(aside)

    def operations(self) -> frozenset[str]:
        """Ids of the operations that have a folder. Raises OSError."""
        if not self._root.exists():
            return frozenset()
        return frozenset(each.name for each in self._root.iterdir() if not each.name.startswith(TEMPORARY_PREFIX))

    def sweep(self) -> None:
        """Remove the folders of interrupted work. Raises OSError."""
        make_private_directory(self._root)
        for leftover in (*self._root.glob(f"{TEMPORARY_PREFIX}*"), *self._root.glob(f"*/{TEMPORARY_PREFIX}*")):
            shutil.rmtree(leftover, ignore_errors=True)

    def operation_of(self, path: str) -> str | None:
        """The id of the operation that has made a path; None if it is no path of a deployment."""
        start = f"{self._root}/"
        return path.removeprefix(start).partition("/")[0] or None if path.startswith(start) else None

    @contextlib.contextmanager
    def _making(self, operation: str, name: str) -> Iterator[Path | None]:
        """A temporary folder that becomes `name` at the end; None if `name` is there already."""
        target = self._root / operation / name
        if target.exists():
            yield None
            return
        temporary = target.with_name(f"{TEMPORARY_PREFIX}{name}")
        shutil.rmtree(temporary, ignore_errors=True)
        make_private_directory(self._root)
        temporary.mkdir(parents=True, mode=0o700)
        try:
            yield temporary
            temporary.rename(target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def _fill(self, folder: Path, files: Iterable[PlacedFile], stop: Callable[[], bool], links: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        made: set[Path] = {folder}
        for file in files:
            if stop():
                raise Stopped
            path = folder / file.path
            if path.parent not in made:
                path.parent.mkdir(parents=True, exist_ok=True)
                made.add(path.parent)
            if not (links and self._linked(file, path)):
                self._copy(file, path, stop)

    def _linked(self, file: PlacedFile, path: Path) -> bool:
        """Make a hard link into a local store; False where that is not possible."""
        blob = self._blobs.local_path(file.sha256)
        if blob is None or not blob.exists():
            return False
        if blob.stat().st_size != file.size_bytes:
            raise DamagedBlob(errno.EIO, f"the blob has {blob.stat().st_size} bytes, not {file.size_bytes}", file.path)
        try:
            os.link(blob, path)
        except OSError as error:
            if error.errno in NO_LINK:
                return False
            raise
        return True

    def _copy(self, file: PlacedFile, path: Path, stop: Callable[[], bool]) -> None:
        digest = hashlib.sha256()
        with self._blobs.open_blob(file.sha256) as content, open(path, "xb") as copy:
            while piece := content.read(COPY_BYTES):
                if stop():
                    raise Stopped
                digest.update(piece)
                copy.write(piece)
        if digest.hexdigest() != file.sha256:
            raise DamagedBlob(errno.EIO, "the content of its blob is damaged", file.path)
