"""The keys of endpoints in the Secret `scorefront-keys`: created, read, changed and removed by the leader."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.conflict_retry import update
from cluster.kubernetes.client.paths import ENDPOINTS, path
from cluster.kubernetes.fence import Fence
from cluster.kubernetes.home_secret import HomeSecret
from cluster.kubernetes.objects.keys import (
    KEYS_SECRET,
    KeyEntry,
    digests_of,
    encoded_entry,
    entry_in,
    entry_key,
    incarnation_of,
    part_of,
    stale_entries,
)
from controlplane.control_errors import ConflictingChange, StoreUnavailable
from controlplane.keys import KeyPair
from controlplane.kubernetes.error_mapping import translating

Object = dict[str, Any]
Edit = Callable[[Object], Mapping[str, bytes | None]]
"""The Secret -> the data keys to write; empty: no change. May raise."""


class EndpointKeys:
    """Keys of all endpoints. The argument `found` is the ScoringEndpoint object that owns the keys.

    The Secret is cached after the first read. Every write has the cached resourceVersion as its precondition, so a
    change by others is read before it can be overwritten.
    """

    def __init__(self, api: Api, fence: Fence) -> None:
        self._api = api
        self._fence = fence
        self._secret = HomeSecret(api, KEYS_SECRET)
        self._kept: Object | None = None
        self._writing = asyncio.Lock()

    async def refresh(self) -> None:
        """Read the Secret again. Raises ControlError."""
        with translating("read the keys"):
            self._kept = await self._secret.read()

    async def read(self, found: Object) -> KeyPair | None:
        """The keys; None: none yet. Raises ControlError; ProviderError if they are unusable."""
        return _pair(entry_in(await self._known(), found))

    async def make(self, found: Object, pair: KeyPair) -> KeyPair:
        """The existing keys, else `pair` from now on. Raises ControlError, ProviderError.

        An entry without an incarnation gets that of `pair`.
        """

        def missing(secret: Object) -> Mapping[str, bytes | None]:
            known = _pair(entry_in(secret, found))
            if known is None:
                return _written(found, pair)
            return {} if known.incarnation else _written(found, replace(known, incarnation=pair.incarnation))

        made = _pair(entry_in(await self._edit(missing), found))
        assert made is not None, "written above"
        return made

    async def change(self, found: Object, before: KeyPair, after: KeyPair) -> None:
        """Replace `before` by `after`. Raises ControlError, ProviderError; ConflictingChange after a foreign change."""

        def changed(secret: Object) -> Mapping[str, bytes | None]:
            pair = _pair(entry_in(secret, found))
            if pair not in (None, before, after):
                name = found["metadata"]["name"]
                raise ConflictingChange(f"the keys of {name} were changed by another client; read them again")
            return {} if pair == after else _written(found, after)

        await self._edit(changed)

    @staticmethod
    def bound(found: Object, pair: KeyPair) -> KeyPair:
        """The same keys with the incarnation bound to the uid of `found`."""
        uid = found["metadata"]["uid"]
        return replace(pair, incarnation=incarnation_of(uid, part_of(pair.incarnation)))

    async def forget(self, found: Object) -> None:
        """Remove the entry of an endpoint before its finalizer. Raises ControlError."""
        uids = {entry_key(found): found["metadata"]["uid"]}

        def own(secret: Object) -> Mapping[str, bytes | None]:
            key = entry_key(found)
            there = key in (secret.get("data") or {})
            return {key: None} if there and key not in stale_entries(secret, uids, frozenset()) else {}

        await self._edit(own)

    async def sweep(self, objects: Iterable[Object], namespaces: frozenset[str]) -> None:
        """Remove entries of endpoints that no longer exist. Raises ControlError.

        objects: every existing ScoringEndpoint of the watched namespaces.
        namespaces: watched namespaces; empty: all.
        """
        uids = {entry_key(each): each["metadata"]["uid"] for each in objects}
        await self._edit(lambda secret: dict.fromkeys(stale_entries(secret, uids, namespaces)))

    async def publish(self, found: Object, pair: KeyPair) -> Object:
        """Write key digests and incarnation into the status at once, for the routers. Raises ControlError."""
        metadata = found["metadata"]
        digests = digests_of(pair.primary, pair.secondary)
        with translating(f"publish the keys of {metadata['name']}"):
            where = path(ENDPOINTS, metadata["namespace"], metadata["name"], "status")
            return await self._api.merge(where, {"status": {"keys": digests, "incarnation": pair.incarnation}})

    async def _known(self) -> Object:
        if self._kept is None:
            await self.refresh()
        assert self._kept is not None
        return self._kept

    async def _edit(self, edit: Edit) -> Object:
        """Apply `edit`, with retries after conflicts; returns the new Secret. Raises ControlError, ProviderError."""

        async def write(known: Object) -> Object:
            data = edit(known)
            if not data:
                return known
            with translating("write the keys", retried=True):
                self._fence.check()
                self._kept = await self._secret.write(known, data)
            return self._kept

        async def reread() -> Object:
            self._kept = None
            return await self._known()

        async with self._writing:
            exhausted = StoreUnavailable(f"Secret {KEYS_SECRET} is changed by others continually")
            return await update(await self._known(), write, reread, exhausted)


def _written(found: Object, pair: KeyPair) -> Mapping[str, bytes | None]:
    entry = KeyEntry(found["metadata"]["uid"], pair.primary, pair.secondary, part_of(pair.incarnation))
    return {entry_key(found): encoded_entry(entry)}


def _pair(entry: KeyEntry | None) -> KeyPair | None:
    if entry is None:
        return None
    return KeyPair(entry.primary_key, entry.secondary_key, incarnation_of(entry.uid, entry.incarnation))
