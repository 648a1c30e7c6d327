"""A node that is only told of: its object, its lease, its heartbeat."""

import asyncio
import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tests.cluster.played.kube import MERGE, STRATEGIC, ApiFailure, Kube

PLAYED = "loadtests.scorefront.io/played"
BEAT_S = 2.0
LEASE_S = 40
_NODES, _LEASES = "/api/v1/nodes", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


class Foreign(Exception):
    """The cluster has nodes of its own."""


async def check_that_all_are_played(kube: Kube) -> None:
    """Raises Foreign if the cluster has real nodes: a played node runs processes of this machine."""
    foreign = [each["metadata"]["name"] for each in await kube.items(_NODES) if PLAYED not in _labels(each)]
    if foreign:
        raise Foreign(f"this cluster has nodes of its own ({', '.join(foreign)}); one without any is needed")


def _labels(each: Mapping[str, Any]) -> Mapping[str, str]:
    labels: Mapping[str, str] = each["metadata"].get("labels") or {}
    return labels


class Node:
    """From `join` to `leave`; `beat` keeps it alive in between."""

    def __init__(self, kube: Kube, name: str, pods: int, port: int = 10250, cpu: str = "1000") -> None:
        """`pods`: capacity of the node; `port`: port of its agent for logs."""
        self.name = name
        self._kube = kube
        capacity = {"cpu": cpu, "memory": "4000Gi", "pods": str(pods), "ephemeral-storage": "4000Gi"}
        self._status = {
            "capacity": capacity,
            "allocatable": capacity,
            "conditions": [_ready()],
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        }

    async def join(self) -> None:
        """Once the object is there, and no longer tainted as new. Raises ApiFailure."""
        labels = {"kubernetes.io/hostname": self.name, "kubernetes.io/os": "linux", PLAYED: "true"}
        body = {"metadata": {"name": self.name, "labels": labels}, "status": self._status}
        try:
            await self._kube.create(_NODES, body)
        except ApiFailure as failure:
            if failure.status != 409:
                raise
            await self._kube.patch(f"{_NODES}/{self.name}/status", {"status": self._status}, STRATEGIC)
        while (await self._kube.get(f"{_NODES}/{self.name}"))["spec"].get("taints"):
            await self._beat()
            await asyncio.sleep(0.2)

    async def beat(self) -> None:
        """Until cancelled; an API server that is away is waited for."""
        while True:
            with contextlib.suppress(ApiFailure):
                await self._beat()
            await asyncio.sleep(BEAT_S)

    async def _beat(self) -> None:
        renewed = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": self.name, "leaseDurationSeconds": LEASE_S, "renewTime": renewed}
        try:
            await self._kube.patch(f"{_LEASES}/{self.name}", {"spec": spec}, MERGE)
        except ApiFailure as failure:
            if failure.status != 404:
                raise
            await self._kube.create(_LEASES, {"metadata": {"name": self.name}, "spec": spec})
        seen = await self._kube.get(f"{_NODES}/{self.name}")
        told = [each for each in seen["status"].get("conditions", ()) if each["type"] == "Ready"]
        if not told or told[0]["status"] != "True":
            await self._kube.patch(f"{_NODES}/{self.name}/status", {"status": {"conditions": [_ready()]}}, STRATEGIC)

    async def leave(self) -> None:
        """With every pod that is still bound to it. Raises ApiFailure."""
        bound = await self._kube.items("/api/v1/pods", fieldSelector=f"spec.nodeName={self.name}")
        for each in bound:
            metadata = each["metadata"]
            path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
            await self._kube.delete(path, {"gracePeriodSeconds": 0})
        await self._kube.delete(f"{_LEASES}/{self.name}")
        await self._kube.delete(f"{_NODES}/{self.name}")


def _ready() -> dict[str, str]:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "type": "Ready",
        "status": "True",
        "reason": "Played",
        "message": "processes of one machine",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }
