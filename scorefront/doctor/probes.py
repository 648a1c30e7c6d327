"""Looks at a cluster from here: DNS, TCP, HTTP, the Kubernetes API. Each attempt ends within its own time."""

import asyncio
import contextlib
import os
import time
from collections.abc import Mapping
from typing import Any

import aiohttp

from cluster.kubernetes.client import access_source
from cluster.kubernetes.client.api import Api, ApiSettings
from scorefront.cluster_names import watched_namespaces

ATTEMPT_S = 3.0
"""Seconds for one lookup, connection or response; shorter than a step, so that the finding names the failed one."""


class Probes:
    """Fits `scorefront.doctor.examine.Cluster`. From `open` to `close`."""

    def __init__(self, api: Api, server: str, environment: Mapping[str, str]) -> None:
        """`server`: URL of the API server."""
        self.server = server
        self.home = api.home
        self.watched = watched_namespaces(environment, api.home)
        self.inside = bool(environment.get("KUBERNETES_SERVICE_HOST") or environment.get("POD_IP"))
        self._api = api

    @classmethod
    async def open(cls, environment: Mapping[str, str] = os.environ) -> "Probes":
        """Raises ApiError (`Misconfigured`): there is no cluster to look at."""
        found = await access_source.source(environment).read(anew=False)
        api = await Api.connect(environment, ApiSettings(connect_s=ATTEMPT_S, total_s=2 * ATTEMPT_S))
        return cls(api, found.url, environment)

    async def close(self) -> None:
        """Ends every connection."""
        await self._api.close()

    def now(self) -> float:
        """Unix seconds, the unit of renewal times."""
        return time.time()  # noqa: TID251 - a shell

    async def resolve(self, host: str) -> list[str]:
        """See Cluster."""
        async with _within(host):
            found = await asyncio.get_running_loop().getaddrinfo(host, None, proto=6)
        return sorted({str(where[0]) for *_, where in found})

    async def dial(self, host: str, port: int) -> None:
        """See Cluster."""
        async with _within(f"{host}:{port}"):
            _, writer = await asyncio.open_connection(host, port)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def ask(self, url: str) -> None:
        """See Cluster."""
        timeout = aiohttp.ClientTimeout(total=ATTEMPT_S)
        try:
            async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session, session.get(url):
                return
        except TimeoutError:
            raise TimeoutError(f"no answer in {ATTEMPT_S:g} s") from None
        except aiohttp.ClientError as error:
            cause = getattr(error, "os_error", None) or error
            raise OSError(getattr(cause, "strerror", None) or str(cause) or type(cause).__name__) from error

    async def version(self) -> str:
        """See Cluster."""
        return await self._api.version()

    async def get(self, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        """See Cluster."""
        return await self._api.get(path, query)

    async def review(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """See Cluster."""
        return await self._api.create(path, dict(body))

    async def watch(self, path: str, query: Mapping[str, str]) -> None:
        """See Cluster."""
        async for _ in self._api.lines(path, query, silent_s=2 * ATTEMPT_S):
            pass


@contextlib.asynccontextmanager
async def _within(what: str) -> Any:
    try:
        async with asyncio.timeout(ATTEMPT_S):
            yield
    except TimeoutError:
        raise TimeoutError(f"no answer in {ATTEMPT_S:g} s from {what}") from None
