"""Parameters of a deployment and their fields in the payload of a service. Pure."""

from collections.abc import Mapping
from typing import Any

PLACES: dict[str, tuple[str, ...]] = {
    "autoscale_enabled": ("autoScaler", "autoscaleEnabled"),
    "autoscale_min_replicas": ("autoScaler", "minReplicas"),
    "autoscale_max_replicas": ("autoScaler", "maxReplicas"),
    "autoscale_refresh_seconds": ("autoScaler", "refreshPeriodInSeconds"),
    "autoscale_target_utilization": ("autoScaler", "targetUtilization"),
    "collect_model_data": ("dataCollection", "storageEnabled"),
    "auth_enabled": ("authEnabled",),
    "token_auth_enabled": ("aadAuthEnabled",),
    "cpu_cores": ("containerResourceRequirements", "cpu"),
    "cpu_cores_limit": ("containerResourceRequirements", "cpuLimit"),
    "memory_gb": ("containerResourceRequirements", "memoryInGB"),
    "memory_gb_limit": ("containerResourceRequirements", "memoryInGBLimit"),
    "gpu_cores": ("containerResourceRequirements", "gpu"),
    "enable_app_insights": ("appInsightsEnabled",),
    "scoring_timeout_ms": ("scoringTimeoutMs",),
    "replica_max_concurrent_requests": ("maxConcurrentRequestsPerContainer",),
    "max_request_wait_time": ("maxQueueWaitMs",),
    "num_replicas": ("numReplicas",),
    "primary_key": ("keys", "primaryKey"),
    "secondary_key": ("keys", "secondaryKey"),
    "tags": ("kvTags",),
    "properties": ("properties",),
    "description": ("description",),
    "period_seconds": ("livenessProbeRequirements", "periodSeconds"),
    "initial_delay_seconds": ("livenessProbeRequirements", "initialDelaySeconds"),
    "timeout_seconds": ("livenessProbeRequirements", "timeoutSeconds"),
    "success_threshold": ("livenessProbeRequirements", "successThreshold"),
    "failure_threshold": ("livenessProbeRequirements", "failureThreshold"),
    "namespace": ("namespace",),
    "compute_target_name": ("computeName",),
    "blobfuse_enabled": ("storageInitEnabled",),
    "traffic_percentile": ("trafficPercentile",),
    "is_default": ("isDefault",),
    "is_control_version_type": ("type",),
}
"""Parameter -> path of its field."""
OF_THE_ENDPOINT = (
    *("auth_enabled", "token_auth_enabled", "enable_app_insights", "namespace", "primary_key", "secondary_key"),
    "compute_target_name",
)
"""Parameters without a field in the versions of an endpoint."""
SCALING = tuple(name for name in PLACES if name.startswith("autoscale_"))
CONTROL, TREATMENT = "Control", "Treatment"
AKS, AKS_ENDPOINT = "AKS", "AKSENDPOINT"
OF_FILES: dict[str, str] = {
    **{"tokenAuthEnabled": "token_auth_enabled", "gpuCores": "gpu_cores", "gpu": "gpu_cores", "cpu": "cpu_cores"},
    **{"cpuLimit": "cpu_cores_limit", "memoryInGB": "memory_gb", "memoryInGBLimit": "memory_gb_limit"},
    **{"tags": "tags", "computeTargetName": "compute_target_name", "versionName": "version_name"},
}
"""Keys of a deploymentconfig that are not fields of a payload -> parameter."""


def field_of(name: str, value: Any) -> Any:
    """The value of a parameter as its field has it."""
    if name == "blobfuse_enabled":
        return not value
    if name == "is_control_version_type":
        return CONTROL if value else TREATMENT
    return value


