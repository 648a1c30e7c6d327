"""The loop that brings workloads to their wanted state: soon after a change, and every few seconds."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from cluster.kubernetes.fence import FORGED
from cluster.kubernetes.ownership import NotWritable, WorkloadClaim
from cluster.kubernetes.scaled_version import RetryLater, ScaledVersion
from cluster.kubernetes.version_problems import VersionProblems
from cluster.kubernetes.workload_removal import WorkloadRemoval, WorkloadRemovals
from cluster.provider import ProviderError
from serving.clock import Clock
from serving.endpoint import VersionKey

GATHER_S = 0.05
"""Changes within this time are handled together."""
SWEEP_EVERY_S = 5.0
"""Interval for retrying versions that are not in their wanted state."""
AT_ONCE = 8

_log = logging.getLogger(__name__)


class WorkloadReconciler:
    """Over the versions in `scaled` and the removals, both kept by the provider."""

    def __init__(
        self,
        scaled: Mapping[VersionKey, ScaledVersion],
        removals: WorkloadRemovals,
        problems: VersionProblems,
        clock: Clock,
        withhold: Callable[[VersionKey, NotWritable], None],
        ended: Callable[[WorkloadClaim], None],
    ) -> None:
        """`withhold` is called with a version that must not be written, `ended` with the claim of a finished
        removal.
        """
        self._scaled = scaled
        self._removals = removals
        self._problems = problems
        self._clock = clock
        self._withhold = withhold
        self._ended = ended
        self._dirty: set[VersionKey] = set()
        self._wake = asyncio.Event()

    def touch(self, key: VersionKey | None) -> None:
        """Reconcile a version soon; None is ignored."""
        if key is not None:
            self._dirty.add(key)
            self._wake.set()

    def touch_if_unsettled(self, key: VersionKey) -> None:
        """Reconcile a version soon if it is not in its wanted state."""
        scaled = self._scaled.get(key)
        if scaled is not None and not scaled.is_settled():
            self.touch(key)

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sweep(), name="look after workloads")
            while True:
                await self._wake.wait()
                await self._clock.sleep(GATHER_S)
                self._wake.clear()
                dirty, self._dirty = self._dirty, set()
                await self._settle_all(dirty)

    async def _sweep(self) -> None:
        while True:
            await self._clock.sleep(SWEEP_EVERY_S)
            self._dirty |= {key for key, scaled in self._scaled.items() if not scaled.is_settled()}
            self._dirty |= {removal.claim.key for removal in self._removals.all()}
            if self._dirty:
                self._wake.set()

    async def _settle_all(self, keys: set[VersionKey]) -> None:
        gate = asyncio.Semaphore(AT_ONCE)

        async def settle(key: VersionKey, each: ScaledVersion | WorkloadRemoval) -> None:
            async with gate:
                try:
                    await each.settle()
                except ProviderError as error:
                    if self._problems.failed(key, error, self._clock.now()):
                        level = logging.INFO if isinstance(error, RetryLater) else logging.WARNING
                        _log.log(level, "%s: %s", key, error)
                    if isinstance(error, NotWritable) and (isinstance(each, ScaledVersion) or error.reason == FORGED):
                        self._withhold(key, error)
                else:
                    self._problems.settled(key)

        scaled = [(key, self._scaled[key]) for key in keys if key in self._scaled]
        now = self._clock.now()
        waiting = [
            settle(key, each) for key, each in scaled if not each.is_settled() and self._problems.is_due(key, now)
        ]
        removing = [settle(each.claim.key, each) for each in self._removals.all() if each.claim.key in keys]
        await asyncio.gather(*waiting, *removing)
        for claim in self._removals.take_ended():
            self._ended(claim)
