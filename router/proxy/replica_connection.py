"""A connection to a replica below HTTP: transport, backpressure, and its ends."""

import asyncio
import math
import socket
from typing import TYPE_CHECKING, cast

from router.proxy.streams import ReadHold

if TYPE_CHECKING:
    from router.proxy.exchange import Exchange
    from router.proxy.upstream_pool import UpstreamPool

FINISH_S = 2.0
"""Time for a replica to accept the last bytes of a tunnel."""


class ReplicaConnection(asyncio.Protocol):
    """Transport side of a connection to a replica. `UpstreamConnection` adds HTTP/1.1."""

    __slots__ = (
        *("_batched", "_fd", "_pool", "_sent", "_sent_before", "_sock"),
        *("closed", "exchange", "idle_since", "opened_at", "replica_id", "transport"),
    )

    def __init__(self, pool: "UpstreamPool", replica_id: str) -> None:
        self._pool = pool
        self.replica_id = replica_id
        self.exchange: Exchange | None = None
        """None while the connection is idle in the pool."""
        self.closed = False
        self.idle_since = 0.0
        self.opened_at = math.inf
        """Monotonic seconds."""
        self._batched = b""
        """A whole request that is written at the end of the loop's iteration."""
        self._sent = 0
        """Bytes written or batched since the connection was opened."""
        self._sent_before = 0
        """Value of `_sent` at the start of the exchange."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: connected."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=self._pool.settings.buffer_bytes)
        self._sock: socket.socket | None = transport.get_extra_info("socket")
        self._fd = self._sock.fileno() if self._sock is not None else -1
        self.opened_at = asyncio.get_running_loop().time()

    def pause_writing(self) -> None:
        """asyncio: the replica reads more slowly than the client sends."""
        if self.exchange is not None:
            self.exchange.client.hold_reading(ReadHold.REPLICA, True)

    def resume_writing(self) -> None:
        """asyncio: the replica has caught up."""
        if self.exchange is not None:
            self.exchange.client.hold_reading(ReadHold.REPLICA, False)

    # ---- used by the exchange

    def write(self, data: bytes) -> None:
        """Send more of the request body, or bytes of the tunnel."""
        if self._batched:
            self.flush_batched()
        self._sent += len(data)
        self.transport.write(data)

    def flush_batched(self) -> None:
        """Pass a batched request to the transport; no effect if there is none or the connection has ended."""
        request, self._batched = self._batched, b""
        if request and not self.closed and not self.transport.is_closing():
            self.transport.write(request)

    def unsent(self) -> int:
        """Bytes not yet accepted by the socket."""
        return self.transport.get_write_buffer_size() + len(self._batched)

    def hold_reading(self, hold: bool) -> None:
        """Pause or resume reading the response."""
        if hold:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def finish(self) -> None:
        """Close a tunnel after flushing the bytes of the client, within FINISH_S."""
        self.exchange = None
        self.closed = True
        if self.transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(FINISH_S, self.transport.abort)
        self.transport.close()

    def abort(self) -> None:
        """Break the connection, so that the replica notices that the exchange was aborted."""
        self.exchange = None
        self.closed = True
        self._batched = b""
        self.transport.abort()

    def close(self) -> None:
        """Close an idle connection."""
        if not self.closed:
            self.closed = True
            self.transport.close()
