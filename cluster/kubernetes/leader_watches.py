"""Everything that the leader watches in the API. Secrets are not: to watch some is to be allowed to read all."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.paths import DEPLOYMENTS, ENDPOINTS, HPAS, PODS, STATEFULSETS, path
from cluster.kubernetes.client.reflector import Reflector
from cluster.kubernetes.client.watched import ResourceWatch
from cluster.kubernetes.slim_objects import pod_for_leader
from serving.clock import Clock

Object = dict[str, Any]

STALE_S = 10.0
"""The API not heard for so long: what is known may be past, so nothing is given back."""


class LeaderWatches:
    """Over `namespaces`; empty: over all there are."""

    def __init__(self, api: Api, namespaces: Sequence[str], clock: Clock, u: Callable[[], float]) -> None:
        places: Sequence[str | None] = tuple(namespaces) or (None,)

        def reflector(where: str, keep: Callable[[Object], Object]) -> Reflector:
            return Reflector(api, where, clock, u, keep=keep)

        self._clock = clock
        self.endpoints = ResourceWatch("endpoints", [reflector(path(ENDPOINTS, each), _kept) for each in places])
        # All pods of the namespaces: those of adopted workloads have labels of their own.
        self.pods = ResourceWatch("pods", [reflector(path(PODS, each), pod_for_leader) for each in places])
        self.deployments = ResourceWatch("deployments", [reflector(path(DEPLOYMENTS, each), _kept) for each in places])
        self.statefulsets = ResourceWatch(
            "stateful sets", [reflector(path(STATEFULSETS, each), _kept) for each in places]
        )
        self.autoscalers = ResourceWatch("autoscalers", [reflector(path(HPAS, each), _kept) for each in places])

    @property
    def _all(self) -> tuple[ResourceWatch, ...]:
        return (self.endpoints, self.pods, self.deployments, self.statefulsets, self.autoscalers)

    async def run(self) -> None:
        """Follow the API, for ever."""
        async with asyncio.TaskGroup() as tasks:
            for watched in self._all:
                tasks.create_task(watched.run(), name=f"follow {watched.what}")

    async def listed(self) -> None:
        """Return once everything that there was has been seen."""
        for watched in self._all:
            await watched.listed()

    def missing(self) -> str:
        """What is not known for sure now, so that nothing may be given back; "" if everything is."""
        now = self._clock.now()
        for watched in (self.pods, self.deployments, self.statefulsets, self.autoscalers, self.endpoints):
            if (age_s := watched.age_s(now)) > STALE_S:
                return f"the API has not been heard about {watched.what} for {age_s:.0f} s"
        return ""

    def age_s(self) -> float:
        """Since the API was last heard, where it has been silent for longest."""
        return max(watched.age_s(self._clock.now()) for watched in self._all)


def _kept(found: Object) -> Object:
    """Without what only the API server reads."""
    metadata = {name: value for name, value in found["metadata"].items() if name != "managedFields"}
    return {**found, "metadata": metadata}
