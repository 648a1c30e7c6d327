"""Removal of workloads: Deployments that scorefront made are drained and deleted, adopted workloads are released."""

import asyncio
from typing import Protocol

from cluster.kubernetes.drain_mark import mark
from cluster.kubernetes.ownership import WorkloadClaim, may_release
from cluster.kubernetes.scaled_version import ScalingContext
from cluster.kubernetes.shrinking import DRAINING_COST, PodNow, pods_now


class WorkloadRemoval(Protocol):
    """A removal; `settle` takes the next step and is called until `is_over`."""

    @property
    def claim(self) -> WorkloadClaim:
        """The workload to remove, and its version."""

    @property
    def is_over(self) -> bool:
        """Nothing is left to be done."""

    async def settle(self) -> None:
        """Raises ProviderError."""


class DrainingDeployment:
    """A Deployment that was made here."""

    def __init__(self, claim: WorkloadClaim, drain_s: float, context: ScalingContext) -> None:
        """`drain_s`: longest time in seconds for requests in flight."""
        self.claim = claim
        self._api = context.api
        self._workloads = context.workloads
        self._pod_cache = context.pod_cache
        self._clock = context.clock
        self._ends_at = context.clock.now() + drain_s
        self._drained = context.drained

    @property
    def is_over(self) -> bool:
        """True if the Deployment does not exist, or the one under its name is not ours."""
        return self._workloads.of(self.claim) is None

    async def settle(self) -> None:
        """Retire every pod; delete the Deployment once nothing is in flight on any. Raises ProviderError."""
        if self.is_over:
            return
        found = await self._workloads.current(self.claim)
        labelled = self._pod_cache.labelled(self.claim.namespace, self.claim.key)
        pods = pods_now(labelled, found)
        staying = [pod for pod in pods if pod.placed and not pod.draining]
        if staying:
            found = await self._workloads.confirm(self.claim)
            staying = [pod for pod in pods_now(labelled, found) if pod.placed and not pod.draining]
        await asyncio.gather(*(self._retire(pod) for pod in staying))
        busy = [pod for pod in pods if pod.placed and pod.id not in self._drained]
        if not busy or self._clock.now() >= self._ends_at:
            await self._workloads.delete(self.claim)

    async def _retire(self, pod: PodNow) -> None:
        found = await mark(self._api, self.claim.namespace, pod, DRAINING_COST)
        if found is not None:
            self._pod_cache.saw(found)


class ClaimRelease:
    """A workload that was adopted: it stays as it is."""

    def __init__(self, claim: WorkloadClaim, context: ScalingContext) -> None:
        self.claim = claim
        self._workloads = context.workloads

    @property
    def is_over(self) -> bool:
        """True if our claim is not on it, or it does not exist."""
        return not may_release(self._workloads.find(self.claim.namespace, self.claim.workload), self.claim)

    async def settle(self) -> None:
        """Take the claim off. Raises ProviderError."""
        await self._workloads.release(self.claim)


class WorkloadRemovals:
    """All removals that are not over."""

    def __init__(self, context: ScalingContext) -> None:
        self._context = context
        self._all: list[WorkloadRemoval] = []

    def leave(self, claim: WorkloadClaim, drain_s: float) -> None:
        """Drain and delete a Deployment; `drain_s`: longest time in seconds for requests in flight."""
        if not self._has(claim):
            self._all.append(DrainingDeployment(claim, drain_s, self._context))

    def release(self, claim: WorkloadClaim) -> None:
        """Take the claim off an adopted workload."""
        if not self._has(claim):
            self._all.append(ClaimRelease(claim, self._context))

    def cancel(self, claim: WorkloadClaim) -> None:
        """The workload is held again."""
        self._all = [each for each in self._all if not each.claim.same_hold(claim)]

    def all(self) -> tuple[WorkloadRemoval, ...]:
        """Those that have begun."""
        return tuple(self._all)

    def take_ended(self) -> list[WorkloadClaim]:
        """The claims of those that are over; they are forgotten."""
        ended = [each.claim for each in self._all if each.is_over]
        self._all = [each for each in self._all if each.claim not in ended]
        return ended

    def is_gone(self, endpoint: str) -> bool:
        """True if no workload of an endpoint is left to drain, delete or release."""
        return not any(each.claim.key.endpoint == endpoint for each in self._all)

    def _has(self, claim: WorkloadClaim) -> bool:
        return any(each.claim.same_hold(claim) for each in self._all)
