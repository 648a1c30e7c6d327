"""Open tunnels (WebSockets) of one worker: each is closed when its credential or its endpoint ends.

No work per byte. The request of a tunnel is authorized again when its endpoint, the endpoint's keys or the token
issuers change, and when its token expires.
"""

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from router.core.router_errors import RouterError

if TYPE_CHECKING:
    from router.proxy.exchange import Exchange
    from router.proxy.request_plan import Planner

UNAUTHORIZED = "tunnels_unauthorized"
"""Counter of tunnels closed because their credential became invalid."""


class TunnelClient(Protocol):
    """The attributes of a client connection that a review depends on."""

    exchange: "Exchange | None"
    planner: "Planner"


class OpenTunnels:
    """Registry of the client sides of open tunnels, by endpoint. `unix_now`: wall clock in unix seconds."""

    def __init__(self, unix_now: Callable[[], float]) -> None:
        self._unix_now = unix_now
        self._endpoints: dict[TunnelClient, str] = {}
        self._clients: dict[str, set[TunnelClient]] = {}
        self._expiries: dict[TunnelClient, float] = {}
        """Client -> expiry of its credential in unix seconds."""

    def __len__(self) -> int:
        return len(self._endpoints)

    def add(self, client: TunnelClient, endpoint: str, valid_until: float) -> None:
        """A client has switched protocols.

        `endpoint`: its name. `valid_until`: expiry of the credential in unix seconds, inf if it has none.
        """
        self._endpoints[client] = endpoint
        self._clients.setdefault(endpoint, set()).add(client)
        self._note_expiry(client, valid_until)

    def remove(self, client: TunnelClient) -> None:
        """Remove a client; idempotent."""
        endpoint = self._endpoints.pop(client, None)
        if endpoint is None:
            return
        self._expiries.pop(client, None)
        clients = self._clients[endpoint]
        clients.discard(client)
        if not clients:
            del self._clients[endpoint]

    def review(self, endpoint: str) -> None:
        """Authorize the tunnels of an endpoint again; close those that would be refused now."""
        self._review(self._clients.get(endpoint, ()))

    def review_all(self) -> None:
        """Review the tunnels of all endpoints."""
        self._review(self._endpoints)

    def expire(self) -> None:
        """Review tunnels with an expired credential."""
        now_unix = self._unix_now()
        self._review([client for client, valid_until in self._expiries.items() if valid_until <= now_unix])

    def _review(self, clients: Iterable[TunnelClient]) -> None:
        now_unix = self._unix_now()
        for client in list(clients):
            exchange = client.exchange
            if exchange is None:
                continue  # the tunnel has ended, the connection is closing
            try:
                valid_until = client.planner.valid_until(exchange.head, now_unix)
            except RouterError:
                exchange.close_tunnel(UNAUTHORIZED)
            else:
                self._note_expiry(client, valid_until)

    def _note_expiry(self, client: TunnelClient, valid_until: float) -> None:
        if valid_until < math.inf:
            self._expiries[client] = valid_until
        else:
            self._expiries.pop(client, None)
