"""The control plane of one installation: what REST and the routers call, on top of store, reconciler and autoscaler.

Every change of an endpoint goes the same way, under its lock: validate, write to the store, change memory, tell the
routers, have the provider follow. What is refused on the way to the store has changed nothing. What somebody else has
changed in the store comes in by `take_over`, and goes the same way from there.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from autoscaler.policy import Decision, Direction
from cluster.link import (
    RemoveEndpoint,
    ResetAll,
    SetKeys,
    SetTrust,
    UpsertEndpoint,
    WorkerMetrics,
)
from cluster.provider import Provider, ProviderError
from controlplane.admission import stored_manifest, unencodable
from controlplane.cluster_view import ClusterView, Shortfall, shortfalls
from controlplane.control_errors import ConflictingChange, EndpointSkipped, StoreError
from controlplane.endpoint_view import LOG_LINES, ViewSources, to_view
from controlplane.keys import (
    ENTROPY_BYTES,
    INCARNATION_BYTES,
    PAIR_BYTES,
    KeyPair,
    KeyType,
    digests,
    pair_from,
    regenerated,
    revoked,
)
from controlplane.log_streams import LogLine, follow
from controlplane.reconciler import Reconciler
from controlplane.records import DecisionRecord
from controlplane.registry import DeclaredEndpoint, Registry, SkippedEndpoint
from controlplane.routers import RouterControl
from controlplane.scaling import Scaling
from controlplane.signing import TokenIssuer
from controlplane.state import InstallationState, StoredEndpoint
from controlplane.store import Store
from controlplane.tokens import IssuedToken, TokenAlgorithm
from serving.clock import Clock
from serving.endpoint import Auth, Endpoint, VersionKey
from serving.faults import InvalidManifest
from serving.manifest import ScoringEndpoint, parse, to_document, to_endpoint
from serving.replica import ReplicaState
from serving.traffic import with_traffic
from serving.usage import UsageReport

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PlaneSettings:
    """What a control plane can be told."""

    scoring_url: str = "http://127.0.0.1:8080"
    """How clients reach the routers: `http(s)://host:port`."""
    token_algorithm: TokenAlgorithm = TokenAlgorithm.EDDSA


@dataclass(frozen=True, slots=True)
class Measurements:
    """What `/metrics` is made from."""

    workers: Sequence[WorkerMetrics]
    replicas: Mapping[VersionKey, Mapping[ReplicaState, int]]
    desired: Mapping[VersionKey, int]
    decisions: Mapping[tuple[VersionKey, Direction], int]


class ControlPlane:
    """One per installation. `clock` is the event-loop clock, `wall` gives unix seconds, `entropy(n)` n random bytes."""

    def __init__(
        self,
        store: Store,
        provider: Provider,
        routers: RouterControl,
        clock: Clock,
        wall: Callable[[], float],
        settings: PlaneSettings | None = None,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
        acted: Callable[[Decision], None] = lambda decision: None,
    ) -> None:
        """`acted` is told of every decision that the provider has taken."""
        settings = settings or PlaneSettings()
        self._store = store
        self._provider = provider
        self._routers = routers
        self._entropy = entropy
        self._registry = Registry()
        self._view = ClusterView()
        self._scaling = Scaling(provider, routers, self._view, self._registry, store.save_desired, clock, wall, acted)
        self._issuer = TokenIssuer(
            settings.token_algorithm, store.save_keyring, lambda trust: routers.publish(SetTrust(trust)), clock, wall
        )
        self._reconciler = Reconciler(provider, routers, self._view, self._registry, self._scaling.numbers, clock)
        self._sources = ViewSources(
            self._view, settings.scoring_url, self._scaling.observe, self._scaling.desired, self._reconciler.trouble
        )
        self._running: asyncio.Task[None] | None = None

    # ---- life

    async def start(self) -> None:
        """Load what was declared, have it run, keep it so until `stop`. Raises StoreError; then nothing was started."""
        await self.begin()
        await self.reconcile_all()

    async def begin(self) -> None:
        """The first half of `start`: what is declared is known, scaled and told to the routers. Raises StoreError."""
        state = await self._store.open()
        try:
            self._load(state)
            self._scaling.load({key: n for key, n in state.wanted.items() if self._is_kept(key)})
            await self._issuer.load(state.keyring)
            await self._complete_incarnations()
        except BaseException:
            await self._store.close()
            raise
        self._routers.publish(self.snapshot())
        for declared in self._registry.all():
            self._scaling.track(declared.endpoint)
        self._running = asyncio.create_task(self._run(), name="control plane")

    async def reconcile_all(self) -> None:
        """The second half: have the provider match everything that is declared."""
        for declared in self._registry.all():
            await self.reconcile(declared.endpoint.name)

    async def reconcile(self, name: str) -> None:
        """Have the provider match what is declared for `name`, be it nothing."""
        async with self._registry.lock(name):
            await self._reconciler.reconcile(name)

    async def stop(self) -> None:
        """End every task, write the wanted numbers, give the state directory back. Replicas are left as they are."""
        if self._running is not None:
            self._running.cancel()
            # What it died of, if it did, was `wait`'s to tell.
            await asyncio.gather(self._running, return_exceptions=True)
            self._running = None
        with contextlib.suppress(StoreError):
            await self._scaling.flush()
        await self._store.close()

    async def wait(self) -> None:
        """Return when the control plane was stopped; raise what it died of."""
        if self._running is not None:
            await asyncio.wait([self._running])
            if not self._running.cancelled():
                self._running.result()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._reconciler.watch(), name="watch replicas")
            tasks.create_task(self._reconciler.retry(), name="retry what the provider refused")
            self._scaling.start(tasks)
            tasks.create_task(self._issuer.run(), name="rotate signing keys")

    def _load(self, state: InstallationState) -> None:
        """Declare what is fit to be declared; what is not keeps nothing else from being served."""
        for name, why in state.damaged.items():
            self._registry.skip(name, SkippedEndpoint(why, self._store.remedy))
        for name, stored in state.endpoints.items():
            try:
                manifest = stored_manifest(name, stored)
            except InvalidManifest as error:
                why = f"{self._store.place(name)} is not valid: {'; '.join(map(str, error.faults))}"
                self._registry.skip(name, SkippedEndpoint(why, self._store.remedy, stored.keys))
            else:
                self._registry.put(DeclaredEndpoint(manifest, to_endpoint(manifest), stored.keys))
        for name, skipped in self._registry.skipped().items():
            _log.error("%s", EndpointSkipped(name, skipped.why, skipped.remedy))
        for text in state.lost:
            _log.error("%s", text)

    async def _complete_incarnations(self) -> None:
        """Give endpoints that were kept by a version without incarnations one each; their old tokens stay invalid."""
        for declared in self._registry.all():
            name, pair = declared.endpoint.name, declared.keys
            if pair.incarnation:
                continue
            complete = replace(declared, keys=revoked(pair, self._entropy(INCARNATION_BYTES)))
            try:
                await self._put(complete)
            except StoreError as error:
                # Without it the endpoint serves all the same; its tokens end with this process.
                self._registry.put(complete)
                _log.warning("endpoint %s: its tokens end with this process: %s", name, error)

    def _is_kept(self, key: VersionKey) -> bool:
        return self._registry.version(key) is not None or key.endpoint in self._registry.skipped()

    # ---- what the router group calls

    def snapshot(self) -> ResetAll:
        """Everything a router worker must know; sent first to each worker that (re)starts. Only after `start`."""
        everything = self._registry.all()
        return ResetAll(
            endpoints=tuple(declared.endpoint for declared in everything),
            keys=tuple(digests(declared.endpoint.name, declared.keys) for declared in everything),
            trust=self._issuer.keyring.trust(),
            replicas=tuple(self._view.replicas()),
        )

    def workers_expected(self, workers: Collection[str]) -> None:
        """These workers are alive: as long as one of them is silent, utilization is incomplete and lowers nothing."""
        self._scaling.expect(workers)

    def usage_reported(self, report: UsageReport) -> None:
        """Take over a worker's counts; versions that found no free slot are decided on at once."""
        self._scaling.take(report)

    def replica_drained(self, replica_id: str) -> None:
        """Nothing is in flight on this withdrawn replica, in any worker, and nothing will be."""
        self._scaling.drained(replica_id)

    def worker_ended(self, worker: str) -> None:
        """This worker process has ended."""
        self._scaling.forget_worker(worker)

    # ---- what REST calls: changes

    async def apply(self, document: object, subject: str = "") -> tuple[dict[str, Any], bool]:
        """Declare an endpoint, anew or again: (its View, whether it is new). Raises InvalidManifest, StoreError."""
        manifest = parse(document, subject)
        name = manifest.metadata.name
        async with self._registry.lock(name):
            old = self._registry.find(name)
            endpoint = to_endpoint(manifest)
            faults = [*self._provider.check(endpoint), *unencodable(manifest, endpoint)]
            if faults:
                raise InvalidManifest(tuple(faults), subject)
            await self._declare(manifest, endpoint, old)
        return await self.get(name), old is None

    async def set_traffic(
        self, name: str, percentiles: Mapping[str, float], default: str | None, control: str | None
    ) -> dict[str, Any]:
        """Change the split alone; versions not named keep theirs.

        Raises EndpointNotFound, InvalidManifest, StoreError.
        """
        async with self._registry.lock(name):
            old = self._registry.get(name)
            manifest = parse(with_traffic(old.manifest, percentiles, default, control))
            await self._declare(manifest, to_endpoint(manifest), old)
        return await self.get(name)

    async def delete(self, name: str) -> None:
        """Answer 404 for it at once, then drain and stop its replicas. Raises EndpointNotFound, StoreError.

        Of one that is skipped the damaged file is kept under another name.
        """
        async with self._registry.lock(name):
            if name in self._registry.skipped():
                if aside := await self._store.delete_damaged(name):
                    _log.warning("endpoint %s: its damaged file is kept as %s", name, aside)
                self._registry.drop(name)
                self._scaling.forget_wanted(name)
                await self._reconciler.reconcile(name)
                return
            old = self._registry.get(name)
            await self._store.delete_endpoint(name)
            self._drop(old)
            await self._reconciler.reconcile(name)

    async def regenerate(self, name: str, which: KeyType) -> KeyPair:
        """Replace one key; the old one dies as the routers are told. Raises EndpointNotFound, StoreError."""
        async with self._registry.lock(name):
            old = self._registry.get(name)
            return await self._replace_keys(old, regenerated(old.keys, which, self._entropy(ENTROPY_BYTES)))

    async def revoke_tokens(self, name: str) -> IssuedToken:
        """Make every token issued so far invalid; keys stay valid. Returns a new token.

        Raises EndpointNotFound, StoreError; ConflictingChange when the endpoint does not take tokens.
        """
        async with self._registry.lock(name):
            old = self._with_token_auth(name)
            await self._replace_keys(old, revoked(old.keys, self._entropy(INCARNATION_BYTES)))
            return self.token(name)

    # ---- what is changed in the store by somebody else

    async def take_over(self, name: str, read: Callable[[], Awaitable[StoredEndpoint | str | None]]) -> None:
        """Follow what is kept of `name` now, which `read` gives: as `apply` and `delete` do, but for the writing.

        None: it is not kept. Text: what is wrong with it; then what runs goes on as it was declared last. What is
        known already changes nothing. Raises StoreError when it cannot be read, InvalidManifest.
        """
        async with self._registry.lock(name):
            kept, old = await read(), self._registry.find(name)
            if isinstance(kept, str):
                if old is None:
                    self._registry.skip(name, SkippedEndpoint(kept, self._store.remedy))
            elif kept is not None:
                manifest = stored_manifest(name, kept)
                declared = DeclaredEndpoint(manifest, to_endpoint(manifest), kept.keys)
                self._scaling.adopt_counts(kept.replicas)
                if old is not None and (old.endpoint, old.keys) == (declared.endpoint, declared.keys):
                    self._registry.put(declared)
                else:
                    await self._follow(declared, old)
            elif old is not None:
                self._drop(old)
                await self._reconciler.reconcile(name)
            else:
                self._registry.drop(name)
                await self._reconciler.reconcile(name)

    # ---- how a change goes on once it is kept

    async def _declare(self, manifest: ScoringEndpoint, endpoint: Endpoint, old: DeclaredEndpoint | None) -> None:
        skipped = self._registry.skipped().get(endpoint.name)
        known = old or skipped
        keys = (known.keys if known else None) or pair_from(self._entropy(PAIR_BYTES))
        if not keys.incarnation:
            keys = revoked(keys, self._entropy(INCARNATION_BYTES))
        if skipped is not None:
            await self._set_aside(endpoint.name)
        await self._follow(await self._put(DeclaredEndpoint(manifest, endpoint, keys)), old)

    async def _follow(self, declared: DeclaredEndpoint, old: DeclaredEndpoint | None) -> None:
        """Have everybody do as `declared` says, which is kept now."""
        endpoint, keys = declared.endpoint, declared.keys
        self._registry.put(declared)
        # Routers learn of a version before its replicas exist, and forget it before they are drained.
        self._routers.publish(UpsertEndpoint(endpoint))
        if old is None or old.keys != keys:
            self._routers.publish(SetKeys(digests(endpoint.name, keys)))
        if old is not None:
            names = {version.name for version in endpoint.versions}
            self._scaling.forget(
                [version for version in old.endpoint.versions if version.name not in names], endpoint.name
            )
        self._scaling.track(endpoint)
        await self._reconciler.reconcile(endpoint.name)

    def _drop(self, old: DeclaredEndpoint) -> None:
        self._registry.drop(old.endpoint.name)
        self._routers.publish(RemoveEndpoint(old.endpoint.name))
        self._scaling.forget(old.endpoint.versions, old.endpoint.name)

    async def _set_aside(self, name: str) -> None:
        if aside := await self._store.set_endpoint_aside(name):
            _log.warning("endpoint %s: its damaged file is kept as %s", name, aside)

    async def _replace_keys(self, old: DeclaredEndpoint, pair: KeyPair) -> KeyPair:
        kept = await self._put(replace(old, keys=pair))
        self._routers.publish(SetKeys(digests(old.endpoint.name, kept.keys)))
        return kept.keys

    def _with_token_auth(self, name: str) -> DeclaredEndpoint:
        declared = self._registry.get(name)
        if declared.endpoint.auth is not Auth.TOKEN:
            raise ConflictingChange(f"endpoint '{name}' does not use token auth; set tokenAuthEnabled: true to have it")
        return declared

    async def _put(self, declared: DeclaredEndpoint) -> DeclaredEndpoint:
        """Keep it, then know it: with the keys that are kept."""
        name = declared.endpoint.name
        kept = await self._store.save_endpoint(name, StoredEndpoint(to_document(declared.manifest), declared.keys))
        self._scaling.adopt_counts(kept.replicas)
        known = replace(declared, keys=kept.keys)
        self._registry.put(known)
        return known

    # ---- what REST calls: questions

    async def get(self, name: str) -> dict[str, Any]:
        """The View of one endpoint. Raises EndpointNotFound."""
        declared = self._registry.get(name)
        tails = {shortfall.key: await self._log_tail(shortfall.key) for shortfall in self._missing(declared.endpoint)}
        return to_view(declared, self._sources, tails)

    def skipped(self) -> dict[str, str]:
        """Endpoints that are not served because what is kept of them is damaged -> the file, the field and the rule."""
        return {name: skipped.why for name, skipped in sorted(self._registry.skipped().items())}

    async def views(self) -> list[dict[str, Any]]:
        """The Views of all endpoints, by name."""
        views = []
        for declared in self._registry.all():
            if self._registry.find(declared.endpoint.name) is not None:
                views.append(await self.get(declared.endpoint.name))
        return views

    def keys(self, name: str) -> KeyPair:
        """Both keys. Raises EndpointNotFound."""
        return self._registry.get(name).keys

    def token(self, name: str) -> IssuedToken:
        """A token for the endpoint. Raises EndpointNotFound; ConflictingChange when it does not take tokens."""
        return self._issuer.issue(name, self._with_token_auth(name).keys.incarnation)

    def decisions(self, name: str, version: str | None, last: int) -> list[DecisionRecord]:
        """The newest scaling decisions, newest last. Raises EndpointNotFound, VersionNotFound."""
        return self._scaling.decisions.last(self._registry.keys_of(name, version), last)

    async def logs(self, name: str, version: str | None, tail: int) -> list[LogLine]:
        """The last lines of every replica. Raises EndpointNotFound, VersionNotFound."""
        lines = []
        for key in self._registry.keys_of(name, version):
            for replica, tail_lines in (await self._provider.logs(key, tail)).items():
                lines += [LogLine(key.version, replica, line) for line in tail_lines]
        return lines

    def follow_logs(self, name: str, version: str | None) -> AsyncGenerator[LogLine, None]:
        """Lines as they are written, for ever. Raises EndpointNotFound, VersionNotFound at once."""
        return follow(self._provider, self._registry.keys_of(name, version))

    def shortfalls(self) -> list[Shortfall]:
        """The versions that keep the installation from being ready; empty = ready."""
        return shortfalls(self._registry.endpoints(), self._view)

    async def measure(self) -> Measurements:
        """The numbers behind `/metrics`, now."""
        workers = await self._routers.collect()
        versions = [(v, VersionKey(e.name, v.name)) for e in self._registry.endpoints() for v in e.versions]
        return Measurements(
            workers=workers,
            replicas={key: self._view.counts(key) for _, key in versions},
            desired={key: self._scaling.desired(version, key) for version, key in versions},
            decisions=self._scaling.decisions.counts(),
        )

    def declared(self, name: str) -> DeclaredEndpoint | None:
        """What is declared under this name; None: nothing that is served."""
        return self._registry.find(name)

    @property
    def sources(self) -> ViewSources:
        """Where to learn how endpoints fare."""
        return self._sources

    def _missing(self, endpoint: Endpoint) -> list[Shortfall]:
        return shortfalls((endpoint,), self._view)

    async def _log_tail(self, key: VersionKey) -> list[str]:
        try:
            tails = await self._provider.logs(key, LOG_LINES)
        except ProviderError:
            return []
        return next((lines for lines in reversed(tails.values()) if lines), [])
