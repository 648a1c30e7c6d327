"""Scaling of declared versions: receives reports of workers, runs the autoscaler, records its decisions.

`EndpointChanges` determines the scaled versions (`track`, `forget`); `ScalingExecutor` executes the decisions.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace

from autoscaler.input_log import WhatIf, what_if
from autoscaler.policy import Decision, Observation, bounds
from autoscaler.scaling_loop import ScalingLoop
from autoscaler.utilization import UtilizationFeed
from cluster.provider import Provider
from controlplane.cluster_view import ClusterView
from controlplane.desired_counts import DesiredCounts
from controlplane.records import DecisionLog
from controlplane.registry import Registry, is_scaled
from controlplane.routers import ReplicaRetirer
from controlplane.scaling_executor import ScalingExecutor
from serving.clock import Clock
from serving.endpoint import AutoscalePolicy, Endpoint, Version, VersionKey
from serving.usage import UsageReport


class ReplicaScaling:
    """Scales the versions of one control plane. Implements `cluster.router_reports.RouterReports`."""

    def __init__(
        self,
        provider: Provider,
        retirer: ReplicaRetirer,
        view: ClusterView,
        registry: Registry,
        save_desired: Callable[[Mapping[VersionKey, int]], Awaitable[None]],
        clock: Clock,
        wall: Callable[[], float],
        acted: Callable[[Decision], None],
    ) -> None:
        """Scaling without versions.

        provider: runs the replicas.
        retirer: retires replicas in the routers.
        view: the observed replicas.
        registry: the declared endpoints.
        save_desired: stores the desired replicas; raises StoreError.
        clock: event-loop clock.
        wall: unix seconds.
        acted: called with every decision that the provider has accepted.
        """
        self._registry = registry
        self._clock = clock
        self._wall = wall
        self._acted = acted
        self._feed = UtilizationFeed()
        self._desired = DesiredCounts(save_desired, clock)
        self.decisions = DecisionLog()
        view.suspects = self._feed.suspects
        self._executor = ScalingExecutor(
            provider, retirer, view, registry, self._desired, wall, self._note_acted, self.decisions.refused
        )
        self._loop = ScalingLoop(self._feed, self._executor, clock, wall, self._record, view.facts)

    # ---- life cycle

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Scale in tasks of this group, until cancelled."""
        tasks.create_task(self._executor.run(), name="stop drained replicas")
        tasks.create_task(self._loop.run(), name="scale replicas")
        tasks.create_task(self._desired.run(), name="store desired replicas")

    async def flush(self) -> None:
        """Store the desired replicas now. Raises StoreError."""
        await self._desired.flush()

    # ---- RouterReports

    def workers_expected(self, workers: Collection[str]) -> None:
        """Expect reports of these workers; while one is missing, utilization is incomplete and lowers nothing."""
        self._feed.expect(workers)

    def usage_reported(self, report: UsageReport) -> None:
        """Record the counts of a worker; starved versions are decided at once.

        Removed versions, still reported for a short time, are ignored, because they would never be forgotten.
        """
        known = tuple(usage for usage in report.versions if self._registry.version(usage.key) is not None)
        self._feed.apply(replace(report, versions=known), self._clock.now())
        for key in report.starved:
            version = self._registry.version(key)
            if version is not None and is_scaled(version):
                self._loop.poke(key)

    def replica_drained(self, replica_id: str) -> None:
        """Stop a retired replica without requests in flight."""
        self._executor.replica_drained(replica_id)

    def worker_ended(self, worker: str) -> None:
        """Forget the counts of a worker."""
        self._feed.forget_worker(worker, self._clock.now())

    # ---- declared versions

    def load(self, desired: Mapping[VersionKey, int]) -> None:
        """Use the stored numbers."""
        self._desired.load(desired)

    def adopt_counts(self, replicas: Mapping[VersionKey, int]) -> None:
        """Use the current number of replicas of versions without a desired number."""
        for key, number in replicas.items():
            if self._desired.get(key) is None:
                self._desired.set(key, number)

    def adopt(self, key: VersionKey, number: int, writer: str) -> None:
        """Continue from the number of replicas that another client, `writer`, has set."""
        version = self._registry.version(key)
        if version is not None and is_scaled(version):
            self._desired.set(key, bounds(version.autoscale, self._wall()).clamp(number))
            self._loop.adopt(key, number, writer)

    def track(self, endpoint: Endpoint) -> None:
        """Scale the versions of an endpoint as declared now."""
        for version in endpoint.versions:
            key = VersionKey(endpoint.name, version.name)
            if is_scaled(version):
                number = self._number(version, key)
                self._desired.set(key, number)
                self._loop.track(key, version.autoscale, version.slots_per_replica, number)
            else:
                self.forget([version], endpoint.name)

    def forget(self, versions: Sequence[Version], endpoint: str) -> None:
        """Stop scaling these versions."""
        for version in versions:
            key = VersionKey(endpoint, version.name)
            self._loop.forget(key)
            self._desired.forget(key)
            self._feed.forget_version(key)
            self.decisions.forget(key)

    def forget_endpoint(self, endpoint: str) -> None:
        """Drop the desired numbers of a skipped endpoint."""
        for key in [key for key in self._desired.all() if key.endpoint == endpoint]:
            self._desired.forget(key)

    # ---- queries

    def numbers(self, endpoint: Endpoint) -> dict[str, int]:
        """Version -> last accepted number of replicas, within the bounds declared now."""
        return {v.name: self._number(v, VersionKey(endpoint.name, v.name)) for v in endpoint.versions}

    def desired(self, version: Version, key: VersionKey) -> int:
        """Desired replicas by the last decision, accepted by the provider or not."""
        return self._loop.desired(key) if is_scaled(version) else len(version.replica.static)

    def observe(self, version: Version, key: VersionKey) -> Observation:
        """Current usage of the version."""
        return self._feed.observe(key, version.autoscale.refresh_period_s, self._clock.now())

    def what_if(self, version: Version, key: VersionKey, policy: AutoscalePolicy) -> WhatIf | None:
        """The inputs of the last hour replayed through another policy; None without any. Times are unix seconds.

        version: as declared.
        key: of the version.
        policy: the other policy.
        """
        inputs = self._loop.inputs.of(key)
        if not inputs:
            return None
        found = what_if(key, policy, version.slots_per_replica, inputs, self._clock.now())
        return found.shifted(self._wall() - self._clock.now())

    def busy_replicas(self, key: VersionKey) -> Collection[str] | None:
        """Ids of the replicas with a request in flight; None while a worker does not report."""
        version = self._registry.version(key)
        if version is None or not self.observe(version, key).complete:
            return None
        return self._feed.busy_by_replica(key).keys()

    # ---- internals

    def _number(self, version: Version, key: VersionKey) -> int:
        if not is_scaled(version):
            return len(version.replica.static)
        desired = self._desired.get(key)
        limits = bounds(version.autoscale, self._wall())
        return limits.low if desired is None else limits.clamp(desired)

    def _note_acted(self, decision: Decision) -> None:
        self.decisions.acted(decision, self._wall())
        self._acted(decision)

    def _record(self, decision: Decision) -> None:
        self.decisions.add(decision, self._wall() - (self._clock.now() - decision.at_s))
