"""Check and resolution of the addresses of static replicas."""

import asyncio
import math
from collections.abc import Sequence

from cluster.lookup import OwnAddresses, addresses_of, permitted
from serving.destinations import Destinations

NAMES_S = 30.0
"""Validity of the resolved addresses of the installation's own Services."""
NAME_WAIT_S = 0.5
"""Timeout of one DNS query for them."""


class StaticAddresses:
    """Permitted destinations of the installation, and its own addresses (refused)."""

    def __init__(
        self, destinations: Destinations | None = None, own_ports: Sequence[int] = (), own_names: Sequence[str] = ()
    ) -> None:
        """`destinations`: permitted networks; default: the rule without settings. `own_ports`: of scorefront on this
        machine. `own_names`: of its Services and of the API server.
        """
        self._destinations = destinations or Destinations()
        self._own_names = tuple(own_names)
        self._named_at = -math.inf
        self._looking = asyncio.Lock()
        self.own = OwnAddresses(own_ports, self._destinations.in_cluster)

    async def resolve(self, host: str, port: int, now: float) -> list[str]:
        """The permitted addresses of a static replica. Raises AddressRefused, OSError.

        `host`: name or address. `port`: TCP port. `now`: seconds on the loop's clock.
        """
        if self._own_names:
            # No connection before the first lookup has ended, started by any caller.
            async with self._looking:
                if now - self._named_at >= NAMES_S:
                    await asyncio.gather(*map(self._look_up, self._own_names))
                    self._named_at = now
        return await permitted(host, port, self._destinations, self.own)

    async def _look_up(self, name: str) -> None:
        try:
            async with asyncio.timeout(NAME_WAIT_S):
                found = await addresses_of(name, 0)
        except (OSError, TimeoutError):
            return  # no such Service, or DNS is unavailable: the last known addresses stay
        self.own.set_hosts(name, found)
