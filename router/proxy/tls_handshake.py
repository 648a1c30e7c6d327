"""Clients over TLS: counted, limited and timed from their first packet on, clients like any other once TLS is agreed.

asyncio's own TLS server tells of a connection only after the handshake: connections that never finish it would be
outside every limit.
"""

import asyncio
import math
import ssl
from typing import TYPE_CHECKING, cast

from cluster.owned_tasks import OwnedTasks
from router.proxy.connection_admission import ConnectionVerdict
from router.proxy.downstream import Downstream

if TYPE_CHECKING:
    from router.proxy.gateway import Gateway

DRAIN_GRACE_S = 1.0
"""Before an idle connection is closed by a worker that leaves: a client that uses it is told with its next answer."""


class TlsDownstream(Downstream):
    """A client over TLS."""

    __slots__ = ("_agreed", "_sent_away_at", "_tcp")

    def __init__(self, gateway: "Gateway", tcp: asyncio.Transport) -> None:
        super().__init__(gateway)
        self._tcp = self.transport = tcp
        self._agreed = False
        self._sent_away_at = math.inf

    def agree(self, transport: asyncio.Transport, early: list[bytes]) -> None:
        """The handshake is over; what came right behind it is read now."""
        self._agreed = True
        self.connection_made(transport)
        for data in early:
            self.data_received(data)

    def send_away(self) -> None:
        """As for any client, but the connection cannot pass to another worker, and is not cut off in mid-use."""
        now = self._gateway.now()
        self._sent_away_at = min(self._sent_away_at, now)
        if self._agreed and now >= self._sent_away_at + DRAIN_GRACE_S:
            super().send_away()

    def unsent(self) -> int:
        """Bytes that this process still keeps for the client."""
        return super().unsent() + self._tcp.get_write_buffer_size()


class TlsHandshakes:
    """Those of one listener that are not over. `arrival` makes the protocols of its connections."""

    def __init__(self, gateway: "Gateway", context: ssl.SSLContext) -> None:
        self._gateway = gateway
        self._context = context
        self._tasks = OwnedTasks()

    def arrival(self) -> asyncio.Protocol:
        """The protocol of a connection that is new."""
        return _Arrival(self)

    def begin(self, arrival: "_Arrival", tcp: asyncio.Transport) -> None:
        """A client has connected; where there are too many clients already, it is not worth it."""
        client = TlsDownstream(self._gateway, tcp)
        if self._gateway.admit(client) is not ConnectionVerdict.ADMITTED:
            self._gateway.dismiss(client)
            tcp.abort()
            return
        self._tasks.spawn(self._agree(client, arrival, tcp), "agree on TLS")

    async def _agree(self, client: TlsDownstream, arrival: "_Arrival", tcp: asyncio.Transport) -> None:
        settings = self._gateway.settings
        secure = None
        try:
            if not tcp.is_closing():
                # Comes before anything that `start_tls` arranges, and after it has replaced the protocol.
                asyncio.get_running_loop().call_soon(arrival.pass_on, tcp)
                secure = await asyncio.get_running_loop().start_tls(
                    tcp,
                    arrival,
                    self._context,
                    server_side=True,
                    ssl_handshake_timeout=settings.tls_handshake_timeout_s,
                    ssl_shutdown_timeout=2 * settings.write_timeout_s,
                )
        except OSError:
            secure = None
        finally:
            # A client that left is told of by an exception on one loop, and by a closed transport on another.
            if secure is None or secure.is_closing() or arrival.lost:
                self._gateway.stats.counters["tls_handshakes_failed"] += 1
                self._gateway.dismiss(client)
                tcp.abort()
            else:
                secure.set_protocol(client)
                client.agree(secure, arrival.take())

    async def close(self) -> None:
        """Break off the handshakes that are not over."""
        await self._tasks.close()


class _Arrival(asyncio.Protocol):
    """A connection until TLS is agreed. Keeps what comes before the handshake begins, and what comes with its end."""

    def __init__(self, handshakes: TlsHandshakes) -> None:
        self._handshakes = handshakes
        self._kept: list[bytes] = []
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._handshakes.begin(self, cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        self._kept.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True

    def take(self) -> list[bytes]:
        """What has been kept."""
        kept, self._kept = self._kept, []
        return kept

    def pass_on(self, tcp: asyncio.Transport) -> None:
        """The client's first bytes, which some loops read whatever they are told, go where all others will go."""
        protocol = cast(asyncio.BufferedProtocol, tcp.get_protocol())
        for data in self.take():
            rest = memoryview(data)
            while rest:
                room = memoryview(protocol.get_buffer(len(rest)))
                size = min(len(room), len(rest))
                room[:size] = rest[:size]
                protocol.buffer_updated(size)
                rest = rest[size:]
