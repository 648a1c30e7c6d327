"""The REST port of a control process: it passes requests on to the leader as long as that is somebody else."""

import socket
from collections.abc import Callable

from aiohttp import web

from controlplane.forward import Forwarder, Leader
from controlplane.guard import Handler
from scorefront.exposition import Exposition

SHUTDOWN_S = 1.0
"""What is under way when the process ends or begins to lead may take so long."""


class FrontDoor:
    """From `stand_by` to `close`. The port is open all the time."""

    def __init__(self, sock: socket.socket, identity: str, leader: Callable[[], Leader | None]) -> None:
        """`sock` listens already. `leader`: who leads now, this process included."""
        self._sock = sock
        self._forwarder = Forwarder(identity, leader)
        self._runner: web.AppRunner | None = None

    async def stand_by(self) -> None:
        """Pass everything on but what concerns this process alone."""
        own: dict[str, Handler] = {"/healthz": self._health, "/readyz": self._readiness, "/metrics": self._metrics}
        await self._answer_with(self._forwarder.app(own), handler_cancellation=True)

    async def lead(self, app: web.Application) -> None:
        """Answer here from now on."""
        await self._answer_with(app, handler_cancellation=False)

    async def run(self) -> None:
        """Look after who leads, for ever."""
        await self._forwarder.run()

    async def close(self) -> None:
        """End what is under way, and listen no more."""
        if self._runner is not None:
            await self._runner.cleanup()
        await self._forwarder.close()
        self._sock.close()

    async def _answer_with(self, app: web.Application, handler_cancellation: bool) -> None:
        before = self._runner
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=SHUTDOWN_S, handler_cancellation=handler_cancellation
        )
        await self._runner.setup()
        # A duplicate: a site closes its socket, and clients that come in between must not be refused.
        await web.SockSite(self._runner, self._sock.dup()).start()
        if before is not None:
            await before.cleanup()

    async def _health(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok")

    async def _readiness(self, request: web.Request) -> web.StreamResponse:
        ready = self._forwarder.ready()
        missing = [] if ready else ["a leader"]
        return web.json_response({"ready": ready, "waitingFor": missing}, status=200 if ready else 503)

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        body = Exposition(routers_elsewhere=True).render((), {}, {}, {})
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})
