"""Composition of the control plane of a cluster for one leadership: its parts and their start order."""

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from autoscaler.policy import Decision, Direction
from cluster.kubernetes.client.api import Api
from cluster.kubernetes.disruption_budgets import DisruptionBudgets
from cluster.kubernetes.endpoint_objects import EndpointObjects
from cluster.kubernetes.event_recorder import EventRecorder
from cluster.kubernetes.fence import Fence, Fenced, Leadership
from cluster.kubernetes.kubernetes_provider import KubernetesProvider
from cluster.kubernetes.leader_watches import LeaderWatches
from cluster.kubernetes.objects.confinement import PodTemplates
from cluster.kubernetes.objects.deployment import faults_of
from cluster.provider import Problem
from controlplane.kubernetes.cluster_store import ClusterStore
from controlplane.kubernetes.endpoint_follower import EndpointFollower
from controlplane.kubernetes.status_writer import StatusFacts, StatusWriter
from controlplane.plane import ControlPlane, PlaneSettings
from controlplane.routers import ReplicaRetirer
from controlplane.tokens import TokenAlgorithm
from serving.addresses import static_faults
from serving.clock import Clock
from serving.destinations import Destinations
from serving.endpoint import Endpoint, VersionKey
from serving.faults import Fault
from serving.issuer_hosts import IssuerHosts, issuer_faults

