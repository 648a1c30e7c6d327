"""The control plane of one installation: composition and life cycle of its parts."""

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from autoscaler.policy import Decision
from cluster.link import ResetAll, SetTrust, ToWorker
from cluster.provider import Problem, Provider
from cluster.router_reports import RouterReports
from controlplane.cluster_view import ClusterView
from controlplane.control_errors import StoreError
from controlplane.endpoint_changes import EndpointChanges
from controlplane.endpoint_service import EndpointService
from controlplane.endpoint_view import ViewSources
from controlplane.keys import digests
from controlplane.reconciler import Reconciler
from controlplane.registry import DeclaredEndpoint, Registry
from controlplane.replica_scaling import ReplicaScaling
from controlplane.routers import ReplicaRetirer, RoutePublisher
from controlplane.signing import TokenIssuer
from controlplane.store import Store
from controlplane.tokens import TokenAlgorithm
from serving.clock import Clock
from serving.endpoint import Endpoint, VersionKey


@dataclass(frozen=True, slots=True)
class PlaneSettings:
    """Settings of a control plane."""

    scoring_url: str = "http://127.0.0.1:8080"
    """Address of the routers for clients: `http(s)://host:port`."""
    token_algorithm: TokenAlgorithm = TokenAlgorithm.EDDSA
    telemetry_note: str = ""
    """Note on endpoints with telemetry; "" if it is exported."""


