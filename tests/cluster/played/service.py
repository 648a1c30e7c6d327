"""Plays a Service: new connections go to pods that are Ready and not being deleted; old ones stay."""

import asyncio
import contextlib

from tests.cluster.played.kube import Kube, Object
from tests.cluster.played.podstatus import is_ready
from tests.router_groups.balancer import Address, Balancer

_NOBODY: Address = ("127.0.0.1", 1)
"""Refuses connections while no pod is ready."""


class Service:
    """The Service of one selector, while it is entered; `address` is its listener."""

    def __init__(self, kube: Kube, namespace: str, selector: str, port: int) -> None:
        """`port`: of the pods."""
        self._kube = kube
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self._selector = selector
        self._port = port
        self._balancer = Balancer()  # it gets the ready pods, and need not ask
        self._pods: dict[str, Object] = {}

    @property
    def address(self) -> Address:
        """For clients."""
        return self._balancer.address

    @property
    def behind(self) -> list[Address]:
        """The addresses for new connections."""
        return [(each["status"]["podIP"], self._port) for each in self._pods.values() if _takes(each)]

    async def __aenter__(self) -> "Service":
        await self._balancer.start()
        self._balancer.healthy = {_NOBODY: False}
        self._watching = asyncio.create_task(self._watch(), name="pods of the service")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)
        await self._balancer.close()

    async def _watch(self) -> None:
        async with contextlib.aclosing(self._kube.changes(self._path, labelSelector=self._selector)) as changes:
            async for change in changes:
                uid = change.object["metadata"]["uid"]
                self._pods.pop(uid, None)
                if not change.gone:
                    self._pods[uid] = change.object
                self._balancer.healthy = dict.fromkeys(self.behind, True) or {_NOBODY: False}


def _takes(pod: Object) -> bool:
    return is_ready(pod) and not pod["metadata"].get("deletionTimestamp") and bool(pod["status"].get("podIP"))
