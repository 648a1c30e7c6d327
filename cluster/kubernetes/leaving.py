"""A Deployment of ours that is declared no more: its pods are drained, then it is deleted."""

import asyncio
from typing import Any

from cluster.kubernetes.errors import ApiError, NotFound
from cluster.kubernetes.objects.labels import DRAINING
from cluster.kubernetes.paths import PODS, path
from cluster.kubernetes.scaled import Means
from cluster.kubernetes.shrinking import PodNow, pod_now
from cluster.provider import ProviderError
from serving.endpoint import VersionKey, WorkloadRef

Object = dict[str, Any]


class Leaving:
    """`settle` does what can be done now, and is called again until `is_over`."""

    def __init__(self, key: VersionKey, namespace: str, workload: WorkloadRef, drain_s: float, means: Means) -> None:
        """`drain_s`: how long pods may be busy still."""
        self.key = key
        self.namespace = namespace
        self.workload = workload
        self._api = means.api
        self._workloads = means.workloads
        self._outlook = means.outlook
        self._clock = means.clock
        self._ends_at = means.clock.now() + drain_s
        self._drained: set[str] = set()

    def drained(self, replica_id: str) -> None:
        """Nothing is in flight on this replica and nothing will be."""
        self._drained.add(replica_id)

    @property
    def is_over(self) -> bool:
        """It does not exist any more."""
        return self._workloads.find(self.namespace, self.workload) is None

    async def settle(self) -> None:
        """Withdraw every pod; delete the Deployment once nothing is in flight on any. Raises ProviderError."""
        if self.is_over:
            return
        await self._workloads.current(self.namespace, self.workload)
        pods = [now for pod in self._outlook.labelled(self.namespace, self.key) if (now := pod_now(pod)) is not None]
        await asyncio.gather(*(self._withdraw(pod) for pod in pods if pod.placed and not pod.draining))
        busy = [pod for pod in pods if pod.placed and pod.id not in self._drained]
        if not busy or self._clock.now() >= self._ends_at:
            await self._workloads.delete(self.namespace, self.workload)

    async def _withdraw(self, pod: PodNow) -> None:
        body = {"metadata": {"uid": pod.uid, "annotations": {DRAINING: "true"}}}
        try:
            found = await self._api.merge(path(PODS, self.namespace, pod.name), body)
        except NotFound:
            return
        except ApiError as error:
            raise ProviderError(f"cannot mark pod {self.namespace}/{pod.name}: {error}") from error
        self._outlook.saw(found)
