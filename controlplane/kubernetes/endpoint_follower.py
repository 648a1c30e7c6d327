"""Follower of foreign changes: passes changed ScoringEndpoints to the control plane, and finalizes deleted ones."""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.reflector import ObjectGone, ObjectPut
from cluster.kubernetes.ending import EndOfInstallation
from cluster.kubernetes.endpoint_objects import EndpointObjects, is_leaving
from cluster.kubernetes.finalizer import remove_finalizer
from cluster.kubernetes.kubernetes_provider import KubernetesProvider
from cluster.kubernetes.leader_watches import LeaderWatches
from cluster.provider import ProviderError
from controlplane.control_errors import ControlError
from controlplane.kubernetes.cluster_store import ClusterStore
from controlplane.plane import ControlPlane
from controlplane.state import StoredEndpoint
from serving.clock import Clock
from serving.faults import InvalidManifest

RETRY_AFTER_S = 2.0
LEAVING_EVERY_S = 1.0
KEYS_ROUND_S = 60.0

Object = dict[str, Any]

_log = logging.getLogger(__name__)


class EndpointFollower:
    """Level-triggered: records the names of changed objects, and reads their current state."""

    def __init__(
        self,
        api: Api,
        objects: EndpointObjects,
        store: ClusterStore,
        provider: KubernetesProvider,
        plane: ControlPlane,
        clock: Clock,
        sight: LeaderWatches,
    ) -> None:
        self._ending = EndOfInstallation(api)
        self._api = api
        self._objects = objects
        self._store = store
        self._provider = provider
        self._plane = plane
        self._clock = clock
        self.refused: dict[str, str] = {}
        """Endpoint -> fault of its current declaration, which is not followed."""
        self._seen: dict[str, tuple[object, ...]] = {}
        self._dirty: set[str] = set()
        self._leaving: set[str] = set()
        self._wake = asyncio.Event()
        sight.endpoints.listen(self._endpoint_changed)

    def begin(self) -> None:
        """Discard pending changes, because all endpoints are about to be loaded."""
        self._dirty = {name for name in self._objects.names() if self._has_leaving(name)}
        self._leaving = set(self._dirty)
        if self._dirty:
            self._wake.set()

    async def run(self) -> None:
        """Follow changes until cancelled."""
        await self._ending.begin()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._finalize(), name="finalize deleted endpoints")
            tasks.create_task(self._poll_keys(), name="poll keys")
            while True:
                await self._wake.wait()
                self._wake.clear()
                dirty, self._dirty = self._dirty, set()
                if leaving := {name for name in dirty if self._has_leaving(name)}:
                    # All of them: the deletion of an installation changes no object that is already being deleted.
                    self._leaving |= leaving
                    await self._abandon(self._leaving)
                failed = {name for name in sorted(dirty) if not await self._follow(name)}
                if failed:
                    tasks.create_task(self._retry(failed), name="retry failed endpoints")

    async def _follow(self, name: str) -> bool:
        try:
            await self._plane.changes.follow(name, lambda: self._read(name))
        except (ControlError, InvalidManifest) as error:
            _log.warning("endpoint %s: not followed yet: %s", name, error)
            return False
        return True

    async def _read(self, name: str) -> StoredEndpoint | str | None:
        kept = await self._store.read(name)
        if isinstance(kept, str):
            if self.refused.get(name) != kept:
                _log.warning("endpoint %s: %s", name, kept)
            self.refused[name] = kept
        else:
            self.refused.pop(name, None)
        return kept

    async def _retry(self, names: set[str]) -> None:
        await self._clock.sleep(RETRY_AFTER_S)
        self._dirty |= names
        self._wake.set()

    async def _poll_keys(self) -> None:
        """Poll the Secret with the keys once a minute, because the right to watch implies listing all Secrets."""
        while True:
            await self._clock.sleep(KEYS_ROUND_S)
            declared = ((name, self._plane.declared(name)) for name in self._objects.names())
            known = {name: each.keys for name, each in declared if each is not None}
            try:
                for name in await self._store.changed_keys(known):
                    self.touch(name)
            except ControlError as error:
                _log.warning("endpoint keys: poll failed: %s", error)

    async def _finalize(self) -> None:
        """Remove the finalizer of deleted objects without remains in the cluster, until cancelled."""
        while True:
            await self._clock.sleep(LEAVING_EVERY_S)
            for name in sorted(self._leaving):
                await self._finalize_one(name)
            await self._abandon(self._leaving)

    async def _finalize_one(self, name: str) -> None:
        owner = self._objects.owner(name)
        if owner is None or not self._has_leaving(name):
            self._leaving.discard(name)
            return
        if is_leaving(owner) and (self._plane.declared(name) is not None or not self._provider.status.is_gone(name)):
            return
        # Objects that never owned the name have nothing in the cluster.
        for found in [each for each in (owner, *self._objects.rivals(name)) if is_leaving(each)]:
            try:
                await self._store.forget_keys(found)
                await remove_finalizer(self._api, self._objects, found)
            except (ControlError, ProviderError) as error:
                _log.warning("endpoint %s: not finalized yet: %s", name, error)

    async def _abandon(self, names: Iterable[str]) -> None:
        """Remove the finalizers of deleted objects at once where the rights to do so are deleted with them."""
        leaving = [found for name in names for found in self._objects_of(name) if is_leaving(found)]
        ending = await self._ending.among({found["metadata"]["namespace"] for found in leaving})
        for found in leaving:
            if found["metadata"]["namespace"] not in ending:
                continue
            try:
                await remove_finalizer(self._api, self._objects, found)
                await self._store.forget_keys(found)
            except (ControlError, ProviderError) as error:
                _log.warning("endpoint %s: not finalized: %s", found["metadata"]["name"], error)

    def _objects_of(self, name: str) -> list[Object]:
        owner = self._objects.owner(name)
        return [each for each in (owner, *self._objects.rivals(name)) if each is not None]

    def _has_leaving(self, name: str) -> bool:
        return any(is_leaving(each) for each in self._objects_of(name))

    def _endpoint_changed(self, change: ObjectPut | ObjectGone) -> None:
        name = change.object["metadata"]["name"]
        if isinstance(change, ObjectPut):
            self._objects.put(change.object)
        else:
            self._objects.gone(change.object)
        seen = self._relevant(name)
        # The own writes of the status are by far the most frequent changes.
        if seen != self._seen.get(name):
            self._seen[name] = seen
            self.touch(name)
        if not seen:
            self._seen.pop(name, None)
            self.refused.pop(name, None)

    def _relevant(self, name: str) -> tuple[object, ...]:
        """The relevant fields of the objects of this name."""
        found = [each["metadata"] for each in self._objects_of(name)]
        return tuple((each["uid"], each.get("generation"), "deletionTimestamp" in each) for each in found)

    def touch(self, name: str) -> None:
        """Read the object of this name again."""
        self._dirty.add(name)
        self._wake.set()
