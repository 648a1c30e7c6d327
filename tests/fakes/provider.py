"""A provider with replicas in a dict: they start, fail and drain on command of a test."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import replace
from typing import Any

from cluster.changes import Change, Remove, Reset, Upsert
from cluster.provider import Problem, ProviderError
from cluster.timed_line import TimedLine
from serving.endpoint import Endpoint, VersionKey
from serving.faults import Fault
from serving.replica import Replica, ReplicaState


class FakeProvider:
    """Satisfies `cluster.provider.Provider`. `calls` has all calls, in order."""

    def __init__(self, starts_ready: bool = True) -> None:
        self.starts_ready = starts_ready
        self.calls: list[tuple[Any, ...]] = []
        self.faults: list[Fault] = []
        self.noted: list[str] = []
        self.found: dict[VersionKey, dict[Problem, str]] = {}
        """Version -> its problems."""
        self.edited: set[str] = set()
        """Versions with changed files."""
        self.refusal: ProviderError | None = None
        """Raised by apply, remove and scale while set."""
        self.hindrances: dict[bool, str] = {}
        """Fewer wanted -> reason of the refusal."""
        self.replicas: dict[str, Replica] = {}
        self.logged: dict[VersionKey, dict[str, list[str | TimedLine]]] = {}
        """A line without a time is of time 0."""
        self.log_feed: asyncio.Queue[tuple[str, str | TimedLine]] = asyncio.Queue()
        self._slots: dict[VersionKey, int] = {}
        self._changes: asyncio.Queue[Change | ProviderError] = asyncio.Queue()
        self._numbers = itertools.count(1)

    # ---- Provider

    def check(self, endpoint: Endpoint) -> list[Fault]:
        return list(self.faults)

    def notes(self, endpoint: Endpoint) -> list[str]:
        return list(self.noted)

    def problems(self, key: VersionKey) -> Mapping[Problem, str]:
        return self.found.get(key, {})

    async def refresh(self, endpoint: Endpoint) -> frozenset[str]:
        self.calls.append(("refresh", endpoint.name))
        return frozenset(self.edited)

    async def restart(self, endpoint: Endpoint, versions: Collection[str]) -> None:
        self.calls.append(("restart", endpoint.name, tuple(versions)))
        await self._answer()

    async def apply(self, endpoint: Endpoint, replicas: dict[str, int]) -> None:
        self.calls.append(("apply", endpoint.name, dict(replicas)))
        await self._answer()
        for version in endpoint.versions:
            key = VersionKey(endpoint.name, version.name)
            self._slots[key] = version.slots_per_replica
            self._resize(key, replicas[version.name], ())
        for replica in list(self.replicas.values()):
            if replica.endpoint == endpoint.name and endpoint.version(replica.version) is None:
                self._let_go(replica)

    async def remove(self, endpoint: str) -> None:
        self.calls.append(("remove", endpoint))
        await self._answer()
        for replica in [each for each in self.replicas.values() if each.endpoint == endpoint]:
            self._let_go(replica)

    async def scale(self, key: VersionKey, replicas: int, victims: Collection[str] = ()) -> None:
        self.calls.append(("scale", key, replicas, frozenset(victims)))
        await self._answer()
        self._resize(key, replicas, victims)

    async def hindrance(self, key: VersionKey, fewer: bool) -> str:
        return self.hindrances.get(fewer, "")

    async def drained(self, replica_id: str) -> None:
        self.calls.append(("drained", replica_id))
        replica = self.replicas.get(replica_id)
        if replica is not None and replica.state is ReplicaState.DRAINING:
            self.vanish(replica_id)

    async def watch(self) -> AsyncIterator[Change]:
        while not self._changes.empty():
            self._changes.get_nowait()
        yield Reset(tuple(self.replicas.values()))
        while True:
            change = await self._changes.get()
            if isinstance(change, ProviderError):
                raise change
            yield change

    async def logs(self, key: VersionKey, tail: int) -> dict[str, list[TimedLine]]:
        return {
            replica: [TimedLine(0.0, line) if isinstance(line, str) else line for line in lines[-tail:] if tail]
            for replica, lines in self.logged.get(key, {}).items()
        }

    async def follow_logs(self, key: VersionKey) -> AsyncIterator[tuple[str, TimedLine]]:
        while True:
            replica, line = await self.log_feed.get()
            yield replica, TimedLine(1.0, line) if isinstance(line, str) else line

    # ---- actions of a test

    def put(self, replica: Replica) -> None:
        """A replica is new or has changed."""
        self.replicas[replica.id] = replica
        self._changes.put_nowait(Upsert(replica))

    def become(self, replica_id: str, state: ReplicaState, reason: str = "") -> None:
        """A replica changes its state."""
        self.put(replace(self.replicas[replica_id], state=state, reason=reason))

    def vanish(self, replica_id: str) -> None:
        """A replica's process has ended."""
        del self.replicas[replica_id]
        self._changes.put_nowait(Remove(replica_id))

    def break_watch(self) -> None:
        """The watch ends with an error."""
        self._changes.put_nowait(ProviderError("the connection is lost"))

    def of(self, key: VersionKey, *states: ReplicaState) -> list[str]:
        """Ids of a version's replicas in these states (all, if none is given), oldest first."""
        return [r.id for r in self.replicas.values() if r.key == key and (not states or r.state in states)]

    def asked(self, what: str) -> list[tuple[Any, ...]]:
        """The calls of one kind."""
        return [call for call in self.calls if call[0] == what]

    # ---- inside

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self.refusal is not None:
            raise self.refusal

    def _resize(self, key: VersionKey, number: int, victims: Collection[str]) -> None:
        alive = [self.replicas[each] for each in self.of(key) if self.replicas[each].state is not ReplicaState.DRAINING]
        youngest_first = list(reversed(alive))
        order = sorted(youngest_first, key=lambda r: (r.id not in victims, r.state is ReplicaState.READY))
        for replica in order[: max(len(alive) - number, 0)]:
            self._let_go(replica)
        for _ in range(number - len(alive)):
            state = ReplicaState.READY if self.starts_ready else ReplicaState.STARTING
            name = f"{key.endpoint}-{key.version}-{next(self._numbers)}"
            self.put(Replica(name, key.endpoint, key.version, "127.0.0.1", 9000, state, self._slots.get(key, 1)))

    def _let_go(self, replica: Replica) -> None:
        if replica.state is ReplicaState.READY:
            self.put(replace(replica, state=ReplicaState.DRAINING))
        elif replica.state is not ReplicaState.DRAINING:
            self.vanish(replica.id)
