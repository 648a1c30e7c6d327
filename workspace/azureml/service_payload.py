"""Conversion of the create payload of a service (AKS and AKSENDPOINT) into a declared object. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from serving.deploymentconfig import DeclaredKeys, declared_keys, from_deploymentconfig, without_null
from serving.faults import Fault, InvalidManifest, shown
from serving.inferenceconfig import from_inferenceconfig
from serving.models import MAX_VERSIONS
from workspace.azureml.azure_errors import AzureError, bad_request, of_faults
from workspace.azureml.image_request import ImageRequest, read_image_request
from workspace.azureml.service_record import (
    AKS,
    AKS_ENDPOINT,
    DEFAULT_COMPUTE,
    ServiceRecord,
    VersionTexts,
    with_record,
)

PLACEHOLDER_SCRIPT = "score.py"
"""Entry script until the uploaded files are known."""
OF_THE_ENDPOINT = (
    *("description", "kvTags", "properties", "authEnabled", "aadAuthEnabled", "appInsightsEnabled", "namespace"),
)
TEXTS = ("description", "kvTags", "tags", "properties")
NOT_SETTINGS = (
    *("name", "computeType", "computeName", "environmentImageRequest", "keys", "location", "overwrite", "versions"),
    *("storageInitEnabled", "imageId", "tags"),
)
"""Keys of a payload that are not settings of the declared object, or are read separately."""


@dataclass(frozen=True, slots=True)
class ServiceDraft:
    """A service to create, or a version to add."""

    name: str
    version: str
    document: dict[str, Any]
    """The declared object; the entry script of `version` is PLACEHOLDER_SCRIPT."""
    image: ImageRequest
    keys: DeclaredKeys = field(default_factory=DeclaredKeys, repr=False)
    overwrite: bool = False


def create_draft(payload: Any, now: str) -> ServiceDraft:
    """The draft of a create payload.

    payload: the decoded body. now: time of the request, ISO 8601. Raises AzureError with every fault.
    """
    content = _mapping(payload)
    kind = _compute_type(content)
    name = content.get("name")
    if not isinstance(name, str):
        raise bad_request("name: is required: the name of the service", "name")
    if content.get("imageId"):
        raise bad_request("imageId: images of Azure are not run; deploy with an InferenceConfig and an Environment")
    version, settings, inner = (name, content, content) if kind == AKS else _first_version(content, name)
    image = read_image_request(_sent_image(payload, version if kind == AKS_ENDPOINT else None))
    document = _declared(settings, name, version, image)
    record = ServiceRecord(
        compute_type=kind,
        compute_name=_compute_name(content) or _compute_name(inner) or DEFAULT_COMPUTE,
        created=now,
        storage_init=_switch(inner, "storageInitEnabled"),
        versions={} if kind == AKS else {version: version_texts(inner, now)},
    )
    try:
        keys = declared_keys(without_null({"keys": content.get("keys") or inner.get("keys")}))
    except InvalidManifest as error:
        raise of_faults(error.faults) from None
    return ServiceDraft(name, version, with_record(document, record), image, keys, _switch(content, "overwrite"))


def version_draft(name: str, version: str, value: Any) -> tuple[dict[str, Any], ImageRequest]:
    """The entry of a version to add to an endpoint, and its code.

    name: of the endpoint. version: of the version. value: AKS payload. Raises AzureError with every fault.
    """
    content = _mapping(value)
    image = read_image_request(_sent_image(value, None))
    settings = {key: item for key, item in content.items() if key not in OF_THE_ENDPOINT and key not in TEXTS}
    entry = _declared({**settings, "versionName": version}, name, version, image)["spec"]["versions"][0]
    return dict(entry), image


def version_texts(value: Mapping[str, Any], now: str) -> VersionTexts:
    """Description, tags and properties in the payload of a version. Raises AzureError."""
    tags = value.get("kvTags") if value.get("kvTags") is not None else value.get("tags")
    return VersionTexts(
        description=_text(value.get("description"), "description"),
        tags=text_map(tags, "kvTags"),
        properties=text_map(value.get("properties"), "properties"),
        created=now,
    )


def text_map(value: Any, where: str) -> dict[str, str]:
    """A mapping of text to text; {} for None. Raises AzureError. `where`: path for messages."""
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for pair in value.items() for text in pair):
        raise bad_request(f"{where}: must be a mapping of text to text (got {shown(value)})", where)
    return dict(value)


def with_code(image: ImageRequest, script: str) -> dict[str, Any]:
    """`replica` of a version: its entry script, relative to the source directory, and its variables.

    Raises InvalidManifest.
    """
    return from_inferenceconfig({"entryScript": script, "environment": {"environmentVariables": dict(image.variables)}})


def _declared(settings: Mapping[str, Any], name: str, version: str, image: ImageRequest) -> dict[str, Any]:
    """The declared object of the settings of one payload.

    settings: payload without nulls or with. name: of the service. version: of its version. image: its code.
    Raises AzureError with every fault, by its path in the payload.
    """
    given = {key: value for key, value in settings.items() if key not in NOT_SETTINGS}
    config = {"computeType": "aks", "versionName": version, **given}
    try:
        document = from_deploymentconfig(config, name, with_code(image, PLACEHOLDER_SCRIPT))
    except InvalidManifest as error:
        raise of_faults(_renamed(error.faults)) from None
    return document


def _renamed(faults: tuple[Fault, ...]) -> list[Fault]:
    """The faults with the paths of the payload."""
    names = {"versionName": "version name", "metadata.name": "name", "spec.versions[0].name": "version name"}
    return [Fault(names.get(fault.path, fault.path), fault.value, fault.rule) for fault in faults]


def _first_version(content: dict[str, Any], name: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Name, settings with those of the endpoint, and own payload of the one version of a new endpoint."""
    versions = content.get("versions")
    if not isinstance(versions, dict) or not versions:
        raise bad_request("versions: must be a mapping of a version's name to its payload", "versions")
    if len(versions) > MAX_VERSIONS:
        raise too_many_versions(name)
    if len(versions) > 1:
        raise bad_request("versions: must hold one version; add others once the endpoint is there (create_version)")
    version, value = next(iter(versions.items()))
    inner = _mapping(value)
    settings = {key: item for key, item in inner.items() if key not in TEXTS}
    of_endpoint = {key: content[key] for key in OF_THE_ENDPOINT if content.get(key) is not None}
    if any(key in of_endpoint for key in ("authEnabled", "aadAuthEnabled")):
        settings = {key: item for key, item in settings.items() if key not in ("authEnabled", "aadAuthEnabled")}
    return version, {**settings, **of_endpoint}, inner


