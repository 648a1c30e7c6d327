"""Conversion of Azure ML v2 YAML, a Kubernetes online endpoint and its deployments, into the declared object.

Every known key is converted, refused with its path in the file, or dropped with a note. Nulls are ignored; the defaults
of v2 that differ from those of scorefront are written out.
"""

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from serving.deploymentconfig import APP_INSIGHTS_ENV, mapping_of, unknown_keys, without_null
from serving.faults import Fault, InvalidManifest, shown
from serving.manifest import parse
from serving.models import API_VERSION, KIND
from serving.reserved_variables import reserved_rule
from serving.validation_messages import HIDDEN

ENDPOINT_KEYS = (
    "$schema",
    "name",
    "auth_mode",
    "traffic",
    "description",
    "tags",
    "properties",
    "compute",
    "type",
    "kind",
)
DEPLOYMENT_KEYS = (
    *("$schema", "name", "endpoint_name", "type", "kind", "code_configuration", "model", "environment", "resources"),
    *("environment_variables", "request_settings", "scale_settings", "instance_count", "liveness_probe"),
    *("readiness_probe", "app_insights_enabled", "data_collector", "description", "tags", "properties"),
    *("instance_type", "model_mount_path", "egress_public_network_access", "startup_probe"),
)
_NO_PLACE = "a place in Azure without counterpart"
ENDPOINT_DROPPED = {
    "compute": "the cluster is the one of scorefront",
    "identity": _NO_PLACE,
    "location": _NO_PLACE,
    "mirror_traffic": "requests are not mirrored; Kubernetes endpoints of Azure do not either",
    "public_network_access": "where the front end listens is a setting of scorefront: up --listen",
}
DEPLOYMENT_DROPPED = {
    "instance_type": "instance types are not known here; use resources",
    "readiness_probe": "readiness is asked for at healthPath, once a second",
    "startup_probe": "a replica has no limit for its start",
    "model_mount_path": "the path is in AZUREML_MODEL_DIR",
    "egress_public_network_access": _NO_PLACE,
    "description": "versions have none; the endpoint has one",
    "tags": "versions have none; the endpoint has kvTags",
    "properties": "versions have none; the endpoint has properties",
}
SCRIPT = "entryScript"
SCALING = ("type", "min_instances", "max_instances", "target_utilization_percentage", "polling_interval")
RESOURCES = ("cpu", "memory", "nvidia.com/gpu")
MAPPINGS: dict[str, tuple[str, ...] | None] = {
    "code_configuration": ("code", "scoring_script"),
    "request_settings": ("request_timeout_ms", "max_concurrent_requests_per_instance", "max_queue_wait_ms"),
    "scale_settings": SCALING,
    "liveness_probe": ("initial_delay", "period", "timeout", "success_threshold", "failure_threshold"),
    "resources": ("requests", "limits"),
    "environment_variables": None,
}
"""Key of a deployment that holds a mapping -> the keys in it; None: any."""
AUTH_MODES = ("key", "aml_token")
DEFAULT_TIMEOUT_MS = 5000
"""request_timeout_ms of v2."""
UNITS = {
    "": 1.0,
    "m": 0.001,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
PROBE_FIELDS = {
    "initial_delay": "initialDelaySeconds",
    "period": "periodSeconds",
    "timeout": "timeoutSeconds",
    "success_threshold": "successThreshold",
    "failure_threshold": "failureThreshold",
}


@dataclass(frozen=True, slots=True)
class OnlineFile:
    """One decoded YAML document of v2."""

    source: str
    """Its file, for messages."""
    content: dict[str, Any]
    folder: str
    """The folder of the file, relative to that of the manifest."""


def is_online(document: object) -> bool:
    """True for an endpoint or a deployment of v2."""
    if not isinstance(document, dict):
        return False
    schema = str(document.get("$schema", "")).lower()
    return "online" in schema or bool({"endpoint_name", "auth_mode", "traffic"} & document.keys())


def is_deployment(content: dict[str, Any]) -> bool:
    """True for a deployment among the documents of v2."""
    schema = str(content.get("$schema", "")).lower()
    return "endpoint_name" in content or "deployment" in schema


def from_online(
    files: Sequence[OnlineFile], name: str | None, model_dir: str | None = None
) -> tuple[dict[str, Any], list[str]]:
    """A valid document of an endpoint with its deployments as versions, and notes on what was dropped.

    files: at most one endpoint, and one to six deployments.
    name: of the endpoint; None: the one in the files.
    model_dir: folder of the models of all deployments; None: the local paths in the files. Raises InvalidManifest.
    """
    files = [OnlineFile(each.source, without_null(mapping_of(each.content)), each.folder) for each in files]
    endpoints = [each for each in files if not is_deployment(each.content)]
    deployments = [each for each in files if is_deployment(each.content)]
    if len(endpoints) > 1:
        raise InvalidManifest((Fault("name", endpoints[1].content.get("name"), "is a second endpoint; one at a time"),))
    if not deployments:
        raise InvalidManifest((Fault("(document)", None, "names no deployment: add its file with --dc"),))
    endpoint = endpoints[0] if endpoints else OnlineFile("", {}, ".")
    given = name or endpoint.content.get("name") or deployments[0].content.get("endpoint_name")
    notes: list[str] = []
    refused: list[InvalidManifest] = []
    for each in files:
        if faults := tuple(_faults(each, given if name is None else None)):
            refused.append(InvalidManifest(faults, each.source))
        notes += (f"{each.source}: {note}" for note in _notes(each))
    if refused:
        raise InvalidManifest.of_several(refused)
    versions = [_version(each, model_dir) for each in deployments]
    insights = any(each.content.get("app_insights_enabled") is True for each in deployments)
    spec = {**_spec(endpoint.content), **({"appInsightsEnabled": True} if insights else {}), "versions": versions}
    notes += _share(endpoint, versions)
    document = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": given}, "spec": spec}
    parse(document)
    return document, notes


def _faults(file: OnlineFile, endpoint: object) -> Iterator[Fault]:
    """The faults of a file; `endpoint`: the name that a deployment must give, None: any."""
    content = file.content
    for key in ("type", "kind"):
        if str(content.get(key, "kubernetes")).lower() != "kubernetes":
            rule = "must be kubernetes: managed endpoints have no slots of their own; write kubernetes to import it"
            yield Fault(key, content[key], rule)
    if "managedonline" in str(content.get("$schema", "")).lower() and "type" not in content:
        yield Fault("$schema", content["$schema"], "is that of a managed endpoint; only those of kubernetes are read")
    if not is_deployment(content):
        yield from unknown_keys(content, (*ENDPOINT_KEYS, *ENDPOINT_DROPPED))
        if _word(content.get("auth_mode", "key")) not in AUTH_MODES:
            yield Fault("auth_mode", content["auth_mode"], f"must be one of {', '.join(AUTH_MODES)}")
        if not isinstance(content.get("traffic", {}), dict):
            yield Fault("traffic", content["traffic"], "must be a mapping of deployments to percentages")
        return
    yield from unknown_keys(content, (*DEPLOYMENT_KEYS, *DEPLOYMENT_DROPPED))
    if endpoint is not None and content.get("endpoint_name", endpoint) != endpoint:
        yield Fault("endpoint_name", content["endpoint_name"], f"must be {endpoint}, the endpoint of the other files")
    if not isinstance(deployment := content.get("name"), str) or not deployment:
        yield Fault("name", deployment, "is required: the name of the deployment, as text")
    for key, inner in MAPPINGS.items():
        if not isinstance(content.get(key, {}), dict):
            yield Fault(key, HIDDEN, "must be a mapping")
        elif inner is not None:
            yield from unknown_keys(_part(content, key), inner, (key,))
    if "code_configuration" not in content and _image(content) is None:
        yield Fault("code_configuration", None, "is required: scoring_script and code; or environment.image")
    yield from _quantity_faults(content)


def _quantity_faults(content: dict[str, Any]) -> Iterator[Fault]:
    for side in ("requests", "limits"):
        yield from unknown_keys(_part(_part(content, "resources"), side), RESOURCES, ("resources", side))
        for key, value in _part(_part(content, "resources"), side).items():
            if key in RESOURCES and _quantity(value) is None:
                yield Fault(f"resources.{side}.{key}", value, "must be a quantity of Kubernetes, as 500m or 1.5Gi")


def _notes(file: OnlineFile) -> Iterator[str]:
    content = file.content
    dropped = DEPLOYMENT_DROPPED if is_deployment(content) else ENDPOINT_DROPPED
    yield from (f"{key}: dropped: {reason}" for key, reason in dropped.items() if key in content)
    if not is_deployment(content):
        return
    if (environment := content.get("environment")) is not None and (
        _image(content) is None or "code_configuration" in content
    ):
        named = f" ({shown(environment)})" if isinstance(environment, str) else ""
        yield f"environment{named}: dropped: install its packages into the Python that runs the replicas"
    model = content.get("model")
    if isinstance(model, str) and _local(model) is None:
        yield f"model ({shown(model)}): dropped: download it and name its folder with --model-dir"
    for name in _part(content, "environment_variables"):
        if rule := reserved_rule(name, SCRIPT):
            yield f"environment_variables.{name}: dropped: {rule.removeprefix('must be left out of env: ')}"
    scale = _part(content, "scale_settings")
    if _word(scale.get("type")) == "default":
        yield "scale_settings.type: default: a fixed number of replicas"
    elif scale and "instance_count" in content:
        yield "instance_count: dropped: the number follows the load, by scale_settings"
    if "data_collector" in content:
        yield "data_collector: dataCollection, if a collection is enabled; only its sampling_rate is kept"


def _spec(endpoint: dict[str, Any]) -> dict[str, Any]:
    token = _word(endpoint.get("auth_mode")) == "aml_token"
    fields = {"description": "description", "tags": "kvTags", "properties": "properties"}
    return {
        **({"tokenAuthEnabled": True} if token else {"authEnabled": True}),
        **{field: endpoint[key] for key, field in fields.items() if key in endpoint},
    }


def _share(endpoint: OnlineFile, versions: list[dict[str, Any]]) -> Iterator[str]:
    """Set the shares of `versions`; yields notes."""
    traffic = _part(endpoint.content, "traffic")
    names = [version["name"] for version in versions]
    for version in versions:
        if isinstance(version["name"], str) and version["name"] in traffic:
            version["trafficPercentile"] = traffic[version["name"]]
    yield from (
        f"{endpoint.source}: traffic.{name}: dropped: no file of this deployment was given"
        for name in traffic
        if name not in names
    )
    numbers = [share for share in traffic.values() if isinstance(share, int | float)]
    first = max(versions, key=lambda version: _number(version.get("trafficPercentile")))
    first["isDefault"] = True
    if sum(numbers) < 100:
        yield f"traffic: {first['name']} is the default version and gets what is not given to another"


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _version(file: OnlineFile, model_dir: str | None) -> dict[str, Any]:
    content = file.content
    request = _part(content, "request_settings")
    version: dict[str, Any] = {
        "name": content["name"],
        "replica": _replica(file, model_dir),
        "scoringTimeoutMs": request.get("request_timeout_ms", DEFAULT_TIMEOUT_MS),
        "maxConcurrentRequestsPerContainer": request.get("max_concurrent_requests_per_instance"),
        "maxQueueWaitMs": request.get("max_queue_wait_ms"),
        **_scaling(content),
        "livenessProbeRequirements": {
            field: _seconds(_part(content, "liveness_probe")[key])
            for key, field in PROBE_FIELDS.items()
            if key in _part(content, "liveness_probe")
        },
        "containerResourceRequirements": _resources(_part(content, "resources")),
        "dataCollection": _collection(content.get("data_collector")),
    }
    return {field: value for field, value in version.items() if value not in (None, {})}


def _scaling(content: dict[str, Any]) -> dict[str, Any]:
    scale = _part(content, "scale_settings")
    if _word(scale.get("type", "target_utilization" if scale else "default")) == "default":
        return {"numReplicas": content.get("instance_count", 1)}
    fields = {
        "minReplicas": scale.get("min_instances", 1),
        "maxReplicas": scale.get("max_instances", 1),
        "targetUtilization": scale.get("target_utilization_percentage"),
        "refreshPeriodInSeconds": _seconds(scale.get("polling_interval")),
    }
    given = {field: value for field, value in fields.items() if value is not None}
    return {"autoScaler": {"autoscaleEnabled": True, **given}}


def _replica(file: OnlineFile, model_dir: str | None) -> dict[str, Any]:
    content = file.content
    given = _part(content, "environment_variables")
    texts = {name: value if isinstance(value, str) else str(value) for name, value in given.items()}
    image = _image(content)
    if image is not None and "code_configuration" not in content:
        return {"image": image, **_routes(content["environment"]), **({"env": texts} if texts else {})}
    plain = {name: value.replace("${", "$${") for name, value in texts.items() if not reserved_rule(name, SCRIPT)}
    if content.get("app_insights_enabled") is True:
        plain.setdefault(APP_INSIGHTS_ENV, "true")
    code = _part(content, "code_configuration")
    source = _placed(file, str(code.get("code", ".")))
    model = content.get("model")
    path = _local(model["path"] if isinstance(model, dict) and isinstance(model.get("path"), str) else model)
    models = model_dir if model_dir is not None else None if path is None else _folder_of(_placed(file, path))
    return {
        "entryScript": str(code.get("scoring_script", "score.py")).replace("\\", "/"),
        "sourceDirectory": source,
        **({"modelDir": models} if models is not None else {}),
        **({"env": plain} if plain else {}),
    }


def _routes(environment: dict[str, Any]) -> dict[str, Any]:
    """Port and paths of the server in an image."""
    config = _part(environment, "inference_config")
    score, ready = (_part(config, route) for route in ("scoring_route", "readiness_route"))
    fields = {"port": score.get("port"), "scorePath": score.get("path"), "healthPath": ready.get("path")}
    return {field: value for field, value in fields.items() if value is not None}


def _image(content: dict[str, Any]) -> str | None:
    environment = content.get("environment")
    image = environment.get("image") if isinstance(environment, dict) else None
    return image if isinstance(image, str) else None


def _local(model: object) -> str | None:
    """The local path in `model`; None: a registered model or an address."""
    if not isinstance(model, str) or re.match(r"(azureml:|[a-z]+://)", model):
        return None
    return model.replace("\\", "/")


def _folder_of(path: str) -> str:
    """The folder around a model: Azure has the file or folder of `path` by its name in AZUREML_MODEL_DIR."""
    return posixpath.dirname(path) or "."


def _placed(file: OnlineFile, path: str) -> str:
    return posixpath.normpath(posixpath.join(file.folder, path.replace("\\", "/")))


def _resources(resources: dict[str, Any]) -> dict[str, Any]:
    requests, limits = (_part(resources, side) for side in ("requests", "limits"))
    gpu = limits.get("nvidia.com/gpu", requests.get("nvidia.com/gpu"))
    fields = {
        "cpu": _quantity(requests.get("cpu")),
        "cpuLimit": _quantity(limits.get("cpu")),
        "memoryInGB": _gigabytes(requests.get("memory")),
        "memoryInGBLimit": _gigabytes(limits.get("memory")),
        "gpu": None if gpu is None else round(_quantity(gpu) or 0),
    }
    return {field: value for field, value in fields.items() if value is not None}


def _quantity(value: object) -> float | None:
    """A quantity of Kubernetes as a number; None: it is none."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(m|[kMGT]|[KMGT]i)?", str(value))
    return None if found is None else round(float(found[1]) * UNITS[found[2] or ""], 6)


def _gigabytes(value: object) -> float | None:
    number = _quantity(value)
    return None if number is None else round(number / 1e9, 6)


def _seconds(value: object) -> object:
    """Whole seconds of a number or of an ISO 8601 duration such as PT10S or PT1M; other values as they are."""
    found = re.fullmatch(r"PT(?:([0-9]+)H)?(?:([0-9]+)M)?(?:([0-9]+)S)?", value) if isinstance(value, str) else None
    if found is None:
        return value
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds


def _collection(collector: object) -> dict[str, Any] | None:
    """`dataCollection`; None if no collection is enabled."""
    collections = _part(collector, "collections").values()
    if not any(isinstance(each, dict) and str(each.get("enabled", "")).lower() == "true" for each in collections):
        return None
    rate = collector.get("sampling_rate") if isinstance(collector, dict) else None
    sampled = {"samplingPercent": 100 * rate} if isinstance(rate, int | float) and rate != 1 else {}
    return {"storageEnabled": True, **sampled}


def _word(value: object) -> str:
    """A word of a list of choices, in lower case with underscores: v2 takes Key, AMLToken and aml_token alike."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", str(value)).lower()


def _part(mapping: object, key: str) -> dict[str, Any]:
    """The mapping at a key; an empty one for everything else."""
    value = mapping.get(key) if isinstance(mapping, dict) else None
    return value if isinstance(value, dict) else {}
