"""Use cases of the REST API: declare, change, read and delete endpoints, their keys, tokens, logs and decisions."""

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from autoscaler.input_log import WhatIf
from autoscaler.policy_text import policy_changes, with_changes
from cluster.provider import Provider, ProviderError
from controlplane.cluster_view import Shortfall, shortfalls
from controlplane.control_errors import ConflictingChange, InvalidCall
from controlplane.document_checks import unencodable
from controlplane.endpoint_changes import EndpointChanges
from controlplane.endpoint_metrics import EndpointMetrics
from controlplane.endpoint_view import LOG_LINES, ViewSources, to_view
from controlplane.keys import ENTROPY_BYTES, INCARNATION_BYTES, KeyPair, KeyType, regenerated, revoked, with_key
from controlplane.log_streams import LogLine, follow, in_order, tails
from controlplane.records import DecisionRecord
from controlplane.registry import ApplyOutcome, DeclaredEndpoint, Registry, SkippedEndpoint, is_scaled
from controlplane.replica_scaling import ReplicaScaling
from controlplane.signing import TokenIssuer
from controlplane.tokens import IssuedToken
from serving.endpoint import Auth, AutoscalePolicy, VersionKey
from serving.faults import InvalidManifest
from serving.manifest import parse, to_endpoint
from serving.replica import Replica
from serving.traffic import with_traffic


