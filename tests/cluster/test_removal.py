"""The removal of the installation with an endpoint in it, under load: it ends, and begun requests are answered."""

import asyncio
import contextlib
import time

from loadtests.http1 import post
from tests.cluster.played.kubectl import apply, kubectl
from tests.cluster.played.site import HOME, Site

LIMIT_S = 60.0
WORK_MS = 3000
TIMEOUT_MS = 6000
"""A short grace period of the model pods: Kubernetes ends a namespace with a pod only after half of it."""


async def begun(site: Site, name: str) -> int:
    """The status of a request that was sent on a connection of its own."""
    host, port = site.service.address
    reader, writer = await asyncio.open_connection(host, port)
    try:
        request = post(f"/api/v1/service/{name}/score", await site.key(name), b'{"work_ms": %d}' % WORK_MS)
        writer.write(request)
        await writer.drain()
        status, *_ = (await reader.readline()).split(b" ")[1:]
        return int(status)
    finally:
        writer.close()


async def test_an_installation_that_is_deleted_with_an_endpoint_in_it_goes_within_a_minute(
    site: Site, name: str
) -> None:
    overlay = str(site.folder / "overlay")
    await site.apply(name, site.version(numReplicas=2, scoringTimeoutMs=TIMEOUT_MS))
    await site.ready(name, 2)
    try:
        requests = [asyncio.create_task(begun(site, name), name=f"request {number}") for number in range(2)]
        await asyncio.sleep(1.0)  # into the 3 s of the requests: routers report no single request to poll for
        started = time.monotonic()
        await kubectl("delete", "-k", overlay, f"--timeout={LIMIT_S:.0f}s")
        took_s = time.monotonic() - started
        assert await asyncio.gather(*requests) == [200, 200]
        assert took_s < LIMIT_S
        namespaces = await site.kube.items("/api/v1/namespaces")
        assert HOME not in [each["metadata"]["name"] for each in namespaces]
    finally:
        with contextlib.suppress(Exception):
            await kubectl("-n", HOME, "patch", "sep", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
        await apply("-k", overlay)
        await site.installed()
