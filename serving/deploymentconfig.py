"""Conversion of the v1 files deploymentconfig.json (AKS) and inferenceconfig.json into the declared object.

Every known key of those files is converted or refused, with its path in the file.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from serving.credentials import KEY_RULE, is_key
from serving.faults import Fault, InvalidManifest, Path, written
from serving.manifest import parse
from serving.models import API_VERSION, KIND
from serving.plain import plain
from serving.validation_messages import HIDDEN, shareable, unknown_field

VERSION = ("spec", "versions", 0)
PLACES: dict[str, Path] = {
    "namespace": ("metadata", "namespace"),
    "authEnabled": ("spec", "authEnabled"),
    "tokenAuthEnabled": ("spec", "tokenAuthEnabled"),
    "computeTargetName": ("spec", "properties", "computeTargetName"),
    "versionName": (*VERSION, "name"),
    "trafficPercentile": (*VERSION, "trafficPercentile"),
    "numReplicas": (*VERSION, "numReplicas"),
    "maxConcurrentRequestsPerContainer": (*VERSION, "maxConcurrentRequestsPerContainer"),
    "maxQueueWaitMs": (*VERSION, "maxQueueWaitMs"),
    "scoringTimeoutMs": (*VERSION, "scoringTimeoutMs"),
    "autoScaler": (*VERSION, "autoScaler"),
    "livenessProbeRequirements": (*VERSION, "livenessProbeRequirements"),
    "dataCollection": (*VERSION, "dataCollection"),
    "containerResourceRequirements": (*VERSION, "containerResourceRequirements"),
    "gpuCores": (*VERSION, "containerResourceRequirements", "gpu"),
}
"""Key of deploymentconfig.json -> its path in the document. In this order: gpuCores is added to an earlier mapping."""

OTHER_KEYS = ("computeType", "keys", "appInsightsEnabled")
COMPUTE_TYPES = ("aks", "aksendpoint")
KEY_NAMES = ("primaryKey", "secondaryKey")

APP_INSIGHTS_ENV = "AML_APP_INSIGHTS_ENABLED"
"""Switch of azureml-inference-server-http; it sends telemetry once AML_APP_INSIGHTS_KEY is in `env` too."""

ENVIRONMENT_KEYS = (
    "environmentVariables",
    # The rest describes the image to build; it is accepted and has no meaning here.
    "name",
    "version",
    "python",
    "docker",
    "spark",
    "databricks",
    "r",
    "inferencingStackVersion",
    "assetId",
    "autoRebuild",
)


@dataclass(frozen=True, slots=True, repr=False)
class DeclaredKeys:
    """The keys requested for an endpoint; None: generate one. Never shown."""

    primary: str | None = None
    secondary: str | None = None


def from_deploymentconfig(config: object, name: str, replica: Mapping[str, Any]) -> dict[str, Any]:
    """An AKS deploymentconfig.json as a valid ScoringEndpoint document with one version.

    `config`: the decoded file. `name`: of the endpoint, and of the version unless `versionName` is given, as in the v1
    SDK. `replica`: the `replica` of that version, e.g. from `from_inferenceconfig`. `keys` are read by `declared_keys`.
    Raises InvalidManifest with every fault: by its path in the config, or in the document for faults in `replica` or
    `name`.
    """
    content = _mapping(config)
    faults = [*_unknown(content, (*PLACES, *OTHER_KEYS), ()), *_own_rules(content)]
    try:
        declared_keys(content)
    except InvalidManifest as error:
        faults += error.faults
    document = _document(content, name, copy.deepcopy(dict(replica)))
    if content.get("appInsightsEnabled") is True:
        _enable_insights(document["spec"])
    try:
        parse(document)
    except InvalidManifest as error:
        known = {fault.path for fault in faults}
        moved = (Fault(_path_in_config(fault.path, content), fault.value, fault.rule) for fault in error.faults)
        faults += (fault for fault in moved if fault.path not in known)
    if faults:
        raise InvalidManifest(tuple(faults))
    return document


def declared_keys(config: object) -> DeclaredKeys:
    """`keys` of a deploymentconfig.json. Raises InvalidManifest, which never shows a key."""
    keys = _mapping(config).get("keys")
    if keys is None:
        return DeclaredKeys()
    if not isinstance(keys, dict):
        raise InvalidManifest((Fault("keys", HIDDEN, f"must be a mapping with the fields {', '.join(KEY_NAMES)}"),))
    faults = _unknown(keys, KEY_NAMES, ("keys",))
    given = {name: keys[name] for name in KEY_NAMES if keys.get(name) is not None}
    for name, key in given.items():
        if not isinstance(key, str) or not is_key(key):
            faults.append(Fault(f"keys.{name}", HIDDEN, KEY_RULE))
    if "secondaryKey" in given and "primaryKey" not in given:
        faults.append(Fault("keys.primaryKey", None, "is required where secondaryKey is given"))
    if len(given) == 2 and given["primaryKey"] == given["secondaryKey"]:
        faults.append(Fault("keys.secondaryKey", HIDDEN, "must differ from primaryKey"))
    if faults:
        raise InvalidManifest(tuple(faults))
    return DeclaredKeys(given.get("primaryKey"), given.get("secondaryKey"))


def from_inferenceconfig(config: object, model_dir: str | None = None) -> dict[str, Any]:
    """An inferenceconfig.json as the `replica` of a version: entryScript, sourceDirectory, environment variables.

    The image of an environment has no meaning here: the script runs in the Python of its host. Relative paths stay
    relative. Raises InvalidManifest with every unknown or missing field, by its path in the config; values are checked
    later, with the document.
    """
    content = _mapping(config)
    faults = _unknown(content, ("entryScript", "sourceDirectory", "environment"), ())
    environment = content.get("environment") or {}
    if not isinstance(environment, dict):
        faults.append(Fault("environment", HIDDEN, f"must be a mapping with the fields {', '.join(ENVIRONMENT_KEYS)}"))
        environment = {}
    faults += _unknown(environment, ENVIRONMENT_KEYS, ("environment",))
    if content.get("entryScript") is None:
        faults.append(Fault("entryScript", None, "is required: the path of the script, relative to sourceDirectory"))
    if faults:
        raise InvalidManifest(tuple(faults))
    replica = {
        "entryScript": content["entryScript"],
        "sourceDirectory": content.get("sourceDirectory"),
        "modelDir": model_dir,
        "env": environment.get("environmentVariables"),
    }
    return {field: value for field, value in replica.items() if value is not None}


def _mapping(config: object) -> dict[str, Any]:
    content, faults = plain(config)
    if faults:
        raise InvalidManifest(tuple(faults.values()))
    if not isinstance(content, dict):
        raise InvalidManifest((Fault(written(()), None, "must be a mapping of fields"),))
    return content


def _unknown(content: dict[str, Any], known: tuple[str, ...], at: Path) -> list[Fault]:
    unknown = (key for key in content if key not in known)
    return [
        Fault(written((*at, key)), shareable((*at, key), content[key]), unknown_field(key, list(known)))
        for key in unknown
    ]


def _own_rules(content: dict[str, Any]) -> Iterator[Fault]:
    """The rules of this file that the declared object does not have."""
    kind = content.get("computeType")
    if not isinstance(kind, str) or kind.lower() not in COMPUTE_TYPES:
        verb = "is required" if kind is None else "must be"
        yield Fault("computeType", kind, f"{verb}: one of {', '.join(COMPUTE_TYPES)} (upper case is as good)")
    insights, target = content.get("appInsightsEnabled"), content.get("computeTargetName")
    if not isinstance(insights, bool | None):
        yield Fault("appInsightsEnabled", insights, "must be true or false")
    if not isinstance(target, str | None):
        yield Fault("computeTargetName", target, "must be text")
    resources = content.get("containerResourceRequirements")
    if isinstance(resources, dict) and "gpu" in resources:
        rule = "is not a known field; did you mean gpuCores, beside containerResourceRequirements?"
        yield Fault("containerResourceRequirements.gpu", resources["gpu"], rule)


def _document(content: dict[str, Any], name: str, replica: dict[str, Any]) -> dict[str, Any]:
    version: dict[str, Any] = {"name": name, "replica": replica}
    document: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name},
        "spec": {"versions": [version]},
    }
    for key, place in PLACES.items():
        value = content.get(key)
        # In this file 0 replicas means that no number is fixed.
        if value is not None and not (key == "numReplicas" and value == 0 and not isinstance(value, bool)):
            _put(document, place, value)
    return document


def _put(document: dict[str, Any], place: Path, value: Any) -> None:
    target: Any = document
    for step in place[:-1]:
        target = target[step] if isinstance(step, int) else target.setdefault(step, {})
    if isinstance(target, dict):
        # Otherwise the parent of gpuCores is no mapping, and that is the fault to report.
        target[place[-1]] = value


def _enable_insights(spec: dict[str, Any]) -> None:
    """Set the environment variable if scorefront hosts the script; otherwise keep the setting as a property."""
    replica = spec["versions"][0]["replica"]
    if not any(replica.get(kind) is not None for kind in ("entryScript", "command", "image")):
        spec.setdefault("properties", {})["appInsightsEnabled"] = "true"
        return
    env = replica.get("env") or {}
    if isinstance(env, dict):
        replica["env"] = {APP_INSIGHTS_ENV: "true", **env}


def _path_in_config(path: str, content: dict[str, Any]) -> str:
    """The path in the config of the value at this path of the document; the path itself for other origins."""
    for key, place in reversed(PLACES.items()):
        start = written(place)
        # numReplicas may be required, and then be the fault by its absence.
        if (key in content or key == "numReplicas") and (path == start or path.startswith((f"{start}.", f"{start}["))):
            return key + path[len(start) :]
    return path
