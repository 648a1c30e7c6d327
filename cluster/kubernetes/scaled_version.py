"""Scaling of one version, from the present to the wanted number of pods.

Level-triggered: `settle` reads the current state, takes the next step, and is called again after every change. Each
step is visible in the API (`shrinking`), so that another leader can continue at any point.
"""

import asyncio
import logging
from collections.abc import Collection, Container
from dataclasses import dataclass
from typing import Any

from cluster.kubernetes import shrinking
from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.api_errors import ApiError
from cluster.kubernetes.client.paths import PODS, path
from cluster.kubernetes.conflicts import scaled_by
from cluster.kubernetes.drain_mark import mark
from cluster.kubernetes.failed_calls import failed
from cluster.kubernetes.objects.labels import selector
from cluster.kubernetes.objects.pod import unschedulable
from cluster.kubernetes.ownership import WorkloadClaim
from cluster.kubernetes.pod_cache import PodCache
from cluster.kubernetes.rival_writers import RivalWriters
from cluster.kubernetes.shrinking import DRAINED_COST, DRAINING_COST, PodNow, Steps, pod_now, pods_now
from cluster.kubernetes.workloads import QUOTA, Workloads, is_rolling, number_of, refused_pods
from cluster.provider import Problem, ProviderError
from serving.clock import Clock
from serving.endpoint import Version, VersionKey, WorkloadRef

NO_ROOM, PODS_REFUSED = "NoRoom", "PodsRefused"
OVERDUE_S = 10.0
"""A workload's controller removes a pod within a second of a lower number, unless it has chosen another one."""
DRAIN_MARGIN_S = 1.0

Pod = dict[str, Any]

_log = logging.getLogger(__name__)


class RetryLater(ProviderError):
    """Not now; it is tried again by itself."""


class ScaledByOther(RetryLater):
    """Another client sets the number of this workload."""

    problem = Problem.CONFLICT


class NoRoom(RetryLater):
    """Pods are pending because the cluster has no room for them, or a quota refuses them."""

    problem = Problem.LIMITED


class PodsRefused(RetryLater):
    """The API server refuses the pods of the workload."""

    problem = Problem.REFUSED


@dataclass(frozen=True, slots=True)
class ScalingLimit:
    """Why pods that are wanted do not exist or are not placed."""

    reason: str
    """One CamelCase word: NoRoom or PodsRefused."""
    message: str

    @property
    def problem(self) -> Problem:
        """The limit in one word."""
        return Problem.LIMITED if self.reason == NO_ROOM else Problem.REFUSED


@dataclass(frozen=True, slots=True)
class ClaimedWorkload:
    """The workload of a version and the selector of its pods."""

    claim: WorkloadClaim
    pod_selector: str
    """Label selector of its pods, in one line."""

    @property
    def namespace(self) -> str:
        """Namespace of the workload and its pods."""
        return self.claim.namespace

    @property
    def ref(self) -> WorkloadRef:
        """The workload to scale."""
        return self.claim.workload


@dataclass(frozen=True, slots=True)
class ScalingContext:
    """The dependencies of scaling, shared by all versions."""

    api: Api
    workloads: Workloads
    pod_cache: PodCache
    clock: Clock
    drained: Container[str]
    """Drained replicas as reported by routers, however early."""
    rivals: RivalWriters
    """Other clients that set the numbers of workloads."""


