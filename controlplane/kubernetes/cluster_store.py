"""Store of a cluster installation in the Kubernetes API. Implements `controlplane.store.Store`.

ScoringEndpoint NAME        the declared document
Secret scorefront-keys      the keys of all endpoints, in the namespace of the installation
Deployment .spec.replicas   the desired replicas
Secret scorefront-signing   token signing keys; their public halves in ConfigMap scorefront-trust
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any

from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.api_errors import NotFound, RequestRefused
from cluster.kubernetes.client.conflict_retry import update
from cluster.kubernetes.client.paths import ENDPOINTS, path
from cluster.kubernetes.endpoint_objects import EndpointObjects, is_leaving, title_of
from cluster.kubernetes.fence import Fence
from cluster.kubernetes.kubernetes_provider import KubernetesProvider, RecordEvent
from cluster.kubernetes.objects.labels import FINALIZER
from cluster.kubernetes.objects.scoring_endpoint import document_of
from cluster.provider import ProviderError
from controlplane.control_errors import ConflictingChange, ControlError, DamagedFile, InvalidCall
from controlplane.keys import PAIR_BYTES, KeyPair, KeyType, pair_from
from controlplane.kubernetes.cluster_callers import as_caller, writer
from controlplane.kubernetes.endpoint_keys import EndpointKeys
from controlplane.kubernetes.error_mapping import translating
from controlplane.kubernetes.signing_secret import SigningSecret
from controlplane.state import InstallationState, StoredEndpoint
from controlplane.tokens import Keyring
from serving.endpoint import VersionKey
from serving.faults import InvalidManifest
from serving.manifest import parse, to_document, to_endpoint

AT_ONCE = 16
SYSTEM_PREFIXES = ("kube-", "openshift-")
SYSTEM_RULE = "endpoints do not belong in a namespace of the cluster itself (kube-*, openshift-*)"

Object = dict[str, Any]

_log = logging.getLogger(__name__)


class ClusterStore:
    """Store in the Kubernetes API. Its writes are also applied to `objects`, which the watches keep current."""

    remedy = "repair it with kubectl, or declare it again"

    def __init__(
        self,
        api: Api,
        objects: EndpointObjects,
        provider: KubernetesProvider,
        namespaces: Collection[str],
        fence: Fence,
        entropy: Callable[[int], bytes],
        record_event: RecordEvent,
    ) -> None:
        """A store; `open` reads it.

        api: client of the API server.
        objects: existing ScoringEndpoints.
        provider: checks endpoints and knows the numbers of replicas.
        namespaces: watched namespaces; empty: all.
        fence: checked before every write.
        entropy: n -> n random bytes.
        record_event: records an Event.
        """
        self._api = api
        self._objects = objects
        self._provider = provider
        self._namespaces = namespaces
        self._fence = fence
        self._entropy = entropy
        self._record_event = record_event
        self._generations: dict[str, int] = {}
        self._keys = EndpointKeys(api, fence)
        self._keyring = SigningSecret(api, fence)

    # ---- controlplane.store.Store

    async def open(self) -> InstallationState:
        """The declared endpoints and the signing keys. Raises ControlError."""
        gate, unread = asyncio.Semaphore(AT_ONCE), dict[str, str]()

        async def read(name: str) -> StoredEndpoint | str | None:
            async with gate:
                try:
                    return await self.read(name)
                except ControlError as error:
                    if not isinstance(error.__cause__, RequestRefused):
                        raise
                    unread[name] = str(error)  # one new endpoint without keys must not keep all others from being led
                    return None

        await self._keys.refresh()
        names = self._objects.names()
        found = dict(zip(names, await asyncio.gather(*map(read, names)), strict=True))
        endpoints = {name: each for name, each in found.items() if isinstance(each, StoredEndpoint)}
        desired = {key: number for stored in endpoints.values() for key, number in stored.replicas.items()}
        damaged = {name: each for name, each in found.items() if isinstance(each, str)}
        keyring, lost = None, list[str]()
        try:
            keyring = await self._keyring.read()
        except DamagedFile as error:
            lost.append(f"{error}; it is replaced, and earlier tokens are invalid")
        return InstallationState(endpoints, desired, keyring, damaged, unread, tuple(lost))

    async def close(self) -> None:
        """Nothing to release."""

    async def save_endpoint(self, name: str, stored: StoredEndpoint) -> StoredEndpoint:
        """Create the object or replace its spec, then write its keys. A new object keeps existing keys."""
        self._check_fence()
        found = self._objects.owner(name)
        if found is None:
            found = await self._create(name, stored.document)
            self._generations[name] = found["metadata"].get("generation", 0)
            return StoredEndpoint(stored.document, await self._made_keys(found, stored.keys))
        if is_leaving(found):
            raise ConflictingChange(f"{self.place(name)} is being deleted; declare it again afterwards")
        if _spec_of(found) != stored.document["spec"]:
            found = await self._replace(found, stored.document)
        self._generations[name] = found["metadata"].get("generation", 0)
        keys = self._keys.bound(found, stored.keys)
        await self._change_keys(found, keys)
        return StoredEndpoint(stored.document, keys, self._numbers(found))

    async def delete_endpoint(self, name: str) -> None:
        """Delete the object; its finalizer is removed once its replicas are drained."""
        self._check_fence()
        found = self._objects.owner(name)
        if found is None:
            return
        metadata = found["metadata"]
        where = path(ENDPOINTS, metadata["namespace"], name)
        with translating(f"delete {self.place(name)}"):
            with as_caller():
                api = writer(self._api)
                await api.delete(where, uid=metadata["uid"])
            try:
                self._objects.put(await self._api.get(where))
            except NotFound:
                self._objects.gone(found)

    async def set_endpoint_aside(self, name: str) -> str:
        """Not needed: a declaration replaces the spec of the object."""
        return ""

    async def delete_damaged(self, name: str) -> str:
        """Delete the object."""
        await self.delete_endpoint(name)
        return ""

    async def save_desired(self, desired: Mapping[VersionKey, int]) -> None:
        """Not needed: the workloads hold their numbers."""

    async def save_keyring(self, keyring: Keyring) -> None:
        """Store the token signing keys."""
        self._check_fence()
        await self._keyring.write(keyring)

    def place(self, name: str) -> str:
        """Kind, namespace and name."""
        found = self._objects.owner(name)
        return f"ScoringEndpoint {title_of(found) if found else name}"

    # ---- changes of others

    async def read(self, name: str) -> StoredEndpoint | str | None:
        """The declared endpoint; text: its fault; None: not declared. Raises ControlError.

        Missing keys are created.
        """
        found = self._objects.owner(name)
        if found is None or is_leaving(found):
            return None
        self._generations[name] = found["metadata"].get("generation", 0)
        if found["metadata"]["namespace"].startswith(SYSTEM_PREFIXES):
            return f"{self.place(name)} is not served: {SYSTEM_RULE}"
        try:
            endpoint = to_endpoint(parse(document_of(found)))
            if faults := self._provider.check(endpoint):
                raise InvalidManifest(tuple(faults))
        except InvalidManifest as error:
            return f"{self.place(name)} is not valid: {'; '.join(map(str, error.faults))}"
        try:
            keys = await self._keys.make(found, pair_from(self._entropy(PAIR_BYTES)))
        except ProviderError as error:
            return str(error)
        return StoredEndpoint(document_of(found), keys, self._numbers(found))

    async def changed_keys(self, known: Mapping[str, KeyPair]) -> list[str]:
        """Read the Secret again and drop entries of deleted endpoints. Raises ControlError.

        known: endpoint -> the keys in use. Returns the endpoints with a different, missing or unusable entry.
        """
        await self._keys.refresh()
        await self._keys.sweep(self._objects.all(), frozenset(self._namespaces))
        return [name for name, keys in known.items() if await self._differ(name, keys)]

    async def forget_keys(self, found: Object) -> None:
        """Remove the keys of an object before its finalizer. Raises ControlError."""
        await self._keys.forget(found)

    def generation(self, name: str) -> int:
        """Generation of the object as last read or written."""
        return self._generations.get(name, 0)

    # ---- inside

    async def _differ(self, name: str, known: KeyPair) -> bool:
        found = self._objects.owner(name)
        if found is None or is_leaving(found):
            return False
        try:
            return await self._keys.read(found) != known
        except ProviderError:
            return True

    def _check_fence(self) -> None:
        with translating("write"):
            self._fence.check()

    async def _create(self, name: str, document: Mapping[str, Any]) -> Object:
        metadata = document["metadata"]
        namespace = metadata.get("namespace") or self._api.home
        if namespace.startswith(SYSTEM_PREFIXES):
            raise InvalidCall(f"namespace {namespace}: {SYSTEM_RULE}")
        if self._namespaces and namespace not in self._namespaces:
            raise ConflictingChange(f"namespace {namespace} is not watched; {', '.join(sorted(self._namespaces))} are")
        body = {
            "apiVersion": ENDPOINTS.api_version,
            "kind": ENDPOINTS.kind,
            "metadata": {**metadata, "namespace": namespace, "finalizers": [FINALIZER]},
            "spec": document["spec"],
        }
        with translating(f"create ScoringEndpoint {namespace}/{name}"), as_caller():
            api = writer(self._api)
            found = await api.create(path(ENDPOINTS, namespace), body)
        self._objects.put(found)
        return found

    async def _replace(self, found: Object, document: Mapping[str, Any]) -> Object:
        """Replace the spec and the given labels and annotations. Raises ConflictingChange if the spec has changed."""
        generation, given = found["metadata"].get("generation"), document["metadata"]
        name, namespace = found["metadata"]["name"], found["metadata"]["namespace"]
        if given.get("namespace", namespace) != namespace:
            raise ConflictingChange(f"name '{name}' is taken by {title_of(found)}")
        where = path(ENDPOINTS, namespace, name)

        async def write(known: Object) -> Object:
            metadata = dict(known["metadata"])
            if metadata.get("generation") != generation:
                self._objects.put(known)
                raise ConflictingChange(f"cannot write {self.place(name)}: its spec was changed by others meanwhile")
            for field in ("labels", "annotations"):
                if given.get(field):
                    metadata[field] = {**(metadata.get(field) or {}), **given[field]}
            with translating(f"write {self.place(name)}", retried=True), as_caller():
                api = writer(self._api)
                return await api.replace(where, {**known, "metadata": metadata, "spec": document["spec"]})

        async def reread() -> Object:
            with translating(f"read {self.place(name)}"):
                return await self._api.get(where)

        exhausted = ConflictingChange(f"{self.place(name)} is changed by others continually")
        written = await update(found, write, reread, exhausted)
        self._objects.put(written)
        return written

    async def _made_keys(self, found: Object, keys: KeyPair) -> KeyPair:
        with translating(f"make the keys of {found['metadata']['name']}"):
            made = await self._keys.make(found, keys)
        self._objects.put(await self._keys.publish(found, made))
        return made

    async def _change_keys(self, found: Object, keys: KeyPair) -> None:
        name = found["metadata"]["name"]
        with translating(f"write the keys of {name}"):
            before = await self._keys.read(found)
            if before == keys:
                return
            if before is not None and not {before.primary, before.secondary} & {keys.primary, keys.secondary}:
                raise ConflictingChange(f"the keys of {name} were changed by another client; read them again")
            await self._keys.change(found, before or keys, keys)
        self._objects.put(await self._keys.publish(found, keys))
        if before is None:
            return
        if changed := " and the ".join(kind for kind in KeyType if getattr(before, kind) != getattr(keys, kind)):
            self._record_event(name, "KeyRegenerated", f"the {changed} key is new; the old one is invalid")
        if before.incarnation not in ("", keys.incarnation):
            self._record_event(name, "TokensRevoked", "all earlier tokens are invalid")

    def _numbers(self, found: Object) -> dict[VersionKey, int]:
        """Current numbers of replicas of its workloads."""
        name = found["metadata"]["name"]
        try:
            endpoint = to_endpoint(parse(document_of(found)))
        except InvalidManifest:
            return {}
        keys = {VersionKey(name, version.name): version for version in endpoint.versions}
        numbers = {key: self._provider.status.number(key, version) for key, version in keys.items()}
        return {key: number for key, number in numbers.items() if number is not None}


def _spec_of(found: Object) -> Any:
    """The spec with defaults filled in, as `to_document` writes it; None if it is invalid."""
    try:
        return to_document(parse(document_of(found)))["spec"]
    except InvalidManifest:
        return None
