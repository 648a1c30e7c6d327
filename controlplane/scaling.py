"""What is declared, as the autoscaler sees it: reports come in, decisions come out and are carried out and recorded.

Which versions there are is the control plane's to say (`track`, `forget`); the registry tells whether one still is.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace

from autoscaler.policy import Decision, Observation, bounds
from autoscaler.scaling_loop import ScalingLoop
from autoscaler.utilization import UtilizationFeed
from cluster.provider import Provider
from controlplane.cluster_view import ClusterView
from controlplane.desired_counts import DesiredCounts
from controlplane.records import DecisionLog
from controlplane.registry import Registry, is_scaled
from controlplane.routers import RouterControl
from controlplane.scaler import Scaler
from serving.clock import Clock
from serving.endpoint import Endpoint, Version, VersionKey
from serving.usage import UsageReport


class Scaling:
    """One per control plane. `clock` is the event-loop clock, `wall` gives unix seconds."""

    def __init__(
        self,
        provider: Provider,
        routers: RouterControl,
        view: ClusterView,
        registry: Registry,
        save_desired: Callable[[Mapping[VersionKey, int]], Awaitable[None]],
        clock: Clock,
        wall: Callable[[], float],
        acted: Callable[[Decision], None],
    ) -> None:
        """`save_desired` keeps the wanted numbers; `acted` is told of every decision that the provider has taken."""
        self._registry = registry
        self._clock = clock
        self._wall = wall
        self._acted = acted
        self._feed = UtilizationFeed()
        self._wanted = DesiredCounts(save_desired, clock)
        self._decisions = DecisionLog()
        self._scaler = Scaler(provider, routers, view, registry, self._wanted, wall, self._note_acted)
        self._loop = ScalingLoop(self._feed, self._scaler, clock, wall, self._record)

    # ---- life

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Scale, for ever, in tasks of this group."""
        tasks.create_task(self._scaler.forward_drained(), name="stop drained replicas")
        tasks.create_task(self._loop.run(), name="scale replicas")
        tasks.create_task(self._wanted.run(), name="write wanted numbers")

    async def flush(self) -> None:
        """Have the wanted numbers kept. Raises StoreError."""
        await self._wanted.flush()

    # ---- what workers say

    def expect(self, workers: Collection[str]) -> None:
        """As long as one of these is silent, utilization is incomplete and lowers nothing."""
        self._feed.expect(workers)

    def take(self, report: UsageReport) -> None:
        """Take over a worker's counts; versions that found no free slot are decided on at once.

        Workers speak a little longer of what is no longer declared: nobody would ever forget that again.
        """
        known = tuple(usage for usage in report.versions if self._registry.version(usage.key) is not None)
        self._feed.apply(replace(report, versions=known), self._clock.now())
        for key in report.starved:
            version = self._registry.version(key)
            if version is not None and is_scaled(version):
                self._loop.poke(key)

    def drained(self, replica_id: str) -> None:
        """Nothing is in flight on this withdrawn replica, and nothing will be."""
        self._scaler.drained(replica_id)

    def forget_worker(self, worker: str) -> None:
        """It has ended."""
        self._feed.forget_worker(worker, self._clock.now())

    # ---- what is declared

    def load(self, wanted: Mapping[VersionKey, int]) -> None:
        """Start with the numbers that are kept."""
        self._wanted.load(wanted)

    def adopt_counts(self, replicas: Mapping[VersionKey, int]) -> None:
        """A version that is new here may run already: it begins with the number that it has."""
        for key, number in replicas.items():
            if self._wanted.get(key) is None:
                self._wanted.set(key, number)

    def track(self, endpoint: Endpoint) -> None:
        """Scale its versions as they are declared now."""
        for version in endpoint.versions:
            key = VersionKey(endpoint.name, version.name)
            if is_scaled(version):
                number = self._number(version, key)
                self._wanted.set(key, number)
                self._loop.track(key, version.autoscale, version.slots_per_replica, number)
            else:
                self.forget([version], endpoint.name)

    def forget(self, versions: Sequence[Version], endpoint: str) -> None:
        """These versions are scaled no more."""
        for version in versions:
            key = VersionKey(endpoint, version.name)
            self._loop.forget(key)
            self._wanted.forget(key)
            self._feed.forget_version(key)
            self._decisions.forget(key)

    def forget_wanted(self, endpoint: str) -> None:
        """Nothing of this endpoint, which was kept but never served, is wanted any more."""
        for key in [key for key in self._wanted.all() if key.endpoint == endpoint]:
            self._wanted.forget(key)

    # ---- questions

    def numbers(self, endpoint: Endpoint) -> dict[str, int]:
        """Version -> what the provider was last asked for, within the bounds declared now."""
        return {v.name: self._number(v, VersionKey(endpoint.name, v.name)) for v in endpoint.versions}

    def desired(self, version: Version, key: VersionKey) -> int:
        """What the autoscaler decided, whether or not the provider has taken it yet."""
        return self._loop.desired(key) if is_scaled(version) else len(version.replica.static)

    def observe(self, version: Version, key: VersionKey) -> Observation:
        """How busy the version is now."""
        return self._feed.observe(key, version.autoscale.refresh_period_s, self._clock.now())

    @property
    def decisions(self) -> DecisionLog:
        """What was decided, and why."""
        return self._decisions

    # ---- within

    def _number(self, version: Version, key: VersionKey) -> int:
        if not is_scaled(version):
            return len(version.replica.static)
        wanted = self._wanted.get(key)
        limits = bounds(version.autoscale, self._wall())
        return limits.low if wanted is None else limits.clamp(wanted)

    def _note_acted(self, decision: Decision) -> None:
        self._decisions.acted(decision, self._wall())
        self._acted(decision)

    def _record(self, decision: Decision) -> None:
        self._decisions.add(decision, self._wall() - (self._clock.now() - decision.at_s))
