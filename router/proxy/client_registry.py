"""Registry of the client connections of one worker: admission, memory for partial heads, drain, hand-off."""

import asyncio
import select
from collections.abc import Iterator
from typing import TYPE_CHECKING

from router.metrics import WorkerStats
from router.proxy.connection_admission import ConnectionAdmission, ConnectionVerdict, HeadBudget
from router.proxy.connection_handoff import ConnectionHandoff
from router.proxy.tunnels import OpenTunnels
from router.settings import RouterSettings

if TYPE_CHECKING:
    from router.proxy.client_connection import ClientConnection


class ClientRegistry:
    """All connected clients, including refused ones that are still open."""

    def __init__(
        self, settings: RouterSettings, stats: WorkerStats, tunnels: OpenTunnels, handoff: ConnectionHandoff
    ) -> None:
        self._stats = stats
        self._tunnels = tunnels
        self._handoff = handoff
        self._clients: set[ClientConnection] = set()
        self.max_connections = settings.max_connections
        """Limit of admitted clients; the worker lowers it if file descriptors are fewer."""
        self.admission: ConnectionAdmission[ClientConnection] = ConnectionAdmission(settings.max_address_connections)
        self.heads: HeadBudget[ClientConnection] = HeadBudget(settings.half_heads_bytes)
        self._lingering: set[ClientConnection] = set()
        self.empty = asyncio.Event()
        """Set while no client is connected."""
        self.empty.set()

    def __iter__(self) -> Iterator["ClientConnection"]:
        return iter(list(self._clients))

    def admit(self, client: "ClientConnection") -> ConnectionVerdict:
        """Register a new client; a full worker evicts an idle unauthorized client for it."""
        self._clients.add(client)
        self.empty.clear()
        peer = client.transport.get_extra_info("peername")
        verdict, evicted = self.admission.admit(client, str(peer[0] if peer else ""), self.max_connections)
        if evicted is not None:
            self._stats.counters["connections_evicted"] += 1
            self.remove(evicted)
            evicted.flush_batched()
            evicted.transport.abort()
        self._stats.connections = len(self._clients)
        return verdict

    def remove(self, client: "ClientConnection") -> None:
        """A client has disconnected; idempotent."""
        self._clients.discard(client)
        self._lingering.discard(client)
        self._tunnels.remove(client)
        self.admission.remove(client)
        self.heads.release(client)
        if not self._clients:
            self.empty.set()
        self._stats.connections = len(self._clients)

    def may_linger(self, client: "ClientConnection") -> bool:
        """True if the rest of the client's body may be read after its response; few clients at the same time may."""
        if len(self._lingering) >= max(self.max_connections // 8, 16):
            return False
        self._lingering.add(client)
        return True

    def charge_head(self, client: "ClientConnection", size_bytes: int) -> None:
        """Charge memory for a partial head; above the limit the oldest heads are answered 408."""
        for oldest in self.heads.charge(client, size_bytes):
            self._stats.counters["half_heads_shed"] += 1
            oldest.shed_head()

    def leave_worker(self) -> None:
        """Hand off idle connections to other workers, or close them if that is impossible. Repeated while draining."""
        for client in self:
            client.leave_worker()

    def hand_off_idle(self) -> None:
        """Hand off idle connections while the hand-off is active."""
        for client in self:
            if not self._handoff.active:
                return
            client.hand_off()

    def close_tunnels(self) -> None:
        """Close all tunnels at the end of a drain: they have no end of their own."""
        for client in self:
            client.close_tunnel("tunnels_drained")

    def end_requests(self) -> None:
        """Answer every request in flight at the end of a drain; a response that has begun is reset."""
        # Waiting ones first: they must not get the slots of the others.
        for client in sorted(
            self, key=lambda client: client.exchange is not None and client.exchange.lease is not None
        ):
            client.end_request()

    def abort(self) -> None:
        """Abort all connections."""
        for client in self:
            client.flush_batched()
            client.transport.abort()

    def check_deadlines(self, now: float) -> None:
        """Run `check` of clients with an expired deadline. `now`: monotonic seconds."""
        for client in [client for client in self._clients if client.deadline <= now]:
            client.check(now)

    def notice_departures(self) -> None:
        """Abort connections closed by clients that are not being read: the loop does not report those."""
        held = {client.transport.get_extra_info("socket").fileno(): client for client in self._clients if client.held}
        if held:
            poll = select.poll()
            for fd in held:
                poll.register(fd, select.POLLRDHUP)
            for fd, events in poll.poll(0):
                if events & (select.POLLERR | select.POLLHUP) or not held[fd].half_close():
                    held[fd].transport.abort()
