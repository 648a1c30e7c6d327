"""Command for users of the Azure ML v1 command line: import."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from scorefront.cli import show
from scorefront.cli.arguments import checked_name
from scorefront.cli.command_errors import CommandError, InvalidInput
from scorefront.cli.manifest_files import read_json_object
from serving.deploymentconfig import DeclaredKeys, declared_keys, from_deploymentconfig, from_inferenceconfig
from serving.faults import InvalidManifest

KEYS_LEFT_OUT = "keys are secrets and not part of a manifest: new ones are made, see `scorefront keys NAME`"


def import_deployment(
    name: Annotated[
        str,
        typer.Option(
            "-n", "--name", metavar="NAME", help="The endpoint's name.", show_default=False, callback=checked_name
        ),
    ],
    inference_config: Annotated[
        str, typer.Option("--ic", metavar="FILE", help="inferenceconfig.json: the entry script.", show_default=False)
    ],
    deployment_config: Annotated[
        str, typer.Option("--dc", metavar="FILE", help="deploymentconfig.json for AKS: the limits.", show_default=False)
    ],
    model_dir: Annotated[
        Path | None, typer.Option("--model-dir", metavar="DIR", help="The model's files (AZUREML_MODEL_DIR).")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write here; else to standard output.")
    ] = None,
) -> None:
    """Make a manifest of the two files that `az ml model deploy -n --ic --dc` took.

    Relative paths in the manifest start at the folder that it is written to (without -o: the current one).

    \b
    Example:
      scorefront import -n iris --ic inferenceconfig.json --dc deploymentconfig.json --model-dir model -o endpoint.yaml
    """
    base = (output.parent if output else Path()).absolute()
    inference, deployment = read_json_object(inference_config), read_json_object(deployment_config)
    try:
        replica = from_inferenceconfig(inference, None if model_dir is None else os.path.relpath(model_dir, base))
    except InvalidManifest as error:
        raise InvalidManifest(error.faults, inference_config) from None
    _rebase(replica, Path(inference_config).absolute().parent, base)
    try:
        document = from_deploymentconfig(deployment, name, replica)
        if declared_keys(deployment) != DeclaredKeys():
            show.note(f"note: {deployment_config}: {KEYS_LEFT_OUT}")
    except InvalidManifest as error:
        raise InvalidManifest(error.faults, deployment_config) from None
    _write(show.as_yaml(document), output)


def _rebase(replica: dict[str, Any], origin: Path, base: Path) -> None:
    """Paths that were relative to the inferenceconfig's folder, made relative to the manifest's."""
    source = replica.get("sourceDirectory", ".")
    if not isinstance(source, str) or os.path.isabs(source):
        return  # the manifest's own rules judge the first
    moved = os.path.relpath(origin / source, base)
    if moved != "." or "sourceDirectory" in replica:
        replica["sourceDirectory"] = moved


def _write(text: str, output: Path | None) -> None:
    if output is None:
        print(text, end="")
        return
    if output.is_dir():
        raise InvalidInput(f"--output: {output} is a folder; name a file in it")
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"--output: cannot write {output}: {error.strerror}") from None
    print(f"wrote {output}")
