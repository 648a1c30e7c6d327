"""Publication of replica changes to watchers: a Reset first, then every change in order."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping

from cluster.changes import Change, Remove, Reset, Upsert
from serving.replica import Replica

BACKLOG = 10_000
"""Most changes queued for a watcher; a slower one gets a Reset instead, which is equivalent."""


class ReplicaFeed:
    """The replicas as last reported, and their watchers."""

    def __init__(self) -> None:
        self._known: dict[str, Replica] = {}
        self._watchers: set[_Watcher] = set()

    @property
    def replicas(self) -> tuple[Replica, ...]:
        """All replicas as last reported."""
        return tuple(self._known.values())

    def upsert(self, replica: Replica) -> None:
        """Report a replica; unchanged ones are not published."""
        if self._known.get(replica.id) != replica:
            self._known[replica.id] = replica
            self._tell(Upsert(replica))

    def remove(self, replica_id: str) -> None:
        """Report the removal of a replica."""
        if self._known.pop(replica_id, None) is not None:
            self._tell(Remove(replica_id))

    async def watch(self) -> AsyncIterator[Change]:
        """Yield a Reset, then changes, without end. A slow watcher does not delay the others."""
        watcher = _Watcher(Reset(self.replicas))
        self._watchers.add(watcher)
        try:
            while True:
                for change in await watcher.take():
                    yield change
        finally:
            self._watchers.discard(watcher)

    def _tell(self, change: Change) -> None:
        for watcher in self._watchers:
            watcher.put(change, self._known)


class _Watcher:
    def __init__(self, first: Reset) -> None:
        self._changes: deque[Change] = deque([first])
        self._more = asyncio.Event()
        self._more.set()

    def put(self, change: Change, known: Mapping[str, Replica]) -> None:
        if len(self._changes) >= BACKLOG:
            self._changes.clear()
            change = Reset(tuple(known.values()))
        self._changes.append(change)
        self._more.set()

    async def take(self) -> list[Change]:
        await self._more.wait()
        self._more.clear()
        changes = list(self._changes)
        self._changes.clear()
        return changes
