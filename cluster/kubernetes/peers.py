"""Keeps the certificates of an installation in two Secrets: what every process mounts, and what signs it.

One that is absent is made; one whose time comes is made anew. Only a leader calls this, and every write says what it
has read (resourceVersion), so that of two nobody undoes the other's.
"""

import asyncio
import datetime
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cluster.kubernetes.api import Api, ApiError
from cluster.kubernetes.certificates import Authority, CertificateError, Identity, renewed
from cluster.kubernetes.home_secret import HomeSecret
from cluster.kubernetes.objects.secret import DamagedSecret, clearing, value_in
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
        self._authority = HomeSecret(api, AUTHORITY_SECRET)
        self._identity = HomeSecret(api, PEERS_SECRET)
        self._now = now
        self._folder = folder
        self.trust = Trust(folder / "ca.crt", folder / "tls.crt", folder / "tls.key")
        """Usable after `ensure`."""

    async def ensure(self) -> None:
        """Have both Secrets, good, and the files. Raises ApiError, CertificateError."""
        kept_authority = await self._authority.read()
        kept_identity = await self._identity.read()
        authority = _authority(kept_authority)
        identity = _identity(kept_identity)
        new_authority, new_identity = await asyncio.to_thread(renewed, authority, identity, self._now())
        if new_authority != authority:
            await self._authority.write(kept_authority, _authority_data(new_authority))
            _log.warning("Secret %s has a new certificate authority", AUTHORITY_SECRET)
        if new_identity != identity:
            # The authority is kept by now: one that signed something and is lost could never sign again.
            await self._identity.write(kept_identity, _identity_data(new_identity))
            _log.warning("Secret %s has a new certificate", PEERS_SECRET)
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

    def _write_files(self, data: Mapping[str, bytes]) -> None:
        for name, value in data.items():
            beside = self._folder / f"{name}.new"
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(value)
            os.replace(beside, self._folder / name)


def _authority(kept: Mapping[str, Any]) -> Authority | None:
    """Raises CertificateError."""
    values = _values(AUTHORITY_SECRET, kept, "tls.crt", "tls.key")
    return Authority(*values) if values else None


def _authority_data(authority: Authority) -> dict[str, bytes]:
    return {"tls.crt": authority.cert, "tls.key": authority.key}


def _identity(kept: Mapping[str, Any]) -> Identity | None:
    """Raises CertificateError."""
    values = _values(PEERS_SECRET, kept, "ca.crt", "tls.crt", "tls.key")
    return Identity(*values) if values else None


def _identity_data(identity: Identity) -> dict[str, bytes]:
    return {"ca.crt": identity.ca, "tls.crt": identity.cert, "tls.key": identity.key}


def _values(name: str, kept: Mapping[str, Any], *keys: str) -> list[bytes]:
    """The values of all keys; empty where the Secret has none. Raises CertificateError."""
    try:
        values = [value_in(kept, key) for key in keys]
    except DamagedSecret as error:
        raise CertificateError(f"{error}; {_remedy(name, kept)}") from error
    if not any(values):
        return []
    if not all(values):
        missing = keys[values.index(b"")]
        raise CertificateError(f"Secret {name} is damaged: {missing!r} is missing; {_remedy(name, kept)}")
    return values


def _remedy(name: str, kept: Mapping[str, Any]) -> str:
    return f"to have it made anew: {clearing(kept['metadata']['namespace'], name)}"
