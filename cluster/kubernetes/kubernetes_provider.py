"""Replicas as pods of Deployments and StatefulSets: `cluster.provider.Provider` for a cluster.

Wanted states are remembered and reconciled until reached (`run`): draining takes a minute, the API may be away, a
conflict may need a person.
"""

import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from typing import Any, Protocol

from cluster.changes import Change, Upsert
from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.reflector import ObjectGone, ObjectPut
from cluster.kubernetes.client.selectors import SelectorError
from cluster.kubernetes.cluster_index import Step, rule_of
from cluster.kubernetes.drift_detector import DriftDetector
from cluster.kubernetes.endpoint_objects import EndpointObjects, is_leaving
from cluster.kubernetes.fence import FORGED, Fence, Fenced
from cluster.kubernetes.finalizer import add_finalizer
from cluster.kubernetes.fixed_images import FixedImages
from cluster.kubernetes.hung_pods import HungPodRemoval
from cluster.kubernetes.leader_watches import LeaderWatches
from cluster.kubernetes.number_follower import NumberFollower
from cluster.kubernetes.objects.deployment import deployment, faults_of
from cluster.kubernetes.objects.labels import key_of
from cluster.kubernetes.objects.scoring_endpoint import static_replicas
from cluster.kubernetes.ownership import CLAIMED, NotWritable, WorkloadClaim, check, claim_of, held_by
from cluster.kubernetes.pod_cache import PodCache
from cluster.kubernetes.pod_logs import PodLogs
from cluster.kubernetes.rival_writers import RivalWriters
from cluster.kubernetes.rollout_room import RolloutRoom
from cluster.kubernetes.scaled_version import ClaimedWorkload, RetryLater, ScaledByOther, ScaledVersion, ScalingContext
from cluster.kubernetes.version_problems import VersionProblems
from cluster.kubernetes.version_status import VersionStatusReader, pod_selector_of
from cluster.kubernetes.workload_reconciler import WorkloadReconciler
from cluster.kubernetes.workload_removal import WorkloadRemovals
from cluster.kubernetes.workloads import FieldConflict, Workloads, is_observed, is_rolling
from cluster.provider import Problem, ProviderError, VersionErrors
from cluster.replica_feed import ReplicaFeed
from cluster.timed_line import TimedLine
from serving.clock import Clock
from serving.endpoint import Endpoint, Version, VersionKey, WorkloadRef
from serving.faults import Fault
from serving.replica import Replica

MAX_DRAINED = 10_000
"""Most drained replicas to remember, the newest: more than ever drain at the same time."""

_log = logging.getLogger(__name__)


class RecordEvent(Protocol):
    """Records a Kubernetes Event of an endpoint."""

    def __call__(self, endpoint: str, reason: str, note: str, warning: bool = False, about: str = "") -> None: ...


