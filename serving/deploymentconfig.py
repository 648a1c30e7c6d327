"""Conversion of the v1 file deploymentconfig (AKS) into the declared object.

Every known key is converted, refused with its path in the file, or dropped with a note. Nulls are ignored.
"""

import copy
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from serving.credentials import KEY_RULE, is_key
from serving.faults import Fault, InvalidManifest, Path, shown, written
from serving.manifest import parse
from serving.models import API_VERSION, KIND
from serving.plain import plain
from serving.validation_messages import HIDDEN, shareable, unknown_field

VERSION = ("spec", "versions", 0)
PLACES: dict[str, Path] = {
    "namespace": ("metadata", "namespace"),
    "description": ("spec", "description"),
    "tags": ("spec", "kvTags"),
    "kvTags": ("spec", "kvTags"),
    "properties": ("spec", "properties"),
    "authEnabled": ("spec", "authEnabled"),
    "aadAuthEnabled": ("spec", "tokenAuthEnabled"),
    "tokenAuthEnabled": ("spec", "tokenAuthEnabled"),
    "appInsightsEnabled": ("spec", "appInsightsEnabled"),
    "computeName": ("spec", "properties", "computeTargetName"),
    "computeTargetName": ("spec", "properties", "computeTargetName"),
    "versionName": (*VERSION, "name"),
    "trafficPercentile": (*VERSION, "trafficPercentile"),
    "isDefault": (*VERSION, "isDefault"),
    "type": (*VERSION, "type"),
    "numReplicas": (*VERSION, "numReplicas"),
    "maxConcurrentRequestsPerContainer": (*VERSION, "maxConcurrentRequestsPerContainer"),
    "maxQueueWaitMs": (*VERSION, "maxQueueWaitMs"),
    "scoringTimeoutMs": (*VERSION, "scoringTimeoutMs"),
    "autoScaler": (*VERSION, "autoScaler"),
    "livenessProbeRequirements": (*VERSION, "livenessProbeRequirements"),
    "dataCollection": (*VERSION, "dataCollection"),
    "containerResourceRequirements": (*VERSION, "containerResourceRequirements"),
    "cpu": (*VERSION, "containerResourceRequirements", "cpu"),
    "cpuLimit": (*VERSION, "containerResourceRequirements", "cpuLimit"),
    "memoryInGB": (*VERSION, "containerResourceRequirements", "memoryInGB"),
    "memoryInGBLimit": (*VERSION, "containerResourceRequirements", "memoryInGBLimit"),
    "gpu": (*VERSION, "containerResourceRequirements", "gpu"),
    "gpuCores": (*VERSION, "containerResourceRequirements", "gpu"),
}
"""Key of a deploymentconfig -> its path in the document. In this order: later ones are added to earlier mappings."""

OTHER_KEYS = ("computeType", "keys", "enableAppInsights", "name")
COMPUTE_TYPES = ("aks", "aksendpoint")
COMPUTE_RULE = (
    "one of aks, aksendpoint, in any case. Deployments to ACI, to this machine (local) and to others have no slots and"
    " no scaling, and cannot be imported; if the limits are meant for scorefront, write aks"
)

_TLS = "TLS is a setting of the front end: scorefront up --tls-cert FILE --tls-key FILE"
_AZURE = "a place in Azure without counterpart"
_IMAGE = "images of Azure are not run; the code comes from the inferenceconfig"
_STATE = "state of the service in Azure"
DROPPED: dict[str, str] = {
    **dict.fromkeys(
        ("sslEnabled", "sslCertificate", "sslKey", "sslCertPemFile", "sslKeyPemFile", "sslCname", "cname"), _TLS
    ),
    **dict.fromkeys(("location", "dnsNameLabel", "vnetName", "subnetName", "leafDomainLabel", "region"), _AZURE),
    **dict.fromkeys(
        ("image", "imageId", "imageDigest", "imageType", "environmentImageRequest", "environment", "driverProgram"),
        _IMAGE,
    ),
    **dict.fromkeys(("models", "modelIds", "modelConfigMap"), "models are folders here: --model-dir"),
    **dict.fromkeys(("storageInitEnabled", "blobfuseEnabled"), "models are read from the disk"),
    **dict.fromkeys(
        (
            *(
                "id",
                "state",
                "provisioningState",
                "scoringUri",
                "swaggerUri",
                "createdTime",
                "updatedTime",
                "createdBy",
            ),
            *("deploymentStatus", "deploymentType", "error", "operationId", "etag", "createdBy", "publicIp"),
            *("publicFqdn", "workspaceName", "subscriptionId", "resourceGroup", "versions"),
        ),
        _STATE,
    ),
    "overwrite": "apply replaces an endpoint of the same name",
    "port": "ports of replicas are chosen by scorefront",
    "kind": "not used",
}
"""Keys that `az ml` took or printed and that have no counterpart -> the reason."""
SWITCHES = {"authEnabled", "tokenAuthEnabled", "aadAuthEnabled", "appInsightsEnabled", "isDefault"}
NAMES = ("namespace", "computeTargetName", "computeName", "versionName", "name")
KEY_NAMES = ("primaryKey", "secondaryKey")