class ScaledVersion:
    """One version and its workload."""

    def __init__(self, key: VersionKey, version: Version, workload: ClaimedWorkload, context: ScalingContext) -> None:
        self.key = key
        self.version = version
        self.workload = workload
        self.wanted: int | None = None
        """Replicas wanted to serve; None until first set."""
        self.unexpected_removals = 0
        """Pods that stayed although nothing was in flight on them, because others went in their place."""
        self._api = context.api
        self._workloads = context.workloads
        self._pod_cache = context.pod_cache
        self._clock = context.clock
        self._lock = asyncio.Lock()
        self._going: dict[str, float] = {}
        """Draining replica -> latest time of its removal, busy or not."""
        self._drained = context.drained
        self._rivals = context.rivals
        self._lowered_at: dict[str, float] = {}
        """Spent replica -> since when the number is low enough for it to be removed."""

    # ---- queries

    def serving(self, number: int) -> int:
        """The part of `number` pods that is not draining."""
        return max(0, number - sum(pod.draining for pod in self._pods()))

    def autoscaler(self) -> str:
        """The HorizontalPodAutoscaler of this version; "" if there is none."""
        return scaled_by(self._pod_cache.autoscalers(), self.workload.namespace, self.workload.ref)

    def suspended(self) -> str:
        """The other autoscaler, or rival writer, that suspends scaling of this version; "" if there is none."""
        if other := self.autoscaler():
            return f"HorizontalPodAutoscaler {other} scales {self._name}; delete it to have it scaled here"
        return self._rivals.conflict(self.workload.claim.place, self._clock.now())

    def limit(self) -> ScalingLimit | None:
        """Why wanted pods find no room or are refused; None if they are not."""
        for pod in self._pod_cache.pods_of(self.key):
            if pod_now(pod) is not None and (why := unschedulable(pod)):
                return ScalingLimit(NO_ROOM, why)
        found = self._workloads.of(self.workload.claim)
        why = refused_pods(found) if found is not None else ""
        return ScalingLimit(NO_ROOM if QUOTA in why else PODS_REFUSED, why) if why else None

    def is_settled(self) -> bool:
        """True if there is no step to take, as far as known."""
        found = self._workloads.of(self.workload.claim)
        if self.wanted is None or found is None:
            return self.wanted is None
        return number_of(found) == self.wanted and not self._going and not any(pod.draining for pod in self._pods())

    async def hindrance(self, fewer: bool) -> str:
        """Why the number cannot be changed now; "" if it can."""
        if other := self.suspended():
            return other
        try:
            if fewer:
                await self._look()
        except ProviderError as error:
            return str(error)
        return ""

    # ---- scaling

    def adopt(self, number: int) -> bool:
        """Take the number of pods that another client has set as the wanted one; False while an own write is under
        way, which replaces it."""
        if self.wanted is None or self._lock.locked():
            return False
        self.wanted = self.serving(number)
        return True

    async def scale(self, replicas: int, victims: Collection[str]) -> int:
        """Have this many replicas that serve, without `victims`: the number of pods before. Raises ProviderError."""
        self.wanted = replicas
        for victim in victims:
            self._schedule(victim)
        return await self.settle()

    async def settle(self) -> int:
        """Take the next steps; returns the number of pods before. Raises ProviderError; RetryLater if nothing is
        wrong.
        """
        async with self._lock:
            found = await self._workloads.current(self.workload.claim)
            before = number_of(found)
            if self.wanted is None:
                return before
            if other := self.suspended():
                raise ScaledByOther(other)
            steps = self._steps()
            if steps.replicas > before and (limit := self.limit()) is not None:
                await self._mark(steps)
                if limit.reason == NO_ROOM:
                    raise NoRoom(
                        f"{before} pods are asked for and no more, for the cluster has no room: {limit.message}"
                    )
                raise PodsRefused(f"{before} pods are asked for and no more, for they are refused: {limit.message}")
            if steps.replicas < before or steps.retire or steps.delete:
                await self._look()
                # Pods are marked of the workload that is there now, not of one that had its name.
                found = await self._workloads.confirm(self.workload.claim)
                steps = self._steps()
                await self._mark(steps)
                if steps.replicas < before and is_rolling(found):
                    raise RetryLater(f"{self._name} replaces its pods; fewer there will be when that is done")
            await self._workloads.set_number(self.workload.claim, steps.replicas)
            await self._follow_up(steps)
            return before

    def _steps(self) -> Steps:
        now, pods = self._clock.now(), self._pods()
        alive = {pod.id for pod in pods}
        drained = {each for each in alive if each in self._drained}
        for gone in [each for each in self._going if each not in alive]:
            del self._going[gone]
        for pod in pods:
            if pod.draining:
                self._schedule(pod.id)
        late = {each for each, deadline_s in self._going.items() if now >= deadline_s}
        overdue = {each for each, since_s in self._lowered_at.items() if now >= since_s + OVERDUE_S}
        rule = shrinking.of_statefulset if self.workload.ref.kind == "StatefulSet" else shrinking.of_deployment
        return rule(self.wanted or 0, pods, self._going, drained | late, overdue)

    def _schedule(self, replica_id: str) -> None:
        latest_s = self._clock.now() + self.version.longest_request_s + DRAIN_MARGIN_S
        self._going.setdefault(replica_id, latest_s)

    async def _mark(self, steps: Steps) -> None:
        """Annotate pods as draining, before the number falls."""
        marks = [(pod, DRAINING_COST) for pod in steps.retire] + [(pod, DRAINED_COST) for pod in steps.mark_drained]
        for pod in steps.retire:
            self._schedule(pod.id)
        await asyncio.gather(*(self._annotate(pod, cost) for pod, cost in marks))

    async def _annotate(self, pod: PodNow, cost: int) -> None:
        found = await mark(self._api, self.workload.namespace, pod, cost)
        if found is not None:
            self._pod_cache.saw(found)

    async def _follow_up(self, steps: Steps) -> None:
        """Delete drained pods that their controller keeps."""
        now = self._clock.now()
        self._lowered_at = {pod.id: self._lowered_at.get(pod.id, now) for pod in steps.removable}
        for pod in steps.delete:
            if self.workload.ref.kind != "StatefulSet":
                self.unexpected_removals += 1
                _log.warning("%s: pod %s deleted: drained, but the controller removed another", self.key, pod.name)
            try:
                await self._api.delete(path(PODS, self.workload.namespace, pod.name), uid=pod.uid)
            except ApiError as error:
                raise failed(f"delete pod {self.workload.namespace}/{pod.name}", error) from error

    async def _look(self) -> None:
        """Refresh pods and autoscalers if the watches are stale. Raises RetryLater."""
        if self._pod_cache.is_fresh():
            return
        try:
            await self._pod_cache.look(
                self.workload.namespace, self.workload.pod_selector or selector(self.key), self.key
            )
        except ApiError as error:
            raise RetryLater(f"{self.key}: nothing is given back while the API is away: {error}") from error
        if other := self.suspended():
            raise ScaledByOther(other)

    @property
    def _name(self) -> str:
        return self.workload.claim.title

    def _pods(self) -> list[PodNow]:
        """The pods that its workload's controller counts; others may carry the same labels."""
        workload = self._workloads.of(self.workload.claim)
        return pods_now(self._pod_cache.pods_of(self.key), workload)
