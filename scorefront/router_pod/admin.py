"""What a router of a cluster answers to those who run it: whether it lives, whether it is ready, its metrics.

Asked of the supervisor's process, so that the answer does not wait behind scoring requests.
"""

import socket
from collections.abc import Awaitable, Callable

from aiohttp import web


async def serve_admin(
    sock: socket.socket, why_not_ready: Callable[[], str], metrics: Callable[[], Awaitable[bytes]]
) -> web.AppRunner:
    """Answer at `sock` until the runner is cleaned up. `why_not_ready`: "" if it is."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        why = why_not_ready()
        return web.Response(text=f"{why or 'ready'}\n", status=503 if why else 200)

    async def scrape(_: web.Request) -> web.Response:
        return web.Response(body=await metrics(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", scrape)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.SockSite(runner, sock).start()
    return runner