def fields(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The payload with the fields of all parameters that are not None."""
    payload: dict[str, Any] = {}
    for name, value in settings.items():
        if value is not None and name in PLACES:
            *above, last = PLACES[name]
            target = payload
            for step in above:
                target = target.setdefault(step, {})
            target[last] = field_of(name, value)
    return payload


def settings_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a valid deploymentconfig. `content`: without nulls."""
    found = {name: content[key] for key, name in OF_FILES.items() if key in content}
    for name, (first, *rest) in PLACES.items():
        value = content.get(first)
        if rest and isinstance(value, Mapping):
            value = value.get(rest[0])
        elif rest:
            value = None
        if value is not None:
            found[name] = value
    found.pop("blobfuse_enabled", None)
    if "is_control_version_type" in found:
        found["is_control_version_type"] = found["is_control_version_type"] == CONTROL
    if found.get("num_replicas") == 0:
        del found["num_replicas"]  # no number is fixed
    if any(name in found for name in SCALING) and "num_replicas" not in found:
        found.setdefault("autoscale_enabled", True)
    return found


def service_payload(
    name: str,
    settings: Mapping[str, Any],
    image: Mapping[str, Any] | None,
    compute: str | None,
    overwrite: bool,
) -> dict[str, Any]:
    """Body of the request that creates a service with one unnamed version.

    name: of the service. settings: parameters; None = not given.
    image: `environmentImageRequest`; None: no code. compute: name of the compute target.
    overwrite: True to replace a service of that name.
    """
    fixed = {"name": name, "computeType": AKS, "computeName": compute, "environmentImageRequest": image}
    return {**fields(settings), **fixed, "overwrite": overwrite}


def endpoint_payload(
    name: str,
    settings: Mapping[str, Any],
    image: Mapping[str, Any] | None,
    compute: str | None,
    overwrite: bool,
) -> dict[str, Any]:
    """Body of the request that creates an endpoint with its first version.

    name: of the endpoint. settings: parameters; None = not given; `version_name`: default: `name`.
    image: `environmentImageRequest`; None: no code. compute: name of the compute target.
    overwrite: True to replace an endpoint of that name.
    """
    version = settings.get("version_name") or name
    texts = {key: settings.get(key) for key in ("tags", "properties", "description")}
    of_endpoint = fields({**{key: settings.get(key) for key in OF_THE_ENDPOINT}, **texts})
    return {
        **of_endpoint,
        **{"name": name, "computeType": AKS_ENDPOINT, "computeName": compute, "overwrite": overwrite},
        "versions": {version: version_payload(version, settings, image, compute)},
    }


def version_payload(
    name: str, settings: Mapping[str, Any], image: Mapping[str, Any] | None, compute: str | None
) -> dict[str, Any]:
    """Payload of one version of an endpoint.

    name: of the version. settings: parameters; None = not given.
    image: `environmentImageRequest`; None: no code. compute: name of the compute target.
    """
    own = {key: value for key, value in settings.items() if key not in OF_THE_ENDPOINT}
    fixed = {"name": name, "computeType": AKS, "computeName": compute, "environmentImageRequest": image}
    return {**fields(own), **fixed}


def patch(settings: Mapping[str, Any], under: str = "") -> list[dict[str, Any]]:
    """JSON Patch that sets the fields of all parameters that are not None.

    settings: parameters. under: path of the version, e.g. `/versions/blue`; default: the service.
    """
    operations: list[dict[str, Any]] = []
    for name, value in settings.items():
        if value is None or name not in PLACES:
            continue
        if name == "properties":  # one by one: those that are there stay
            operations += (_set(f"{under}/properties/{_escaped(key)}", text, "add") for key, text in value.items())
        else:
            operations.append(_set(f"{under}/{'/'.join(PLACES[name])}", field_of(name, value)))
    return operations


def code_patch(image: Mapping[str, Any] | None, under: str = "") -> list[dict[str, Any]]:
    """JSON Patch that sets the code.

    image: `environmentImageRequest`; None: unchanged. under: path of the version; default: the service.
    """
    return [] if image is None else [_set(f"{under}/environmentImageRequest", image)]


def version_addition(name: str, payload: Mapping[str, Any]) -> list[dict[str, Any]]:
    """JSON Patch that adds a version to an endpoint.

    name: of the version. payload: its payload.
    """
    return [_set(f"/versions/{name}", dict(payload), "add")]


def version_removal(name: str) -> list[dict[str, Any]]:
    """JSON Patch that removes a version from an endpoint."""
    return [{"op": "remove", "path": f"/versions/{name}"}]


def _set(path: str, value: Any, op: str = "replace") -> dict[str, Any]:
    return {"op": op, "path": path, "value": value}


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
