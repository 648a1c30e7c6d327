"""A router group that only records its calls."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from cluster.link import RemoveReplica, ResetAll, ToWorker, UpsertReplica, WorkerMetrics
from serving.endpoint import VersionKey
from serving.replica import Replica, ReplicaState

_T = TypeVar("_T")


class FakeRouters:
    """Fits the Protocols of `controlplane.routers`."""

    def __init__(self) -> None:
        self.published: list[ToWorker] = []
        self.replicas: dict[str, Replica] = {}
        self.busy: dict[str, int] = {}
        self.retired: list[tuple[VersionKey, int]] = []
        self.retire_failure: BaseException | None = None
        self.retire_hangs = False
        self.metrics: list[WorkerMetrics] = []

    def publish(self, message: ToWorker) -> None:
        self.published.append(message)
        match message:
            case ResetAll():
                self.replicas = {replica.id: replica for replica in message.replicas}
            case UpsertReplica():
                self.replicas[message.replica.id] = message.replica
            case RemoveReplica():
                self.replicas.pop(message.replica_id, None)

    async def retire(self, key: VersionKey, count: int) -> Sequence[str]:
        self.retired.append((key, count))
        await asyncio.sleep(0)
        if self.retire_failure is not None:
            raise self.retire_failure
        if self.retire_hangs:
            await asyncio.Event().wait()
        ready = [r.id for r in self.replicas.values() if r.key == key and r.state is ReplicaState.READY]
        return sorted(ready, key=lambda replica_id: self.busy.get(replica_id, 0))[:count]

    async def collect(self) -> Sequence[WorkerMetrics]:
        return self.metrics

    def told(self, kind: type[_T]) -> list[_T]:
        """The messages of one kind."""
        return [message for message in self.published if isinstance(message, kind)]


class WatchingRouters(FakeRouters):
    """Routers of a cluster: they find replicas by themselves, here in the view of the leader."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Callable[[], Iterable[Replica]] = tuple

    @property
    def replicas(self) -> dict[str, Replica]:
        return {replica.id: replica for replica in self.seen()}

    @replicas.setter
    def replicas(self, _: dict[str, Replica]) -> None:
        """Nothing is published to them."""
