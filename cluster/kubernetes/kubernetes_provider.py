"""Replicas as pods of Deployments and StatefulSets: `cluster.provider.Provider` for a cluster.

What was asked is remembered and seen to until it is so (`run`): a pod that drains for a minute, an API that is away, a
conflict that somebody resolves.
"""

import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cluster.changes import Change, Upsert
from cluster.feed import Feed
from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.labelselector import written
from cluster.kubernetes.client.reflector import ObjectGone, ObjectPut
from cluster.kubernetes.client.selectors import SelectorError
from cluster.kubernetes.cluster_index import Step, rule_of
from cluster.kubernetes.endpoint_objects import EndpointObjects, is_leaving
from cluster.kubernetes.fence import FORGED, Fence, Fenced
from cluster.kubernetes.finalizer import add_finalizer
from cluster.kubernetes.leader_watches import LeaderWatches
from cluster.kubernetes.objects.deployment import deployment, faults_of
from cluster.kubernetes.objects.labels import key_of, selector
from cluster.kubernetes.objects.scoring_endpoint import static_replicas
from cluster.kubernetes.ownership import CLAIMED, NotWritable, WorkloadClaim, check, claim_of, held_by
from cluster.kubernetes.pod_cache import PodCache
from cluster.kubernetes.pod_logs import PodLogs
from cluster.kubernetes.scaled_version import ClaimedWorkload, RetryLater, ScaledByOther, ScaledVersion, ScalingContext
from cluster.kubernetes.shrinking import pods_now
from cluster.kubernetes.version_problems import VersionProblems
from cluster.kubernetes.workload_reconciler import WorkloadReconciler
from cluster.kubernetes.workload_removal import WorkloadRemovals
from cluster.kubernetes.workloads import FieldConflict, Workloads, is_rolling, number_of
from cluster.provider import ProviderError
from serving.clock import Clock
from serving.endpoint import Endpoint, Version, VersionKey, WorkloadRef
from serving.faults import Fault

MAX_DRAINED = 10_000
"""Drained replicas that are remembered, the newest: more than there are to go at the same time."""

_log = logging.getLogger(__name__)