class ControlPlane:
    """Composes store, registry, reconciler, autoscaler and token issuer; one per installation."""

    def __init__(
        self,
        store: Store,
        provider: Provider,
        retirer: ReplicaRetirer,
        clock: Clock,
        wall: Callable[[], float],
        settings: PlaneSettings | None = None,
        publisher: RoutePublisher | None = None,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
        acted: Callable[[Decision], None] = lambda decision: None,
        payload_problems: Callable[[VersionKey], Mapping[Problem, str]] = lambda key: {},
        degraded: Callable[[str], str] | None = None,
    ) -> None:
        """A control plane that is not started.

        store: holds the declared endpoints.
        provider: runs the replicas.
        retirer: retires replicas in the routers.
        clock: event-loop clock.
        wall: unix seconds.
        settings: default: those of one machine.
        publisher: sends endpoints and replicas to the routers; None: routers read them from the Kubernetes API.
        entropy: n -> n random bytes; default: from the system.
        acted: called with every decision that the provider has accepted.
        payload_problems: problems of the collected payloads of a version; default: none.
        degraded: endpoint -> why it does not run as declared, "" if it does; None: the last error of the provider.
        """
        settings = settings or PlaneSettings()
        self._store = store
        self._publisher = publisher
        self._registry = registry = Registry()
        self._view = view = ClusterView()
        self._scaling = ReplicaScaling(provider, retirer, view, registry, store.save_desired, clock, wall, acted)
        self._issuer = TokenIssuer(
            settings.token_algorithm, store.save_keyring, lambda trust: self._publish(SetTrust(trust)), clock, wall
        )
        self._reconciler = Reconciler(provider, self._publish, view, registry, self._scaling.numbers, clock)
        self.sources = ViewSources(
            view=view,
            scoring_url=settings.scoring_url,
            observe=self._scaling.observe,
            desired=self._scaling.desired,
            trouble=self._reconciler.trouble,
            degraded=degraded or self._reconciler.trouble,
            version_trouble=self._reconciler.version_trouble,
            problems=lambda key: {**provider.problems(key), **payload_problems(key)},
            notes=lambda endpoint: [*_telemetry_notes(endpoint, settings.telemetry_note), *provider.notes(endpoint)],
        )
        self.changes = EndpointChanges(store, registry, self._scaling, self._reconciler, self._publish, entropy)
        self.endpoints = EndpointService(
            provider, registry, self.changes, self._scaling, self._issuer, self.sources, entropy
        )
        self._running: asyncio.Task[None] | None = None

    @property
    def reports(self) -> RouterReports:
        """Receiver of the reports of router workers."""
        return self._scaling

    def busy_replicas(self, key: VersionKey) -> Collection[str] | None:
        """Ids of the replicas of a version with a request in flight; None while a worker does not report."""
        return self._scaling.busy_replicas(key)

    # ---- life cycle

    async def start(self) -> None:
        """Load and reconcile the declared endpoints. Raises StoreError; then nothing was started."""
        await self.begin()
        await self.reconcile_all()

    async def begin(self) -> None:
        """First half of `start`: load, publish and scale the declared endpoints. Raises StoreError."""
        state = await self._store.open()
        try:
            self.changes.load(state)
            self._scaling.load({key: number for key, number in state.desired.items() if self._is_declared(key)})
            await self._issuer.load(state.keyring)
            await self.changes.complete_incarnations()
        except BaseException:
            await self._store.close()
            raise
        self._publish(self.snapshot())
        for declared in self._registry.all():
            self._scaling.track(declared.endpoint)
        self._running = asyncio.create_task(self._run(), name="control plane")

    async def reconcile_all(self) -> None:
        """Second half of `start`: apply every declared endpoint to the provider."""
        for declared in self._registry.all():
            await self.reconcile(declared.endpoint.name)

    async def reconcile(self, name: str) -> None:
        """Apply the declared state of `name`, which may be absent, to the provider."""
        async with self._registry.lock(name):
            await self._reconciler.reconcile(name)

    def adopt(self, key: VersionKey, number: int, writer: str) -> None:
        """Continue from the number of replicas that another client, `writer`, has set for a version."""
        self._scaling.adopt(key, number, writer)

    async def stop(self) -> None:
        """End every task, write the desired replicas, release the store. Replicas keep running."""
        if self._running is not None:
            self._running.cancel()
            # Its error, if any, is raised by `wait`.
            await asyncio.gather(self._running, return_exceptions=True)
            self._running = None
        with contextlib.suppress(StoreError):
            await self._scaling.flush()
        await self._store.close()

    async def wait(self) -> None:
        """Return once the control plane is stopped; raises the error of a task."""
        if self._running is not None:
            await asyncio.wait([self._running])
            if not self._running.cancelled():
                self._running.result()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._reconciler.watch(), name="watch replicas")
            tasks.create_task(self._reconciler.retry(), name="retry refusals of the provider")
            self._scaling.start(tasks)
            tasks.create_task(self._issuer.run(), name="rotate signing keys")

    # ---- state

    def snapshot(self) -> ResetAll:
        """Full state for a (re)started router worker. Only after `start`."""
        everything = self._registry.all()
        return ResetAll(
            endpoints=tuple(declared.endpoint for declared in everything),
            keys=tuple(digests(declared.endpoint.name, declared.keys) for declared in everything),
            trust=self._issuer.keyring.trust(),
            replicas=tuple(self._view.replicas()),
        )

    def declared(self, name: str) -> DeclaredEndpoint | None:
        """The declared endpoint; None: not declared, or skipped."""
        return self._registry.find(name)

    def keys_of(self, name: str, version: str | None) -> list[VersionKey]:
        """Keys of the versions of an endpoint; None: all. Raises EndpointNotFound, VersionNotFound."""
        return self._registry.keys_of(name, version)

    def declared_endpoints(self) -> tuple[Endpoint, ...]:
        """All declared endpoints."""
        return self._registry.endpoints()

    def _is_declared(self, key: VersionKey) -> bool:
        return self._registry.version(key) is not None or key.endpoint in self._registry.skipped()

    def _publish(self, message: ToWorker) -> None:
        if self._publisher is not None:
            self._publisher.publish(message)


def _telemetry_notes(endpoint: Endpoint, note: str) -> list[str]:
    return [note] if note and endpoint.app_insights else []
