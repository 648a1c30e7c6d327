"""Token signing keys in a cluster: the private halves in a Secret, the public halves in a ConfigMap for the routers."""

from typing import Any

import msgspec

from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.api_errors import NotFound
from cluster.kubernetes.client.conflict_retry import update
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

        async def write(secret: Object) -> None:
            self._fence.check()
            await self._secret.write(secret, {KEYRING_FILE: encoded})

        exhausted = StoreUnavailable(f"Secret {SIGNING} is changed by others continually")
        with translating(f"write Secret {SIGNING}"):
            await update(await self._secret.read(), write, self._secret.read, exhausted)

    async def _publish(self, keyring: Keyring) -> None:
        where = path(CONFIGMAPS, self._api.home, TRUST)
        metadata = {"name": TRUST, "namespace": self._api.home, "labels": {MANAGED_BY: MANAGER}}
        data = {TRUST_FILE: msgspec.json.encode(keyring.trust()).decode()}
        body: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}

        async def write(found: Object | None) -> None:
            self._fence.check()
            if found is None:
                await self._api.create(path(CONFIGMAPS, self._api.home), body)
            elif found.get("data") != data:
                await self._api.replace(where, {**found, "data": data})

        async def read() -> Object | None:
            try:
                return await self._api.get(where)
            except NotFound:
                return None

        exhausted = StoreUnavailable(f"{where} is changed by others continually")
        with translating(f"write ConfigMap {TRUST}"):
            await update(await read(), write, read, exhausted)
