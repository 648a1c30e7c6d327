"""A client connection over TLS: HTTP/1.1 as without it, another drain, and the bytes of the TLS records."""

import asyncio
import math
from typing import TYPE_CHECKING

from router.proxy.downstream import Downstream

if TYPE_CHECKING:
    from router.proxy.gateway import Gateway

DRAIN_GRACE_S = 1.0
"""Delay before a draining worker closes an idle connection: an active client gets `Connection: close` first."""


class TlsDownstream(Downstream):
    """A client connection over TLS."""

    __slots__ = ("_draining_since", "_established", "_tcp")

    def __init__(self, gateway: "Gateway", tcp: asyncio.Transport) -> None:
        super().__init__(gateway)
        self._tcp = self.transport = tcp
        self._established = False
        self._draining_since = math.inf

    def handshake_done(self, transport: asyncio.Transport, early: list[bytes]) -> None:
        """Start serving. `early`: data received with the end of the handshake."""
        self._established = True
        self.connection_made(transport)
        for data in early:
            self.data_received(data)

    def leave_worker(self) -> None:
        """Close the connection if it has been idle for DRAIN_GRACE_S; TLS cannot be handed off."""
        now = self._gateway.now()
        self._draining_since = min(self._draining_since, now)
        if self._established and now >= self._draining_since + DRAIN_GRACE_S:
            super().leave_worker()

    def unsent(self) -> int:
        """Bytes not yet accepted by the socket, TLS records included."""
        return super().unsent() + self._tcp.get_write_buffer_size()
