"""The environment of an inferenceconfig of v1 as the `environment` of a replica."""

import os
from pathlib import Path
from typing import Any

from scorefront.cli import show
from scorefront.cli.command_errors import CommandError
from serving.inferenceconfig import SATISFIED, conda_file_of, packages_of

OF_PACKAGES = ("condaFile: ", "environment.python: ")
"""Beginnings of the notes on packages."""


def conda_path(inference: Any, replica: dict[str, Any], folder: Path) -> Path | None:
    """The conda file that an inferenceconfig names; None: none is named, or it does not exist.

    inference: the decoded file. replica: made of it. folder: of the file.
    """
    named = conda_file_of(inference)
    if named is None:
        return None
    source = replica.get("sourceDirectory")
    places = (folder, folder / source if isinstance(source, str) else folder)
    return next((place / named for place in places if (place / named).is_file()), None)


def declare_environment(
    inference: Any, replica: dict[str, Any], conda: Path | None, base: Path, output: Path | None
) -> list[str]:
    """Add the `environment` that the packages of an inferenceconfig ask for; returns notes in place of OF_PACKAGES.

    inference: the decoded file.
    replica: gets the field, relative to `base`.
    conda: its conda file; None: none.
    base: folder of the manifest.
    output: the manifest; packages written in the inferenceconfig go into a file beside it. None: they cannot.
    """
    if conda is not None:
        replica["environment"] = os.path.relpath(conda, base)
        return [f"condaFile: environment of the replica: its packages are installed ({replica['environment']})"]
    environment = inference.get("environment") if isinstance(inference, dict) else None
    python = environment.get("python") if isinstance(environment, dict) else None
    if not isinstance(python, dict):
        return []
    at = "environment.python"
    interpreter = python.get("interpreterPath")
    if python.get("userManagedDependencies") is True:
        if not isinstance(interpreter, str) or not os.path.isabs(interpreter):
            return []
        replica["environment"] = interpreter
        return [f"{at}: environment of the replica: {interpreter}, which must have {SATISFIED[3]}"]
    declared = python.get("condaDependencies")
    if not isinstance(declared, dict) or not packages_of(declared) or output is None:
        return []
    file = output.with_name(f"{output.stem}.conda.yml")
    try:
        file.write_text(show.as_yaml(declared), encoding="utf-8")
    except OSError as error:
        raise CommandError(f"cannot write {file}: {error.strerror}") from None
    replica["environment"] = file.name
    return [f"{at}: environment of the replica: its packages are written to {file} and installed"]
