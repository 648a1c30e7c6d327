"""Commands on models: register, list, show, download, delete."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from scorefront.cli import show
from scorefront.cli.arguments import DEFAULT_URL, ControlCa, ControlUrl, TableFormat, control_plane
from scorefront.cli.command_errors import CommandError, InvalidInput
from scorefront.cli.model_client import ModelClient
from scorefront.local_models import NotAModel, local_model_files
from workspace.models.model_records import name_fault
from workspace.relative_paths import path_fault

Output = Annotated[TableFormat, typer.Option("-o", "--output", help="How to print.")]
ModelName = Annotated[str | None, typer.Option("-n", "--name", metavar="NAME", help="Only models of this name.")]
ModelId = Annotated[
    str, typer.Argument(metavar="NAME[:V]", help="A model; without V its latest version.", show_default=False)
]


def register(
    name: Annotated[str, typer.Option("-n", "--name", metavar="NAME", help="The model's name.", show_default=False)],
    path: Annotated[
        Path,
        typer.Option("-p", "--path", metavar="PATH", help="A file, or a folder with all in it.", show_default=False),
    ],
    tags: Annotated[
        list[str] | None, typer.Option("-t", "--tag", metavar="K=V", help="A tag; repeatable.", show_default=False)
    ] = None,
    properties: Annotated[
        list[str] | None,
        typer.Option("--property", metavar="K=V", help="A property, which never changes; repeatable."),
    ] = None,
    description: Annotated[str, typer.Option("-d", "--description", metavar="TEXT", help="What it is.")] = "",
    framework: Annotated[
        str, typer.Option("--model-framework", metavar="NAME", help="ScikitLearn, Onnx, TensorFlow, …")
    ] = "",
    framework_version: Annotated[
        str, typer.Option("--model-framework-version", metavar="V", help="The version of the framework.")
    ] = "",
    output: Output = TableFormat.TABLE,
    control_url: ControlUrl = DEFAULT_URL,
    control_ca: ControlCa = None,
) -> None:
    """Register a file or a folder under the next version of a name.

    A deployment finds a file under its own name, and a folder with its name, in AZUREML_MODEL_DIR. Content that is
    stored already is not sent again.

    \b
    Examples:
      scorefront model register -n iris -p model.pkl
      scorefront model register -n bert -p ./bert -t team=search -d "Trained on November"
    """
    if fault := name_fault(name):
        raise InvalidInput(f"--name: {fault}; got {name!r}")
    fields = {
        "name": name,
        "tags": _pairs("--tag", tags or ()),
        "properties": _pairs("--property", properties or ()),
        "description": description,
        "framework": framework,
        "frameworkVersion": framework_version,
    }
    try:
        files = local_model_files(path)
    except NotAModel as error:
        raise InvalidInput(f"--path: {error}") from error
    client = ModelClient(control_plane(control_url, control_ca))
    with _progress("sending", sum(file.size_bytes for file in files)) as progress:
        model = client.register({**fields, "files": [client.upload(file, progress) for file in files]})
    if output is not TableFormat.TABLE:
        show.print_object(model, output)
    else:
        print(f"model {model['id']} registered ({_count(len(files))}, {show.size(model['sizeBytes'])})")


def listed(
    name: ModelName = None,
    tags: Annotated[
        list[str] | None,
        typer.Option("-t", "--tag", metavar="K[=V]", help="Only models with this tag; repeatable.", show_default=False),
    ] = None,
    latest: Annotated[bool, typer.Option("--latest", help="Only the latest version of each name.")] = False,
    output: Output = TableFormat.TABLE,
    control_url: ControlUrl = DEFAULT_URL,
    control_ca: ControlCa = None,
) -> None:
    """List models by name, the latest version of each first.

    \b
    Examples:
      scorefront model list
      scorefront model list -n iris -t team=search -o json
    """
    found = ModelClient(control_plane(control_url, control_ca)).models(name, tags or (), latest)
    if output is not TableFormat.TABLE:
        show.print_object({"value": found}, output)
    elif found:
        show.console().print(show.model_table(found))
    elif name or tags:
        show.note("no model is like that")
    else:
        show.note("there is no model yet; `scorefront model register -n NAME -p PATH` makes one")


def shown(
    model: ModelId,
    output: Output = TableFormat.TABLE,
    control_url: ControlUrl = DEFAULT_URL,
    control_ca: ControlCa = None,
) -> None:
    """Show one model: tags, properties, files with their sizes and digests.

    \b
    Examples:
      scorefront model show iris
      scorefront model show iris:3 -o yaml
    """
    name, version = _model_id(model)
    found = ModelClient(control_plane(control_url, control_ca)).model(name, version)
    if output is not TableFormat.TABLE:
        show.print_object(found, output)
        return
    show.console().print(show.model_table([found]))
    for field in ("description", "tags", "properties"):
        if found[field]:
            text = found[field] if field == "description" else ", ".join(f"{k}={v}" for k, v in found[field].items())
            print(show.shown(f"{field}: {text}"))
    show.console().print(show.file_table(found["files"]))


def download(
    model: ModelId,
    target: Annotated[
        Path, typer.Option("-t", "--target-dir", metavar="DIR", help="The folder to write to.", show_default=False)
    ],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    control_url: ControlUrl = DEFAULT_URL,
    control_ca: ControlCa = None,
) -> None:
    """Write the files of a model below a folder, and check their digests.

    \b
    Example:
      scorefront model download iris:3 -t ./models
    """
    name, version = _model_id(model)
    client = ModelClient(control_plane(control_url, control_ca))
    found = client.model(name, version)
    places = _places(found["files"], target, overwrite)
    with _progress("receiving", found["sizeBytes"]) as progress:
        for file, place in zip(found["files"], places, strict=True):
            client.download(found, file, place, progress)
    size = show.size(found["sizeBytes"])
    print(f"model {found['id']} written to {show.shown(str(target))} ({_count(len(places))}, {size})")


def delete(
    model: Annotated[str, typer.Argument(metavar="NAME:V", help="A version of a model.", show_default=False)],
    control_url: ControlUrl = DEFAULT_URL,
    control_ca: ControlCa = None,
) -> None:
    """Remove a version of a model, unless a version of an endpoint was deployed from it.

    Its number is not given again.

    \b
    Example:
      scorefront model delete iris:3
    """
    name, version = _model_id(model)
    if version is None:
        raise InvalidInput(f"NAME:V: must name a version, as in {model}:1; got {model!r}")
    ModelClient(control_plane(control_url, control_ca)).delete(name, version)
    print(f"model {name}:{version} deleted")


def _model_id(text: str) -> tuple[str, int | None]:
    """Name and version of `NAME[:V]`. Raises InvalidInput."""
    name, colon, version = text.partition(":")
    if not name or (colon and not (version.isascii() and version.isdigit() and 0 < int(version) < 2**31)):
        raise InvalidInput(f"NAME[:V]: must be a name and a version number, as in iris:3; got {text!r}")
    return name, int(version) if colon else None


def _pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise InvalidInput(f"{option}: must look like team=search; got {text!r}")
        if key in pairs:
            raise InvalidInput(f"{option}: {key} stands there twice")
        pairs[key] = value
    return pairs


def _places(files: Sequence[dict[str, Any]], target: Path, overwrite: bool) -> list[Path]:
    """Paths to write, all below `target`. Raises CommandError."""
    places = []
    for file in files:
        if fault := path_fault(file["path"]):
            raise CommandError(f"refused: the path of a file {fault}; got {file['path']!r}")
        place = target / file["path"]
        if place.exists() and not overwrite:
            raise CommandError(f"{place} exists; --overwrite replaces it")
        if not place.resolve().is_relative_to(target.resolve()):
            raise CommandError(f"{place} is outside of {target}, by a link")
        places.append(place)
    return places


def _count(files: int) -> str:
    return "1 file" if files == 1 else f"{files} files"


@contextlib.contextmanager
def _progress(word: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, nothing elsewhere.

    word: beside the bar. total_bytes: its length.
    """
    if not sys.stderr.isatty():
        yield lambda size_bytes: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(word, total=total_bytes)
        yield lambda size_bytes: bar.advance(task, size_bytes)
