"""Begin of a deployment: checks, upload of the code, and the request."""

from collections.abc import Sequence
from typing import Any

from scorefront.sdk.compute import ComputeTarget
from scorefront.sdk.control_connection import ConnectedWorkspace
from scorefront.sdk.deploy_configuration import AksServiceDeploymentConfiguration
from scorefront.sdk.exceptions import WebserviceException
from scorefront.sdk.inference_config import InferenceConfig
from scorefront.sdk.model_ids import model_ids
from scorefront.sdk.service_rules import compute_name_fault, service_name_fault
from scorefront.sdk.services import Webservice, operation_of


def begun_deployment(
    workspace: ConnectedWorkspace,
    name: str,
    models: Sequence[Any],
    inference_config: InferenceConfig | None,
    config: AksServiceDeploymentConfiguration,
    target: ComputeTarget | str | None,
    overwrite: bool,
) -> Webservice:
    """The service that a deployment has begun.

    workspace, name: of the service. models: registered models, or their ids.
    inference_config: code and environment; None: no code. config: limits.
    target: compute target, or its name; None: that of `config`. overwrite: True to replace a service of that name.
    Raises WebserviceException.
    """
    _check(name, inference_config, config)
    compute = _compute(target, config)
    connection = workspace.connection
    ids = model_ids(models)
    if not overwrite:
        path = connection.management(f"/services/validate/name/{name}")
        _raise_error(connection.call("POST", path, {}, error=WebserviceException))
    image = {"modelIds": ids} if inference_config is None else inference_config.uploaded(connection, ids)
    payload = config.create_payload(name, image, compute, overwrite)
    if inference_config is not None and inference_config.description and not payload.get("description"):
        payload["description"] = inference_config.description
    reply = connection.reply("POST", connection.management("/services"), payload, error=WebserviceException)
    path = connection.management(f"/services/{name}")
    content = connection.call("GET", path, None, {"expand": True}, WebserviceException)
    return Webservice.made_of(workspace, content, operation_of(reply.headers))


def _check(name: str, inference_config: Any, config: Any) -> None:
    if fault := service_name_fault(name):
        raise WebserviceException(fault)
    if inference_config is not None and not isinstance(inference_config, InferenceConfig):
        raise WebserviceException(f"inference_config: must be an InferenceConfig (got {inference_config!r})")
    if not isinstance(config, AksServiceDeploymentConfiguration):
        kinds = "AksWebservice or AksEndpoint"
        raise WebserviceException(
            f"Error, provided deployment configuration must be made by {kinds}.deploy_configuration (got {config!r})."
        )
    config.validate_configuration()


def _compute(target: Any, config: AksServiceDeploymentConfiguration) -> str:
    name = getattr(target, "name", target) or config.compute_target_name
    if name is None:
        raise WebserviceException(
            "Must have a deployment target for an AKS web service: deployment_target, or compute_target_name of the"
            " deployment configuration."
        )
    if fault := compute_name_fault(name):
        raise WebserviceException(fault)
    return str(name)


def _raise_error(answer: Any) -> None:
    """Raise the error that a check reports in a successful answer."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if error:
        raise WebserviceException(str(error.get("message") or error))
