"""Replicas as pods of Deployments and StatefulSets: `cluster.provider.Provider` for a cluster.

What was asked is remembered and seen to until it is so (`run`): a pod that drains for a minute, an API that is away, a
conflict that somebody resolves.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cluster.changes import Change, Upsert
from cluster.kubernetes.api import Api
from cluster.kubernetes.claims import Claims, is_leaving
from cluster.kubernetes.clock import Clock
from cluster.kubernetes.fence import Fence, Fenced
from cluster.kubernetes.finalizer import keep_finalizer
from cluster.kubernetes.labelselector import written
from cluster.kubernetes.leaving import Leaving
from cluster.kubernetes.objects.deployment import MADE, deployment, faults_of, workload_of
from cluster.kubernetes.objects.endpoint import owner_of, static_replicas
from cluster.kubernetes.objects.labels import key_of, selector
from cluster.kubernetes.outlook import Outlook
from cluster.kubernetes.podlogs import PodLogs
from cluster.kubernetes.pods import PodKind, Step
from cluster.kubernetes.reflector import Gone, Put
from cluster.kubernetes.scaled import Hindered, Means, Place, Scaled, Suspended
from cluster.kubernetes.selectors import SelectorError, parsed
from cluster.kubernetes.shrinking import pod_now
from cluster.kubernetes.sight import Sight
from cluster.kubernetes.workloads import FieldConflict, Workloads, is_rolling, number_of
from cluster.local.feed import Feed
from cluster.provider import ProviderError
from serving.endpoint import Endpoint, ReplicaKind, Version, VersionKey, WorkloadRef
from serving.faults import Fault

GATHER_S = 0.05
"""What happens within this time is answered by one write."""
SWEEP_EVERY_S = 5.0
"""What was hindered, or was changed by somebody else, is put right so often."""
AT_ONCE = 8
MAX_DRAINED = 10_000
"""Drained replicas that are remembered, the newest: more than there are to go at the same time."""

_log = logging.getLogger(__name__)


class Tell(Protocol):
    """Who makes Events of what people should know."""

    def __call__(self, endpoint: str, reason: str, note: str, warning: bool = False) -> None: ...


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """What a status tells of a version and only the provider knows."""

    selector: str
    updating: bool
    limited: str
    conflict: str


class KubernetesProvider:
    """Under one leadership. `claims` says which objects there are; `tell` makes Events."""

    def __init__(
        self,
        api: Api,
        sight: Sight,
        claims: Claims,
        fence: Fence,
        clock: Clock,
        tell: Tell,
        changed: Callable[[str], None],
        faults: Callable[[Endpoint], list[Fault]] = faults_of,
    ) -> None:
        """`changed` is called with the endpoint of which a replica or a workload has changed. `faults`: what of an
        endpoint this cluster cannot run, or may not.
        """
        self._api = api
        self._claims = claims
        self._fence = fence
        self._clock = clock
        self._tell = tell
        self._changed = changed
        self._faults = faults
        self._feed = Feed()
        self._outlook = Outlook(api, sight.pods, sight.autoscalers, clock, self._report)
        self._workloads = Workloads(api, fence, sight.deployments, sight.statefulsets)
        self._drained: dict[str, None] = {}
        """Kept whoever asks: routers may see that an endpoint goes, and be done with it, before it is seen here."""
        self._means = Means(api, self._workloads, self._outlook, clock, self._drained)
        self._logs = PodLogs(api, clock)
        self._scaled: dict[VersionKey, Scaled] = {}
        self._leaving: dict[tuple[str, str], Leaving] = {}
        """(namespace, Deployment)."""
        self._conflicts: dict[VersionKey, str] = {}
        """Versions with fields that belong to others."""
        self._templates: dict[tuple[str, str], object] = {}
        """(namespace, Deployment) -> what it declared, the number left out, when ours was applied last."""
        self._drifted: set[str] = set()
        self._complaints: dict[VersionKey, str] = {}
        self._dirty: set[VersionKey] = set()
        self._wake = asyncio.Event()
        sight.deployments.listen(self._deployment)
        sight.autoscalers.listen(self._autoscaler)

    # ---- cluster.provider.Provider

    def check(self, endpoint: Endpoint) -> list[Fault]:
        """What of the endpoint cannot run in this cluster, or may not."""
        return self._faults(endpoint)

    async def apply(self, endpoint: Endpoint, replicas: dict[str, int]) -> None:
        """Apply the Deployments of its versions, adopt what is to be adopted, and let the others go."""
        found = self._claims.holder(endpoint.name)
        if found is None or is_leaving(found):
            raise ProviderError(f"there is no ScoringEndpoint '{endpoint.name}' to own what would be made")
        self._fence.check()
        await keep_finalizer(self._api, self._claims, found)
        self._let_go_of_undeclared(endpoint, found)
        for replica in static_replicas(endpoint):
            self._feed.upsert(replica)
        troubles = []
        for version in endpoint.versions:
            try:
                await self._apply(endpoint, version, found, replicas[version.name])
            except Hindered as error:
                _log.info("%s/%s: %s", endpoint.name, version.name, error)
            except Fenced:
                raise
            except ProviderError as error:
                troubles.append(f"{version.name}: {error}")
        if troubles:
            raise ProviderError("; ".join(troubles))

    def recognize(self, endpoint: Endpoint) -> None:
        """Know the versions of an endpoint by what a leader before has left, before anything is written."""
        owner = self._claims.holder(endpoint.name)
        for replica in static_replicas(endpoint):
            self._feed.upsert(replica)
        for version in endpoint.versions if owner is not None else ():
            key, workload = VersionKey(endpoint.name, version.name), workload_of(endpoint.name, version)
            namespace = owner["metadata"]["namespace"] if owner else ""
            found = self._workloads.find(namespace, workload) if workload else None
            if workload is not None and found is not None:
                scaled = self._hold(key, version, Place(namespace, workload, _pods_of(key, version, found)))
                scaled.wanted = self.number(namespace, key, version)

    async def remove(self, endpoint: str) -> None:
        """Drain and delete every Deployment of the endpoint; what was adopted is left as it is."""
        self._forget_static(endpoint, keep=())
        for key in [key for key in self._scaled if key.endpoint == endpoint]:
            self._let_go(key)
        found = self._claims.holder(endpoint)
        if found is not None:
            self._find_strays(endpoint, found, declared=())

    async def scale(self, key: VersionKey, replicas: int, victims: Collection[str] = ()) -> None:
        """Have this many replicas that serve."""
        scaled = self._scaled.get(key)
        if scaled is None:
            raise ProviderError(f"{key} has no workload yet")
        if told := scaled.suspended():
            raise Suspended(told)  # nor is it remembered: by the time that it may be set, another number is right
        await scaled.scale(replicas, victims)
        self._touch(key)

    async def drained(self, replica_id: str) -> None:
        """Nothing is in flight on this replica and nothing will be."""
        self._drained[replica_id] = None
        while len(self._drained) > MAX_DRAINED:
            del self._drained[next(iter(self._drained))]
        for leaving in self._leaving.values():
            self._touch(leaving.key)
        self._touch(self._outlook.key_of(replica_id))

    async def hindrance(self, key: VersionKey, fewer: bool) -> str:
        """Why the number of a version cannot be changed now; "" if it can."""
        scaled = self._scaled.get(key)
        return "" if scaled is None else await scaled.hindrance(fewer)

    def watch(self) -> AsyncIterator[Change]:
        """First a Reset with what is known, then every change, for ever."""
        return self._feed.watch()

    async def logs(self, key: VersionKey, tail: int) -> dict[str, list[str]]:
        """Replica id -> its last lines."""
        return await self._logs.tail(self._outlook.pods_of(key), tail)

    def follow_logs(self, key: VersionKey) -> AsyncIterator[tuple[str, str]]:
        """(replica id, line) as they are written, from now on, for ever."""
        return self._logs.follow(lambda: self._outlook.pods_of(key))

    # ---- what else is known here

    def suspended(self, key: VersionKey) -> str:
        """Who else sets the number of this version, so that it is not scaled; "" if nobody does."""
        scaled = self._scaled.get(key)
        return scaled.suspended() if scaled else ""

    def facts(self, key: VersionKey) -> VersionFacts:
        """What a status tells of a version."""
        scaled = self._scaled.get(key)
        if scaled is None:
            return VersionFacts(selector(key), False, "", "")
        found = self._workloads.find(scaled.place.namespace, scaled.place.workload)
        updating = found is not None and is_rolling(found)
        return VersionFacts(scaled.place.pods, updating, scaled.limited(), scaled.suspended())

    def conflicts(self, endpoint: str) -> str:
        """Fields of its workloads that belong to others; "" if none do."""
        return "; ".join(f"{key.version}: {told}" for key, told in self._conflicts.items() if key.endpoint == endpoint)

    def is_gone(self, endpoint: str) -> bool:
        """Nothing of it is left to be drained or deleted."""
        return not any(leaving.key.endpoint == endpoint for leaving in self._leaving.values())

    def number(self, namespace: str, key: VersionKey, version: Version) -> int | None:
        """How many replicas it was last asked for; None: it has no workload yet."""
        workload = workload_of(key.endpoint, version)
        found = self._workloads.find(namespace, workload) if workload else None
        if found is None:
            return None
        pods = self._outlook.labelled(namespace, key)
        if version.replica.kind not in MADE:
            pods = self._outlook.selected(namespace, written(found["spec"].get("selector") or {}))
        going = sum(now.draining for pod in pods if (now := pod_now(pod)) is not None)
        return max(0, number_of(found) - going)

    def drifted(self) -> set[str]:
        """Endpoints of which somebody has changed or deleted a Deployment; told once."""
        drifted, self._drifted = self._drifted, set()
        return drifted

    def strange_departures(self) -> int:
        """Pods that stayed although they should have gone, because others went in their place."""
        return sum(scaled.strange_departures for scaled in self._scaled.values())

    # ---- what goes on

    async def run(self) -> None:
        """See to it that what was asked comes about, for ever."""
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
            self._dirty |= {leaving.key for leaving in self._leaving.values()}
            if self._dirty:
                self._wake.set()

    async def _settle_all(self, keys: set[VersionKey]) -> None:
        gate = asyncio.Semaphore(AT_ONCE)

        async def settle(each: Scaled | Leaving) -> None:
            async with gate:
                try:
                    await each.settle()
                except ProviderError as error:
                    self._complain(each.key, error)
                else:
                    self._complaints.pop(each.key, None)

        known = [self._scaled[key] for key in keys if key in self._scaled]
        scaled = [each for each in known if not each.is_settled()]
        leaving = [each for each in self._leaving.values() if each.key in keys]
        everything: list[Scaled | Leaving] = [*scaled, *leaving]
        await asyncio.gather(*(settle(each) for each in everything))
        for place in [place for place, each in self._leaving.items() if each.is_over]:
            self._end(self._leaving.pop(place))

    def _complain(self, key: VersionKey, error: ProviderError) -> None:
        """Once, for what is tried again every few seconds."""
        if self._complaints.get(key) != str(error):
            self._complaints[key] = str(error)
            _log.log(logging.INFO if isinstance(error, Hindered) else logging.WARNING, "%s: %s", key, error)

    def _end(self, leaving: Leaving) -> None:
        if leaving.key not in self._scaled:
            self._outlook.forget(leaving.key)

    def _touch(self, key: VersionKey | None) -> None:
        if key is not None:
            self._dirty.add(key)
            self._wake.set()

    def _report(self, steps: list[Step]) -> None:
        for step in steps:
            if isinstance(step, Upsert):
                self._feed.upsert(step.replica)
                self._touch_if_moving(step.replica.key)
                self._changed(step.replica.endpoint)
            else:
                self._feed.remove(step.replica_id)

    def _deployment(self, change: Put | Gone) -> None:
        metadata = change.object["metadata"]
        key, place = key_of(metadata), (metadata["namespace"], metadata["name"])
        if key is None:
            return
        self._touch(key)
        self._changed(key.endpoint)
        known = self._templates.get(place)
        if known is not None and (isinstance(change, Gone) or known != _template_of(change.object)):
            self._drifted.add(key.endpoint)

    def _autoscaler(self, change: Put | Gone) -> None:
        target = ((change.object.get("spec") or {}).get("scaleTargetRef") or {}).get("name")
        for key, scaled in self._scaled.items():
            if scaled.place.workload.name == target:
                self._touch(key)
                self._changed(key.endpoint)

    def _touch_if_moving(self, key: VersionKey) -> None:
        scaled = self._scaled.get(key)
        if scaled is not None and not scaled.is_settled():
            self._touch(key)

    # ---- versions

    async def _apply(self, endpoint: Endpoint, version: Version, owner: Mapping[str, Any], number: int) -> None:
        key = VersionKey(endpoint.name, version.name)
        workload = workload_of(endpoint.name, version)
        if workload is None:
            return
        namespace = owner["metadata"]["namespace"]
        self._leaving.pop((namespace, workload.name), None)
        if version.replica.kind in MADE:
            await self._make(endpoint.name, version, owner, workload)
        found = await self._workloads.current(namespace, workload)
        scaled = self._hold(key, version, Place(namespace, workload, _pods_of(key, version, found)))
        await scaled.scale(number, ())

    async def _make(self, endpoint: str, version: Version, owner: Mapping[str, Any], workload: WorkloadRef) -> None:
        key, namespace = VersionKey(endpoint, version.name), owner["metadata"]["namespace"]
        is_new = self._workloads.find(namespace, workload) is None
        try:
            # The fence is no part of it: it is put on also where this is refused.
            body = deployment(endpoint, namespace, version, owner_of(owner))
            await self._workloads.apply(namespace, workload, body)
        except FieldConflict as error:
            self._conflicts[key] = str(error)
            is_new = False
        else:
            self._conflicts.pop(key, None)
        if (found := self._workloads.find(namespace, workload)) is not None:
            self._templates[namespace, workload.name] = _template_of(found)
        if is_new:
            self._tell(endpoint, "Created", f"made Deployment {workload.name} for version {version.name}")

    def _hold(self, key: VersionKey, version: Version, place: Place) -> Scaled:
        known = self._scaled.get(key)
        if known is None or known.place != place:
            known = Scaled(key, version, place, self._means)
            self._scaled[key] = known
        known.version = version
        chosen = None
        if version.replica.kind is ReplicaKind.WORKLOAD_REF:
            try:
                chosen = parsed(place.pods)
            except SelectorError as error:
                raise ProviderError(f"{place.workload.kind} {place.workload.name}: {error}") from error
        self._outlook.declare(key, PodKind(place.namespace, version.replica.port, version.slots_per_replica, chosen))
        return known

    def _let_go_of_undeclared(self, endpoint: Endpoint, owner: Mapping[str, Any]) -> None:
        workloads = {v.name: workload_of(endpoint.name, v) for v in endpoint.versions}
        for key in [key for key in self._scaled if key.endpoint == endpoint.name]:
            if workloads.get(key.version) != self._scaled[key].place.workload:
                self._let_go(key)
        self._find_strays(endpoint.name, owner, [each.name for each in workloads.values() if each is not None])
        self._forget_static(endpoint.name, keep={replica.id for replica in static_replicas(endpoint)})

    def _let_go(self, key: VersionKey) -> None:
        scaled = self._scaled.pop(key)
        self._conflicts.pop(key, None)
        self._complaints.pop(key, None)
        if scaled.version.replica.kind in MADE:
            self._leave(key, scaled.place.namespace, scaled.place.workload, scaled.version.scoring_timeout_s)
        else:
            self._outlook.forget(key)

    def _find_strays(self, endpoint: str, owner: Mapping[str, Any], declared: Collection[str]) -> None:
        """Deployments that a leader before us made, and nobody declares any more."""
        for found in self._workloads.deployments():
            metadata = found["metadata"]
            key = key_of(metadata)
            if key is None or key.endpoint != endpoint or metadata["name"] in declared:
                continue
            if any(each.get("uid") == owner["metadata"]["uid"] for each in metadata.get("ownerReferences") or ()):
                drain_s = float(found["spec"]["template"]["spec"].get("terminationGracePeriodSeconds") or 0)
                self._leave(key, metadata["namespace"], WorkloadRef("Deployment", metadata["name"]), drain_s)

    def _leave(self, key: VersionKey, namespace: str, workload: WorkloadRef, drain_s: float) -> None:
        self._templates.pop((namespace, workload.name), None)
        if (namespace, workload.name) not in self._leaving:
            self._leaving[namespace, workload.name] = Leaving(key, namespace, workload, drain_s, self._means)
        self._touch(key)

    def _forget_static(self, endpoint: str, keep: Collection[str]) -> None:
        for replica in self._feed.replicas:
            if replica.endpoint == endpoint and replica.id.startswith(f"{replica.key}/") and replica.id not in keep:
                self._feed.remove(replica.id)


def _pods_of(key: VersionKey, version: Version, workload: Mapping[str, Any]) -> str:
    """The label selector of a version's pods."""
    return selector(key) if version.replica.kind in MADE else written(workload["spec"].get("selector") or {})


def _template_of(deployment: Mapping[str, Any]) -> object:
    """What it declares, but for the number."""
    return {name: value for name, value in deployment["spec"].items() if name != "replicas"}
