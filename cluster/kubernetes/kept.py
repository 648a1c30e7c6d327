"""What is kept of objects of which there are thousands: no more than routing needs. Pure."""

from typing import Any

from cluster.kubernetes.objects.labels import DRAINING

_OF_ENDPOINT = ("apiVersion", "kind", "spec")
_NOT_OF_ENDPOINT = ("managedFields", "resourceVersion")
_OF_POD = ("name", "namespace", "uid", "labels", "deletionTimestamp")
_OF_POD_STATUS = ("phase", "podIP")


def endpoint(cr: dict[str, Any]) -> dict[str, Any]:
    """Of a ScoringEndpoint: without the numbers in its status, which change all the time."""
    metadata = {name: value for name, value in cr["metadata"].items() if name not in _NOT_OF_ENDPOINT}
    metadata.get("annotations", {}).pop("kubectl.kubernetes.io/last-applied-configuration", None)
    status = cr.get("status") or {}
    versions = [
        {"name": version["name"], "selector": version["selector"]}
        for version in status.get("versions") or ()
        if version.get("selector")
    ]
    kept = {name: cr[name] for name in _OF_ENDPOINT if name in cr}
    return {**kept, "metadata": metadata, "status": {"keys": status.get("keys") or {}, "versions": versions}}


def pod(full: dict[str, Any]) -> dict[str, Any]:
    """Of a pod: whose it is, where it is, and whether it is ready."""
    told, status = full["metadata"], full.get("status") or {}
    metadata = {name: told[name] for name in _OF_POD if name in told}
    if DRAINING in (told.get("annotations") or {}):
        metadata["annotations"] = {DRAINING: told["annotations"][DRAINING]}
    kept = {name: status[name] for name in _OF_POD_STATUS if name in status}
    ready = [each for each in status.get("conditions") or () if each.get("type") == "Ready"]
    kept["conditions"] = [{"type": "Ready", "status": each.get("status")} for each in ready]
    return {"metadata": metadata, "status": kept}
