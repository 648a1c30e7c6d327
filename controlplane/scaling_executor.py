"""Executor of scaling decisions (implements `autoscaler.scaling_loop.ScalingTarget`): idle replicas retire first.

The routers never use a retired replica again, so it is removed even if the decision that retired it fails.
"""

import asyncio
import logging
from collections.abc import Callable

from autoscaler.policy import Decision, bounds
from cluster.provider import Provider, ProviderError
from controlplane.cluster_view import ClusterView
from controlplane.desired_counts import DesiredCounts
from controlplane.registry import Registry, is_scaled
from controlplane.routers import ReplicaRetirer
from serving.endpoint import Version, VersionKey
from serving.replica import ReplicaState

RETIRE_TIMEOUT_S = 2.0
"""Routers answer within a loop tick; a router that does not must not block scaling."""

_log = logging.getLogger(__name__)


class ScalingExecutor:
    """Changes the number of replicas of versions, and stops drained ones; one per control plane."""

    def __init__(
        self,
        provider: Provider,
        retirer: ReplicaRetirer,
        view: ClusterView,
        registry: Registry,
        desired: DesiredCounts,
        wall: Callable[[], float],
        acted: Callable[[Decision], None],
        refused: Callable[[Decision, str], None],
        retire_timeout_s: float = RETIRE_TIMEOUT_S,
    ) -> None:
        """An executor without retired replicas.

        provider: runs the replicas.
        retirer: retires replicas in the routers.
        view: the observed replicas.
        registry: the declared endpoints.
        desired: receives the accepted numbers.
        wall: unix seconds.
        acted: called with every decision that the provider has accepted.
        refused: called with every other one, and the outcome for people.
        retire_timeout_s: timeout of the routers, default 2.
        """
        self._provider = provider
        self._retirer = retirer
        self._view = view
        self._registry = registry
        self._desired = desired
        self._wall = wall
        self._acted = acted
        self._refused = refused
        self._retire_timeout_s = retire_timeout_s
        self._retired: set[str] = set()
        """Retired by the routers, not yet named to the provider."""
        self._dismissed: set[str] = set()
        """Retired and named to the provider; kept until the view shows it."""
        self._drained: asyncio.Queue[str] = asyncio.Queue()

    async def scale(self, key: VersionKey, decision: Decision) -> None:
        """Scale to `decision.desired` within the bounds declared now. Raises the errors of the provider."""
        async with self._registry.lock(key.endpoint):
            version = self._registry.version(key)
            if version is None or not is_scaled(version):
                return  # changed while the decision waited for the lock
            number = bounds(version.autoscale, self._wall()).clamp(decision.desired)
            try:
                await self._scale(key, version, number)
            except ProviderError as error:
                known = self._provider.problems(key)
                word = error.problem or next((word for word, text in known.items() if text == str(error)), None)
                self._refused(decision, f"asked for {number}: {word.value if word else 'not done'}: {error}")
                raise
            self._desired.set(key, number)
            self._acted(decision)

    def replica_drained(self, replica_id: str) -> None:
        """Have a drained replica stopped by `run`."""
        self._drained.put_nowait(replica_id)

    async def run(self) -> None:
        """Stop drained replicas until cancelled."""
        while True:
            replica_id = await self._drained.get()
            try:
                await self._provider.drained(replica_id)
                await self._dismiss_stray(replica_id)
            except ProviderError as error:
                _log.warning("replica %s: drained but not stopped yet: %s", replica_id, error)
            except Exception as error:  # a defect with one replica must not affect the others
                _log.warning("replica %s: drained but not stopped yet: %r", replica_id, error)

    async def _scale(self, key: VersionKey, version: Version, number: int) -> None:
        if why := await self._provider.hindrance(key, fewer=self._surplus(key, number) > 0):
            raise ProviderError(why)
        if not leaves_in_order(version):
            await self._retire(key, number)
        await self._scale_provider(key, number)

    async def _dismiss_stray(self, replica_id: str) -> None:
        """Remove a replica that a router retired without an answer; it would stay idle for ever."""
        replica = self._view.find(replica_id)
        if replica is None or replica.state is not ReplicaState.READY:
            return
        async with self._registry.lock(replica.endpoint):
            number = self._desired.get(replica.key)
            if replica_id not in self._dismissed and number is not None:
                self._retired.add(replica_id)
                await self._scale_provider(replica.key, number)

    async def _retire(self, key: VersionKey, number: int) -> None:
        """Retire surplus READY replicas. The provider removes others first by itself."""
        surplus = self._surplus(key, number)
        if surplus <= 0:
            return
        try:
            async with asyncio.timeout(self._retire_timeout_s):
                self._retired.update(await self._retirer.retire(key, surplus))
        except Exception as error:
            _log.warning("%s: routers retired no replicas (%r); the provider chooses the victims", key, error)

    async def _scale_provider(self, key: VersionKey, number: int) -> None:
        """Scale to `number` replicas without the retired ones."""
        victims = self._ready(key) & self._retired
        alive = sum(replica.state is not ReplicaState.DRAINING for replica in self._view.of(key))
        if victims and alive - number < len(victims):
            # More replicas are removed than the number falls by: first they, then others in their place.
            await self._provider.scale(key, alive - len(victims), victims)
            self._dismiss(victims)
            await self._provider.scale(key, number)
        else:
            await self._provider.scale(key, number, victims)
            self._dismiss(victims)

    def _dismiss(self, victims: set[str]) -> None:
        shown = {replica.id for replica in self._view.replicas()}
        self._dismissed = (self._dismissed & shown) | victims
        self._retired = (self._retired - victims) & shown

    def _surplus(self, key: VersionKey, number: int) -> int:
        """READY replicas over `number` that are not retired."""
        return len(self._ready(key) - self._retired) - number

    def _ready(self, key: VersionKey) -> set[str]:
        return {
            replica.id
            for replica in self._view.of(key)
            if replica.state is ReplicaState.READY and replica.id not in self._dismissed
        }


def leaves_in_order(version: Version) -> bool:
    """True for a StatefulSet: its last replica is removed first, busy or idle, and drained by the provider."""
    workload = version.replica.workload_ref
    return workload is not None and workload.kind == "StatefulSet"
