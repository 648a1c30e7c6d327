"""Access from a kubeconfig. Only this module imports kubernetes_asyncio, for exec plugins, OIDC and the rest."""

import asyncio
import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.config import ConfigException, load_kube_config

from cluster.kubernetes.client.access import Access, tls_context
from cluster.kubernetes.client.api_errors import Misconfigured

LOGIN_TIMEOUT_S = 60.0
"""An exec plugin may ask a person, or a slow authority."""


class Kubeconfig:
    """The current context of one or several kubeconfig files (with the separator of PATH between them)."""

    def __init__(self, paths: str) -> None:
        self._paths = paths
        self._loader: Any = None
        self._configuration: Any = None
        self._tls: ssl.SSLContext | None = None

    async def read(self, anew: bool) -> Access:
        """Reads the files; credentials of an exec plugin are kept until they expire or are refused."""
        with one_sentence(self._paths):
            async with asyncio.timeout(LOGIN_TIMEOUT_S):
                if anew or self._loader is None:
                    await self._load()
                elif hasattr(self._loader, "exec_plugin_expiry") or not self._is_exec():
                    await self._loader.load_and_set(self._configuration)
            if self._tls is None and self._configuration.host.startswith("https"):
                self._tls = self._tls_context()
        context = self._loader.current_context["context"]
        return Access(
            self._configuration.host,
            context.get("namespace") or "",
            self._tls,
            self._configuration.api_key.get("BearerToken", "").strip(),
            self._configuration.tls_server_name,
            self._configuration.proxy,
            bool(self._configuration.cert_file),
        )

    async def _load(self) -> None:
        configuration = Configuration()
        loader = await load_kube_config(self._paths, client_configuration=configuration)
        if not hasattr(loader, "host"):
            raise ConfigException("the cluster of the current context has no server")
        proved = getattr(loader, "token", None) or getattr(loader, "cert_file", None)
        if "exec" in (loader._user or {}) and not proved:
            raise ConfigException("exec: the plugin gave neither a token nor a certificate and its key")
        self._loader, self._configuration, self._tls = loader, configuration, None

    def _is_exec(self) -> bool:
        return "exec" in (self._loader._user or {})

    def _tls_context(self) -> ssl.SSLContext:
        chosen = self._configuration
        authority = Path(chosen.ssl_ca_cert).read_text() if chosen.ssl_ca_cert else None
        context = tls_context(authority, chosen.ssl_ca_cert)
        if chosen.cert_file:
            context.load_cert_chain(chosen.cert_file, chosen.key_file)
        if not chosen.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


@contextlib.contextmanager
def one_sentence(paths: str) -> Iterator[None]:
    """Turns every failure of a kubeconfig into one sentence with its path."""
    try:
        yield
    except Misconfigured:
        raise
    except TimeoutError as exc:
        raise Misconfigured(f"kubeconfig {paths}: its login did not end within {LOGIN_TIMEOUT_S:g} s") from exc
    except (ConfigException, OSError, ValueError, ssl.SSLError) as exc:
        raise Misconfigured(f"kubeconfig {paths}: {' '.join(str(exc).split())}") from exc
    except Exception as exc:  # a file that is not a kubeconfig at all is met in many ways: no keys, no dict, not YAML
        reason = " ".join(str(exc).split()) or "something in it is empty"
        raise Misconfigured(f"kubeconfig {paths} cannot be understood ({reason})") from exc
