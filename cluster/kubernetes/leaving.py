"""A Deployment of ours that is declared no more: its pods are drained, then it is deleted."""

import asyncio

from cluster.kubernetes.marking import mark
from cluster.kubernetes.scaled import Means
from cluster.kubernetes.shrinking import GOING_COST, PodNow, pod_now
from serving.endpoint import VersionKey, WorkloadRef


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
        self._drained = means.drained

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
        found = await mark(self._api, self.namespace, pod, GOING_COST)
        if found is not None:
            self._outlook.saw(found)
