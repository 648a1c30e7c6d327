"""The replicas of one version and their reconciliation with the declaration."""

import asyncio
import hashlib
from collections import deque
from collections.abc import Collection
from typing import Any

from cluster.local import command
from cluster.local.lifecycle import WANTED, LifecycleEvent, LifecycleState
from cluster.local.local_replica import ChildReplica, Lineage, LocalReplica, StaticReplica, digest
from cluster.local.machine import LocalMachine
from cluster.local.replacement import ActiveReplica, plan
from cluster.local.room import needs_memory
from cluster.local.waiting_for_room import WaitingForRoom
from serving.endpoint import ReplicaKind, Version, VersionKey

NOT_WANTED = "not wanted any more"
REMEMBERED_IDS = 1000
"""Remembered ids per version: none is reused while others may still refer to its last holder."""


class VersionReplicas:
    """All replicas of one version that are not gone. No method waits: later events arrive as changes."""

    def __init__(self, machine: LocalMachine, key: VersionKey) -> None:
        self.replicas: dict[str, LocalReplica] = {}
        """By id, in order of start."""
        self.wanted = 0
        self._machine = machine
        self._key = key
        self._version: Version | None = None
        self._files = ""
        """Fingerprint of the files that replicas start from."""
        self._restarts = 0
        self._unproven: tuple[Any, ...] | None = None
        """Template whose last replica failed before it was ready."""
        self._successors: list[Lineage] = []
        self._waiting = WaitingForRoom(machine, key, self._new_id, self._reconcile)
        self._used_ids: deque[str] = deque(maxlen=REMEMBERED_IDS)
        self._reconciling: asyncio.Handle | None = None

    @property
    def declared(self) -> bool:
        """True while the version is declared."""
        return self._version is not None

    def template_digest(self) -> str:
        """Digest of the declared replica template; "" while none is declared."""
        return "" if self._version is None else digest(self._template(self._version))

    @property
    def done(self) -> bool:
        """True if the version is undeclared and no replica is left."""
        return self._version is None and not self.replicas

    def declare(self, version: Version, wanted: int, files: str) -> None:
        """Set the declaration of the version, its number of replicas, and the fingerprint of its files."""
        self._version, self._files = version, files
        self.wanted = len(version.replica.static) or wanted
        for replica in self._current():
            replica.version = version
            self._machine.room.resize(replica.id, version.resources)
            self._machine.feed.upsert(replica.record())
        self._reconcile()

    def scale(self, wanted: int, victims: list[str]) -> None:
        """Set the number of replicas. The victims have been retired by the routers, so all of them go."""
        if self._version is None or self._version.replica.kind is ReplicaKind.STATIC:
            return
        self.wanted = wanted
        for victim in victims:
            self._retire(victim)
        self._reconcile()

    def restart(self, files: str) -> None:
        """Replace all replicas one after the other. `files`: fingerprint of their files."""
        self._files = files
        self._restarts += 1
        self._reconcile()

    def undeclare(self) -> None:
        """Drain and stop all replicas."""
        self._version, self.wanted = None, 0
        self._reconcile()

    def stop(self) -> None:
        """Stop all replicas without draining."""
        self.undeclare()
        for replica in list(self.replicas.values()):
            replica.handle(LifecycleEvent.DRAINED)

    def kill(self) -> None:
        """Kill all processes."""
        for replica in self.replicas.values():
            if isinstance(replica, ChildReplica):
                replica.kill()

    # ---- reconciliation

    def _reconcile(self) -> None:
        if self._reconciling is not None:
            self._reconciling.cancel()
            self._reconciling = None
        if self._version is not None and self._version.replica.kind is ReplicaKind.STATIC:
            self._match_addresses(self._version)
        template = None if self._version is None else self._template(self._version)
        active = [
            ActiveReplica(replica.id, age, replica.state is LifecycleState.READY, replica.template == template)
            for age, replica in enumerate(self.replicas.values())
            if replica.state in WANTED
        ]
        todo = plan(self.wanted, active)
        for replica_id in todo.retire:
            self._retire(replica_id)
        refusal = ""
        if self._version is not None and self._version.replica.kind is not ReplicaKind.STATIC:
            refusal = self._start_within_room(self._version, todo.start)
        self._waiting.show(self._version, template, refusal)
        self._successors.clear()

    def _start_within_room(self, version: Version, count: int) -> str:
        """Start up to `count` replicas; returns the reason for starting fewer, or ""."""
        for _ in range(count):
            if refusal := self._refusal(version):
                self._give_way(version)
                return refusal
            self._start(version)
        return ""

    def _refusal(self, version: Version, freed: Collection[str] = ()) -> str:
        room, wanted = self._machine.room, version.resources
        if not wanted.gpu and not needs_memory(wanted):
            return ""
        return room.refusal(wanted, self._machine.memory(), freed)

    def _give_way(self, version: Version) -> None:
        """Retire the oldest replica of an older template if only its share lets a current one start."""
        going = [replica for replica in self.replicas.values() if replica.state not in WANTED]
        # A replica is gone with its process, its share with the last descendant.
        going_shares = [held for held in self._machine.room.holders(self._named("")) if held not in self.replicas]
        starting = any(replica.state is LifecycleState.STARTING for replica in self._current())
        olds = [
            replica.id
            for replica in self.replicas.values()
            if replica.state is LifecycleState.READY and replica.template != self._template(version)
        ]
        if going or going_shares or starting or self._unproven == self._template(version):
            return  # their share, or the one they free when they are ready, comes first; a bad template gets one only
        for count in range(1, len(olds) + 1):
            if not self._refusal(version, olds[:count]):
                for old in olds[:count]:
                    self._retire(old)
                return

    def _match_addresses(self, version: Version) -> None:
        statics = [replica for replica in self.replicas.values() if isinstance(replica, StaticReplica)]
        for replica in statics:
            if replica.address not in version.replica.static:
                self._retire(replica.id)
        # A replica that is being removed keeps its id until it is gone; then this runs again.
        present = {replica.address for replica in statics}
        for address in version.replica.static:
            if address not in present:
                present.add(address)
                suffix = hashlib.sha256(address.encode()).hexdigest()[:8]
                self._add(
                    StaticReplica(
                        self._machine,
                        self._key,
                        version,
                        self._template(version),
                        self._named(suffix),
                        self._changed,
                        address,
                    )
                )

    def _start(self, version: Version) -> None:
        lineage = self._successors.pop() if self._successors else Lineage()
        self._add(
            ChildReplica(
                self._machine, self._key, version, self._template(version), self._new_id(), self._changed, lineage
            )
        )

    def _add(self, replica: LocalReplica) -> None:
        self.replicas[replica.id] = replica
        self._machine.feed.upsert(replica.record())

    def _retire(self, replica_id: str) -> None:
        if (replica := self.replicas.get(replica_id)) is not None:
            replica.handle(LifecycleEvent.RETIRED, NOT_WANTED)

    def _changed(self, replica: LocalReplica) -> None:
        if replica.state is LifecycleState.GONE:
            self.replicas.pop(replica.id, None)
            self._machine.feed.remove(replica.id)
            if replica.successor is not None:
                self._successors.append(replica.successor)
        else:
            self._machine.feed.upsert(replica.record())
        self._judge_template(replica)
        if self._reconciling is None:
            self._reconciling = asyncio.get_running_loop().call_soon(self._reconcile)

    def _judge_template(self, replica: LocalReplica) -> None:
        if replica.state is LifecycleState.READY and self._unproven == replica.template:
            self._unproven = None
        elif replica.state is LifecycleState.FAILED and not replica.served:
            self._unproven = replica.template

    def _current(self) -> list[LocalReplica]:
        if self._version is None:
            return []
        template = self._template(self._version)
        return [replica for replica in self.replicas.values() if replica.template == template]

    def _template(self, version: Version) -> tuple[Any, ...]:
        """The replica template with the files behind it. Static replicas, run by others, have none."""
        template = command.template(version)
        if version.replica.kind is ReplicaKind.STATIC:
            return template
        return (*template, self._files, self._restarts)

    def _new_id(self) -> str:
        while (fresh := self._named(self._machine.new_suffix())) in self._used_ids:
            pass
        self._used_ids.append(fresh)
        return fresh

    def _named(self, suffix: str) -> str:
        return f"{self._key.endpoint}-{self._key.version}-{suffix}"