APP_INSIGHTS_ENV = "AML_APP_INSIGHTS_ENABLED"
"""Switch of azureml-inference-server-http; it sends telemetry once AML_APP_INSIGHTS_KEY is in `env` too."""


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
    content = normalized(without_null(mapping_of(config)))
    faults = [*unknown_keys(content, (*PLACES, *OTHER_KEYS, *DROPPED)), *_own_rules(content)]
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


def deploymentconfig_notes(config: object, name: str) -> list[str]:
    """Notes on the keys without counterpart, each with its path. `name`: of the endpoint."""
    content = without_null(mapping_of(config))
    notes = [f"{key}: dropped: {reason}" for key, reason in DROPPED.items() if key in content]
    if (given := content.get("name")) not in (None, name):
        notes.append(f"name: {shown(given)} dropped: the endpoint is named {name}")
    if isinstance(collection := content.get("dataCollection"), dict) and "eventHubEnabled" in collection:
        notes.append("dataCollection.eventHubEnabled: dropped: Event Hubs are not written to")
    return notes


def declared_keys(config: object) -> DeclaredKeys:
    """`keys` of a deploymentconfig.json. Raises InvalidManifest, which never shows a key."""
    keys = mapping_of(config).get("keys")
    if keys is None:
        return DeclaredKeys()
    if not isinstance(keys, dict):
        raise InvalidManifest((Fault("keys", HIDDEN, f"must be a mapping with the fields {', '.join(KEY_NAMES)}"),))
    faults = unknown_keys(keys, KEY_NAMES, ("keys",))
    given = {name: keys[name] for name in KEY_NAMES if keys.get(name) not in (None, "")}
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


def mapping_of(config: object) -> dict[str, Any]:
    """The decoded content of a file, checked to be a mapping. Raises InvalidManifest."""
    content, faults = plain(config)
    if faults:
        raise InvalidManifest(tuple(faults.values()))
    if not isinstance(content, dict):
        raise InvalidManifest((Fault(written(()), None, "must be a mapping of fields"),))
    return content


def without_null(value: Any) -> Any:
    """A copy of `value` without the entries of mappings that are null, and without the mappings that these fill."""
    if isinstance(value, dict):
        given = {key: without_null(item) for key, item in value.items() if item is not None}
        return {key: item for key, item in given.items() if item != {} or not value[key]}
    return value


def normalized(content: dict[str, Any]) -> dict[str, Any]:
    """The content with the names of today for those of ACI, text for true and false read, and empty names left out."""
    found = {key: value for key, value in content.items() if not (key in NAMES and value == "")}
    if "enableAppInsights" in found:
        found.setdefault("appInsightsEnabled", found.pop("enableAppInsights"))
        found.pop("enableAppInsights", None)
    for key in SWITCHES & found.keys():
        found[key] = _as_switch(found[key])
    for key, switch in (("autoScaler", "autoscaleEnabled"), ("dataCollection", "storageEnabled")):
        if isinstance(part := found.get(key), dict):
            kept = {name: value for name, value in part.items() if name != "eventHubEnabled"}
            found[key] = {**kept, **({switch: _as_switch(kept[switch])} if switch in kept else {})}
    return found


def _as_switch(value: Any) -> Any:
    """True or false for their names in text of any case, as the v1 command line took them."""
    return {"true": True, "false": False}.get(value.lower(), value) if isinstance(value, str) else value


def unknown_keys(content: dict[str, Any], known: Collection[str], at: Path = ()) -> list[Fault]:
    """Faults of the keys of a mapping at `at` that are not `known`."""
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
        yield Fault("computeType", kind, f"{verb}: {COMPUTE_RULE}")
    target = content.get("computeTargetName")
    if not isinstance(target, str | None):
        yield Fault("computeTargetName", target, "must be text")


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
            _put(document, place, copy.deepcopy(value))
    return document


def _put(document: dict[str, Any], place: Path, value: Any) -> None:
    target: Any = document
    for step in place[:-1]:
        target = target[step] if isinstance(step, int) else target.setdefault(step, {})
    if isinstance(target, dict):
        # Otherwise the parent of gpuCores is no mapping, and that is the fault to report.
        target[place[-1]] = value


def _enable_insights(spec: dict[str, Any]) -> None:
    """Switch on the telemetry of the server of scripts as well, where scorefront sets its environment."""
    replica = spec["versions"][0]["replica"]
    if not any(replica.get(kind) is not None for kind in ("entryScript", "command", "image")):
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