def too_many_versions(name: str) -> AzureError:
    """The error of a seventh version."""
    return AzureError(400, "TooManyVersions", f"versions: endpoint '{name}' must have at most {MAX_VERSIONS} versions")


def _sent_image(payload: Any, version: str | None) -> Any:
    """`environmentImageRequest` as sent, with its nulls. `version`: of an endpoint; None: the payload's own."""
    return (payload if version is None else payload["versions"][version]).get("environmentImageRequest")


def _mapping(payload: Any) -> dict[str, Any]:
    try:
        content = without_null(payload)
    except RecursionError:
        content = None
    if not isinstance(content, dict):
        raise bad_request("the body must be a mapping: the payload of a service")
    return content


def _compute_type(content: Mapping[str, Any]) -> str:
    kind = content.get("computeType")
    if isinstance(kind, str) and kind.upper() in (AKS, AKS_ENDPOINT):
        return kind.upper()
    rule = "must be AKS or AKSENDPOINT: deployments to ACI, to IoT and to others have no slots and no scaling"
    raise bad_request(f"computeType: {rule} (got {shown(kind)})", "computeType")


def _compute_name(content: Mapping[str, Any]) -> str:
    name = content.get("computeName")
    return name if isinstance(name, str) else ""


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str | None):
        raise bad_request(f"{where}: must be text (got {shown(value)})", where)
    return value or ""


def _switch(content: Mapping[str, Any], key: str) -> bool:
    return content.get(key) is True
