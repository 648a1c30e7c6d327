"""The provider's part of a ScoringEndpoint's status: facts of versions and their workloads, read only."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cluster.kubernetes.client.labelselector import written
from cluster.kubernetes.endpoint_objects import EndpointObjects
from cluster.kubernetes.objects.labels import selector
from cluster.kubernetes.ownership import NotWritable, WorkloadClaim, claim_of
from cluster.kubernetes.pod_cache import PodCache
from cluster.kubernetes.scaled_version import ScaledVersion, ScalingLimit
from cluster.kubernetes.shrinking import pods_now
from cluster.kubernetes.version_problems import VersionProblems
from cluster.kubernetes.workload_removal import WorkloadRemovals
from cluster.kubernetes.workloads import Workloads, is_rolling, number_of
from cluster.provider import Problem
from serving.endpoint import Version, VersionKey


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """Facts of a version that only the provider has."""

    selector: str
    updating: bool
    limit: ScalingLimit | None
    conflict: str


class VersionStatusReader:
    """Views on the provider's state, which the provider shares."""

    def __init__(
        self,
        objects: EndpointObjects,
        workloads: Workloads,
        pod_cache: PodCache,
        scaled: Mapping[VersionKey, ScaledVersion],
        removals: WorkloadRemovals,
        problems: VersionProblems,
        unreadable: Callable[[], str],
    ) -> None:
        """`unreadable()`: the refused list or watch of the cluster; "" if there is none."""
        self._unreadable = unreadable
        self._objects = objects
        self._workloads = workloads
        self._pod_cache = pod_cache
        self._scaled = scaled
        self._removals = removals
        self._problems = problems

    def suspended(self, key: VersionKey) -> str:
        """The other autoscaler that keeps a version from being scaled here; "" if there is none."""
        scaled = self._scaled.get(key)
        return scaled.suspended() if scaled else ""

    def facts(self, key: VersionKey) -> VersionFacts:
        """The facts of a version."""
        scaled = self._scaled.get(key)
        if scaled is None:
            return VersionFacts(selector(key), False, None, "")
        found = self._workloads.of(scaled.workload.claim)
        updating = found is not None and is_rolling(found)
        return VersionFacts(scaled.workload.pod_selector, updating, scaled.limit(), scaled.suspended())

    def problems(self, key: VersionKey) -> dict[Problem, str]:
        """Problems of the version: word -> reason."""
        facts, found = self.facts(key), {}
        if facts.conflict:
            found[Problem.CONFLICT] = facts.conflict
        if refused := self._problems.refused(key) or self._unreadable():
            found[Problem.REFUSED] = refused
        if facts.limit is not None:
            found.setdefault(facts.limit.problem, facts.limit.message)
        return found

    def refusals(self, endpoint: str) -> str:
        """Refused calls for versions of an endpoint, or refused reads of the whole cluster; "" if there are none."""
        return self._problems.refusals_of(endpoint) or self._unreadable()

    def conflicts(self, endpoint: str) -> str:
        """Fields of its workloads that belong to others; "" if none do."""
        return self._problems.conflicts(endpoint)

    def withheld(self, endpoint: str) -> NotWritable | None:
        """The reason for not writing declared workloads of an endpoint; None if all may be written."""
        return self._problems.withheld(endpoint)

    def is_gone(self, endpoint: str) -> bool:
        """True if no workload of an endpoint is left to drain, delete or release."""
        return self._removals.is_gone(endpoint)

    def number(self, key: VersionKey, version: Version) -> int | None:
        """The number of replicas last set, without draining ones; None without a workload."""
        claim = claim_of(key.endpoint, version, self._objects.owner(key.endpoint))
        found = self._workloads.of(claim) if claim is not None else None
        if claim is None or found is None:
            return None
        pods = self._pod_cache.labelled(claim.namespace, key)
        if claim.adopts:
            pods = self._pod_cache.selected(claim.namespace, pod_selector_of(claim, found))
        return max(0, number_of(found) - sum(now.draining for now in pods_now(pods, found)))

    def unexpected_removals(self) -> int:
        """Drained pods that stayed because their controller removed others instead."""
        return sum(scaled.unexpected_removals for scaled in self._scaled.values())


def pod_selector_of(claim: WorkloadClaim, workload: Mapping[str, Any]) -> str:
    """The label selector of a version's pods."""
    return written(workload["spec"].get("selector") or {}) if claim.adopts else selector(claim.key)