class RecordEvent(Protocol):
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
    """Under one leadership. `objects` says which objects there are; `tell` makes Events."""

    def __init__(
        self,
        api: Api,
        sight: LeaderWatches,
        objects: EndpointObjects,
        fence: Fence,
        clock: Clock,
        tell: RecordEvent,
        changed: Callable[[str], None],
        faults: Callable[[Endpoint], list[Fault]] = faults_of,
    ) -> None:
        """`changed` is called with the endpoint of which a replica or a workload has changed. `faults`: what of an
        endpoint this cluster cannot run, or may not.
        """
        self._api = api
        self._objects = objects
        self._fence = fence
        self._clock = clock
        self._tell = tell
        self._changed = changed
        self._faults = faults
        self._feed = Feed()
        self._pod_cache = PodCache(api, sight.pods, sight.autoscalers, clock, self._report)
        self._workloads = Workloads(api, fence, sight.deployments, sight.statefulsets)
        self._drained: dict[str, None] = {}
        """Kept whoever asks: routers may see that an endpoint goes, and be done with it, before it is seen here."""
        self._context = ScalingContext(api, self._workloads, self._pod_cache, clock, self._drained)
        self._logs = PodLogs(api, clock)
        self._scaled: dict[VersionKey, ScaledVersion] = {}
        self._removals = WorkloadRemovals(self._context)
        self._templates: dict[tuple[str, str, str], object] = {}
        """(kind, namespace, name) -> what it declared, the number left out, when ours was applied last."""
        self._drifted: set[str] = set()
        self._problems = VersionProblems()
        self._reconciler = WorkloadReconciler(
            self._scaled, self._removals, self._problems, clock, self._withhold, self._end
        )
        sight.deployments.listen(self._deployment)
        sight.autoscalers.listen(self._autoscaler)

    # ---- cluster.provider.Provider

    def check(self, endpoint: Endpoint) -> list[Fault]:
        """What of the endpoint cannot run in this cluster, or may not."""
        return self._faults(endpoint)

    async def apply(self, endpoint: Endpoint, replicas: dict[str, int]) -> None:
        """Apply the Deployments of its versions, adopt what is to be adopted, and let the others go."""
        found = self._objects.owner(endpoint.name)
        if found is None or is_leaving(found):
            raise ProviderError(f"there is no ScoringEndpoint '{endpoint.name}' to own what would be made")
        self._fence.check()
        await add_finalizer(self._api, self._objects, found)
        self._let_go_of_undeclared(endpoint, found)
        for replica in static_replicas(endpoint):
            self._feed.upsert(replica)
        troubles = []
        for version in endpoint.versions:
            key = VersionKey(endpoint.name, version.name)
            try:
                await self._apply(endpoint, version, found, replicas[version.name])
            except RetryLater as error:
                _log.info("%s: %s", key, error)
            except Fenced:
                raise
            except ProviderError as error:
                troubles.append(f"{version.name}: {error}")
                if isinstance(error, NotWritable):
                    self._withhold(key, error)
                    continue
            self._problems.writable(key)
        if troubles:
            raise ProviderError("; ".join(troubles))

    def recognize(self, endpoint: Endpoint) -> None:
        """Know the versions of an endpoint by what a leader before has left, before anything is written."""
        for replica in static_replicas(endpoint):
            self._feed.upsert(replica)
        for version in endpoint.versions:
            claim = claim_of(endpoint.name, version, self._objects.owner(endpoint.name))
            found = self._workloads.find(claim.namespace, claim.workload) if claim else None
            if claim is None or found is None:
                continue
            try:
                self._check(found, claim)
                scaled = self._hold(version, ClaimedWorkload(claim, _pods_of(claim, found)))
                scaled.wanted = self.number(claim.key, version)
            except NotWritable as error:
                self._withhold(claim.key, error)
            except ProviderError as error:
                _log.warning("%s: %s", claim.key, error)

    async def remove(self, endpoint: str) -> None:
        """Drain and delete every Deployment of the endpoint; what was adopted is left as it is."""
        self._forget_static(endpoint, keep=())
        for key in [key for key in self._scaled if key.endpoint == endpoint]:
            self._let_go(key, declared=())
        self._problems.keep(endpoint, frozenset())
        found = self._objects.owner(endpoint)
        if found is not None:
            self._let_go_of_strays(found, declared=())

    async def scale(self, key: VersionKey, replicas: int, victims: Collection[str] = ()) -> None:
        """Have this many replicas that serve."""
        scaled = self._scaled.get(key)
        if scaled is None:
            raise ProviderError(f"{key} has no workload yet")
        if told := scaled.suspended():
            raise ScaledByOther(told)  # nor is it remembered: by the time that it may be set, another number is right
        try:
            await scaled.scale(replicas, victims)
        except NotWritable as error:
            self._withhold(key, error)
            raise
        self._reconciler.touch(key)

    async def drained(self, replica_id: str) -> None:
        """Nothing is in flight on this replica and nothing will be."""
        self._drained[replica_id] = None
        while len(self._drained) > MAX_DRAINED:
            del self._drained[next(iter(self._drained))]
        for removal in self._removals.all():
            self._reconciler.touch(removal.claim.key)
        self._reconciler.touch(self._pod_cache.key_of(replica_id))

    async def hindrance(self, key: VersionKey, fewer: bool) -> str:
        """Why the number of a version cannot be changed now; "" if it can."""
        scaled = self._scaled.get(key)
        return "" if scaled is None else await scaled.hindrance(fewer)

    def watch(self) -> AsyncIterator[Change]:
        """First a Reset with what is known, then every change, for ever."""
        return self._feed.watch()

    async def logs(self, key: VersionKey, tail: int) -> dict[str, list[str]]:
        """Replica id -> its last lines."""
        return await self._logs.tail(self._pod_cache.pods_of(key), tail)

    def follow_logs(self, key: VersionKey) -> AsyncIterator[tuple[str, str]]:
        """(replica id, line) as they are written, from now on, for ever."""
        return self._logs.follow(lambda: self._pod_cache.pods_of(key))

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
        found = self._workloads.of(scaled.workload.claim)
        updating = found is not None and is_rolling(found)
        return VersionFacts(scaled.workload.pod_selector, updating, scaled.limited(), scaled.suspended())

    def conflicts(self, endpoint: str) -> str:
        """Fields of its workloads that belong to others; "" if none do."""
        return self._problems.conflicts(endpoint)

    def withheld(self, endpoint: str) -> NotWritable | None:
        """Why workloads of an endpoint are not written although it declares them; None where all may be."""
        return self._problems.withheld(endpoint)

    def is_gone(self, endpoint: str) -> bool:
        """Nothing of it is left to be drained, deleted or released."""
        return self._removals.is_gone(endpoint)

    def number(self, key: VersionKey, version: Version) -> int | None:
        """How many replicas it was last asked for; None: it has no workload yet."""
        claim = claim_of(key.endpoint, version, self._objects.owner(key.endpoint))
        found = self._workloads.of(claim) if claim is not None else None
        if claim is None or found is None:
            return None
        pods = self._pod_cache.labelled(claim.namespace, key)
        if claim.adopts:
            pods = self._pod_cache.selected(claim.namespace, _pods_of(claim, found))
        return max(0, number_of(found) - sum(now.draining for now in pods_now(pods, found)))

    def drifted(self) -> set[str]:
        """Endpoints of which somebody has changed or deleted a Deployment; told once."""
        drifted, self._drifted = self._drifted, set()
        return drifted

    def unexpected_removals(self) -> int:
        """Pods that stayed although they should have gone, because others went in their place."""
        return sum(scaled.unexpected_removals for scaled in self._scaled.values())

    # ---- what goes on

    async def run(self) -> None:
        """See to it that what was asked comes about, for ever."""
        await self._reconciler.run()

    def _end(self, claim: WorkloadClaim) -> None:
        if claim.key not in self._scaled:
            self._problems.forget(claim.key)
            self._pod_cache.forget(claim.key)

    def _report(self, steps: list[Step]) -> None:
        for step in steps:
            if isinstance(step, Upsert):
                self._feed.upsert(step.replica)
                self._touch_if_moving(step.replica.key)
                self._changed(step.replica.endpoint)
            else:
                self._feed.remove(step.replica_id)

    def _deployment(self, change: ObjectPut | ObjectGone) -> None:
        metadata = change.object["metadata"]
        key, place = key_of(metadata), ("Deployment", metadata["namespace"], metadata["name"])
        if key is None:
            return
        self._reconciler.touch(key)
        self._changed(key.endpoint)
        known = self._templates.get(place)
        if known is not None and (isinstance(change, ObjectGone) or known != _template_of(change.object)):
            self._drifted.add(key.endpoint)

    def _autoscaler(self, change: ObjectPut | ObjectGone) -> None:
        target = ((change.object.get("spec") or {}).get("scaleTargetRef") or {}).get("name")
        for key, scaled in self._scaled.items():
            if scaled.workload.ref.name == target:
                self._reconciler.touch(key)
                self._changed(key.endpoint)

    def _touch_if_moving(self, key: VersionKey) -> None:
        scaled = self._scaled.get(key)
        if scaled is not None and not scaled.is_settled():
            self._reconciler.touch(key)

    # ---- versions

    def _check(self, found: Mapping[str, Any] | None, claim: WorkloadClaim) -> None:
        """Raises NotWritable where the workload is not ours, or is held for another version already."""
        check(found, claim)
        for key, scaled in self._scaled.items() if claim.adopts else ():
            held = scaled.workload.claim
            if held.adopts and key != claim.key and held.place == claim.place:
                raise NotWritable(CLAIMED, f"{claim.title} is claimed by {key}; one version scales a workload")

    def _withhold(self, key: VersionKey, error: NotWritable) -> None:
        """Write nothing for a version until `apply` may again; it is asked for soon."""
        if self._problems.withhold(key, error):
            self._drifted.add(key.endpoint)
            self._tell(key.endpoint, error.reason, f"{key.version}: {error.message}", warning=True)
        if error.reason != FORGED and self._scaled.pop(key, None) is not None:
            self._problems.conflict(key, "")
            self._pod_cache.forget(key)
        self._changed(key.endpoint)

    async def _apply(self, endpoint: Endpoint, version: Version, owner: Mapping[str, Any], number: int) -> None:
        claim = claim_of(endpoint.name, version, owner)
        if claim is None:
            return
        self._removals.cancel(claim)
        self._check(self._workloads.find(claim.namespace, claim.workload), claim)
        if not claim.adopts:
            await self._make(endpoint.name, version, claim)
        found = await self._workloads.current(claim)
        scaled = self._hold(version, ClaimedWorkload(claim, _pods_of(claim, found)))
        await scaled.scale(number, ())

    async def _make(self, endpoint: str, version: Version, claim: WorkloadClaim) -> None:
        is_new = self._workloads.find(claim.namespace, claim.workload) is None
        try:
            # The fence is no part of it: it is put on also where this is refused.
            await self._workloads.apply(claim, deployment(endpoint, claim.namespace, version, claim.owner))
        except FieldConflict as error:
            self._problems.conflict(claim.key, str(error))
            is_new = False
        else:
            self._problems.conflict(claim.key, "")
        if (found := self._workloads.of(claim)) is not None:
            self._templates[claim.place] = _template_of(found)
        if is_new:
            self._tell(endpoint, "Created", f"made Deployment {claim.workload.name} for version {version.name}")

    def _hold(self, version: Version, workload: ClaimedWorkload) -> ScaledVersion:
        claim = workload.claim
        known = self._scaled.get(claim.key)
        if known is None or known.workload != workload:
            known = ScaledVersion(claim.key, version, workload, self._context)
            self._scaled[claim.key] = known
        known.version = version
        try:
            rule = rule_of(version, claim.namespace, workload.pod_selector)
        except SelectorError as error:
            raise ProviderError(f"{claim.title}: {error}") from error
        self._pod_cache.declare(claim.key, rule)
        return known

    def _let_go_of_undeclared(self, endpoint: Endpoint, owner: Mapping[str, Any]) -> None:
        claims = {v.name: claim for v in endpoint.versions if (claim := claim_of(endpoint.name, v, owner))}
        declared = tuple(claims.values())
        for key in [key for key in self._scaled if key.endpoint == endpoint.name]:
            if claims.get(key.version) != self._scaled[key].workload.claim:
                self._let_go(key, declared)
        self._problems.keep(endpoint.name, frozenset(claims))
        self._let_go_of_strays(owner, declared)
        self._forget_static(endpoint.name, keep={replica.id for replica in static_replicas(endpoint)})

    def _let_go(self, key: VersionKey, declared: Collection[WorkloadClaim]) -> None:
        scaled = self._scaled.pop(key)
        claim = scaled.workload.claim
        self._problems.forget(key)
        if claim.adopts or _is_named(claim.namespace, claim.workload, declared):
            self._pod_cache.forget(key)
        self._depart(claim, scaled.version.scoring_timeout_s, declared)

    def _let_go_of_strays(self, owner: Mapping[str, Any], declared: Collection[WorkloadClaim]) -> None:
        """Workloads that a leader before us made or claimed, and no version declares any more."""
        for claim, drain_s in held_by(owner, self._workloads.all()):
            self._depart(claim, drain_s, declared)

    def _depart(self, claim: WorkloadClaim, drain_s: float, declared: Collection[WorkloadClaim]) -> None:
        """Hold a workload no more. One that the endpoint still names is not deleted, however it names it."""
        if claim.adopts and not any(each.same_hold(claim) for each in declared):
            self._removals.release(claim)
        elif not claim.adopts and not _is_named(claim.namespace, claim.workload, declared):
            self._templates.pop(claim.place, None)
            self._removals.leave(claim, drain_s)
        self._reconciler.touch(claim.key)

    def _forget_static(self, endpoint: str, keep: Collection[str]) -> None:
        for replica in self._feed.replicas:
            if replica.endpoint == endpoint and replica.id.startswith(f"{replica.key}/") and replica.id not in keep:
                self._feed.remove(replica.id)


def _pods_of(claim: WorkloadClaim, workload: Mapping[str, Any]) -> str:
    """The label selector of a version's pods."""
    return written(workload["spec"].get("selector") or {}) if claim.adopts else selector(claim.key)


def _is_named(namespace: str, workload: WorkloadRef, declared: Collection[WorkloadClaim]) -> bool:
    return any((each.namespace, each.workload) == (namespace, workload) for each in declared)


def _template_of(deployment: Mapping[str, Any]) -> object:
    """What it declares, but for the number."""
    return {name: value for name, value in deployment["spec"].items() if name != "replicas"}
