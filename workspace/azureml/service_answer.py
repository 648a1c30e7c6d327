"""Service objects of Azure ML v1, made of declared objects and their status. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.provider import Problem
from workspace.azureml.azure_errors import error_document
from workspace.azureml.service_record import AKS, AKS_ENDPOINT, ServiceRecord, record_of

TRANSITIONING, HEALTHY, UNHEALTHY = "Transitioning", "Healthy", "Unhealthy"
FAILED, UNSCHEDULABLE = "Failed", "Unschedulable"
SEVERITY = (FAILED, UNSCHEDULABLE, UNHEALTHY, TRANSITIONING, HEALTHY)
"""States, the most severe first: an endpoint has that of its worst version."""
_SCALER = ("autoscaleEnabled", "minReplicas", "maxReplicas", "refreshPeriodInSeconds", "targetUtilization")
_RESOURCES = ("cpu", "cpuLimit", "memoryInGB", "memoryInGBLimit", "gpu")
_PROBE = ("periodSeconds", "initialDelaySeconds", "timeoutSeconds", "successThreshold", "failureThreshold")


@dataclass(frozen=True, slots=True)
class VersionCode:
    """Origin of one version, as it is shown."""

    models: tuple[Mapping[str, Any], ...] = ()
    """Model objects."""
    model_ids: tuple[str, ...] = ()
    environment: Mapping[str, Any] | None = None
    """Environment object."""


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """A service as it is now."""

    document: Mapping[str, Any]
    """The declared object with its defaults; with `status` as of REST, if it is declared."""
    scoring_uri: str
    """Of the service; the versions have theirs below it."""
    deploying: str | None = None
    """Version that an operation deploys now; "": the whole service; None: none."""
    operation: str = ""
    """Id of the last operation; "": none."""
    error: Mapping[str, Any] | None = None
    """Error object of a failed first deployment; None: none."""
    code: Mapping[str, VersionCode] = field(default_factory=dict)
    """Version -> its origin, where known."""


def service_object(facts: ServiceFacts) -> dict[str, Any]:
    """The service as the SDK reads it, with every key that it needs."""
    record = record_of(facts.document)
    versions = facts.document["spec"]["versions"]
    if record.compute_type == AKS and len(versions) == 1:
        return {**_version(facts, record, versions[0]), **_common(facts, record), "computeType": AKS}
    entries = {entry["name"]: _endpoint_version(facts, record, entry) for entry in versions}
    states = [entry["state"] for entry in entries.values()]
    error = facts.error or next((entry["error"] for entry in entries.values() if entry["error"]), None)
    return {
        **_common(facts, record),
        "computeType": AKS_ENDPOINT,
        "state": min(states, key=SEVERITY.index),
        "error": error,
        "versions": entries,
    }


def version_state(facts: ServiceFacts, name: str) -> str:
    """State of one version."""
    if facts.deploying in ("", name):
        return TRANSITIONING
    if facts.error is not None:
        return FAILED
    status = _status(facts, name)
    if not status:
        return TRANSITIONING
    if status.get("ready", 0) >= _least(facts, name):
        return HEALTHY
    problems = status.get("problems") or {}
    if Problem.LIMITED in problems:
        return UNSCHEDULABLE
    return UNHEALTHY if problems or status.get("failed") else TRANSITIONING


def matches(service: Mapping[str, Any], query: Mapping[str, str]) -> bool:
    """True if a service object fits the filters of a list: computeType, modelName, modelId, tags, properties, image…"""
    if any(query.get(name) for name in ("imageName", "imageId", "imageDigest")):
        return False  # no service here has an image
    kind = query.get("computeType")
    if kind and kind.upper() != service["computeType"]:
        return False
    models = _model_ids(service)
    if (wanted := query.get("modelId")) and wanted not in models:
        return False
    if (wanted := query.get("modelName")) and wanted not in {each.rpartition(":")[0] for each in models}:
        return False
    return has_pairs(service["kvTags"], query.get("tags")) and has_pairs(service["properties"], query.get("properties"))


def has_pairs(texts: Mapping[str, str], wanted: str | None) -> bool:
    """True if a mapping has what a filter names: `key` or `key=value`, separated by commas. None: everything fits."""
    for pair in (wanted or "").split(","):
        key, separator, value = pair.partition("=")
        if key and (key not in texts or (separator and texts[key] != value)):
            return False
    return True


def _model_ids(service: Mapping[str, Any]) -> set[str]:
    parts: Sequence[Mapping[str, Any]] = list(service.get("versions", {}).values()) or [service]
    return {each for part in parts for each in (part.get("environmentImageRequest") or {}).get("modelIds", ())}


def _common(facts: ServiceFacts, record: ServiceRecord) -> dict[str, Any]:
    """The keys that a service and an endpoint share."""
    spec, metadata = facts.document["spec"], facts.document["metadata"]
    common = {
        "name": metadata["name"],
        "id": metadata["name"],
        "description": spec.get("description", ""),
        "kvTags": dict(spec.get("kvTags") or {}),
        "properties": dict(spec.get("properties") or {}),
        "createdTime": record.created,
        "createdBy": None,
        "computeName": record.compute_name,
        "namespace": metadata.get("namespace"),
        "appInsightsEnabled": spec.get("appInsightsEnabled") is True,
        "authEnabled": spec.get("authEnabled") is True,
        "aadAuthEnabled": spec.get("tokenAuthEnabled") is True,
        "scoringUri": facts.scoring_uri,
        "swaggerUri": facts.scoring_uri.removesuffix("/score") + "/swagger.json",
        "operationId": facts.operation or None,
    }
    return common if not record.updated else {**common, "updatedTime": record.updated}


def _endpoint_version(facts: ServiceFacts, record: ServiceRecord, entry: Mapping[str, Any]) -> dict[str, Any]:
    texts = record.versions.get(entry["name"])
    base = facts.scoring_uri.removesuffix("/score")
    return {
        **_version(facts, record, entry),
        **_common(facts, record),
        "computeType": AKS,
        "name": entry["name"],
        "id": entry["name"],
        "description": texts.description if texts else "",
        "kvTags": dict(texts.tags) if texts else {},
        "properties": dict(texts.properties) if texts else {},
        "createdTime": texts.created if texts else record.created,
        "scoringUri": f"{base}/versions/{entry['name']}/score",
        "swaggerUri": f"{base}/versions/{entry['name']}/swagger.json",
    }


def _version(facts: ServiceFacts, record: ServiceRecord, entry: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of one version that come from its declaration and its status."""
    name = entry["name"]
    status = _status(facts, name)
    code = facts.code.get(name, VersionCode())
    state = version_state(facts, name)
    message = str(status.get("message") or "")
    error = facts.error
    if error is None and state in (UNHEALTHY, UNSCHEDULABLE, FAILED) and message:
        kind = "ContainerUnschedulable" if state == UNSCHEDULABLE else "ContainerNotReady"
        error = error_document(400, kind, message)
    scaler = entry.get("autoScaler") or {"autoscaleEnabled": False}
    return {
        "state": state,
        "error": error,
        "autoScaler": {key: scaler.get(key) for key in _SCALER},
        "numReplicas": entry.get("numReplicas"),
        "maxConcurrentRequestsPerContainer": entry.get("maxConcurrentRequestsPerContainer"),
        "maxQueueWaitMs": entry.get("maxQueueWaitMs"),
        "scoringTimeoutMs": entry.get("scoringTimeoutMs"),
        "containerResourceRequirements": _fields(entry, "containerResourceRequirements", _RESOURCES),
        "livenessProbeRequirements": _fields(entry, "livenessProbeRequirements", _PROBE),
        "dataCollection": {
            "storageEnabled": (entry.get("dataCollection") or {}).get("storageEnabled", False),
            "eventHubEnabled": False,
        },
        "storageInitEnabled": record.storage_init,
        "isDefault": entry.get("isDefault", False),
        "type": entry.get("type"),
        "trafficPercentile": entry.get("trafficPercentile"),
        "models": [dict(model) for model in code.models],
        "environmentImageRequest": {"modelIds": list(code.model_ids), "assets": [], "environment": code.environment}
        if code.environment is not None
        else None,
        "modelConfigMap": None,
        "imageId": None,
        "imageDigest": None,
        "deploymentStatus": {
            "desiredReplicas": status.get("desired", 0),
            "updatedReplicas": status.get("ready", 0) + status.get("starting", 0),
            "availableReplicas": status.get("ready", 0),
            "error": error,
        },
    }


def _status(facts: ServiceFacts, name: str) -> Mapping[str, Any]:
    versions = (facts.document.get("status") or {}).get("versions") or {}
    found: Mapping[str, Any] = versions.get(name) or {}
    return found


def _least(facts: ServiceFacts, name: str) -> int:
    """Replicas that a version has at least."""
    entry = next(each for each in facts.document["spec"]["versions"] if each["name"] == name)
    fixed = entry.get("numReplicas") or len(entry["replica"].get("static") or ())
    return int(fixed or (entry.get("autoScaler") or {}).get("minReplicas") or 1)


def _fields(entry: Mapping[str, Any], key: str, names: Sequence[str]) -> dict[str, Any]:
    found = entry.get(key) or {}
    return {name: found.get(name) for name in names}
