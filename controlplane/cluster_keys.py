"""The Secrets with the keys of endpoints: made where there is none, kept, changed, and taken as they are where a user
brought their own.
"""

from typing import Any

from cluster.kubernetes.api import Api
from cluster.kubernetes.errors import NotFound
from cluster.kubernetes.objects.endpoint import owner_of
from cluster.kubernetes.objects.labels import keys_name
from cluster.kubernetes.objects.secret import Keys, digests_of, key_secret, keys_of
from cluster.kubernetes.paths import ENDPOINTS, SECRETS, path
from controlplane.cluster_errors import translating
from controlplane.errors import Conflict as Contradiction
from controlplane.errors import StoreUnavailable
from controlplane.keys import KeyPair

ATTEMPTS = 5

Object = dict[str, Any]


class EndpointKeys:
    """`found` is always the ScoringEndpoint object that the keys belong to."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def read(self, found: Object) -> KeyPair | None:
        """The keys that there are; None: none yet. Raises ControlError, ProviderError where they cannot be used."""
        secret = await self._secret(found)
        return None if secret is None else _pair(secret)

    async def make(self, found: Object, pair: KeyPair) -> KeyPair:
        """The keys that there are, else `pair` from now on. Raises ControlError, ProviderError."""
        metadata = found["metadata"]
        for _ in range(ATTEMPTS):
            if (secret := await self._secret(found)) is not None:
                return _pair(secret)
            keys = Keys(pair.primary, pair.secondary)
            body = key_secret(metadata["name"], metadata["namespace"], owner_of(found), keys)
            try:
                with translating(f"make the keys of {metadata['name']}"):
                    await self._api.create(path(SECRETS, metadata["namespace"]), body)
                return pair
            except Contradiction:
                continue  # somebody was faster
        raise StoreUnavailable(f"the Secret {keys_name(metadata['name'])} comes and goes")

    async def change(self, found: Object, before: KeyPair, after: KeyPair) -> None:
        """Have `after` where there was `before`. Raises ControlError, ProviderError."""
        metadata = found["metadata"]
        where = path(SECRETS, metadata["namespace"], keys_name(metadata["name"]))
        keys = Keys(after.primary, after.secondary)
        data = key_secret(metadata["name"], metadata["namespace"], owner_of(found), keys)["data"]
        for _ in range(ATTEMPTS):
            secret = await self._secret(found)
            if secret is None:
                await self.make(found, after)
                return
            if _pair(secret) not in (before, after):
                raise Contradiction(f"the keys of {metadata['name']} were changed by somebody else; look at them again")
            try:
                with translating(f"write the keys of {metadata['name']}"):
                    version = {"resourceVersion": secret["metadata"]["resourceVersion"]}
                    await self._api.merge(where, {"metadata": version, "data": data})
                return
            except Contradiction:
                continue
        raise StoreUnavailable(f"the Secret {keys_name(metadata['name'])} is changed by others again and again")

    async def publish(self, found: Object, pair: KeyPair) -> Object:
        """Let the routers know at once: they compare with the digests in the status. Raises ControlError."""
        metadata = found["metadata"]
        digests = digests_of(Keys(pair.primary, pair.secondary))
        with translating(f"publish the keys of {metadata['name']}"):
            where = path(ENDPOINTS, metadata["namespace"], metadata["name"], "status")
            return await self._api.merge(where, {"status": {"keys": digests}})

    async def _secret(self, found: Object) -> Object | None:
        metadata = found["metadata"]
        where = path(SECRETS, metadata["namespace"], keys_name(metadata["name"]))
        with translating(f"read the keys of {metadata['name']}"):
            try:
                secret = await self._api.get(where)
            except NotFound:
                return None
            if _is_left_over(secret, metadata["uid"]):
                # Of an endpoint of this name that was deleted: the cluster would collect it a moment later.
                await self._api.delete(where, uid=secret["metadata"]["uid"])
                return None
            return secret


def _is_left_over(secret: Object, uid: str) -> bool:
    owners = [each for each in secret["metadata"].get("ownerReferences") or () if each["kind"] == "ScoringEndpoint"]
    return bool(owners) and all(each["uid"] != uid for each in owners)


def _pair(secret: Object) -> KeyPair:
    keys = keys_of(secret)
    return KeyPair(keys.primary, keys.secondary)
