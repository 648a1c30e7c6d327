"""Pool of connections to replicas: reused newest first, closed after a short idle time, opened on demand."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from cluster.owned_tasks import OwnedTasks
from router.core.ledger import ReplicaSlots
from router.proxy.response_shapes import ResponseShapes
from router.proxy.shared_timeout import SharedTimeout
from router.proxy.static_addresses import StaticAddresses
from router.proxy.unkept_replicas import UnkeptReplicas
from router.proxy.upstream import UpstreamConnection
from router.settings import RouterSettings
from router.write_batch import WriteBatch

if TYPE_CHECKING:
    from router.proxy.exchange import Exchange

LONGEST_USE_S = 5.0
"""Age from which on a connection is not kept: a server with one thread answers probes and other workers between two
connections only."""
STALL_S = 0.2
"""Silence of a replica on a new connection after which idle connections of other workers may be its cause."""

_log = logging.getLogger("scorefront.router")


class UpstreamPool:
    """Idle connections per replica, never more than the replica has slots."""

    def __init__(self, settings: RouterSettings, batch: WriteBatch) -> None:
        """`batch`: takes small whole requests."""
        self.settings = settings
        self.batch = batch
        self.response_shapes = ResponseShapes()
        self.statics = StaticAddresses()
        self.http10: set[str] = set()
        """Replicas that answer HTTP/1.0: they may not be sent a chunked body (RFC 9112 section 6.1)."""
        self.distrusted: set[str] = set()
        """Replicas that sent bytes beyond an answer: their connections serve one request each."""
        self.on_stalled: Callable[[UpstreamConnection], None] = lambda connection: None
        """A replica is silent on a new connection."""
        self._idle: dict[str, list[UpstreamConnection]] = {}
        self._unkept = UnkeptReplicas()
        self._young: deque[tuple[UpstreamConnection, Exchange]] = deque()
        """Connections opened within STALL_S, in order."""
        self.connect: Callable[[ReplicaSlots, Exchange], None] = self._open
        """Opens a connection; calls `connected` or `unreachable` of the exchange."""
        self._connecting = OwnedTasks()
        self._timeout = SharedTimeout(settings.connect_timeout_s)

    def pop_idle(self, replica_id: str) -> UpstreamConnection | None:
        """An idle connection to the replica, or None."""
        idle = self._idle.get(replica_id)
        while idle:
            connection = idle.pop()
            if not connection.closed:
                return connection
        return None

    def keep(self, connection: UpstreamConnection, now: float) -> None:
        """Return a connection for the next exchange. `now`: monotonic seconds."""
        if self.distrusted and connection.replica_id in self.distrusted:
            connection.close()
            return
        if now - connection.opened_at > LONGEST_USE_S or (
            self._unkept and self._unkept.includes(connection.replica_id, now)
        ):
            connection.close()
            return
        connection.idle_since = now
        idle = self._idle.get(connection.replica_id)
        if idle is None:
            idle = self._idle[connection.replica_id] = []
        idle.append(connection)

    def remove(self, connection: UpstreamConnection) -> None:
        """The connection is closed."""
        idle = self._idle.get(connection.replica_id)
        if idle and connection in idle:
            idle.remove(connection)

    def note_version(self, replica_id: str, minor: int) -> None:
        """The replica answered HTTP/1.`minor`."""
        (self.http10.discard if minor else self.http10.add)(replica_id)

    def note_leftovers(self, replica_id: str) -> None:
        """The replica sent bytes beyond an answer: it may have read the body of a request as the next request."""
        if replica_id not in self.distrusted:
            self.distrusted.add(replica_id)
            _log.warning("replica %s: sent bytes beyond its answer; its connections are not reused", replica_id)

    def _open(self, replica: ReplicaSlots, exchange: "Exchange") -> None:
        self._connecting.spawn(self._connect(replica, exchange), f"connect to {replica.id}")

    async def _connect(self, replica: ReplicaSlots, exchange: "Exchange") -> None:
        lease, timeout = exchange.lease, self._timeout
        timeout.begin()
        try:
            connection = await self._connected(replica)
        except (OSError, asyncio.CancelledError) as error:
            is_late = timeout.end()
            if isinstance(error, asyncio.CancelledError) and not is_late:
                raise
            if exchange.lease is lease:
                exchange.unreachable(str(error) or "connection timeout")
            return
        timeout.end()
        if exchange.lease is lease and lease is not None:
            exchange.connected(connection)
            self._young.append((connection, exchange))
            if len(self._young) == 1:
                asyncio.get_running_loop().call_later(STALL_S, self._check_young)
        else:
            connection.close()

    def _check_young(self) -> None:
        """Look at the connections that are STALL_S old. One timer for all: each would cost 2 µs of a connection."""
        loop, young = asyncio.get_running_loop(), self._young
        while young and young[0][0].opened_at + STALL_S <= loop.time():
            connection, exchange = young.popleft()
            is_silent = connection.exchange is exchange and not connection.has_answered
            if is_silent and self._unkept.reports(connection.replica_id, loop.time()):
                self.on_stalled(connection)
        if young:
            loop.call_at(young[0][0].opened_at + STALL_S, self._check_young)

    async def _connected(self, replica: ReplicaSlots) -> UpstreamConnection:
        """Open a connection. Raises OSError."""
        loop = asyncio.get_running_loop()
        hosts = await self.hosts(replica)
        for last, host in enumerate(hosts, 1 - len(hosts)):
            try:
                _, connection = await loop.create_connection(
                    lambda: UpstreamConnection(self, replica.id), host, replica.port
                )
            except OSError:
                if last == 0:
                    raise
            else:
                return connection
        raise AssertionError("no address")

    async def hosts(self, replica: ReplicaSlots) -> list[str]:
        """Addresses of the replica. Raises OSError. For a static one only those that passed the check."""
        if replica.static:
            return await self.statics.resolve(replica.host, replica.port, asyncio.get_running_loop().time())
        return [replica.host]

    def close_expired(self, now: float) -> None:
        """Close connections idle for `upstream_idle_s`: a server that closes first races with the next request."""
        horizon = now - self.settings.upstream_idle_s
        for replica_id, idle in list(self._idle.items()):
            for connection in [connection for connection in idle if connection.idle_since < horizon]:
                idle.remove(connection)
                connection.close()
            if not idle:
                del self._idle[replica_id]
        self._unkept.forget_old(now)

    def close_replica(self, replica_id: str) -> None:
        """Forget a removed replica and close its idle connections."""
        self.http10.discard(replica_id)
        self.distrusted.discard(replica_id)
        self._close_all(replica_id)

    def close_idle(self, replica_id: str, slots: int) -> None:
        """Close the idle connections to a replica, which may need its threads for others, and keep none for a while.

        `slots`: of the replica.
        """
        self._unkept.add(replica_id, slots, asyncio.get_running_loop().time())
        self._close_all(replica_id)

    def _close_all(self, replica_id: str) -> None:
        for connection in self._idle.pop(replica_id, ()):
            connection.close()

    async def close(self) -> None:
        """Close all connections and cancel attempts in progress."""
        for replica_id in list(self._idle):
            self.close_replica(replica_id)
        await self._connecting.close()
