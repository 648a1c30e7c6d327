"""A router's own pod: the fields for front end scaling, and the in-place change of its cores."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.kubernetes.objects.labels import COMPONENT
from cluster.kubernetes.objects.pod import unschedulable

SELECTOR = f"{COMPONENT}=router"
DEPLOYMENT = "scorefront-router"
CONTAINER = "router"

_PARTS = {"m": 1e-3, "u": 1e-6, "n": 1e-9}


@dataclass(frozen=True, slots=True)
class Cpu:
    """Cores of the router's container; None: not stated."""

    limit: float | None
    request: float | None


@dataclass(frozen=True, slots=True)
class RouterPod:
    """One pod of the routers' Deployment."""

    name: str
    leaving: bool
    """It is to go, or has ended."""
    unschedulable: str
    """The scheduler's reason for leaving the pod without a node; "" if it has one."""
    placed: bool
    """A node has it."""
    cpu: Cpu
    """The pod in the API; the node may not have applied it yet."""
    addresses: tuple[str, ...] = ()
    """One address per family; empty before the pod has a node."""


def router_pod(pod: Mapping[str, Any]) -> RouterPod:
    """The pod, read."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    leaving = metadata.get("deletionTimestamp") is not None or status.get("phase") in ("Succeeded", "Failed")
    spec = pod.get("spec") or {}
    addresses = tuple(str(each["ip"]) for each in status.get("podIPs") or () if each.get("ip"))
    placed = bool(spec.get("nodeName"))
    return RouterPod(metadata["name"], leaving, unschedulable(pod), placed, _cpu(spec), addresses)


def template_cpu(deployment: Mapping[str, Any]) -> Cpu:
    """The resources of the Deployment's pod template."""
    return _cpu(deployment["spec"]["template"]["spec"])


def resized(pod: Mapping[str, Any], limit: int, began: Cpu) -> dict[str, Any]:
    """The pod with a limit of so many cores, and its request in the original proportion; for the `resize` subresource.

    The request moves along, or a node would promise the same cores to several pods.
    """
    found = copy.deepcopy(dict(pod))
    cpu: dict[str, dict[str, str]] = {"limits": {"cpu": str(limit)}}
    if began.request is not None and began.limit:
        share = min(1.0, began.request / began.limit)
        cpu["requests"] = {"cpu": f"{max(1, round(1000 * limit * share))}m"}
    for container in found["spec"]["containers"]:
        if container["name"] == CONTAINER:
            known = container.setdefault("resources", {})
            for kind, amount in cpu.items():
                known[kind] = {**(known.get(kind) or {}), **amount}
    return found


def cores(quantity: str) -> float:
    """`2`, `1.5`, `500m` as the API writes CPU. Raises ValueError."""
    unit = _PARTS.get(quantity[-1:])
    return float(quantity) if unit is None else float(quantity[:-1]) * unit


def _cpu(spec: Mapping[str, Any]) -> Cpu:
    for container in spec.get("containers") or ():
        if container.get("name") == CONTAINER:
            resources = container.get("resources") or {}
            return Cpu(*(_stated(resources.get(kind)) for kind in ("limits", "requests")))
    return Cpu(None, None)


def _stated(amounts: Mapping[str, Any] | None) -> float | None:
    quantity = (amounts or {}).get("cpu")
    return None if quantity is None else cores(str(quantity))
