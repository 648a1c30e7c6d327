"""Token signing keys in a cluster: the private halves in a Secret, the public halves in a ConfigMap for the routers."""

from typing import Any

import msgspec

from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.api_errors import NotFound, WriteConflict
from cluster.kubernetes.client.paths import CONFIGMAPS, path
from cluster.kubernetes.discovery import TRUST, TRUST_FILE
from cluster.kubernetes.fence import Fence
from cluster.kubernetes.home_secret import HomeSecret
from cluster.kubernetes.objects.labels import MANAGED_BY, MANAGER
from cluster.kubernetes.objects.secret import DamagedSecret, value_in
from controlplane.control_errors import DamagedFile, StoreUnavailable
from controlplane.kubernetes.error_mapping import translating
from controlplane.tokens import Keyring

SIGNING = "scorefront-signing"
KEYRING_FILE = "keyring.json"
ATTEMPTS = 5

Object = dict[str, Any]


class SigningSecret:
    """Stored signing keys; Secret and ConfigMap are in the namespace of the control plane."""

    def __init__(self, api: Api, fence: Fence) -> None:
        self._api = api
        self._fence = fence
        self._secret = HomeSecret(api, SIGNING)

    async def read(self) -> Keyring | None:
        """The keys, after publishing their public halves; None: none yet. Raises ControlError, DamagedFile."""
        with translating(f"read Secret {SIGNING}"):
            secret = await self._secret.read()
        try:
            encoded = value_in(secret, KEYRING_FILE)
            keyring = msgspec.json.decode(encoded, type=Keyring) if encoded else None
        except (DamagedSecret, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise DamagedFile(f"Secret {self._api.home}/{SIGNING} is damaged: {error}") from error
        if keyring is None:
            return None
        if not keyring.keys:
            raise DamagedFile(f"Secret {self._api.home}/{SIGNING} is damaged: it holds no signing key")
        await self._publish(keyring)
        return keyring

    async def write(self, keyring: Keyring) -> None:
        """Publish the public halves, then store the keys: routers trust them before they sign. Raises ControlError."""
        await self._publish(keyring)
        encoded = msgspec.json.encode(keyring)
        with translating(f"write Secret {SIGNING}"):
            for _ in range(ATTEMPTS):
                self._fence.check()
                try:
                    await self._secret.write(await self._secret.read(), {KEYRING_FILE: encoded})
                    return
                except WriteConflict:
                    continue
        raise StoreUnavailable(f"Secret {SIGNING} is changed by others continually")

    async def _publish(self, keyring: Keyring) -> None:
        where = path(CONFIGMAPS, self._api.home, TRUST)
        metadata = {"name": TRUST, "namespace": self._api.home, "labels": {MANAGED_BY: MANAGER}}
        data = {TRUST_FILE: msgspec.json.encode(keyring.trust()).decode()}
        body: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
        with translating(f"write ConfigMap {TRUST}"):
            for _ in range(ATTEMPTS):
                self._fence.check()
                try:
                    found = await self._api.get(where)
                except NotFound:
                    found = None
                try:
                    if found is None:
                        await self._api.create(path(CONFIGMAPS, self._api.home), body)
                    elif found.get("data") != data:
                        await self._api.replace(where, {**found, "data": data})
                    return
                except WriteConflict:
                    continue
        raise StoreUnavailable(f"{where} is changed by others continually")
