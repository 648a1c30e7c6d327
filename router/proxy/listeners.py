"""Listeners of a worker: scoring, with or without TLS, and an optional redirect to TLS."""

import asyncio
import socket

from router.proxy.downstream import Downstream
from router.proxy.gateway import Gateway
from router.proxy.redirect import RedirectDownstream
from router.proxy.tls import Certificates
from router.proxy.tls_handshake import TlsHandshakes

BACKLOG = 4096


class Listeners:
    """Accept connections from `open` to `close`; accepted connections stay open."""

    def __init__(self, gateway: Gateway, certificates: Certificates | None) -> None:
        self._gateway = gateway
        self._handshakes = TlsHandshakes(gateway, certificates.context) if certificates is not None else None
        self._servers: list[asyncio.AbstractServer] = []

    async def open(self, scoring: socket.socket, redirect: socket.socket | None = None) -> None:
        """Accept connections on bound sockets. `redirect`: answers clients with a redirect to `scoring`."""
        loop = asyncio.get_running_loop()
        gateway, handshakes = self._gateway, self._handshakes
        accept = handshakes.new_protocol if handshakes is not None else lambda: Downstream(gateway)
        self._servers.append(await loop.create_server(accept, sock=scoring, backlog=BACKLOG))
        if redirect is not None:
            port: int = scoring.getsockname()[1]
            server = await loop.create_server(lambda: RedirectDownstream(gateway, port), sock=redirect, backlog=BACKLOG)
            self._servers.append(server)

    def close(self) -> None:
        """Stop accepting."""
        for server in self._servers:
            server.close()

    async def end(self) -> None:
        """Cancel the handshakes in progress."""
        if self._handshakes is not None:
            await self._handshakes.close()
