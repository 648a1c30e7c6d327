"""Token signing keys in a cluster: the private halves in a Secret, what routers trust in a ConfigMap."""

import base64
import binascii
from typing import Any

import msgspec

from cluster.kubernetes.api import Api
from cluster.kubernetes.discovery import TRUST, TRUST_FILE
from cluster.kubernetes.errors import Conflict, NotFound
from cluster.kubernetes.fence import Fence
from cluster.kubernetes.objects.labels import MANAGED_BY, MANAGER
from cluster.kubernetes.paths import CONFIGMAPS, SECRETS, path
from controlplane.cluster_errors import translating
from controlplane.errors import DamagedFile, StoreUnavailable
from controlplane.tokens import Keyring

SIGNING = "scorefront-signing"
KEYRING_FILE = "keyring.json"
ATTEMPTS = 5

Object = dict[str, Any]


class ClusterKeyring:
    """Both objects are in the namespace that the control plane runs in."""

    def __init__(self, api: Api, fence: Fence) -> None:
        self._api = api
        self._fence = fence

    async def read(self) -> Keyring | None:
        """The keys, which the routers trust then; None: there are none yet. Raises ControlError, DamagedFile."""
        with translating(f"read Secret {SIGNING}"):
            try:
                secret = await self._api.get(path(SECRETS, self._api.home, SIGNING))
            except NotFound:
                return None
        try:
            encoded = (secret.get("data") or {}).get(KEYRING_FILE, "")
            keyring = msgspec.json.decode(base64.b64decode(encoded, validate=True), type=Keyring)
        except (binascii.Error, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise DamagedFile(f"Secret {self._api.home}/{SIGNING} is damaged: {error}") from error
        if not keyring.keys:
            raise DamagedFile(f"Secret {self._api.home}/{SIGNING} is damaged: it holds no signing key")
        await self._publish(keyring)
        return keyring

    async def write(self, keyring: Keyring) -> None:
        """Keep them; the routers trust them before they are kept, and so before they sign. Raises ControlError."""
        await self._publish(keyring)
        body = _object("Secret", self._api.home, SIGNING)
        encoded = base64.b64encode(msgspec.json.encode(keyring)).decode()
        body |= {"type": "Opaque", "data": {KEYRING_FILE: encoded}}
        with translating(f"write Secret {SIGNING}"):
            await self._put(path(SECRETS, self._api.home), path(SECRETS, self._api.home, SIGNING), body)

    async def _publish(self, keyring: Keyring) -> None:
        body = _object("ConfigMap", self._api.home, TRUST)
        body["data"] = {TRUST_FILE: msgspec.json.encode(keyring.trust()).decode()}
        with translating(f"write ConfigMap {TRUST}"):
            await self._put(path(CONFIGMAPS, self._api.home), path(CONFIGMAPS, self._api.home, TRUST), body)

    async def _put(self, collection: str, where: str, body: Object) -> None:
        """Have the object hold what `body` holds."""
        for _ in range(ATTEMPTS):
            self._fence.check()
            try:
                found = await self._api.get(where)
            except NotFound:
                found = None
            try:
                if found is None:
                    await self._api.create(collection, body)
                elif found.get("data") != body["data"]:
                    await self._api.replace(where, {**found, "data": body["data"]})
                return
            except Conflict:
                continue
        raise StoreUnavailable(f"{where} is changed by others again and again")


def _object(kind: str, namespace: str, name: str) -> Object:
    metadata = {"name": name, "namespace": namespace, "labels": {MANAGED_BY: MANAGER}}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata}
