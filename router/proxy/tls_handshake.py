"""TLS connections of clients, subject to connection limits and timeouts from the start of the handshake.

asyncio's TLS server reports a connection only after the handshake: incomplete handshakes would be outside all limits.
"""

import asyncio
import ssl
from typing import TYPE_CHECKING, cast

from cluster.owned_tasks import OwnedTasks
from router.proxy.connection_admission import ConnectionVerdict
from router.proxy.tls_downstream import TlsDownstream

if TYPE_CHECKING:
    from router.proxy.gateway import Gateway


class TlsHandshakes:
    """The handshakes in progress of one listener. `new_protocol` is its protocol factory."""

    def __init__(self, gateway: "Gateway", context: ssl.SSLContext) -> None:
        self._gateway = gateway
        self._context = context
        self._tasks = OwnedTasks()

    def new_protocol(self) -> asyncio.Protocol:
        """The protocol of a new connection."""
        return _HandshakeProtocol(self)

    def start(self, protocol: "_HandshakeProtocol", tcp: asyncio.Transport) -> None:
        """A client has connected: start the handshake, or drop the connection if the worker is full."""
        client = TlsDownstream(self._gateway, tcp)
        if self._gateway.clients.admit(client) is not ConnectionVerdict.ADMITTED:
            self._gateway.clients.remove(client)
            tcp.abort()
            return
        self._tasks.spawn(self._handshake(client, protocol, tcp), "TLS handshake")

    async def _handshake(self, client: TlsDownstream, protocol: "_HandshakeProtocol", tcp: asyncio.Transport) -> None:
        settings = self._gateway.settings
        secure = None
        try:
            if not tcp.is_closing():
                # Runs after `start_tls` has replaced the protocol and before any callback that it schedules.
                asyncio.get_running_loop().call_soon(protocol.forward_early_data, tcp)
                secure = await asyncio.get_running_loop().start_tls(
                    tcp,
                    protocol,
                    self._context,
                    server_side=True,
                    ssl_handshake_timeout=settings.tls_handshake_timeout_s,
                    ssl_shutdown_timeout=2 * settings.write_timeout_s,
                )
        except OSError:
            secure = None
        finally:
            # A disconnected client raises on one loop and leaves a closed transport on another.
            if secure is None or secure.is_closing() or protocol.lost:
                self._gateway.stats.counters["tls_handshakes_failed"] += 1
                self._gateway.clients.remove(client)
                tcp.abort()
            else:
                secure.set_protocol(client)
                client.handshake_done(secure, protocol.pop_early_data())

    async def close(self) -> None:
        """Cancel the handshakes in progress."""
        await self._tasks.close()


class _HandshakeProtocol(asyncio.Protocol):
    """Protocol of a connection during its handshake; keeps data received before its start and with its end."""

    def __init__(self, handshakes: TlsHandshakes) -> None:
        self._handshakes = handshakes
        self._early: list[bytes] = []
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._handshakes.start(self, cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        self._early.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True

    def pop_early_data(self) -> list[bytes]:
        """The data kept so far."""
        early, self._early = self._early, []
        return early

    def forward_early_data(self, tcp: asyncio.Transport) -> None:
        """Pass bytes that were read before `start_tls` to the TLS protocol (uvloop reads even when paused)."""
        protocol = cast(asyncio.BufferedProtocol, tcp.get_protocol())
        for data in self.pop_early_data():
            rest = memoryview(data)
            while rest:
                room = memoryview(protocol.get_buffer(len(rest)))
                size = min(len(room), len(rest))
                room[:size] = rest[:size]
                protocol.buffer_updated(size)
                rest = rest[size:]
