"""Changes of declared endpoints: the store first, then memory, routers, autoscaler and provider.

A change that the store refuses has no effect. The caller holds the lock of the endpoint, except where noted.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from cluster.link import RemoveEndpoint, SetKeys, ToWorker, UpsertEndpoint
from controlplane.control_errors import ControlError, EndpointSkipped, StoreError
from controlplane.document_checks import stored_manifest
from controlplane.keys import INCARNATION_BYTES, PAIR_BYTES, KeyPair, digests, pair_from, revoked
from controlplane.reconciler import Reconciler
from controlplane.registry import DeclaredEndpoint, Registry, SkippedEndpoint
from controlplane.replica_scaling import ReplicaScaling
from controlplane.state import InstallationState, StoredEndpoint
from controlplane.store import Store
from serving.endpoint import Endpoint
from serving.faults import InvalidManifest
from serving.manifest import ScoringEndpoint, to_document, to_endpoint

_log = logging.getLogger(__name__)

TRIED_AGAIN = "it is tried again"


class EndpointChanges:
    """Applies changes of endpoints; one per control plane."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        scaling: ReplicaScaling,
        reconciler: Reconciler,
        publish: Callable[[ToWorker], None],
        entropy: Callable[[int], bytes],
    ) -> None:
        """Changes of the endpoints in `registry`.

        store: holds the endpoints.
        registry: the declared endpoints in memory.
        scaling: scales their versions.
        reconciler: applies them to the provider.
        publish: sends a message to the router workers.
        entropy: n -> n random bytes.
        """
        self._store = store
        self._registry = registry
        self._scaling = scaling
        self._reconciler = reconciler
        self._publish = publish
        self._entropy = entropy

    # ---- at the start; no lock needed

    def load(self, state: InstallationState) -> None:
        """Register the stored endpoints; invalid ones are skipped."""
        for name, why in state.damaged.items():
            self._registry.skip(name, SkippedEndpoint(why, self._store.remedy))
        for name, why in state.unread.items():
            self._registry.skip(name, SkippedEndpoint(why, TRIED_AGAIN, is_retried=True))
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

    async def complete_incarnations(self) -> None:
        """Add incarnations to endpoints stored by a release without them; their old tokens stay invalid."""
        for declared in self._registry.all():
            name, pair = declared.endpoint.name, declared.keys
            if pair.incarnation:
                continue
            complete = replace(declared, keys=revoked(pair, self._entropy(INCARNATION_BYTES)))
            try:
                await self._save(complete)
            except StoreError as error:
                # The endpoint is served all the same; its tokens end with this process.
                self._registry.put(complete)
                _log.warning("endpoint %s: tokens valid for this process only: %s", name, error)

    # ---- own changes

    async def declare(self, manifest: ScoringEndpoint, endpoint: Endpoint, old: DeclaredEndpoint | None) -> None:
        """Declare an endpoint, or replace `old`. Raises StoreError.

        manifest, endpoint: the valid declaration, as document and as domain record.
        old: the current declaration; None: none.
        """
        skipped = self._registry.skipped().get(endpoint.name)
        known = old or skipped
        keys = (known.keys if known else None) or pair_from(self._entropy(PAIR_BYTES))
        if not keys.incarnation:
            keys = revoked(keys, self._entropy(INCARNATION_BYTES))
        if skipped is not None and (aside := await self._store.set_endpoint_aside(endpoint.name)):
            _log.warning("endpoint %s: damaged file renamed to %s", endpoint.name, aside)
        await self._apply(await self._save(DeclaredEndpoint(manifest, endpoint, keys)), old)

    async def delete(self, name: str) -> None:
        """Delete an endpoint; of a skipped one the damaged file is renamed. Raises EndpointNotFound, StoreError."""
        if name in self._registry.skipped():
            if aside := await self._store.delete_damaged(name):
                _log.warning("endpoint %s: damaged file renamed to %s", name, aside)
            self._registry.drop(name)
            self._scaling.forget_endpoint(name)
        else:
            old = self._registry.get(name)
            await self._store.delete_endpoint(name)
            self._drop(old)
        await self._reconciler.reconcile(name)

    async def replace_keys(self, old: DeclaredEndpoint, pair: KeyPair) -> KeyPair:
        """Store and publish new keys; returns the stored ones. Raises StoreError."""
        stored = await self._save(replace(old, keys=pair))
        self._publish(SetKeys(digests(old.endpoint.name, stored.keys)))
        return stored.keys

    # ---- foreign changes

    async def follow(self, name: str, read: Callable[[], Awaitable[StoredEndpoint | str | None]]) -> None:
        """Apply a foreign change of the store. Takes the lock. Raises ControlError if unreadable, InvalidManifest.

        A new endpoint that is unreadable is skipped until it is read.

        name: of the endpoint.
        read: the stored record; None: deleted; text: its fault, which leaves the last valid declaration running.
        """
        async with self._registry.lock(name):
            old = self._registry.find(name)
            try:
                stored = await read()
            except ControlError as error:
                if old is None:
                    self._registry.skip(name, SkippedEndpoint(str(error), TRIED_AGAIN, is_retried=True))
                raise
            if isinstance(stored, str):
                if old is None:
                    self._registry.skip(name, SkippedEndpoint(stored, self._store.remedy))
            elif stored is not None:
                manifest = stored_manifest(name, stored)
                declared = DeclaredEndpoint(manifest, to_endpoint(manifest), stored.keys)
                self._scaling.adopt_counts(stored.replicas)
                if old is not None and (old.endpoint, old.keys) == (declared.endpoint, declared.keys):
                    self._registry.put(declared)
                else:
                    await self._apply(declared, old)
            else:
                if old is not None:
                    self._drop(old)
                else:
                    self._registry.drop(name)
                await self._reconciler.reconcile(name)

    # ---- steps

    async def _save(self, declared: DeclaredEndpoint) -> DeclaredEndpoint:
        """Store, then register; the result has the stored keys."""
        name = declared.endpoint.name
        stored = await self._store.save_endpoint(name, StoredEndpoint(to_document(declared.manifest), declared.keys))
        self._scaling.adopt_counts(stored.replicas)
        known = replace(declared, keys=stored.keys)
        self._registry.put(known)
        return known

    async def _apply(self, declared: DeclaredEndpoint, old: DeclaredEndpoint | None) -> None:
        """Apply a stored declaration to routers, autoscaler and provider."""
        endpoint, keys = declared.endpoint, declared.keys
        self._registry.put(declared)
        # Routers receive a version before its replicas exist, and drop it before they are drained.
        self._publish(UpsertEndpoint(endpoint))
        if old is None or old.keys != keys:
            self._publish(SetKeys(digests(endpoint.name, keys)))
        if old is not None:
            names = {version.name for version in endpoint.versions}
            removed = [version for version in old.endpoint.versions if version.name not in names]
            self._scaling.forget(removed, endpoint.name)
        self._scaling.track(endpoint)
        await self._reconciler.reconcile(endpoint.name)

    def _drop(self, old: DeclaredEndpoint) -> None:
        self._registry.drop(old.endpoint.name)
        self._publish(RemoveEndpoint(old.endpoint.name))
        self._scaling.forget(old.endpoint.versions, old.endpoint.name)
