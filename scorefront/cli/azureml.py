"""Command for users of the Azure ML command lines: import."""

import os
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from scorefront.cli import show
from scorefront.cli.arguments import checked_name
from scorefront.cli.azureml_files import read_documents, write_secret
from scorefront.cli.command_errors import CommandError, InvalidInput
from scorefront.cli.imported_environment import OF_PACKAGES, conda_path, declare_environment
from scorefront.cli.manifest_files import UnreadableFile
from serving.deploymentconfig import DeclaredKeys, declared_keys, deploymentconfig_notes, from_deploymentconfig
from serving.faults import InvalidManifest
from serving.inferenceconfig import from_inferenceconfig, inferenceconfig_notes, wants_gpu
from serving.online_deployment import OnlineFile, from_online, is_online

KEYS_LEFT_OUT = "keys are secrets and not part of a manifest; with -o FILE they are written to files beside it"


def import_deployment(
    deployment_configs: Annotated[
        list[str],
        typer.Option(
            "--dc",
            metavar="FILE",
            help="deploymentconfig for AKS: the limits; or v2 YAML of a deployment, as often as there are deployments.",
            show_default=False,
        ),
    ],
    inference_config: Annotated[
        str | None,
        typer.Option(
            "--ic",
            metavar="FILE",
            help="inferenceconfig: the entry script; or v2 YAML of the endpoint.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            *("-n", "--name"),
            metavar="NAME",
            help="The endpoint's name. Default: the one in the files.",
            callback=checked_name,
        ),
    ] = None,
    model_dir: Annotated[
        Path | None, typer.Option("--model-dir", metavar="DIR", help="The model's files (AZUREML_MODEL_DIR).")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write here; else to standard output.")
    ] = None,
) -> None:
    """Make a manifest of the files that `az ml model deploy -n --ic --dc` took, or of v2 YAML for Kubernetes.

    YAML or JSON. What has no counterpart is named on standard error, a line each. Relative paths in the manifest start
    at the folder that it is written to (without -o: the current one). Keys in the files are written beside the
    manifest, to be set with `scorefront keys`.

    \b
    Examples:
      scorefront import -n iris --ic inferenceconfig.json --dc deploymentconfig.json --model-dir model -o endpoint.yaml
      scorefront import --ic endpoint.yml --dc blue.yml --dc green.yml -o endpoint.yaml
    """
    base = (output.parent if output else Path()).absolute()
    models = None if model_dir is None else os.path.relpath(model_dir, base)
    files = [*([inference_config] if inference_config else []), *deployment_configs]
    documents = [(file, document) for file in files for document in read_documents(file)]
    keys = DeclaredKeys()
    if any(is_online(document) for _, document in documents):
        online = [OnlineFile(file, document, _folder(file, base)) for file, document in documents]
        document, notes = from_online(online, name, models)
    else:
        if inference_config is None:
            raise InvalidInput("--ic: is required with a deploymentconfig of v1: the file that names the entry script")
        if len(documents) != 2:
            raise InvalidInput("--ic, --dc: must each hold one document, with v1 files")
        document, notes, keys = _from_v1(inference_config, documents[0][1], documents[1], name, models, base, output)
    for note in notes:
        show.note(f"note: {note}")
    _write(show.as_yaml(document), output)
    if keys != DeclaredKeys():
        _keep(keys, document["metadata"]["name"], deployment_configs[0], output)


def _from_v1(
    file: str,
    inference: Any,
    limits: tuple[str, Any],
    name: str | None,
    models: str | None,
    base: Path,
    output: Path | None,
) -> tuple[dict[str, Any], list[str], DeclaredKeys]:
    """The document of the two files of v1, notes, and the keys in them.

    file, inference: the inferenceconfig and its content.
    limits: the deploymentconfig and its content.
    name: of the endpoint; None: that in the deploymentconfig, else that of the folder.
    models: folder of the model, relative to `base`.
    base: folder of the manifest. output: the manifest; None: standard output.
    """
    limits_file, deployment = limits
    folder = Path(file).absolute().parent
    try:
        replica = from_inferenceconfig(inference, models)
        conda = conda_path(inference, replica, folder)
        about = list(inferenceconfig_notes(inference, _content(conda)))
    except InvalidManifest as error:
        raise InvalidManifest(error.faults, file) from None
    if installed := declare_environment(inference, replica, conda, base, output):
        about = [*(note for note in about if not note.startswith(OF_PACKAGES)), *installed]
    notes = [f"{file}: {note}" for note in about]
    _rebase(replica, folder, base)
    try:
        name = name or _name_in(deployment, folder)
        if wants_gpu(inference) and isinstance(deployment, dict) and not deployment.get("gpuCores"):
            deployment = {**deployment, "gpuCores": 1}
        document = from_deploymentconfig(deployment, name, replica)
        notes += (f"{limits_file}: {note}" for note in deploymentconfig_notes(deployment, name))
        return document, notes, declared_keys(deployment)
    except InvalidManifest as error:
        raise InvalidManifest(error.faults, limits_file) from None


def _name_in(deployment: Any, folder: Path) -> str:
    given = deployment.get("name") if isinstance(deployment, dict) else None
    if isinstance(given, str):
        return given
    name = re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-")
    if not re.fullmatch(r"[a-z][-a-z0-9]{1,30}[a-z0-9]", name):
        raise InvalidInput("--name: is required: the name of the endpoint, as in -n iris")
    show.note(f"note: the endpoint is named {name}, after its folder; -n gives it another name")
    return name


def _content(conda: Path | None) -> Any:
    """The content of a conda file; None: none, or it cannot be read."""
    if conda is None:
        return None
    try:
        return next(iter(read_documents(str(conda))), None)
    except UnreadableFile:
        return None


def _folder(file: str, base: Path) -> str:
    return os.path.relpath(Path(file).absolute().parent, base)


def _rebase(replica: dict[str, Any], origin: Path, base: Path) -> None:
    """Paths that were relative to the inferenceconfig's folder, made relative to the manifest's."""
    source = replica.get("sourceDirectory", ".")
    if not isinstance(source, str) or os.path.isabs(source):
        return  # the manifest's own rules judge the first
    moved = os.path.relpath(origin / source, base)
    if moved != "." or "sourceDirectory" in replica:
        replica["sourceDirectory"] = moved


def _keep(keys: DeclaredKeys, name: str, source: str, output: Path | None) -> None:
    """Write the keys beside the manifest, and say how to set them."""
    if output is None:
        show.note(f"note: {source}: {KEYS_LEFT_OUT}")
        return
    options = []
    for kind, key in (("primary", keys.primary), ("secondary", keys.secondary)):
        if key is not None:
            path = output.with_name(f"{output.stem}.{kind}.key")
            write_secret(path, key)
            options.append(f"--set-{kind} {path}")
    show.note(f"note: {source}: keys are not part of a manifest; once the endpoint is there, set them with")
    show.note(f"  scorefront keys {name} {' '.join(options)}")


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
