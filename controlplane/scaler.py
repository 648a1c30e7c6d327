"""Carries scaling decisions out (it fits `autoscaler.scaling_loop.Target`): idle replicas are withdrawn first, and
drained.

A replica that the routers have withdrawn never serves again, so it has to go, whatever becomes of the decision that it
was withdrawn for.
"""

import asyncio
import logging
from collections.abc import Callable

from autoscaler.policy import Decision, bounds
from cluster.provider import Provider, ProviderError
from controlplane.cluster_view import ClusterView
from controlplane.desired_counts import DesiredCounts
from controlplane.registry import Registry, is_scaled
from controlplane.routers import RouterControl
from serving.endpoint import Version, VersionKey
from serving.replica import ReplicaState

RETIRE_TIMEOUT_S = 2.0
"""Routers answer within a loop tick; one that does not must not keep the number of replicas from changing."""

_log = logging.getLogger(__name__)


class Scaler:
    """One per control plane. Tells `acted` of every decision that the provider has taken."""

    def __init__(
        self,
        provider: Provider,
        routers: RouterControl,
        view: ClusterView,
        registry: Registry,
        wanted: DesiredCounts,
        wall: Callable[[], float],
        acted: Callable[[Decision], None],
        retire_timeout_s: float = RETIRE_TIMEOUT_S,
    ) -> None:
        self._provider = provider
        self._routers = routers
        self._view = view
        self._registry = registry
        self._wanted = wanted
        self._wall = wall
        self._acted = acted
        self._retire_timeout_s = retire_timeout_s
        self._withdrawn: set[str] = set()
        """Withdrawn by the routers, and the provider does not know it yet."""
        self._told: set[str] = set()
        """Withdrawn, and the provider knows; listed until the view shows it, too."""
        self._drained: asyncio.Queue[str] = asyncio.Queue()

    async def scale(self, key: VersionKey, decision: Decision) -> None:
        """Have `decision.desired` replicas, within the bounds declared now. Raises what the provider raises."""
        async with self._registry.lock(key.endpoint):
            version = self._registry.version(key)
            if version is None or not is_scaled(version):
                return  # it changed while the decision waited for the lock
            number = bounds(version.autoscale, self._wall()).clamp(decision.desired)
            if why := await self._provider.hindrance(key, fewer=self._surplus(key, number) > 0):
                raise ProviderError(why)
            if not leaves_in_order(version):
                await self._withdraw(key, number)
            await self._tell_provider(key, number)
            self._wanted.set(key, number)
            self._acted(decision)

    def drained(self, replica_id: str) -> None:
        """Nothing is in flight on this withdrawn replica and nothing will be; returns at once."""
        self._drained.put_nowait(replica_id)

    async def forward_drained(self) -> None:
        """Tell the provider which replicas may be stopped, for ever."""
        while True:
            replica_id = await self._drained.get()
            try:
                await self._provider.drained(replica_id)
                await self._let_stray_go(replica_id)
            except Exception as error:  # one replica's fault must not keep the others from ending
                _log.warning("replica %s is drained but was not stopped yet: %r", replica_id, error)

    async def _let_stray_go(self, replica_id: str) -> None:
        """A router may have withdrawn a replica though its answer never came; it would stand idle for ever."""
        replica = self._view.find(replica_id)
        if replica is None or replica.state is not ReplicaState.READY:
            return
        async with self._registry.lock(replica.endpoint):
            number = self._wanted.get(replica.key)
            if replica_id not in self._told and number is not None:
                self._withdrawn.add(replica_id)
                await self._tell_provider(replica.key, number)

    async def _withdraw(self, key: VersionKey, number: int) -> None:
        """Take surplus READY replicas out of service. The others are left to the provider, which drops them first."""
        surplus = self._surplus(key, number)
        if surplus <= 0:
            return
        try:
            async with asyncio.timeout(self._retire_timeout_s):
                self._withdrawn.update(await self._routers.retire(key, surplus))
        except Exception as error:
            _log.warning("%s: routers did not withdraw replicas (%r); the provider chooses which go", key, error)

    async def _tell_provider(self, key: VersionKey, number: int) -> None:
        """Have `number` replicas, none of which was withdrawn."""
        victims = self._ready(key) & self._withdrawn
        alive = sum(replica.state is not ReplicaState.DRAINING for replica in self._view.of(key))
        if victims and alive - number < len(victims):
            # More replicas go than the number falls by: first they, then others in their place.
            await self._provider.scale(key, alive - len(victims), victims)
            self._know(victims)
            await self._provider.scale(key, number)
        else:
            await self._provider.scale(key, number, victims)
            self._know(victims)

    def _know(self, victims: set[str]) -> None:
        shown = {replica.id for replica in self._view.replicas()}
        self._told = (self._told & shown) | victims
        self._withdrawn = (self._withdrawn - victims) & shown

    def _surplus(self, key: VersionKey, number: int) -> int:
        """READY replicas that nobody has withdrawn, over `number`."""
        return len(self._ready(key) - self._withdrawn) - number

    def _ready(self, key: VersionKey) -> set[str]:
        return {
            replica.id
            for replica in self._view.of(key)
            if replica.state is ReplicaState.READY and replica.id not in self._told
        }


def leaves_in_order(version: Version) -> bool:
    """Of a StatefulSet the last one goes, whoever is idle: the provider drains it, instead of the one that is."""
    workload = version.replica.workload_ref
    return workload is not None and workload.kind == "StatefulSet"