class EndpointService:
    """Use cases on endpoints. Changes of one endpoint are serialised by its lock."""

    def __init__(
        self,
        provider: Provider,
        registry: Registry,
        changes: EndpointChanges,
        scaling: ReplicaScaling,
        issuer: TokenIssuer,
        sources: ViewSources,
        entropy: Callable[[int], bytes],
    ) -> None:
        """The use cases of one control plane.

        provider: checks endpoints and reads logs.
        registry: the declared endpoints.
        changes: applies changes.
        scaling: has decisions and desired replicas.
        issuer: issues tokens.
        sources: of the status of endpoints.
        entropy: n -> n random bytes.
        """
        self._provider = provider
        self._registry = registry
        self._changes = changes
        self._scaling = scaling
        self._issuer = issuer
        self._sources = sources
        self._entropy = entropy
        self.metrics = EndpointMetrics(registry, scaling, sources)

    # ---- changes

    async def apply(self, document: object, subject: str = "") -> tuple[dict[str, Any], ApplyOutcome]:
        """Declare or replace an endpoint: its View and the outcome. Raises InvalidManifest, StoreError.

        `subject`: name of the document in error messages, e.g. its file.
        """
        manifest = parse(document, subject)
        name = manifest.metadata.name
        async with self._registry.lock(name):
            old = self._registry.find(name)
            endpoint = to_endpoint(manifest)
            faults = [*self._provider.check(endpoint), *unencodable(manifest, endpoint)]
            if faults:
                raise InvalidManifest(tuple(faults), subject)
            edited = await self._provider.refresh(endpoint)
            await self._changes.declare(manifest, endpoint, old)
        return await self.get(name), ApplyOutcome.of(old, manifest, bool(edited))

    async def restart(self, name: str, version: str | None) -> dict[str, Any]:
        """Replace the replicas of an endpoint without losing a request; returns the View.

        `version`: None: all versions. Raises EndpointNotFound, VersionNotFound; ConflictingChange for static replicas,
        and if the provider refuses.
        """
        async with self._registry.lock(name):
            wanted = {key.version for key in self._registry.keys_of(name, version)}
            endpoint = self._registry.get(name).endpoint
            versions = [each.name for each in endpoint.versions if each.name in wanted and is_scaled(each)]
            if not versions:
                raise ConflictingChange(f"the replicas of '{name}' are static: restart them where they run")
            try:
                await self._provider.restart(endpoint, versions)
            except ProviderError as error:
                raise ConflictingChange(str(error)) from error
        return await self.get(name)

    async def set_traffic(
        self, name: str, percentiles: Mapping[str, float], default: str | None, control: str | None
    ) -> dict[str, Any]:
        """Change the traffic split; returns the View. Raises EndpointNotFound, InvalidManifest, StoreError.

        name: of the endpoint.
        percentiles: version -> percent; other versions keep theirs.
        default: new default version; None: unchanged.
        control: new control version; None: unchanged.
        """
        async with self._registry.lock(name):
            old = self._registry.get(name)
            manifest = parse(with_traffic(old.manifest, percentiles, default, control))
            await self._changes.declare(manifest, to_endpoint(manifest), old)
        return await self.get(name)

    async def delete(self, name: str) -> None:
        """Answer 404 for it at once, then drain and stop its replicas. Raises EndpointNotFound, StoreError."""
        async with self._registry.lock(name):
            await self._changes.delete(name)

    async def regenerate(self, name: str, which: KeyType, key: str | None = None) -> KeyPair:
        """Replace one key; routers refuse the old one at once. Raises EndpointNotFound, InvalidCall, StoreError.

        name: of the endpoint.
        which: the key to replace.
        key: the new key; None: a generated one.
        """
        async with self._registry.lock(name):
            old = self._registry.get(name)
            if key is None:
                pair = regenerated(old.keys, which, self._entropy(ENTROPY_BYTES))
            else:
                try:
                    pair = with_key(old.keys, which, key)
                except ValueError as error:
                    raise InvalidCall(f"keyValue {error}") from error
            return await self._changes.replace_keys(old, pair)

    async def revoke_tokens(self, name: str) -> IssuedToken:
        """Invalidate every issued token; keys stay valid. Returns a new token.

        Raises EndpointNotFound, StoreError; ConflictingChange without token auth.
        """
        async with self._registry.lock(name):
            old = self._with_token_auth(name)
            await self._changes.replace_keys(old, revoked(old.keys, self._entropy(INCARNATION_BYTES)))
            return self.token(name)

    # ---- queries

    async def get(self, name: str) -> dict[str, Any]:
        """The View of one endpoint. Raises EndpointNotFound."""
        declared = self._registry.get(name)
        missing = shortfalls((declared.endpoint,), self._sources.view)
        return to_view(declared, self._sources, {each.key: await self._log_tail(each.key) for each in missing})

    async def views(self) -> list[dict[str, Any]]:
        """The Views of all endpoints, by name."""
        views = []
        for declared in self._registry.all():
            if self._registry.find(declared.endpoint.name) is not None:
                views.append(await self.get(declared.endpoint.name))
        return views

    def declared(self, name: str) -> DeclaredEndpoint | None:
        """The declaration and keys of an endpoint; None: not declared, or skipped."""
        return self._registry.find(name)

    def replicas(self, key: VersionKey) -> list[Replica]:
        """The observed replicas of a version, oldest first."""
        return self._sources.view.of(key)

    def names(self) -> list[str]:
        """Names of the declared endpoints."""
        return [declared.endpoint.name for declared in self._registry.all()]

    def skipped(self) -> dict[str, SkippedEndpoint]:
        """Endpoints that are not served, by name."""
        return dict(sorted(self._registry.skipped().items()))

    def keys(self, name: str) -> KeyPair:
        """Both keys. Raises EndpointNotFound."""
        return self._registry.get(name).keys

    def token(self, name: str) -> IssuedToken:
        """A token for the endpoint. Raises EndpointNotFound; ConflictingChange without token auth."""
        return self._issuer.issue(name, self._with_token_auth(name).keys.incarnation)

    def decisions(self, name: str, version: str | None, last: int) -> list[DecisionRecord]:
        """The last scaling decisions, newest last. Raises EndpointNotFound, VersionNotFound.

        name: of the endpoint.
        version: None: all versions.
        last: most records.
        """
        return self._scaling.decisions.last(self._registry.keys_of(name, version), last)

    def take_moves(self) -> list[DecisionRecord]:
        """Decisions that changed a number since the last call, oldest first; for one reader, the history."""
        return self._scaling.decisions.take_moves()

    def what_if(self, name: str, version: str | None, changes: str) -> list[tuple[str, AutoscalePolicy, WhatIf]]:
        """(version, changed policy, outcome) of each scaled version with decisions in the last hour.

        Raises EndpointNotFound, VersionNotFound, InvalidCall.

        name: of the endpoint.
        version: None: all versions.
        changes: of the policy, as in `autoscaler.policy_text`.
        """
        found = []
        for key in self._registry.keys_of(name, version):
            declared = self._registry.version(key)
            if declared is None or not is_scaled(declared):
                continue
            try:
                policy = with_changes(declared.autoscale, policy_changes(changes))
            except ValueError as error:
                raise InvalidCall(f"policy: {error}") from None
            outcome = self._scaling.what_if(declared, key, policy)
            if outcome is not None:
                found.append((key.version, policy, outcome))
        return found

    async def logs(self, name: str, version: str | None, tail: int) -> list[LogLine]:
        """The last log lines of every replica, by time. Raises EndpointNotFound, VersionNotFound.

        name: of the endpoint.
        version: None: all versions.
        tail: most lines of one replica.
        """
        return in_order(await tails(self._provider, self._registry.keys_of(name, version), tail))

    def follow_logs(self, name: str, version: str | None, tail: int = 0) -> AsyncGenerator[LogLine, None]:
        """The last log lines of every replica, then new ones, without end. Arguments and errors as of `logs`."""
        return follow(self._provider, self._registry.keys_of(name, version), tail)

    def shortfalls(self) -> list[Shortfall]:
        """The versions that are not ready; the installation is ready without any."""
        return shortfalls(self._registry.endpoints(), self._sources.view)

    def _with_token_auth(self, name: str) -> DeclaredEndpoint:
        declared = self._registry.get(name)
        if declared.endpoint.auth is not Auth.TOKEN:
            raise ConflictingChange(f"endpoint '{name}' does not use token auth; set tokenAuthEnabled: true")
        return declared

    async def _log_tail(self, key: VersionKey) -> list[str]:
        try:
            tails = await self._provider.logs(key, LOG_LINES)
        except ProviderError:
            return []
        latest = max((lines for lines in tails.values() if lines), key=lambda lines: lines[-1].at_s, default=[])
        return [line.text for line in latest]
