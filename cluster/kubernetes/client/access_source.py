"""The source of access to the API server: the files in a pod, or a kubeconfig."""

import os
import ssl
from collections.abc import Mapping
from pathlib import Path

from cluster.kubernetes.client.access import Access, AccessSource, tls_context
from cluster.kubernetes.client.api_errors import Misconfigured
from serving.authority import authority

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


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
        self._url = f"https://{authority(host, int(port))}"
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
