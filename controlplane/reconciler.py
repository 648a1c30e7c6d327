"""Declared to running, and back: tells the provider what should run, the routers what does.

What a provider refuses is kept as a trouble, shown in the status, and tried again; it never undoes what was declared.
"""

import asyncio
import logging
from collections.abc import Callable

from cluster.changes import Change, Reset, Upsert
from cluster.link import RemoveReplica, UpsertReplica
from cluster.provider import Provider, ProviderError
from controlplane.cluster_view import ClusterView
from controlplane.registry import Registry
from controlplane.routers import RouterControl
from serving.clock import Clock
from serving.endpoint import Endpoint

RETRY_EVERY_S = 5.0
WATCH_AGAIN_AFTER_S = 1.0

_log = logging.getLogger(__name__)


class Reconciler:
    """The only writer of the ClusterView, and the only caller of `provider.apply` and `provider.remove`."""

    def __init__(
        self,
        provider: Provider,
        routers: RouterControl,
        view: ClusterView,
        registry: Registry,
        numbers: Callable[[Endpoint], dict[str, int]],
        clock: Clock,
    ) -> None:
        self._provider = provider
        self._routers = routers
        self._view = view
        self._registry = registry
        self._numbers = numbers
        self._clock = clock
        self._troubles: dict[str, str] = {}
        self._troubled = asyncio.Event()

    def trouble(self, endpoint: str) -> str:
        """What the provider said the last time it could not do what was asked, else ''."""
        return self._troubles.get(endpoint, "")

    async def reconcile(self, name: str) -> None:
        """Have the provider match what is declared for `name` now. The caller holds its lock. Never raises."""
        declared = self._registry.find(name)
        try:
            if declared is not None:
                await self._provider.apply(declared.endpoint, self._numbers(declared.endpoint))
            else:
                await self._provider.remove(name)
        except ProviderError as error:
            self._note(name, str(error))
        except Exception as error:
            # A fault in a provider must not take the control plane down; it is told, and tried again.
            _log.exception("provider failed on endpoint %s", name)
            self._note(name, f"internal error: {error!r}")
        else:
            self._troubles.pop(name, None)

    async def watch(self) -> None:
        """Follow the provider, for ever."""
        while True:
            try:
                async for change in self._provider.watch():
                    self._take(change)
            except ProviderError as error:
                _log.warning("lost sight of the replicas, looking again: %s", error)
            await self._clock.sleep(WATCH_AGAIN_AFTER_S)

    async def retry(self) -> None:
        """Try again what failed, for ever."""
        while True:
            await self._troubled.wait()
            await self._clock.sleep(RETRY_EVERY_S)
            self._troubled.clear()
            for name in list(self._troubles):
                async with self._registry.lock(name):
                    await self.reconcile(name)

    def _take(self, change: Change) -> None:
        for step in self._view.apply(change, self._clock.now()):
            match step:
                case Upsert(replica):
                    self._routers.publish(UpsertReplica(replica))
                case _:
                    self._routers.publish(RemoveReplica(step.replica_id))
        if isinstance(change, Reset):
            # What is skipped was declared: until somebody says what to do with it, its replicas are left alone.
            declared = {endpoint.name for endpoint in self._registry.endpoints()} | self._registry.skipped().keys()
            for name in self._view.endpoints() - declared:
                # Deleted just before a crash: the store had forgotten it, the provider had not yet.
                self._troubles[name] = "it is not declared any more"
                self._troubled.set()

    def _note(self, name: str, trouble: str) -> None:
        # It may last for as long as somebody else owns a workload: told once, not with every try.
        if self._troubles.get(name) != trouble:
            _log.warning("endpoint %s: %s; trying again every %g s", name, trouble, RETRY_EVERY_S)
        self._troubles[name] = trouble
        self._troubled.set()
