"""Open tunnels (WebSockets) of one worker: each ends with its credential or its endpoint.

Nothing is done per byte. A tunnel is reviewed when its endpoint, the endpoint's keys or the token issuer change, and
when its token expires: its request is authorized again, as if it came now.
"""

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from router.core.router_errors import RouterError

if TYPE_CHECKING:
    from router.proxy.downstream import Downstream

UNAUTHORIZED = "tunnels_unauthorized"
"""Counter of tunnels closed by a review."""


class OpenTunnels:
    """The client side of every open tunnel, by endpoint. `unix_now`: wall clock in unix seconds."""

    def __init__(self, unix_now: Callable[[], float]) -> None:
        self._unix_now = unix_now
        self._endpoints: dict[Downstream, str] = {}
        self._clients: dict[str, set[Downstream]] = {}
        self._expiries: dict[Downstream, float] = {}
        """Unix seconds; of tunnels whose credential expires."""

    def __len__(self) -> int:
        return len(self._endpoints)

    def enter(self, client: "Downstream", endpoint: str, valid_until: float) -> None:
        """A client has switched protocols. `valid_until`: unix seconds, inf for a credential without an expiry."""
        self._endpoints[client] = endpoint
        self._clients.setdefault(endpoint, set()).add(client)
        self._note_expiry(client, valid_until)

    def leave(self, client: "Downstream") -> None:
        """The client's connection has ended; harmless for one without a tunnel."""
        endpoint = self._endpoints.pop(client, None)
        if endpoint is None:
            return
        self._expiries.pop(client, None)
        clients = self._clients[endpoint]
        clients.discard(client)
        if not clients:
            del self._clients[endpoint]

    def review(self, endpoint: str) -> None:
        """Close those of an endpoint whose request would be refused now."""
        self._review(self._clients.get(endpoint, ()))

    def review_all(self) -> None:
        """The same for every endpoint."""
        self._review(self._endpoints)

    def expire(self) -> None:
        """Review those whose credential has expired."""
        now_unix = self._unix_now()
        self._review([client for client, valid_until in self._expiries.items() if valid_until <= now_unix])

    def _review(self, clients: "Iterable[Downstream]") -> None:
        now_unix = self._unix_now()
        for client in list(clients):
            exchange = client.exchange
            if exchange is None:
                continue  # the tunnel has ended already, the connection is about to
            try:
                valid_until = client.planner.valid_until(exchange.head, now_unix)
            except RouterError:
                exchange.close_tunnel(UNAUTHORIZED)
            else:
                self._note_expiry(client, valid_until)

    def _note_expiry(self, client: "Downstream", valid_until: float) -> None:
        if valid_until < math.inf:
            self._expiries[client] = valid_until
        else:
            self._expiries.pop(client, None)
