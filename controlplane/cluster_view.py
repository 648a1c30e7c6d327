"""Observed replicas, as reported by the provider. Pure; `ClusterView` has a single writer, the reconciler."""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from autoscaler.replica_facts import ReplicaFacts
from cluster.changes import Change, Remove, Reset, Upsert
from serving.endpoint import Endpoint, ReplicaKind, Version, VersionKey
from serving.replica import Replica, ReplicaState


@dataclass(frozen=True, slots=True)
class ObservedVersion:
    """Last report of a replica."""

    replica: Replica
    changed_at_s: float
    """Time of the last change of state or reason, on the event-loop clock."""
    placed_at_s: float
    """Time at which it was first known with a place to run."""
    start_s: float = 0.0
    """Time from there to its first readiness; 0.0 when unknown."""


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A version with fewer ready replicas than it needs."""

    key: VersionKey
    ready: int
    needed: int
    message: str

    def __str__(self) -> str:
        return f"{self.key}: {self.ready} of {self.needed} ready: {headline(self.message) or 'starting'}"


def headline(reason: str) -> str:
    """The reason of a replica without the lines of its log."""
    return reason.partition("\n")[0].partition("; its last ")[0]


class ClusterView:
    """All existing replicas, by version."""

    def __init__(self) -> None:
        self._by_id: dict[str, ObservedVersion] = {}
        self._by_key: dict[VersionKey, dict[str, ObservedVersion]] = {}
        self.suspects: Callable[[VersionKey], Collection[str]] = lambda key: ()
        """Replicas of a version that get no request until their health path answers, by the reports of the routers."""

    def apply(self, change: Change, now: float) -> tuple[Upsert | Remove, ...]:
        """Apply a change; returns the effective steps in order. Applying the same change twice returns nothing."""
        match change:
            case Reset(replicas):
                kept = {replica.id for replica in replicas}
                steps: list[Upsert | Remove] = [Remove(gone) for gone in self._by_id if gone not in kept]
                steps += [Upsert(replica) for replica in replicas]
            case _:
                steps = [change]
        return tuple(step for step in steps if self._step(step, now))

    def _step(self, step: Upsert | Remove, now: float) -> bool:
        match step:
            case Upsert(replica):
                before = self._by_id.get(replica.id)
                if before is not None and before.replica == replica:
                    return False
                self._put(_observed(before, replica, now))
                return True
            case Remove(replica_id):
                return self._drop(replica_id)

    def _put(self, seen: ObservedVersion) -> None:
        self._by_id[seen.replica.id] = seen
        self._by_key.setdefault(seen.replica.key, {})[seen.replica.id] = seen

    def _drop(self, replica_id: str) -> bool:
        seen = self._by_id.pop(replica_id, None)
        if seen is None:
            return False
        siblings = self._by_key[seen.replica.key]
        del siblings[replica_id]
        if not siblings:
            del self._by_key[seen.replica.key]
        return True

    def replicas(self) -> Iterator[Replica]:
        """All replicas."""
        return (seen.replica for seen in self._by_id.values())

    def find(self, replica_id: str) -> Replica | None:
        """The replica of that id, or None."""
        seen = self._by_id.get(replica_id)
        return seen.replica if seen else None

    def endpoints(self) -> set[str]:
        """Names of endpoints that have a replica."""
        return {key.endpoint for key in self._by_key}

    def of(self, key: VersionKey) -> list[Replica]:
        """The replicas of one version, oldest first."""
        return [seen.replica for seen in self._by_key.get(key, {}).values()]

    def counts(self, key: VersionKey) -> dict[ReplicaState, int]:
        """Number of replicas in each state; every state is present. Suspect ones are not ready, and in no state."""
        suspects = self.suspects(key)
        found = dict.fromkeys(ReplicaState, 0)
        for seen in self._by_key.get(key, {}).values():
            one = seen.replica
            if one.state is not ReplicaState.READY or one.id not in suspects:
                found[one.state] += 1
        return found

    def ready_slots(self, key: VersionKey) -> int:
        """Slots of the ready replicas."""
        return sum(replica.slots for replica in self.of(key) if replica.state is ReplicaState.READY)

    def facts(self, key: VersionKey) -> ReplicaFacts:
        """The replicas of one version as its scaling depends on them."""
        present = [
            seen for seen in self._by_key.get(key, {}).values() if seen.replica.state is not ReplicaState.DRAINING
        ]
        if not present:
            return ReplicaFacts()
        newest = [seen.replica for seen in present if seen.replica.template == present[-1].replica.template]
        failing = [replica for replica in newest if _is_failing(replica)]
        unplaced = [seen.replica for seen in present if not seen.replica.placed]
        return ReplicaFacts(
            ready=sum(replica.state is ReplicaState.READY for replica in newest),
            failing=len(failing),
            starting=sum(_is_starting(seen.replica) for seen in present),
            unplaced=len(unplaced),
            start_s=max(seen.start_s for seen in present),
            first_start=not any(seen.start_s or seen.replica.state is ReplicaState.READY for seen in present),
            hindrance=next((replica.reason.partition("\n")[0] for replica in (*failing, *unplaced)), ""),
        )

    def message(self, key: VersionKey) -> str:
        """Reason of the replica that changed last among the failed, else the starting, else the suspect; '' if none."""
        explained = [seen for seen in self._by_key.get(key, {}).values() if seen.replica.reason]
        for state in (ReplicaState.FAILED, ReplicaState.STARTING):
            of_state = [seen for seen in explained if seen.replica.state is state]
            if of_state:
                return max(of_state, key=lambda seen: seen.changed_at_s).replica.reason
        suspects = sorted(self.suspects(key))
        return f"{', '.join(suspects)}: no answer of the health path since a failed request" if suspects else ""


def needed(version: Version) -> int:
    """Ready replicas that make a version ready: its minimum, or its fixed number.

    Static replicas are started elsewhere, so one is enough.
    """
    if version.replica.kind is ReplicaKind.STATIC:
        return 1
    return version.autoscale.min_replicas


def shortfalls(endpoints: Iterable[Endpoint], view: ClusterView) -> list[Shortfall]:
    """The versions that are not ready; an endpoint without any is ready."""
    found = []
    for endpoint in endpoints:
        for version in endpoint.versions:
            key = VersionKey(endpoint.name, version.name)
            ready = view.counts(key)[ReplicaState.READY]
            if ready < needed(version):
                found.append(Shortfall(key, ready, needed(version), view.message(key)))
    return found


def _observed(before: ObservedVersion | None, replica: Replica, now: float) -> ObservedVersion:
    """The report of a replica after the one `before`."""
    if before is None:
        return ObservedVersion(replica, now, now)
    changed_at_s = before.changed_at_s if _same_condition(before.replica, replica) else now
    placed_at_s = before.placed_at_s if before.replica.placed else now
    start_s = before.start_s
    if replica.state is ReplicaState.READY and before.replica.state is ReplicaState.STARTING and not start_s:
        start_s = now - placed_at_s
    return ObservedVersion(replica, changed_at_s, placed_at_s, start_s)


def _is_failing(replica: Replica) -> bool:
    return replica.state is ReplicaState.FAILED or (replica.state is ReplicaState.STARTING and replica.failures > 0)


def _is_starting(replica: Replica) -> bool:
    return replica.state is ReplicaState.STARTING and not replica.failures and replica.placed


def _same_condition(before: Replica, after: Replica) -> bool:
    return replace(before, host=after.host, port=after.port, slots=after.slots) == after
