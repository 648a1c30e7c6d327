"""Keeps the certificates of an installation in two Secrets: what every process mounts, and what signs it.

One that is absent is made; one whose time comes is made anew. Only a leader calls this, and every write says what it
has read (resourceVersion), so that of two nobody undoes the other's.
"""

import asyncio
import base64
import binascii
import datetime
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cluster.kubernetes.api import Api, ApiError, NotFound
from cluster.kubernetes.certificates import Authority, CertificateError, Identity, renewed
from cluster.kubernetes.paths import SECRETS, path
from cluster.trust import Trust

PEERS_SECRET = "scorefront-peers"
AUTHORITY_SECRET = "scorefront-peers-ca"
CHECK_EVERY_S = 3600.0
RETRY_S = 30.0

_log = logging.getLogger(__name__)


class PeersIdentity:
    """The two Secrets, and a copy of what they hold as files for this process."""

    def __init__(self, api: Api, folder: Path, now: Callable[[], datetime.datetime]) -> None:
        """`folder`: an empty one that only this user may enter."""
        self._api = api
        self._now = now
        self._folder = folder
        self.trust = Trust(folder / "ca.crt", folder / "tls.crt", folder / "tls.key")
        """Usable after `ensure`."""

    async def ensure(self) -> None:
        """Have both Secrets, good, and the files. Raises ApiError, CertificateError."""
        kept_authority = await self._read(AUTHORITY_SECRET)
        kept_identity = await self._read(PEERS_SECRET)
        authority = _authority(kept_authority)
        identity = _identity(kept_identity)
        new_authority, new_identity = await asyncio.to_thread(renewed, authority, identity, self._now())
        if new_authority != authority:
            await self._write(AUTHORITY_SECRET, kept_authority, _authority_data(new_authority))
        if new_identity != identity:
            # The authority is kept by now: one that signed something and is lost could never sign again.
            await self._write(PEERS_SECRET, kept_identity, _identity_data(new_identity))
        await asyncio.to_thread(self._write_files, _identity_data(new_identity))

    async def run(self) -> None:
        """Make anew what is due, for ever."""
        pause_s = CHECK_EVERY_S
        while True:
            await asyncio.sleep(pause_s)
            try:
                await self.ensure()
                pause_s = CHECK_EVERY_S
            except (ApiError, CertificateError, OSError) as error:
                _log.warning("the certificates of the routers and the control plane were not looked after: %s", error)
                pause_s = RETRY_S

    async def _read(self, name: str) -> dict[str, Any] | None:
        try:
            return await self._api.get(path(SECRETS, self._api.home, name))
        except NotFound:
            return None

    async def _write(self, name: str, kept: dict[str, Any] | None, data: Mapping[str, bytes]) -> None:
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        if kept is None:
            body = _secret(name, self._api.home, encoded)
            await self._api.create(path(SECRETS, self._api.home), body)
        else:
            await self._api.replace(path(SECRETS, self._api.home, name), {**kept, "data": encoded})
        _log.warning("Secret %s was %s", name, "made" if kept is None else "renewed")

    def _write_files(self, data: Mapping[str, bytes]) -> None:
        for name, value in data.items():
            beside = self._folder / f"{name}.new"
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(value)
            os.replace(beside, self._folder / name)


def _secret(name: str, namespace: str, data: Mapping[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/name": "scorefront", "app.kubernetes.io/managed-by": "scorefront"},
        },
        "data": dict(data),
    }


def _authority(kept: Mapping[str, Any] | None) -> Authority | None:
    """Raises CertificateError."""
    values = _values(AUTHORITY_SECRET, kept, "tls.crt", "tls.key")
    return Authority(*values) if values else None


def _authority_data(authority: Authority) -> dict[str, bytes]:
    return {"tls.crt": authority.cert, "tls.key": authority.key}


def _identity(kept: Mapping[str, Any] | None) -> Identity | None:
    """Raises CertificateError."""
    values = _values(PEERS_SECRET, kept, "ca.crt", "tls.crt", "tls.key")
    return Identity(*values) if values else None


def _identity_data(identity: Identity) -> dict[str, bytes]:
    return {"ca.crt": identity.ca, "tls.crt": identity.cert, "tls.key": identity.key}


def _values(name: str, kept: Mapping[str, Any] | None, *keys: str) -> list[bytes]:
    """What the Secret holds; nothing where it holds nothing. Raises CertificateError."""
    data = (kept or {}).get("data") or {}
    if not any(data.get(key) for key in keys):
        return []
    try:
        return [base64.b64decode(data[key], validate=True) for key in keys]
    except (KeyError, ValueError, TypeError, binascii.Error) as error:
        told = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise CertificateError(f"Secret {name} is damaged: {told}; delete it to have it made anew") from error
