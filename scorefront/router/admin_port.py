"""Admin port of a router in a cluster: liveness, readiness, metrics.

Served by the supervisor process, so that probes do not wait behind scoring requests.
"""

import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from controlplane.rest_guard import add_security_headers, json_errors, same_site_only
from scorefront.ports.connection_table import PortLimits
from scorefront.ports.timed_port import TimedPort, app_runner

SHUTDOWN_S = 1.0


@contextlib.asynccontextmanager
async def admin_port(
    sock: socket.socket,
    limits: PortLimits,
    why_not_ready: Callable[[], str],
    metrics: Callable[[], Awaitable[bytes]],
) -> AsyncIterator[None]:
    """Serve on `sock` during the block.

    `limits`: of connections; `why_not_ready`: reason, "" if ready; `metrics`: the Prometheus text.
    """

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        why = why_not_ready()
        return web.Response(text=f"{why or 'ready'}\n", status=503 if why else 200)

    async def scrape(_: web.Request) -> web.Response:
        return web.Response(body=await metrics(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    app = web.Application(middlewares=[json_errors(), same_site_only()])
    app.on_response_prepare.append(add_security_headers)
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", scrape)])
    runner = app_runner(app, SHUTDOWN_S)
    await runner.setup()
    port = TimedPort(sock, limits)
    port.answer_with(runner)
    try:
        yield
    finally:
        await port.close()
        await runner.cleanup()
