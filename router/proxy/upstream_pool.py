"""Connections to replicas: kept for reuse a short while, newest first, and made when none is idle."""

import asyncio
import logging
from typing import TYPE_CHECKING

from cluster.owned_tasks import OwnedTasks
from router.core.ledger import ReplicaSlots
from router.proxy.static_addresses import StaticAddresses
from router.proxy.upstream import UpstreamConnection
from router.settings import RouterSettings

if TYPE_CHECKING:
    from router.proxy.exchange import Exchange

_log = logging.getLogger("scorefront.router")


class UpstreamPool:
    """Idle connections per replica. One replica never has more of them than it has slots."""

    def __init__(self, settings: RouterSettings) -> None:
        self.settings = settings
        self.statics = StaticAddresses()
        self._idle: dict[str, list[UpstreamConnection]] = {}
        self._connecting = OwnedTasks()

    def take(self, replica_id: str) -> UpstreamConnection | None:
        """An idle connection to the replica, or None."""
        idle = self._idle.get(replica_id)
        while idle:
            connection = idle.pop()
            if not connection.closed:
                return connection
        return None

    def put(self, connection: UpstreamConnection, now: float) -> None:
        """Keep a connection for the next exchange."""
        connection.idle_since = now
        idle = self._idle.get(connection.replica_id)
        if idle is None:
            idle = self._idle[connection.replica_id] = []
        idle.append(connection)

    def discard(self, connection: UpstreamConnection) -> None:
        """The connection is gone."""
        idle = self._idle.get(connection.replica_id)
        if idle and connection in idle:
            idle.remove(connection)

    def connect(self, replica: ReplicaSlots, exchange: "Exchange") -> None:
        """Make a connection; the exchange hears `connected` or `unreachable`."""
        self._connecting.spawn(
            self._connect(replica, exchange), f"connect to {replica.id} at {replica.host}:{replica.port}"
        )

    async def _connect(self, replica: ReplicaSlots, exchange: "Exchange") -> None:
        lease = exchange.lease
        try:
            async with asyncio.timeout(self.settings.connect_timeout_s):
                connection = await self._connected(replica)
        except (OSError, TimeoutError) as error:
            if exchange.lease is lease:
                exchange.unreachable(str(error) or "no connection in time")
            return
        if exchange.lease is lease and lease is not None:
            exchange.connected(connection)
        else:
            connection.close()

    async def _connected(self, replica: ReplicaSlots) -> UpstreamConnection:
        """Raises OSError; of a static replica no other address is connected to than one that has been judged."""
        loop = asyncio.get_running_loop()
        hosts = [replica.host]
        if replica.static:
            hosts = await self.statics.of(replica.host, replica.port, loop.time())
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
        raise AssertionError("there is at least one address")

    def sweep(self, now: float) -> None:
        """Close what has been idle for too long. A server that closes first races with the next request."""
        horizon = now - self.settings.upstream_idle_s
        for replica_id, idle in list(self._idle.items()):
            for connection in [connection for connection in idle if connection.idle_since < horizon]:
                idle.remove(connection)
                connection.close()
            if not idle:
                del self._idle[replica_id]

    def forget(self, replica_id: str) -> None:
        """The replica is gone."""
        for connection in self._idle.pop(replica_id, []):
            connection.close()

    async def close(self) -> None:
        """Close everything."""
        for replica_id in list(self._idle):
            self.forget(replica_id)
        await self._connecting.close()
