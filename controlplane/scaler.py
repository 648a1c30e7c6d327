"""Carries scaling decisions out (it fits `autoscaler.loop.Target`): idle replicas are withdrawn first."""

import asyncio
import logging
from collections.abc import Callable

from autoscaler.policy import Decision
from cluster.link import UpsertReplica
from cluster.provider import Provider
from controlplane.declared import Registry, is_scaled
from controlplane.routers import Routers
from controlplane.view import ClusterView
from serving.endpoint import AutoscalePolicy, VersionKey
from serving.replica import ReplicaState

RETIRE_TIMEOUT_S = 2.0
"""Routers answer within a loop tick; one that does not must not keep the number of replicas from changing."""

_log = logging.getLogger(__name__)


class Scaler:
    """One per control plane."""

    def __init__(
        self,
        provider: Provider,
        routers: Routers,
        view: ClusterView,
        registry: Registry,
        scaled: Callable[[VersionKey, int, Decision], None],
        retire_timeout_s: float = RETIRE_TIMEOUT_S,
    ) -> None:
        self._provider = provider
        self._routers = routers
        self._view = view
        self._registry = registry
        self._scaled = scaled
        self._retire_timeout_s = retire_timeout_s
        self._withdrawn: dict[VersionKey, frozenset[str]] = {}
        """Replicas that take no request any more but that the provider has not been told of: its call failed."""

    async def scale(self, key: VersionKey, decision: Decision) -> None:
        """Have `decision.desired` replicas, within the bounds declared now. Raises what the provider raises."""
        async with self._registry.lock(key.endpoint):
            version = self._registry.version(key)
            if version is None or not is_scaled(version):
                return  # it changed while the decision waited for the lock
            number = clamped(decision.desired, version.autoscale)
            victims = await self._withdraw(key, number)
            self._withdrawn[key] = victims
            await self._provider.scale(key, number, victims)
            del self._withdrawn[key]
            self._scaled(key, number, decision)

    async def _withdraw(self, key: VersionKey, number: int) -> frozenset[str]:
        """Take surplus READY replicas out of service. The others are left to the provider, which drops them first."""
        ready = {replica.id for replica in self._view.of(key) if replica.state is ReplicaState.READY}
        earlier = self._withdrawn.get(key, frozenset()) & ready
        surplus = len(ready) - number
        if surplus < len(earlier):
            self._readmit(key, earlier)
            earlier = frozenset()
        if surplus <= len(earlier):
            return earlier
        try:
            async with asyncio.timeout(self._retire_timeout_s):
                retired = await self._routers.retire(key, surplus - len(earlier))
        except Exception as error:
            _log.warning("%s: routers did not withdraw replicas (%r); the provider chooses which go", key, error)
            # Some worker may have withdrawn one nevertheless; the provider's choice must not leave it idle for ever.
            self._readmit(key, ready - earlier)
            return earlier
        return earlier | frozenset(retired)

    def _readmit(self, key: VersionKey, replica_ids: frozenset[str] | set[str]) -> None:
        for replica in self._view.of(key):
            if replica.id in replica_ids:
                self._routers.publish(UpsertReplica(replica))


def clamped(number: int, policy: AutoscalePolicy) -> int:
    """The number within the bounds of the policy."""
    return min(max(number, policy.min_replicas), policy.max_replicas)
