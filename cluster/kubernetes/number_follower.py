"""Adoption of numbers of replicas that other clients have set, and detection of rival writers."""

from collections.abc import Callable, Mapping
from typing import Any

from cluster.kubernetes.client.reflector import ObjectGone, ObjectPut
from cluster.kubernetes.leader_watches import LeaderWatches
from cluster.kubernetes.rival_writers import RivalWriters
from cluster.kubernetes.scaled_version import ScaledVersion
from cluster.kubernetes.workloads import Workloads
from serving.clock import Clock
from serving.endpoint import VersionKey


class NumberFollower:
    """Listens to the watches of workloads."""

    def __init__(
        self,
        watches: LeaderWatches,
        workloads: Workloads,
        scaled: Mapping[VersionKey, ScaledVersion],
        rivals: RivalWriters,
        clock: Clock,
        adopted: Callable[[VersionKey, int, str], None],
        changed: Callable[[str], None],
    ) -> None:
        """A follower of the workloads of versions.

        watches: the watches of the leader.
        workloads: knows the last own write; it listens to the same watches before.
        scaled: the versions with a workload.
        rivals: counts the changes.
        clock: event-loop clock.
        adopted: called with a version, the number set by another client, and that client.
        changed: called with an endpoint with a new conflict.
        """
        self._workloads = workloads
        self._scaled = scaled
        self._rivals = rivals
        self._clock = clock
        self._adopted = adopted
        self._changed = changed
        watches.deployments.listen(lambda change: self._follow("Deployment", change))
        watches.statefulsets.listen(lambda change: self._follow("StatefulSet", change))

    def _follow(self, kind: str, change: ObjectPut | ObjectGone) -> None:
        found = change.object
        place = (kind, found["metadata"]["namespace"], found["metadata"]["name"])
        if isinstance(change, ObjectGone):
            self._rivals.forget(place)
            return
        seen = self._rivals.observe(place, found, self._clock.now())
        scaled = self._of(place) if seen is not None else None
        if seen is None or scaled is None:
            return
        # A HorizontalPodAutoscaler is a conflict by itself, and over as soon as it is deleted.
        if not scaled.autoscaler() and self._rivals.count(place, seen):
            self._changed(scaled.key.endpoint)
        if self._is_newest(place, found) and scaled.adopt(seen.number):
            self._adopted(scaled.key, seen.number, seen.writer)

    def _of(self, place: tuple[str, str, str]) -> ScaledVersion | None:
        return next((each for each in self._scaled.values() if each.workload.claim.place == place), None)

    def _is_newest(self, place: tuple[str, str, str], found: dict[str, Any]) -> bool:
        """False if an own write, whose event is still to come, has replaced this state."""
        return not self._workloads.has_written_after(place, found)
