"""Address and credentials of the API server: from the files in a pod, or from a kubeconfig."""

import asyncio
import contextlib
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from cluster.kubernetes.client.api_errors import Misconfigured

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


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


def source(environment: Mapping[str, str], service_account: Path = SERVICE_ACCOUNT) -> AccessSource:
    """The source: KUBECONFIG, else the pod's service account, else ~/.kube/config. Raises Misconfigured."""
    named = environment.get("KUBECONFIG", "")
    if not named and environment.get("KUBERNETES_SERVICE_HOST"):
        return InPod(environment, service_account)
    default = Path(environment.get("HOME", "~")).expanduser() / ".kube" / "config"
    paths = named or str(default)
    if not any(os.path.exists(os.path.expanduser(path)) for path in paths.split(os.pathsep) if path):
        raise Misconfigured(
            f"no Kubernetes cluster: KUBECONFIG names a file that does not exist ({named})"
            if named
            else f"no Kubernetes cluster: KUBECONFIG is not set, {default} does not exist, and this is not a pod"
        )
    # here, because it takes 0.6 s and 40 MB to import, and no pod needs it
    try:
        from cluster.kubernetes.client.kubeconfig import Kubeconfig
    except ModuleNotFoundError as error:
        raise Misconfigured(f"a kubeconfig needs {error.name}: pip install 'scorefront[k8s]'") from error
    return Kubeconfig(paths)


class InPod:
    """The service account of a pod. Its files are small, in memory, and replaced by the kubelet at any time."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        host = environment["KUBERNETES_SERVICE_HOST"]
        port = environment.get("KUBERNETES_SERVICE_PORT", "443")
        self._url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        self._folder = folder
        self._authority = ""
        self._tls: ssl.SSLContext | None = None

    async def read(self, anew: bool) -> Access:
        """The files as they are."""
        authority = self._text("ca.crt")
        if authority != self._authority or self._tls is None:
            self._tls, self._authority = tls_context(authority, f"{self._folder}/ca.crt"), authority
        namespace = self._folder / "namespace"
        return Access(
            self._url,
            namespace.read_text().strip() if namespace.exists() else "",
            self._tls,
            f"Bearer {self._text('token').strip()}",
        )

    def _text(self, name: str) -> str:
        try:
            text = (self._folder / name).read_text()
        except OSError as exc:
            raise Misconfigured(
                f"the pod's service account has no {name}: {exc.strerror} ({self._folder / name}); "
                "is automountServiceAccountToken off?"
            ) from exc
        if not text.strip():
            raise Misconfigured(f"the pod's service account has an empty {name} ({self._folder / name})")
        return text


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
