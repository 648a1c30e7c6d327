"""The replicas of one version, steered towards what is declared."""

import asyncio
import hashlib
from collections import deque

from cluster.local import command
from cluster.local.lifecycle import WANTED, LifecycleEvent, LifecycleState
from cluster.local.local_replica import ChildReplica, Lineage, LocalReplica, StaticReplica
from cluster.local.machine import Site
from cluster.local.replacement import Standing, plan
from serving.endpoint import ReplicaKind, Version, VersionKey

NOT_WANTED = "not wanted any more"
REMEMBERED_IDS = 1000
"""Of a version, so that none is used again while somebody may still mean the last one that had it."""


class VersionReplicas:
    """Every replica of one version that is not gone. Nothing here waits: what happens later comes back as a change."""

    def __init__(self, site: Site, key: VersionKey) -> None:
        self.members: dict[str, LocalReplica] = {}
        """By id, in the order of their starting."""
        self.wanted = 0
        self._site = site
        self._key = key
        self._version: Version | None = None
        self._heirs: list[Lineage] = []
        self._used_ids: deque[str] = deque(maxlen=REMEMBERED_IDS)
        self._settling_soon: asyncio.Handle | None = None

    @property
    def declared(self) -> bool:
        """It is meant to exist."""
        return self._version is not None

    @property
    def done(self) -> bool:
        """Nothing is declared and nothing is left."""
        return self._version is None and not self.members

    def declare(self, version: Version, wanted: int) -> None:
        """This is what the version is from now on, with so many replicas."""
        self._version = version
        self.wanted = len(version.replica.static) or wanted
        for member in self._current():
            member.version = version
            self._site.feed.upsert(member.record())
        self._settle()

    def scale(self, wanted: int, victims: list[str]) -> None:
        """Have so many replicas. The victims are out of service already, so all of them go."""
        if self._version is None or self._version.replica.kind is ReplicaKind.STATIC:
            return
        self.wanted = wanted
        for victim in victims:
            self._retire(victim)
        self._settle()

    def undeclare(self) -> None:
        """Drain and stop everything."""
        self._version, self.wanted = None, 0
        self._settle()

    def stop(self) -> None:
        """Stop everything without a drain."""
        self.undeclare()
        for member in list(self.members.values()):
            member.feed(LifecycleEvent.RELEASED)

    def kill(self) -> None:
        """Kill whatever still runs."""
        for member in self.members.values():
            if isinstance(member, ChildReplica):
                member.kill()

    # ---- steering

    def _settle(self) -> None:
        if self._settling_soon is not None:
            self._settling_soon.cancel()
            self._settling_soon = None
        if self._version is not None and self._version.replica.kind is ReplicaKind.STATIC:
            self._match_addresses(self._version)
        template = None if self._version is None else command.template(self._version)
        standing = [
            Standing(member.id, age, member.state is LifecycleState.READY, member.template == template)
            for age, member in enumerate(self.members.values())
            if member.state in WANTED
        ]
        todo = plan(self.wanted, standing)
        for replica_id in todo.retire:
            self._retire(replica_id)
        if self._version is not None and self._version.replica.kind is not ReplicaKind.STATIC:
            for _ in range(todo.start):
                self._start(self._version)
        self._heirs.clear()

    def _match_addresses(self, version: Version) -> None:
        statics = [member for member in self.members.values() if isinstance(member, StaticReplica)]
        for member in statics:
            if member.address not in version.replica.static:
                self._retire(member.id)
        # One that is still on its way out keeps its id until it is gone; then this is done again.
        present = {member.address for member in statics}
        for address in version.replica.static:
            if address not in present:
                present.add(address)
                digest = hashlib.sha256(address.encode()).hexdigest()[:8]
                self._take_in(
                    StaticReplica(self._site, self._key, version, self._named(digest), self._changed, address)
                )

    def _start(self, version: Version) -> None:
        lineage = self._heirs.pop() if self._heirs else Lineage()
        self._take_in(ChildReplica(self._site, self._key, version, self._new_id(), self._changed, lineage))

    def _take_in(self, member: LocalReplica) -> None:
        self.members[member.id] = member
        self._site.feed.upsert(member.record())

    def _retire(self, replica_id: str) -> None:
        if (member := self.members.get(replica_id)) is not None:
            member.feed(LifecycleEvent.RETIRED, NOT_WANTED)

    def _changed(self, member: LocalReplica) -> None:
        if member.state is LifecycleState.GONE:
            self.members.pop(member.id, None)
            self._site.feed.remove(member.id)
            if member.heir is not None:
                self._heirs.append(member.heir)
        else:
            self._site.feed.upsert(member.record())
        if self._settling_soon is None:
            self._settling_soon = asyncio.get_running_loop().call_soon(self._settle)

    def _current(self) -> list[LocalReplica]:
        if self._version is None:
            return []
        template = command.template(self._version)
        return [member for member in self.members.values() if member.template == template]

    def _new_id(self) -> str:
        while (fresh := self._named(self._site.new_suffix())) in self._used_ids:
            pass
        self._used_ids.append(fresh)
        return fresh

    def _named(self, suffix: str) -> str:
        return f"{self._key.endpoint}-{self._key.version}-{suffix}"
