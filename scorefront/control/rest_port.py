"""The REST port of a control process; a standby forwards requests to the leader."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from cluster.kubernetes.client.election import LeaderInfo
from controlplane.endpoint_metrics import ProblemMetrics, ScalingMetrics
from controlplane.leader_proxy import LeaderProxy
from controlplane.rest_guard import Handler
from scorefront.exposition import Exposition
from scorefront.ports.connection_table import PortLimits
from scorefront.ports.timed_port import TimedPort, app_runner

SHUTDOWN_S = 1.0
"""Time for requests in flight when the process ends or becomes leader."""
HEAR_OUT_S = 1.0
"""Time for the first request on connections made before the change of the application."""


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
        tls: certificates of the port and for the leader; default None: plain HTTP on both sides.
        """
        self._sock = sock
        # One port for the life of the process: it chooses the application per connection, so that connections accepted
        # just before a change are answered, too.
        self._port = TimedPort(sock, limits, tls.own if tls is not None else None)
        self._forwarder = LeaderProxy(identity, leader, tls.leader if tls is not None else None)
        self.waiting_for: Callable[[], list[str]] = lambda: []
        """Reasons why this process cannot lead, or why the installation has no leader."""
        self._answering: web.AppRunner | None = None
        self._leaving: asyncio.Task[None] | None = None

    async def stand_by(self) -> None:
        """Forward all requests but health, readiness and metrics."""
        own: dict[str, Handler] = {"/healthz": self._health, "/readyz": self._readiness, "/metrics": self._metrics}
        await self._answer_with(self._forwarder.app(own), handler_cancellation=True)

    async def lead(self, app: web.Application) -> None:
        """Serve REST with `app` from now on."""
        await self._answer_with(app, handler_cancellation=False)

    async def run(self) -> None:
        """Follow the leader, until cancelled."""
        await self._forwarder.run()

    async def close(self) -> None:
        """Stop listening and end requests in flight."""
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
            """Connections to a replaced application end with their next response."""
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
        missing = [] if ready else self.waiting_for() or ["a leader"]
        return web.json_response({"ready": ready, "waitingFor": missing}, status=200 if ready else 503)

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        body = await Exposition(routers_elsewhere=True).render((), ScalingMetrics({}, {}, {}), ProblemMetrics())
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


async def _leave(runner: web.AppRunner) -> None:
    try:
        await asyncio.sleep(HEAR_OUT_S)
    finally:
        await runner.cleanup()
