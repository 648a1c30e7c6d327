"""All watches of the leader. Secrets are not watched: a right to watch some is a right to read all."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.paths import BUDGETS, DEPLOYMENTS, ENDPOINTS, HPAS, PODS, STATEFULSETS, path
from cluster.kubernetes.client.reflector import Reflector
from cluster.kubernetes.client.watched import ResourceWatch
from cluster.kubernetes.slim_objects import pod_for_leader, workload_for_leader
from serving.clock import Clock

Object = dict[str, Any]

STALE_S = 10.0
"""Seconds without news from the API server, after which the cached state counts as stale and nothing is scaled down."""


class LeaderWatches:
    """Watches of `namespaces`; empty: of all namespaces."""

    def __init__(self, api: Api, namespaces: Sequence[str], clock: Clock, u: Callable[[], float]) -> None:
        places: Sequence[str | None] = tuple(namespaces) or (None,)

        def reflector(where: str, keep: Callable[[Object], Object]) -> Reflector:
            return Reflector(api, where, clock, u, keep=keep)

        self._clock = clock
        self.endpoints = ResourceWatch("scoringendpoints", [reflector(path(ENDPOINTS, each), _kept) for each in places])
        # All pods of the namespaces: those of adopted workloads have labels of their own.
        self.pods = ResourceWatch("pods", [reflector(path(PODS, each), pod_for_leader) for each in places])
        self.deployments = ResourceWatch(
            "deployments", [reflector(path(DEPLOYMENTS, each), workload_for_leader) for each in places]
        )
        self.statefulsets = ResourceWatch(
            "statefulsets", [reflector(path(STATEFULSETS, each), workload_for_leader) for each in places]
        )
        self.autoscalers = ResourceWatch(
            "horizontalpodautoscalers", [reflector(path(HPAS, each), _kept) for each in places]
        )
        self.budgets = ResourceWatch("poddisruptionbudgets", [reflector(path(BUDGETS, each), _kept) for each in places])
        """Nothing waits for them."""

    @property
    def _all(self) -> tuple[ResourceWatch, ...]:
        return (self.endpoints, self.pods, self.deployments, self.statefulsets, self.autoscalers)

    async def run(self) -> None:
        """Follow the API, for ever."""
        async with asyncio.TaskGroup() as tasks:
            for watched in (*self._all, self.budgets):
                tasks.create_task(watched.run(), name=f"follow {watched.what}")

    async def listed(self) -> None:
        """Return once everything that there was has been seen."""
        for watched in self._all:
            await watched.listed()

    def missing(self) -> str:
        """The reason for treating the cached state as stale; "" if it is current."""
        now = self._clock.now()
        for watched in (self.pods, self.deployments, self.statefulsets, self.autoscalers, self.endpoints):
            if (age_s := watched.age_s(now)) > STALE_S:
                return f"no news of {watched.what} from the API for {age_s:.0f} s"
        return ""

    def refused(self) -> str:
        """The error of a list or watch that the API server refuses; "" if it refuses none."""
        watches = (*self._all, self.budgets)
        return next((error for watched in watches if (error := watched.refused())), "")

    def waiting(self) -> list[str]:
        """The collections that have not been listed yet: `list pods: GET …: 403 Forbidden: …`."""
        return [
            f"list {watched.what}" + (f": {error}" if (error := watched.last_error()) else "")
            for watched in self._all
            if not watched.is_listed
        ]

    def age_s(self) -> float:
        """Seconds since the last news from the API server, of the watch with the oldest."""
        return max(watched.age_s(self._clock.now()) for watched in self._all)


def _kept(found: Object) -> Object:
    """Removes the fields that only the API server reads."""
    metadata = {name: value for name, value in found["metadata"].items() if name != "managedFields"}
    return {**found, "metadata": metadata}
