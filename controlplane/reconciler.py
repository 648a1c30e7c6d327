"""Reconciler: applies declared endpoints to the provider and publishes running replicas to the routers.

A refusal of the provider is kept as a trouble, shown in the status and retried; it never reverts the declaration.
"""

import asyncio
import logging
from collections.abc import Callable

from cluster.changes import Change, Reset, Upsert
from cluster.link import RemoveReplica, ToWorker, UpsertReplica
from cluster.provider import Provider, ProviderError, ProviderRefused, VersionErrors
from cluster.refusals import Refusals
from controlplane.cluster_view import ClusterView
from controlplane.registry import Registry
from serving.clock import Clock
from serving.endpoint import Endpoint, VersionKey

RETRY_EVERY_S = 5.0
WATCH_AGAIN_AFTER_S = 1.0

_log = logging.getLogger(__name__)


class Reconciler:
    """Single writer of the ClusterView, and single caller of `provider.apply` and `provider.remove`."""

    def __init__(
        self,
        provider: Provider,
        publish: Callable[[ToWorker], None],
        view: ClusterView,
        registry: Registry,
        numbers: Callable[[Endpoint], dict[str, int]],
        clock: Clock,
    ) -> None:
        """A reconciler; run `watch` and `retry` as tasks.

        provider: runs the replicas.
        publish: sends a message to the router workers.
        view: the observed replicas; written here only.
        registry: the declared endpoints.
        numbers: endpoint -> desired replicas by version.
        clock: event-loop clock.
        """
        self._provider = provider
        self._publish = publish
        self._view = view
        self._registry = registry
        self._numbers = numbers
        self._clock = clock
        self._troubles: Refusals[str] = Refusals()
        self._troubled = asyncio.Event()

    def trouble(self, endpoint: str) -> str:
        """Last error of the provider for this endpoint; '' if the last call succeeded."""
        return self._troubles.text(endpoint)

    def version_trouble(self, key: VersionKey) -> str:
        """The part of the last error that is about this version, or about the whole endpoint; '' if there is none."""
        error = self._troubles.error(key.endpoint)
        return error.by_version.get(key.version, "") if isinstance(error, VersionErrors) else str(error or "")

    async def reconcile(self, name: str) -> None:
        """Apply the declared state of `name` to the provider. The caller holds its lock. Never raises."""
        declared = self._registry.find(name)
        try:
            if declared is not None:
                await self._provider.apply(declared.endpoint, self._numbers(declared.endpoint))
            else:
                await self._provider.remove(name)
        except ProviderError as error:
            self._note(name, error)
        except Exception as error:
            # A defect in a provider must not end the control plane; it is logged and retried.
            _log.exception("endpoint %s: provider failed", name)
            self._note(name, ProviderError(f"internal error: {error!r}"))
        else:
            self._troubles.settled(name)

    async def watch(self) -> None:
        """Follow the changes of the provider until cancelled."""
        while True:
            try:
                async for change in self._provider.watch():
                    self._apply(change)
            except ProviderError as error:
                _log.warning("watch of replicas: interrupted: %s", error)
            await self._clock.sleep(WATCH_AGAIN_AFTER_S)

    async def retry(self) -> None:
        """Retry failed endpoints until cancelled, every few seconds; refused ones less and less often."""
        while True:
            await self._troubled.wait()
            await self._clock.sleep(RETRY_EVERY_S)
            self._troubled.clear()
            for name in self._troubles.subjects():
                if _lasts(self._troubles.error(name)) and not self._troubles.is_due(name, self._clock.now()):
                    self._troubled.set()
                    continue
                async with self._registry.lock(name):
                    await self.reconcile(name)

    def _apply(self, change: Change) -> None:
        for step in self._view.apply(change, self._clock.now()):
            match step:
                case Upsert(replica):
                    self._publish(UpsertReplica(replica))
                case _:
                    self._publish(RemoveReplica(step.replica_id))
        if isinstance(change, Reset):
            # Skipped endpoints were declared: their replicas run on until they are declared again or deleted.
            declared = {endpoint.name for endpoint in self._registry.endpoints()} | self._registry.skipped().keys()
            for name in self._view.endpoints() - declared:
                # Deleted just before a crash: removed from the store, not yet by the provider.
                self._troubles.refused(name, ProviderError("it is no longer declared"), self._clock.now())
                self._troubled.set()

    def _note(self, name: str, trouble: ProviderError) -> None:
        # It may last as long as another owner holds a workload: logged once, not with every retry.
        if self._troubles.refused(name, trouble, self._clock.now()):
            _log.warning("endpoint %s: %s; it is tried again", name, trouble)
        self._troubled.set()


def _lasts(error: Exception | None) -> bool:
    """True for a refusal that only a change elsewhere ends."""
    return isinstance(error, ProviderRefused) or (isinstance(error, VersionErrors) and error.are_refusals)
