"""The REST port of a control process: it passes requests on to the leader as long as that is somebody else."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from cluster.kubernetes.client.election import LeaderInfo
from controlplane.leader_proxy import LeaderProxy
from controlplane.rest_guard import Handler
from scorefront.connection_table import PortLimits
from scorefront.exposition import Exposition
from scorefront.timed_port import TimedPort, app_runner

SHUTDOWN_S = 1.0
"""What is under way when the process ends or begins to lead may take so long."""
HEAR_OUT_S = 1.0
"""Who had connected before somebody else began to answer here, and had not asked yet, is heard for so long."""


@dataclass(frozen=True, slots=True)
class RestPortTls:
    """The TLS contexts of a control process; each is asked for whenever one is needed."""

    own: Callable[[], ssl.SSLContext]
    """For connections to this process."""
    leader: Callable[[], ssl.SSLContext]
    """For connections to the leader. May raise TrustError."""


class RestPort:
    """From `stand_by` to `close`. The port is open all the time."""

    def __init__(
        self,
        sock: socket.socket,
        identity: str,
        leader: Callable[[], LeaderInfo | None],
        limits: PortLimits,
        tls: RestPortTls | None = None,
    ) -> None:
        """The socket is closed by `close`.

        sock: listens already.
        identity: of this process.
        leader: the leader now, this process included.
        limits: of connections.
        tls: certificates of the port, and how the leader is verified; default None: plain HTTP at both ends.
        """
        self._sock = sock
        # One port for good, which asks for each connection which application answers it: a connection that was accepted
        # just before the change is answered, too.
        self._port = TimedPort(sock, limits, tls.own if tls is not None else None)
        self._forwarder = LeaderProxy(identity, leader, tls.leader if tls is not None else None)
        self._answering: web.AppRunner | None = None
        self._leaving: asyncio.Task[None] | None = None

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
        await self._port.close()
        if self._leaving is not None:
            self._leaving.cancel()
            await asyncio.gather(self._leaving, return_exceptions=True)
        if self._answering is not None:
            await self._answering.cleanup()
        await self._forwarder.close()
        self._sock.close()

    async def _answer_with(self, app: web.Application, handler_cancellation: bool) -> None:
        before = self._answering
        runner = app_runner(app, SHUTDOWN_S, handler_cancellation)

        async def part(request: web.Request, response: web.StreamResponse) -> None:
            """A connection to who does not answer any more ends with its next answer."""
            if self._answering is not runner:
                response.force_close()
                response.headers["Connection"] = "close"

        app.on_response_prepare.append(part)
        await runner.setup()
        self._answering = runner
        self._port.answer_with(runner)
        if before is not None:
            self._leaving = asyncio.create_task(_leave(before), name="hear out who has connected before")

    async def _health(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok")

    async def _readiness(self, request: web.Request) -> web.StreamResponse:
        ready = self._forwarder.ready()
        missing = [] if ready else ["a leader"]
        return web.json_response({"ready": ready, "waitingFor": missing}, status=200 if ready else 503)

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        body = Exposition(routers_elsewhere=True).render((), {}, {}, {})
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


async def _leave(runner: web.AppRunner) -> None:
    try:
        await asyncio.sleep(HEAR_OUT_S)
    finally:
        await runner.cleanup()
