"""In-place change of the CPU limit of router pods (subresource `resize`, Kubernetes 1.33 on).

If the node has no free cores, or the cluster lacks the feature, pods keep their cores and the front end scales out.
"""

import logging
import math
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from cluster.kubernetes.client.api import Api, ApiError
from cluster.kubernetes.client.paths import DEPLOYMENTS, PODS, path
from cluster.kubernetes.objects.router_pod import DEPLOYMENT, Cpu, RouterPod, resized, template_cpu
from serving.clock import Clock

_log = logging.getLogger("scorefront.frontend_scaling")

GROW_S = 15.0
"""Time for a node to grant the cores: the kubelet syncs a pod every few seconds."""
LOOK_S = 0.2
RETRY_S = 600.0
"""Time before a refused resize is tried again."""


class CoresUnavailable(Exception):
    """The pods did not get the cores; the text gives the reason."""


class RouterPods(Protocol):
    """The router pods; implemented by `scorefront.control.router_fleet.RouterFleet`."""

    def pods(self) -> Collection[RouterPod]:
        """Pods that are not being deleted."""

    def cores_there(self) -> int | None:
        """Cores available to every linked router; None: none is linked."""


class PodResizer:
    """One per leader."""

    def __init__(self, api: Api, pods: RouterPods, clock: Clock, most: int, leads: Callable[[], bool]) -> None:
        """`most`: largest number of cores of a router. `leads`: True while this process may write."""
        self._api = api
        self._pods = pods
        self._clock = clock
        self._most = most
        self._leads = leads
        self._refused_s = -math.inf
        self._wanted: int | None = None

    def possible(self, there: int) -> int:
        """Cores that a router with `there` cores may get."""
        limited = any(pod.cpu.limit is not None for pod in self._pods.pods())
        if not limited or self._clock.now() < self._refused_s + RETRY_S:
            return there
        return max(there, self._most)

    async def have(self, cores: int) -> None:
        """Have so many cores in every router, no fewer than it began with.

        Raises CoresUnavailable if the cores are needed and not granted, ApiError if the request cannot be undone.
        """
        limits = [pod.cpu.limit for pod in self._pods.pods() if pod.cpu.limit is not None]
        if not limits:
            return
        there, before = self._pods.cores_there(), self._wanted
        try:
            await self._set(cores)
            await self._until_there(cores)
        except (CoresUnavailable, ApiError) as error:
            if there is not None and cores <= there:
                _log.warning("the routers keep more cores than they need: %s", error)
                return
            self._refused_s = self._clock.now()
            await self._set(before or math.floor(min(limits)) or 1)
            raise CoresUnavailable(f"the routers did not get {cores} cores each: {error}") from error

    async def level(self) -> None:
        """Give pods that have come since as much as the others have."""
        wanted = self._wanted
        if wanted is not None and any(_differs(pod, wanted) for pod in self._pods.pods()):
            await self._set(wanted)

    async def _set(self, cores: int) -> None:
        began = await self._began()
        if began.limit is None:
            return
        self._wanted = max(cores, math.ceil(began.limit))
        for pod in self._pods.pods():
            if _differs(pod, self._wanted):
                await self._resize(pod.name, self._wanted, began)

    async def _began(self) -> Cpu:
        return template_cpu(await self._api.get(path(DEPLOYMENTS, self._api.home, DEPLOYMENT)))

    async def _resize(self, name: str, cores: int, began: Cpu) -> None:
        found: Mapping[str, object] = await self._api.get(path(PODS, self._api.home, name))
        if not self._leads():
            raise CoresUnavailable("another instance leads")
        await self._api.replace(path(PODS, self._api.home, name, "resize"), resized(found, cores, began))
        _log.warning("router %s: %d cores asked for in place", name, cores)

    async def _until_there(self, cores: int) -> None:
        give_up_s = self._clock.now() + GROW_S
        while (there := self._pods.cores_there()) is not None and there < cores:
            if self._clock.now() >= give_up_s:
                raise CoresUnavailable(f"after {GROW_S:g} s there are {there}")
            await self._clock.sleep(LOOK_S)


def _differs(pod: RouterPod, cores: int) -> bool:
    """True if the pod should get `cores`; not while it waits for a node, which is easier to find for fewer."""
    return pod.placed and pod.cpu.limit not in (None, cores)
