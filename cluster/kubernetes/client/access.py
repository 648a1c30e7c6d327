"""Address and credentials of the API server, and their renewal."""

import asyncio
import contextlib
import ssl
from dataclasses import dataclass, replace
from typing import Protocol

from cluster.kubernetes.client.api_errors import Misconfigured


@dataclass(frozen=True, slots=True)
class Access:
    """All that a request needs to know."""

    url: str
    """Scheme, host and port, perhaps a path; no slash at the end."""
    namespace: str
    """Namespace of this pod, or of the kubeconfig's context; "" if neither is known."""
    tls: ssl.SSLContext | None = None
    authorization: str = ""
    """Value of the Authorization header; "" for none (a client certificate, or a proxy that knows us)."""
    server_name: str | None = None
    """Server name for the certificate check, if it is not the host."""
    proxy: str | None = None
    has_certificate: bool = False
    """A client certificate is in `tls`: the API server takes every connection for its owner's."""

    def __repr__(self) -> str:
        """The fields without secrets."""
        return f"Access({self.url}, namespace={self.namespace!r})"


class AccessSource(Protocol):
    """Source of access, read repeatedly: tokens and certificates change while a process runs."""

    async def read(self, anew: bool) -> Access:
        """Current access. `anew`: the last one was refused, so bypass caches.

        Raises Misconfigured.
        """


def tls_context(authority: str | None, name: str) -> ssl.SSLContext:
    """TLS settings for a server with a certificate signed by `authority` (PEM; None: the machine's default trust)."""
    try:
        context = ssl.create_default_context(cadata=authority)
    except (ssl.SSLError, ValueError) as exc:
        raise Misconfigured(f"{name} holds no certificate in PEM form: {exc}") from exc
    # authorities that kubeadm and others make lack extensions that RFC 5280 wants; no other client asks for them
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


class Credentials:
    """Current access, read again at least once a minute, and at once after a refusal."""

    def __init__(self, source: AccessSource, access: Access, read_at: float, max_age_s: float = 60.0) -> None:
        self._source = source
        self._access = access
        self._read_at = read_at
        self._max_age_s = max_age_s
        self._reading = asyncio.Lock()

    async def now(self, now: float) -> Access:
        """Access that is recent. If it cannot be read again, the old one is used until the server answers 401."""
        if now - self._read_at >= self._max_age_s:
            async with self._reading:
                if now - self._read_at >= self._max_age_s:
                    self._read_at = now
                    with contextlib.suppress(Misconfigured):
                        self._access = await self._source.read(anew=False)
        return self._access

    async def after_refusal(self, refused: Access, now: float) -> Access | None:
        """Access other than `refused`, read again unless another caller just did; None if there is none."""
        async with self._reading:
            if self._access is refused:
                self._read_at = now
                try:
                    self._access = await self._source.read(anew=True)
                except Misconfigured:
                    return None
        return self._access


class BorrowedCredentials:
    """The bearer token of a caller, for the API server of `own`."""

    def __init__(self, own: "Credentials | BorrowedCredentials", token: str) -> None:
        self._own = own
        self._token = token

    async def now(self, now: float) -> Access:
        """Raises Misconfigured if a request would also carry this process's own identity."""
        access = await self._own.now(now)
        if access.has_certificate or not access.authorization:
            raise Misconfigured("a client certificate or a proxy proves who this process is: it cannot ask for others")
        return replace(access, authorization=f"Bearer {self._token}")

    async def after_refusal(self, refused: Access, now: float) -> Access | None:
        """Always None: a caller has one token."""
        return None