class KubernetesProvider(FixedImages):
    """The provider during one leadership."""

    def __init__(
        self,
        api: Api,
        watches: LeaderWatches,
        objects: EndpointObjects,
        fence: Fence,
        clock: Clock,
        record_event: RecordEvent,
        changed: Callable[[str], None],
        adopted: Callable[[VersionKey, int, str], None],
        faults: Callable[[Endpoint], list[Fault]] = faults_of,
    ) -> None:
        """`watches`: the watches of the leader. `objects`: the ScoringEndpoints. `fence`: of this leadership.

        `record_event` records Events. `changed` is called with every endpoint with a changed replica or workload,
        `adopted` with a version whose number another client has set, the number and the client.
        `faults`: the limits of this cluster for an endpoint, default: those of every cluster.
        """
        self._api = api
        self._objects = objects
        self._fence = fence
        self._clock = clock
        self._record_event = record_event
        self._changed = changed
        self._faults = faults
        self._feed = ReplicaFeed()
        self._pod_cache = PodCache(api, watches.pods, watches.autoscalers, clock, self._report)
        self._workloads = Workloads(api, fence, watches.deployments, watches.statefulsets)
        self._drained: dict[str, None] = {}
        """Drained replica ids, oldest first; routers may report them before an endpoint's removal is seen here."""
        rivals = RivalWriters()
        self._context = ScalingContext(api, self._workloads, self._pod_cache, clock, self._drained, rivals)
        self._logs = PodLogs(api, clock)
        self._scaled: dict[VersionKey, ScaledVersion] = {}
        self._removals = WorkloadRemovals(self._context)
        self.drift = DriftDetector()
        self._problems = VersionProblems()
        self._rollouts = RolloutRoom()
        self._reconciler = WorkloadReconciler(
            self._scaled, self._removals, self._problems, clock, self._withhold, self._end
        )
        self.status = VersionStatusReader(
            objects, self._workloads, self._pod_cache, self._scaled, self._removals, self._problems, watches.refused
        )
        self.hung = HungPodRemoval(api, self._scaled, self._pod_cache, clock, record_event)
        self.problems = self.status.problems
        self._numbers = NumberFollower(watches, self._workloads, self._scaled, rivals, clock, adopted, changed)
        watches.deployments.listen(self._deployment)
        watches.autoscalers.listen(self._autoscaler)

    # ---- cluster.provider.Provider

    def check(self, endpoint: Endpoint) -> list[Fault]:
        """The faults of an endpoint that this cluster cannot run, or refuses."""
        return self._faults(endpoint)

    async def restart(self, endpoint: Endpoint, versions: Collection[str]) -> None:
        """Have the controllers of the workloads replace their pods, like `kubectl rollout restart`. Raises
        ProviderError."""
        self._fence.check()
        for name in versions:
            scaled = self._scaled.get(key := VersionKey(endpoint.name, name))
            if scaled is None:
                raise ProviderError(f"{key} has no workload yet")
            claim = scaled.workload.claim
            found = await self._workloads.restart(claim)
            if not claim.adopts:
                self.drift.applied(claim, found)
            self._record_event(endpoint.name, "Restarted", f"{claim.title} replaces its pods", about=name)

    async def apply(self, endpoint: Endpoint, replicas: dict[str, int]) -> None:
        """Apply the Deployments of the versions, adopt workloads, and release undeclared ones. Raises ProviderError."""
        found = self._objects.owner(endpoint.name)
        if found is None or is_leaving(found):
            raise ProviderError(f"there is no ScoringEndpoint '{endpoint.name}' to own what would be made")
        self._fence.check()
        await add_finalizer(self._api, self._objects, found)
        self._release_undeclared(endpoint, found)
        _set_static(self._feed, endpoint.name, static_replicas(endpoint))
        troubles: dict[str, ProviderError] = {}
        for version in endpoint.versions:
            key = VersionKey(endpoint.name, version.name)
            try:
                await self._apply(endpoint, version, found, replicas[version.name])
            except RetryLater as error:
                _log.info("%s: %s", key, error)
            except Fenced:
                raise
            except ProviderError as error:
                troubles[version.name] = error
                if isinstance(error, NotWritable):
                    self._withhold(key, error)
                    continue
            self._problems.writable(key)
        if troubles:
            raise VersionErrors(troubles)

    def recognize(self, endpoint: Endpoint) -> None:
        """Restore the versions of an endpoint from the workloads of a former leader, without a write."""
        _set_static(self._feed, endpoint.name, static_replicas(endpoint))
        for version in endpoint.versions:
            claim = claim_of(endpoint.name, version, self._objects.owner(endpoint.name))
            found = self._workloads.find(claim.namespace, claim.workload) if claim else None
            if claim is None or found is None:
                continue
            try:
                _check_holder(found, claim, self._scaled)
                scaled = self._hold(version, ClaimedWorkload(claim, pod_selector_of(claim, found)))
                scaled.wanted = self.status.number(claim.key, version)
            except NotWritable as error:
                self._withhold(claim.key, error)
            except ProviderError as error:
                _log.warning("%s: %s", claim.key, error)

    async def remove(self, endpoint: str) -> None:
        """Drain and delete every Deployment of the endpoint; adopted workloads stay as they are."""
        _set_static(self._feed, endpoint, ())
        for key in [key for key in self._scaled if key.endpoint == endpoint]:
            self._release(key, declared=())
        self._problems.keep(endpoint, frozenset())
        found = self._objects.owner(endpoint)
        if found is not None:
            self._release_unknown(found, declared=())

    async def scale(self, key: VersionKey, replicas: int, victims: Collection[str] = ()) -> None:
        """Set the number of serving replicas, and replicas to remove first; nothing for a deleted endpoint. Raises
        ProviderError."""
        scaled = self._scaled.get(key)
        if scaled is None:
            raise ProviderError(f"{key} has no workload yet")
        owner = self._objects.owner(key.endpoint)
        if owner is not None and is_leaving(owner):
            return  # `remove` follows: a new pod, unknown to routers, would delay it by the longest request
        if other := scaled.suspended():
            raise ScaledByOther(other)  # not remembered: the number would be outdated by the time it may be set
        try:
            await scaled.scale(replicas, victims)
        except ProviderError as error:
            if isinstance(error, NotWritable):
                self._withhold(key, error)
            self._problems.failed(key, error, self._clock.now())
            self._changed(key.endpoint)
            raise
        self._problems.settled(key)
        self._reconciler.touch(key)

    async def drained(self, replica_id: str) -> None:
        """Record that a replica has no request in flight and will get none."""
        self._drained[replica_id] = None
        while len(self._drained) > MAX_DRAINED:
            del self._drained[next(iter(self._drained))]
        for removal in self._removals.all():
            self._reconciler.touch(removal.claim.key)
        self._reconciler.touch(self._pod_cache.key_of(replica_id))

    async def hindrance(self, key: VersionKey, fewer: bool) -> str:
        """The reason for not changing the number of a version now; "" if it can change."""
        scaled = self._scaled.get(key)
        if not self._problems.is_due(key, self._clock.now()):
            return self._problems.refused(key)
        return "" if scaled is None else await scaled.hindrance(fewer)

    def watch(self) -> AsyncIterator[Change]:
        """First a Reset with all replicas, then every change, for ever."""
        return self._feed.watch()

    async def logs(self, key: VersionKey, tail: int) -> dict[str, list[TimedLine]]:
        """Replica id -> its last lines."""
        return await self._logs.tail(self._pod_cache.pods_of(key), tail)

    def follow_logs(self, key: VersionKey) -> AsyncIterator[tuple[str, TimedLine]]:
        """(replica id, line) as written from now on, for ever."""
        return self._logs.follow(lambda: self._pod_cache.pods_of(key))

    # ---- events

    async def run(self) -> None:
        """Bring workloads to their wanted state until cancelled."""
        await self._reconciler.run()

    def review_rollouts(self) -> None:
        """Have Deployments applied again whose new pods find no room beside the old ones."""
        for key, scaled in self._scaled.items():
            found = None if scaled.workload.claim.adopts else self._workloads.of(scaled.workload.claim)
            if found is None or not is_observed(found):
                continue
            limit = scaled.limit()
            why = limit.message if limit is not None and limit.problem is Problem.LIMITED else ""
            if self._rollouts.note(key, is_rolling(found), bool(why), self._clock.now()):
                self.drift.report(key.endpoint)
                if self._rollouts.replaces(key):
                    note = f"{key.version}: pods are stopped before new ones start, for lack of room: {why}"
                    self._record_event(key.endpoint, "ReplacedForRoom", note, warning=False)

    def _end(self, claim: WorkloadClaim) -> None:
        if claim.key not in self._scaled:
            self._problems.forget(claim.key)
            self._rollouts.forget(claim.key)
            self._pod_cache.forget(claim.key)

    def _report(self, steps: list[Step]) -> None:
        for step in steps:
            if isinstance(step, Upsert):
                self._feed.upsert(step.replica)
                self._reconciler.touch_if_unsettled(step.replica.key)
                self._changed(step.replica.endpoint)
            else:
                self._feed.remove(step.replica_id)

    def _deployment(self, change: ObjectPut | ObjectGone) -> None:
        key = key_of(change.object["metadata"])
        if key is None:
            return
        self._reconciler.touch(key)
        self._changed(key.endpoint)
        self.drift.changed(key, change)

    def _autoscaler(self, change: ObjectPut | ObjectGone) -> None:
        target = ((change.object.get("spec") or {}).get("scaleTargetRef") or {}).get("name")
        for key, scaled in self._scaled.items():
            if scaled.workload.ref.name == target:
                self._reconciler.touch(key)
                self._changed(key.endpoint)

    # ---- versions

    def _withhold(self, key: VersionKey, error: NotWritable) -> None:
        """Stop writing for a version until `apply` succeeds; it is called soon."""
        if self._problems.withhold(key, error):
            self.drift.report(key.endpoint)
            self._record_event(key.endpoint, error.reason, f"{key.version}: {error.message}", True, key.version)
        if error.reason != FORGED and self._scaled.pop(key, None) is not None:
            self._problems.conflict(key, "")
            self._pod_cache.forget(key)
        self._changed(key.endpoint)

    async def _apply(self, endpoint: Endpoint, version: Version, owner: Mapping[str, Any], number: int) -> None:
        claim = claim_of(endpoint.name, version, owner)
        if claim is None:
            return
        self._removals.cancel(claim)
        _check_holder(self._workloads.find(claim.namespace, claim.workload), claim, self._scaled)
        if not claim.adopts:
            await self._make(endpoint.name, version, claim)
        found = await self._workloads.current(claim)
        scaled = self._hold(version, ClaimedWorkload(claim, pod_selector_of(claim, found)))
        await scaled.scale(number, ())

    async def _make(self, endpoint: str, version: Version, claim: WorkloadClaim) -> None:
        is_new = self._workloads.find(claim.namespace, claim.workload) is None
        try:
            # Without the fence, which is written even if this apply is refused.
            replaces = self._rollouts.replaces(claim.key)
            body = deployment(endpoint, claim.namespace, version, claim.owner, replaces=replaces)
            await self._workloads.apply(claim, body)
        except FieldConflict as error:
            self._problems.conflict(claim.key, str(error))
            is_new = False
        else:
            self._problems.conflict(claim.key, "")
        if (found := self._workloads.of(claim)) is not None:
            self.drift.applied(claim, found)
        if is_new:
            note = f"made Deployment {claim.workload.name} for version {version.name}"
            self._record_event(endpoint, "Created", note, about=version.name)

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

    def _release_undeclared(self, endpoint: Endpoint, owner: Mapping[str, Any]) -> None:
        claims = {v.name: claim for v in endpoint.versions if (claim := claim_of(endpoint.name, v, owner))}
        declared = tuple(claims.values())
        for key in [key for key in self._scaled if key.endpoint == endpoint.name]:
            if claims.get(key.version) != self._scaled[key].workload.claim:
                self._release(key, declared)
        self._problems.keep(endpoint.name, frozenset(claims))
        self._release_unknown(owner, declared)

    def _release(self, key: VersionKey, declared: Collection[WorkloadClaim]) -> None:
        scaled = self._scaled.pop(key)
        claim = scaled.workload.claim
        self._problems.forget(key)
        if claim.adopts or _is_named(claim.namespace, claim.workload, declared):
            self._pod_cache.forget(key)
        self._remove_workload(claim, scaled.version.longest_request_s, declared)

    def _release_unknown(self, owner: Mapping[str, Any], declared: Collection[WorkloadClaim]) -> None:
        """Release workloads that a former leader made or claimed and no version declares."""
        for claim, drain_s in held_by(owner, self._workloads.all()):
            self._remove_workload(claim, drain_s, declared)

    def _remove_workload(self, claim: WorkloadClaim, drain_s: float, declared: Collection[WorkloadClaim]) -> None:
        """Release or delete a workload; one that the endpoint still names is not deleted."""
        if claim.adopts and not any(each.same_hold(claim) for each in declared):
            self._removals.release(claim)
        elif not claim.adopts and not _is_named(claim.namespace, claim.workload, declared):
            self.drift.forget(claim)
            self._removals.leave(claim, drain_s)
        self._reconciler.touch(claim.key)


def _check_holder(
    found: Mapping[str, Any] | None, claim: WorkloadClaim, scaled: Mapping[VersionKey, ScaledVersion]
) -> None:
    """Raises NotWritable if the workload is not ours, or another version has adopted it.

    found: the workload; None: there is none.
    claim: the hold of one version on it.
    scaled: all versions with a workload.
    """
    check(found, claim)
    for key, version in scaled.items() if claim.adopts else ():
        held = version.workload.claim
        if held.adopts and key != claim.key and held.place == claim.place:
            raise NotWritable(CLAIMED, f"{claim.title} is claimed by {key}; one version scales a workload")


def _is_named(namespace: str, workload: WorkloadRef, declared: Collection[WorkloadClaim]) -> bool:
    return any((each.namespace, each.workload) == (namespace, workload) for each in declared)


def _set_static(feed: ReplicaFeed, endpoint: str, replicas: Collection[Replica]) -> None:
    """Publish the static replicas of an endpoint; others of its static replicas are removed."""
    keep = {replica.id for replica in replicas}
    for replica in feed.replicas:
        if replica.endpoint == endpoint and replica.id.startswith(f"{replica.key}/") and replica.id not in keep:
            feed.remove(replica.id)
    for replica in replicas:
        feed.upsert(replica)
