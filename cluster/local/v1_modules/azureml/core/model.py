"""`Model.get_model_path`: the file or folder of a registered model in a replica."""

from __future__ import annotations

import os
from pathlib import Path


class ModelNotFoundException(Exception):
    """A model without a file in the replica."""


class Model:
    """A registered model, by its path on disk."""

    def __init__(self, *arguments: object, **options: object) -> None:
        # Registration needs a workspace; in a replica only the path of a model is defined.
        raise NotImplementedError(
            "in a replica without azureml-core only Model.get_model_path is available; install azureml-core into the"
            " Python of the replicas for more"
        )

    @staticmethod
    def get_model_path(model_name: str, version: int | None = None, _workspace: object = None) -> str:
        """The path of a model: of its only file or folder, else of its folder.

        model_name: the registered name.
        version: None: the latest.
        _workspace: ignored, nothing is downloaded. Raises ModelNotFoundException; ValueError for another version type.
        """
        if version is not None and (not isinstance(version, int) or isinstance(version, bool)):
            raise ValueError(f"version should be an int, got {version!r}")
        model_dir = Path(os.environ["AZUREML_MODEL_DIR"]) if os.environ.get("AZUREML_MODEL_DIR") else None
        for root in _roots(model_dir):
            if (found := _registered(root / model_name, version)) is not None:
                return str(found)
        if model_dir is not None and model_dir.is_dir():
            return str(_own(model_dir, model_name))
        if Path(model_name).exists():
            return model_name
        raise ModelNotFoundException(
            f"Model {model_name} not found: AZUREML_MODEL_DIR is {str(model_dir) if model_dir else 'not set'}, and"
            f" {Path.cwd() / model_name} does not exist"
        )


def _roots(model_dir: Path | None) -> list[Path]:
    """The folders that may have `<name>/<version>/…`."""
    roots = [Path(os.environ.get("AML_APP_ROOT", "")) / "azureml-models"]
    if model_dir is not None:
        roots = [model_dir, model_dir / "azureml-models", *roots]
        if model_dir.name.isdigit():
            roots.insert(0, model_dir.parent.parent)
    return roots


def _registered(folder: Path, version: int | None) -> Path | None:
    """The model in `<name>/<version>/…`, or `<name>` itself without versions in it; None: not there."""
    if not folder.is_dir():
        return folder if folder.exists() else None
    versions = [int(each.name) for each in folder.iterdir() if each.is_dir() and each.name.isdigit()]
    if not versions:
        return folder
    chosen = folder / str(max(versions) if version is None else version)
    return _only_entry(chosen) if chosen.is_dir() else None


def _own(folder: Path, name: str) -> Path:
    """The model in a folder of its own: its only entry, else the one of that name, else the folder."""
    named = [each for each in folder.iterdir() if each.stem == name]
    return named[0] if len(named) == 1 else _only_entry(folder)


def _only_entry(folder: Path) -> Path:
    entries = list(folder.iterdir())
    return entries[0] if len(entries) == 1 else folder
