"""Reduces objects that exist by the thousand to the fields in use. Pure."""

from typing import Any

from cluster.kubernetes.objects.labels import DRAINING
from cluster.kubernetes.ownership import controller_of
from cluster.kubernetes.rival_writers import owns_number

_OF_ENDPOINT = ("apiVersion", "kind", "spec")
_NOT_OF_ENDPOINT = ("managedFields", "resourceVersion")
_NOT_OF_REPLICA = ("secretEnv", "imagePullSecrets", "nodeSelector", "tolerations")
_OF_POD = ("name", "namespace", "uid", "labels", "deletionTimestamp")
_OF_POD_STATUS = ("phase", "podIP")
_OF_CONTAINER = ("name", "state", "lastState")


def endpoint_for_routers(cr: dict[str, Any]) -> dict[str, Any]:
    """A ScoringEndpoint without the counters in its status, which change many times a second."""
    metadata = {name: value for name, value in cr["metadata"].items() if name not in _NOT_OF_ENDPOINT}
    metadata.get("annotations", {}).pop("kubectl.kubernetes.io/last-applied-configuration", None)
    status = cr.get("status") or {}
    versions = [
        {"name": version["name"], "selector": version["selector"]}
        for version in status.get("versions") or ()
        if version.get("selector")
    ]
    kept = {name: cr[name] for name in _OF_ENDPOINT if name in cr}
    if isinstance(spec := kept.get("spec"), dict) and isinstance(spec.get("versions"), list):
        kept["spec"] = {**spec, "versions": [_version(version) for version in spec["versions"]]}
    of_status = {"keys": status.get("keys") or {}, "incarnation": status.get("incarnation", ""), "versions": versions}
    return {**kept, "metadata": metadata, "status": of_status}


def _version(declared: Any) -> Any:
    """A version without the fields that only its replicas use, which may hold secrets; its validity does not change."""
    if not isinstance(declared, dict) or not isinstance(replica := declared.get("replica"), dict):
        return declared
    kept = {name: value for name, value in replica.items() if name not in _NOT_OF_REPLICA}
    if isinstance(env := kept.get("env"), dict):
        kept["env"] = {name: "" if isinstance(value, str) else None for name, value in env.items()}
    if isinstance(template := kept.get("podTemplate"), dict):
        kept["podTemplate"] = _template(template)
    return {**declared, "replica": kept}


def _template(template: dict[str, Any]) -> dict[str, Any]:
    """Labels, annotations and the number of containers: the fields that validation reads."""
    kept = {name: template[name] for name in ("metadata",) if name in template}
    match template.get("spec"):
        case {"containers": [*containers]}:
            kept["spec"] = {"containers": [{} if isinstance(each, dict) else None for each in containers]}
    return kept


def pod_for_routers(full: dict[str, Any]) -> dict[str, Any]:
    """A pod with its identity, address and readiness."""
    all_metadata, status = full["metadata"], full.get("status") or {}
    metadata = {name: all_metadata[name] for name in _OF_POD if name in all_metadata}
    if DRAINING in (all_metadata.get("annotations") or {}):
        metadata["annotations"] = {DRAINING: all_metadata["annotations"][DRAINING]}
    kept = {name: status[name] for name in _OF_POD_STATUS if name in status}
    ready = [each for each in status.get("conditions") or () if each.get("type") == "Ready"]
    kept["conditions"] = [{"type": "Ready", "status": each.get("status")} for each in ready]
    return {"metadata": metadata, "status": kept}


def own_pod_for_routers(full: dict[str, Any]) -> dict[str, Any]:
    """A pod of the installation, as `pod_for_routers`, with the states of its containers."""
    kept = pod_for_routers(full)
    states = [
        {name: each[name] for name in _OF_CONTAINER if name in each}
        for each in (full.get("status") or {}).get("containerStatuses") or ()
    ]
    return {**kept, "status": {**kept["status"], "containerStatuses": states}}


def workload_for_leader(workload: dict[str, Any]) -> dict[str, Any]:
    """A workload without the fields that only the API server reads; of the field managers, those of the number."""
    metadata = workload["metadata"]
    managers = [
        {**{name: entry[name] for name in _OF_MANAGER if name in entry}, "fieldsV1": {"f:spec": {"f:replicas": {}}}}
        for entry in metadata.get("managedFields") or ()
        if owns_number(entry)
    ]
    return {**workload, "metadata": {**metadata, "managedFields": managers}}


def pod_for_leader(pod: dict[str, Any]) -> dict[str, Any]:
    """The fields of a pod that the leader needs."""
    metadata, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    kept = {name: metadata[name] for name in _LEADER_POD if name in metadata}
    if (controller := controller_of(pod)) is not None:
        kept["ownerReferences"] = [{name: controller[name] for name in _OWNER if name in controller}]
    return {
        "metadata": kept,
        "spec": {
            "nodeName": spec.get("nodeName", ""),
            "containers": [{"name": container["name"]} for container in spec.get("containers") or ()],
        },
        "status": {name: status[name] for name in _LEADER_POD_STATUS if name in status},
    }


_OF_MANAGER = ("manager", "operation", "subresource", "time")
_LEADER_POD = (
    *("name", "namespace", "uid", "resourceVersion", "labels", "annotations"),
    *("creationTimestamp", "deletionTimestamp"),
)
_OWNER = ("kind", "name", "uid", "controller")
_LEADER_POD_STATUS = ("phase", "reason", "message", "podIP", "conditions", "containerStatuses", "initContainerStatuses")
