"""Which addresses of static replicas this worker connects to."""

import asyncio
import math
from collections.abc import Sequence

from cluster.lookup import OwnAddresses, addresses_of, permitted
from serving.destinations import Destinations

NAMES_S = 30.0
"""How long the addresses of the installation's own Services are taken for what they were."""
NAME_WAIT_S = 0.5


class StaticAddresses:
    """The rule of the installation, and what is its own."""

    def __init__(
        self, destinations: Destinations | None = None, own_ports: Sequence[int] = (), own_names: Sequence[str] = ()
    ) -> None:
        """`own_ports`: of scorefront on this machine. `own_names`: of its Services, and of the API server."""
        self._destinations = destinations or Destinations()
        self._own_names = tuple(own_names)
        self._named_at = -math.inf
        self._looking = asyncio.Lock()
        self.own = OwnAddresses(own_ports, self._destinations.in_cluster)

    async def of(self, host: str, port: int, now: float) -> list[str]:
        """Addresses that may be connected to. Raises AddressRefused, OSError. `now`: seconds on the loop's clock."""
        if self._own_names:
            # Nothing is connected to before they have been asked for once, whoever asked.
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
            return  # a Service that this installation does not have, or DNS is away: what was known stays
        self.own.set_hosts(name, found)
