"""Command: model deploy, with the arguments of `az ml model deploy`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from scorefront.cli import show
from scorefront.cli.arguments import DEFAULT_URL, ControlCa, ControlUrl, checked_name, control_plane
from scorefront.cli.azureml_files import read_documents
from scorefront.cli.command_errors import CommandError, InvalidInput
from scorefront.command_hints import CommandHints, program
from scorefront.sdk import AksEndpoint, AksWebservice, Environment, InferenceConfig, Model, Webservice, Workspace
from scorefront.sdk.environment import environment_of
from scorefront.sdk.exceptions import AzureMLException, WebserviceException
from scorefront.sdk.service_settings import AKS_ENDPOINT, settings_of
from serving.deploymentconfig import deploymentconfig_notes, from_deploymentconfig, mapping_of, normalized, without_null
from serving.faults import InvalidManifest
from serving.inferenceconfig import conda_file_of, from_inferenceconfig, inferenceconfig_notes, wants_gpu

DEFAULT_COMPUTE = "local"
INTERRUPTED = 130
AZURE_ONLY = "without effect: there is one workspace, the scorefront of --control-url"


def deploy(
    name: Annotated[
        str,
        typer.Option(
            *("-n", "--name"), metavar="NAME", help="The service's name.", show_default=False, callback=checked_name
        ),
    ],
    models: Annotated[
        list[str],
        typer.Option("-m", "--model", metavar="NAME[:V]", help="A registered model; repeatable.", show_default=False),
    ],
    inference_config: Annotated[
        str,
        typer.Option(
            *("--ic", "--inference-config-file"), metavar="FILE", help="inferenceconfig: the code.", show_default=False
        ),
    ],
    deploy_config: Annotated[
        str | None,
        typer.Option(
            *("--dc", "--deploy-config-file"), metavar="FILE", help="deploymentconfig: the limits.", show_default=False
        ),
    ] = None,
    compute_target: Annotated[
        str | None, typer.Option("--ct", "--compute-target", metavar="COMPUTE", help="Any name: there is one place.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a service of that name.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return once the deployment has begun.")] = False,
    environment_name: Annotated[
        str | None, typer.Option("-e", "--environment-name", metavar="NAME", help="A registered environment.")
    ] = None,
    environment_version: Annotated[
        str | None, typer.Option("--ev", "--environment-version", metavar="V", help="Its version; default: the latest.")
    ] = None,
    azure: Annotated[
        list[str] | None,
        typer.Option("-g", "--resource-group", "-w", "--workspace-name", "--subscription-id", help=AZURE_ONLY),
    ] = None,
    control_url: ControlUrl = DEFAULT_URL,
    control_ca: ControlCa = None,
) -> None:
    """Deploy registered models as a service, with the files of `az ml model deploy`.

    Steps are printed with their times. Ctrl-C leaves the deployment running.

    \b
    Examples:
      scorefront model deploy -n iris -m iris:1 --ic inferenceconfig.json --dc deploymentconfig.json --ct myaks
      scorefront model deploy -n iris -m iris --ic inferenceconfig.json --overwrite --no-wait
    """
    if environment_version is not None and environment_name is None:
        raise InvalidInput("--ev: needs -e, the name of the environment")
    for note in [f"-g, -w, --subscription-id: {AZURE_ONLY}"] if azure else []:
        show.note(f"note: {note}")
    control = control_plane(control_url, control_ca)
    limits = {} if deploy_config is None else _one_document(deploy_config)
    code = _one_document(inference_config)
    endpoint, settings = _settings(deploy_config or "--dc", limits, name, wants_gpu(code))
    try:
        workspace = Workspace(control.url, control.token, control.ca)
        environment = None
        if environment_name is not None:
            environment = Environment.get(workspace, environment_name, environment_version)
        config = (AksEndpoint if endpoint else AksWebservice).deploy_configuration(**settings)
        service = Model.deploy(
            workspace,
            name,
            [_model_id(workspace, model) for model in models],
            _inference_config(inference_config, code, environment),
            config,
            compute_target or settings.get("compute_target_name") or DEFAULT_COMPUTE,
            overwrite,
        )
        _report(service, CommandHints(control_url, program()), no_wait)
    except WebserviceException as error:
        raise (InvalidInput if error.status_code in (None, 400) and not error.code else CommandError)(
            error.message
        ) from error
    except AzureMLException as error:
        raise CommandError(error.message) from error


def _report(service: Webservice, hints: CommandHints, no_wait: bool) -> None:
    """Print the course of a deployment, or the way to watch it.

    service: that is being deployed. hints: commands to paste. no_wait: True to return at once.
    """
    operation = service.operation_id
    watch, cancel = (hints.line("operation", *words) for words in (("logs", operation, "-f"), ("cancel", operation)))
    print(f"deploying {service.name}, operation {operation}", flush=True)
    if no_wait:
        print(f"watch it:  {watch}\ncancel it: {cancel}")
        return
    try:
        service.wait_for_deployment(show_output=True)
    except KeyboardInterrupt:
        show.note(f"\nthe deployment goes on\nwatch it:  {watch}\ncancel it: {cancel}")
        raise typer.Exit(INTERRUPTED) from None
    print(f"scoring URL: {service.scoring_uri}")


def _one_document(file: str) -> Any:
    documents = read_documents(file)
    if len(documents) != 1:
        raise InvalidInput(f"{file}: must hold one document; it has {len(documents)}")
    return documents[0]


def _settings(file: str, content: Any, name: str, gpu: bool) -> tuple[bool, dict[str, Any]]:
    """True for an endpoint with named versions, and the parameters of a deploymentconfig.

    file, content: the deploymentconfig. name: of the service. gpu: True if the inferenceconfig demands one.
    Raises InvalidManifest with every fault of the file.
    """
    try:
        given = {"computeType": "aks", **mapping_of(content)}
        if gpu and not given.get("gpuCores"):
            given["gpuCores"] = 1
        from_deploymentconfig(given, name, {"entryScript": "score.py"})
        for note in deploymentconfig_notes(given, name):
            show.note(f"note: {file}: {note}")
    except InvalidManifest as error:
        raise InvalidManifest(error.faults, file) from None
    found = normalized(without_null(given))
    return str(found["computeType"]).upper() == AKS_ENDPOINT, settings_of(found)


def _inference_config(file: str, content: Any, environment: Environment | None) -> InferenceConfig:
    """The code of a deployment.

    file, content: the inferenceconfig; its paths start at its folder. environment: instead of the one in the file.
    Raises InvalidManifest, WebserviceException, InvalidInput.
    """
    try:
        replica = from_inferenceconfig(content)
    except InvalidManifest as error:
        raise InvalidManifest(error.faults, file) from None
    given = without_null(mapping_of(content))
    for note in inferenceconfig_notes({key: given[key] for key in given.keys() - {"environment", "condaFile"}}):
        show.note(f"note: {file}: {note}")
    folder = Path(file).absolute().parent
    source = replica.get("sourceDirectory")
    place = folder if source is None else folder / source
    script = str(place / replica["entryScript"]) if source is None else replica["entryScript"]
    return InferenceConfig(
        script,
        source_directory=None if source is None else str(place),
        environment=environment or _environment(file, content, given, (folder, place)),
        description=given.get("description"),
    )


def _environment(file: str, content: Any, given: dict[str, Any], folders: Sequence[Path]) -> Environment | None:
    """The environment in an inferenceconfig; None: none.

    file, content: the inferenceconfig. given: its content without nulls. folders: places of its conda file.
    """
    named = given.get("environment")
    if isinstance(named, str):
        raise InvalidInput(f"{file}: environment: {named!r} is a name; give it as -e NAME, with --ev for its version")
    environment = None if named is None else environment_of(named)
    if (conda := conda_file_of(content)) is None:
        return environment
    found = next((folder / conda for folder in folders if (folder / conda).is_file()), None)
    if found is None:
        raise InvalidInput(f"{file}: condaFile: there is no file {conda} in {folders[0]}")
    made = Environment.from_conda_specification(environment.name if environment else found.stem, found)
    if environment is not None:
        environment.python.conda_dependencies = made.python.conda_dependencies
    return environment or made


def _model_id(workspace: Workspace, text: str) -> str:
    """`name:version` of a model. Raises AzureMLException."""
    name, _, version = text.partition(":")
    if version and not version.isdecimal():
        raise InvalidInput(f"-m: must be a registered model, NAME or NAME:VERSION; got {text!r}")
    return str(Model(workspace, name, version=int(version) if version else None).id)
