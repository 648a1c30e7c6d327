"""The certificates of an installation: authority and router certificate in two Secrets, and the certificate of this
control process, in memory only.

Only the leader writes the Secrets, with the resourceVersion that was read as precondition. Every control process may
read the authority's key and signs its own certificate: the key that routers can read does not authenticate control.
"""

import asyncio
import datetime
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cluster.atomic_files import write_atomically
from cluster.kubernetes.certificates import (
    Authority,
    CertificateError,
    Identity,
    bundle,
    renewed_authority,
    renewed_identity,
    self_signed,
)
from cluster.kubernetes.client.api import Api, ApiError
from cluster.kubernetes.home_secret import HomeSecret
from cluster.kubernetes.objects.secret import DamagedSecret, clearing, value_in
from cluster.trust import CONTROL, ROUTER, Trust

PEERS_SECRET = "scorefront-peers"
AUTHORITY_SECRET = "scorefront-peers-ca"
ROTATE = "scorefront.io/rotate"
"""Annotation of either Secret that requests a new certificate now."""
CHECK_EVERY_S = 15.0
RETRY_S = 5.0

Object = dict[str, Any]

_log = logging.getLogger(__name__)


def control_names(namespace: str, host: str) -> tuple[str, ...]:
    """Names in the certificate of a control process.

    namespace: of the installation; host: the address by which other pods reach this process.
    """
    service = "scorefront-control"
    names = (
        *(CONTROL, service, f"{service}.{namespace}", f"{service}.{namespace}.svc"),
        *(f"{service}.{namespace}.svc.cluster.local", "localhost", "127.0.0.1", "::1", host),
    )
    return tuple(dict.fromkeys(names))


class PeersIdentity:
    """The two Secrets, and the files of this process: from the start on, though trusted by others from `ensure` or
    `follow` on."""

    def __init__(self, api: Api, folder: Path, now: Callable[[], datetime.datetime], host: str) -> None:
        """`folder`: an empty one that only this user may enter; `host`: the address of this process."""
        self._authority = HomeSecret(api, AUTHORITY_SECRET)
        self._routers = HomeSecret(api, PEERS_SECRET)
        self._now = now
        self._names = control_names(api.home, host)
        self._folder = folder
        self._own: Identity | None = None
        self._looking = asyncio.Lock()
        self.trust = Trust(folder / "ca.crt", folder / "tls.crt", folder / "tls.key")
        self._write_files(self_signed(self._names, now()))

    async def ensure(self) -> None:
        """Have both Secrets, good, and the files; only the leader may. Raises ApiError, CertificateError."""
        async with self._looking:
            kept_authority, kept_routers = await self._authority.read(), await self._routers.read()
            old_authority, old_routers, now = _authority_in(kept_authority), _routers_in(kept_routers), self._now()
            again, routers_again = _is_asked(kept_authority), _is_asked(kept_routers)
            authority = await asyncio.to_thread(renewed_authority, old_authority, now, again)
            routers = await asyncio.to_thread(renewed_identity, authority, old_routers, (ROUTER,), now, routers_again)
            done = {ROTATE: None}
            if authority != old_authority:
                await self._authority.write(kept_authority, _authority_data(authority), done if again else None)
                _log.warning("Secret %s renewed: new certificate authority", AUTHORITY_SECRET)
            if routers != old_routers:
                # The authority is kept by now: one that signed something and is lost could never sign again.
                await self._routers.write(kept_routers, _identity_data(routers), done if routers_again else None)
                _log.warning("Secret %s renewed: new certificate or authorities", PEERS_SECRET)
            await self._renew_own(authority, routers, now)

    async def follow(self) -> bool:
        """Write the files to match the Secrets; False if there is no authority yet.

        Raises ApiError, CertificateError.
        """
        async with self._looking:
            authority = _authority_in(await self._authority.read())
            routers = _routers_in(await self._routers.read())
            if authority is None:
                return False
            await self._renew_own(authority, routers, self._now())
            return True

    async def run(self, leads: Callable[[], bool], changed: Callable[[], None]) -> None:
        """Renew certificates until cancelled. `leads`: true if this process may write; `changed`: called after a
        renewal.
        """
        while True:
            try:
                done = True
                if leads():
                    await self.ensure()
                else:
                    done = await self.follow()
                changed()
                pause_s = CHECK_EVERY_S if done else RETRY_S
            except (ApiError, CertificateError, OSError) as error:
                _log.warning("certificates of routers and control plane: not renewed: %s", error)
                pause_s = RETRY_S
            await asyncio.sleep(pause_s)

    async def _renew_own(self, authority: Authority, routers: Identity | None, now: datetime.datetime) -> None:
        """Raises CertificateError, OSError."""
        own = await asyncio.to_thread(renewed_identity, authority, self._own, self._names, now)
        # All processes trust the same authorities, including the one that signed this process's certificate.
        trusted = bundle(authority.cert, routers.ca if routers is not None else b"")
        shown = Identity(trusted, own.cert, own.key)
        await asyncio.to_thread(self._write_files, shown)
        self._own = Identity(bundle(trusted, own.ca), own.cert, own.key)

    def _write_files(self, identity: Identity) -> None:
        for name, value in _identity_data(identity).items():
            file = self._folder / name
            if not file.exists() or file.read_bytes() != value:
                write_atomically(file, value, durable=False)


def _is_asked(kept: Mapping[str, Any]) -> bool:
    return ROTATE in (kept["metadata"].get("annotations") or {})


def _authority_in(kept: Mapping[str, Any]) -> Authority | None:
    """Raises CertificateError."""
    values = _values(AUTHORITY_SECRET, kept, "tls.crt", "tls.key")
    return Authority(*values) if values else None


def _authority_data(authority: Authority) -> dict[str, bytes]:
    return {"tls.crt": authority.cert, "tls.key": authority.key}


def _routers_in(kept: Mapping[str, Any]) -> Identity | None:
    """Raises CertificateError."""
    values = _values(PEERS_SECRET, kept, "ca.crt", "tls.crt", "tls.key")
    return Identity(*values) if values else None


def _identity_data(identity: Identity) -> dict[str, bytes]:
    return {"ca.crt": identity.ca, "tls.crt": identity.cert, "tls.key": identity.key}


def _values(name: str, kept: Mapping[str, Any], *keys: str) -> list[bytes]:
    """The values of all keys, empty for keys that are missing. Raises CertificateError."""
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