CORRECT_EVERY_S = 2.0
NO_NETWORK = Destinations((), in_cluster=True)


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Settings of the control plane of a cluster."""

    namespaces: tuple[str, ...]
    """Watched namespaces; empty: all."""
    scoring_url: str
    """Address of the routers for clients: `http(s)://host:port`."""
    pod_templates: PodTemplates = PodTemplates.RESTRICTED
    static: Destinations = NO_NETWORK
    """Allowed destinations of static replicas."""
    issuers: IssuerHosts = field(default_factory=lambda: IssuerHosts(in_cluster=True))
    """Allowed hosts of token issuers."""
    token_algorithm: TokenAlgorithm = TokenAlgorithm.EDDSA
    telemetry_note: str = ""
    """Note on endpoints with telemetry; "" if it is exported."""
    instance: str = "scorefront-control"
    """Name of this process in Events."""


class ClusterControl:
    """Control plane of one leadership. Call `start`, then `run`, and `stop` in any case."""

    def __init__(self, plane: ControlPlane, parts: "LeaderParts") -> None:
        self.plane = plane
        self._parts = parts
        self._started = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def places(self) -> dict[str, str]:
        """Existing endpoint -> its namespace."""
        objects = self._parts.objects
        owners = {name: objects.owner(name) for name in objects.names()}
        return {name: found["metadata"]["namespace"] for name, found in owners.items() if found is not None}

    async def start(self) -> None:
        """Read the cluster, then serve and scale the declared endpoints. Raises ControlError, and errors of parts."""
        self._running = asyncio.create_task(self._run(), name="control of a cluster")
        listed = asyncio.create_task(self._parts.sight.listed(), name="list the cluster")
        try:
            await asyncio.wait({listed, self._running}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            listed.cancel()
            await asyncio.gather(listed, return_exceptions=True)
        if self._running.done():
            await self.run()
        self._parts.follower.begin()
        await self.plane.begin()
        for endpoint in self.plane.snapshot().endpoints:
            self._parts.provider.recognize(endpoint)
        for name, skipped in self.plane.endpoints.skipped().items():
            if skipped.is_retried:
                self._parts.follower.touch(name)
        self._started.set()

    def waiting(self) -> list[str]:
        """The lists of the cluster that `start` waits for, with their errors."""
        return self._parts.sight.waiting()

    async def run(self) -> None:
        """Run until cancelled. Raises Fenced when another leader was seen, else the error of a part."""
        if self._running is not None:
            try:
                await self._running
            except* Fenced as group:
                raise Fenced(str(_first(group))) from None

    async def stop(self) -> None:
        """End every task. The cluster is left unchanged."""
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(self._running, return_exceptions=True)
            self._running = None
        if self._started.is_set():
            self._started.clear()
            await self.plane.stop()

    def gauges(self) -> Mapping[str, float]:
        """Gauges by short name, for /metrics."""
        parts = self._parts
        return {
            "unexpected_removals": parts.provider.status.unexpected_removals(),
            "api_silent_seconds": parts.sight.age_s(),
            "fence": parts.fence.number,
        }

    async def _run(self) -> None:
        parts = self._parts
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(parts.sight.run(), name="watch the cluster")
            tasks.create_task(parts.reporter.run(), name="write events")
            tasks.create_task(self._step_down(), name="watch for another leader")
            await self._started.wait()
            tasks.create_task(parts.provider.run(), name="look after workloads")
            tasks.create_task(parts.provider.hung.run(self.plane.busy_replicas), name="replace hung pods")
            tasks.create_task(parts.budgets.run(), name="keep disruption budgets")
            tasks.create_task(parts.follower.run(), name="follow changes of others")
            tasks.create_task(parts.status.run(), name="write status")
            tasks.create_task(self.plane.reconcile_all(), name="reconcile everything")
            tasks.create_task(self._correct_drift(), name="correct drift")
            tasks.create_task(self._watch_plane(), name="wait for the control plane")

    async def _step_down(self) -> None:
        await self._parts.fence.broken.wait()
        raise Fenced(f"the leadership with fence {self._parts.fence.number} is over")

    async def _correct_drift(self) -> None:
        """Reconcile endpoints with foreign changes in their Deployments; conflicts are reported."""
        while True:
            await self._parts.clock.sleep(CORRECT_EVERY_S)
            self._parts.provider.review_rollouts()
            for name in sorted(self._parts.provider.drift.drifted()):
                await self.plane.reconcile(name)

    async def _watch_plane(self) -> None:
        await self.plane.wait()
        raise RuntimeError("control plane: stopped unexpectedly")


@dataclass(frozen=True, slots=True)
class LeaderParts:
    """Components beside the control plane."""

    sight: LeaderWatches
    provider: KubernetesProvider
    budgets: DisruptionBudgets
    follower: EndpointFollower
    status: StatusWriter
    reporter: EventRecorder
    fence: Fence
    clock: Clock
    objects: EndpointObjects


def cluster_control(
    api: Api,
    retirer: ReplicaRetirer,
    fence: int,
    clock: Clock,
    wall: Callable[[], float],
    u: Callable[[], float],
    settings: ClusterSettings,
    leadership: Leadership,
    entropy: Callable[[int], bytes] = secrets.token_bytes,
    payload_problems: Callable[[VersionKey], Mapping[Problem, str]] = lambda key: {},
) -> ClusterControl:
    """The control plane of one leadership.

    api: client of the API server.
    retirer: retires replicas in the routers.
    fence: number of the leadership.
    clock: event-loop clock.
    wall: unix seconds.
    u: uniform on [0, 1).
    settings: of the installation.
    leadership: checked before every write.
    entropy: n -> n random bytes.
    payload_problems: problems of the collected payloads of a version; default: none.
    """

    def rfc3339() -> str:
        return datetime.fromtimestamp(wall(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    barrier, objects = Fence(fence, leadership), EndpointObjects()
    sight = LeaderWatches(api, settings.namespaces, clock, u)
    reporter = EventRecorder(api, objects, clock, rfc3339, settings.instance)
    touched: set[str] = set()

    def faults(endpoint: Endpoint) -> list[Fault]:
        faults = [*faults_of(endpoint, settings.pod_templates), *issuer_faults(endpoint, settings.issuers)]
        return [*faults, *static_faults(endpoint, settings.static)]

    def adopted(key: VersionKey, number: int, writer: str) -> None:
        plane.adopt(key, number, writer)
        touched.add(key.endpoint)

    provider = KubernetesProvider(api, sight, objects, barrier, clock, reporter, touched.add, adopted, faults)
    budgets = DisruptionBudgets(api, sight.deployments, sight.budgets, objects, barrier, clock, reporter)
    store = ClusterStore(api, objects, provider, settings.namespaces, barrier, entropy, reporter)

    def acted(decision: Decision) -> None:
        if decision.direction is not Direction.HOLD:
            numbers = f"{decision.key.version} from {decision.previous} to {decision.desired} replicas"
            about = f"{decision.key.version} {decision.direction}"
            reporter(decision.key.endpoint, "Scaled", f"{numbers}: {decision.reason}", about=about)
        touched.add(decision.key.endpoint)

    plane = ControlPlane(
        store,
        provider,
        retirer,
        clock,
        wall,
        PlaneSettings(settings.scoring_url, settings.token_algorithm, settings.telemetry_note),
        entropy=entropy,
        acted=acted,
        payload_problems=payload_problems,
        degraded=lambda name: facts.degraded(name),
    )
    follower = EndpointFollower(api, objects, store, provider, plane, clock, sight)
    facts = StatusFacts(objects, plane, provider, store, follower)
    status = StatusWriter(api, objects, barrier, reporter, facts, clock, rfc3339, touched)
    return ClusterControl(
        plane, LeaderParts(sight, provider, budgets, follower, status, reporter, barrier, clock, objects)
    )


def _first(group: BaseExceptionGroup[Fenced]) -> BaseException:
    """One exception of a nested group."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
