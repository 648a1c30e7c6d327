"""Pods and other autoscalers as known from the watches, or from a direct read if the watches are stale."""

from collections.abc import Callable, Iterable
from typing import Any

from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.paths import HPAS, PODS, path
from cluster.kubernetes.client.reflector import ObjectGone, ObjectPut
from cluster.kubernetes.client.selectors import SelectorError, parsed
from cluster.kubernetes.client.watched import ResourceWatch
from cluster.kubernetes.cluster_index import ReplicaIndex, ReplicaRule, Step
from cluster.kubernetes.slim_objects import pod_for_leader
from serving.clock import Clock
from serving.endpoint import VersionKey

FRESH_S = 10.0
"""Maximum age of watch data for a decision; watches bring a bookmark about once a minute."""

Object = dict[str, Any]


class PodCache:
    """Pods and autoscalers; `on_steps` is called with the changes of replicas."""

    def __init__(
        self,
        api: Api,
        pods: ResourceWatch,
        autoscalers: ResourceWatch,
        clock: Clock,
        on_steps: Callable[[list[Step]], None],
    ) -> None:
        self._api = api
        self._watched = (pods, autoscalers)
        self._clock = clock
        self._on_steps = on_steps
        self._index = ReplicaIndex()
        self._autoscalers: dict[tuple[str, str], Object] = {}
        pods.listen(self._pod)
        autoscalers.listen(self._autoscaler)

    # ---- queries

    def pods_of(self, key: VersionKey) -> list[Object]:
        """The pods that match the rule of a version."""
        return self._index.of(key)

    def labelled(self, namespace: str, key: VersionKey) -> list[Object]:
        """The pods with the labels of a version, whether it has a rule or not."""
        return self._index.labelled(namespace, key)

    def selected(self, namespace: str, pods: str) -> list[Object]:
        """The pods that a selector matches, whether a version has a rule with it or not."""
        try:
            return self._index.selected(namespace, parsed(pods))
        except SelectorError:
            return []

    def key_of(self, replica_id: str) -> VersionKey | None:
        """The version of a replica."""
        return self._index.key_of(replica_id)

    def autoscalers(self) -> Iterable[Object]:
        """Every HorizontalPodAutoscaler."""
        return self._autoscalers.values()

    def is_fresh(self) -> bool:
        """True if both watches have recent data."""
        now = self._clock.now()
        return all(watched.age_s(now) <= FRESH_S for watched in self._watched)

    # ---- changes

    def declare(self, key: VersionKey, rule: ReplicaRule | None) -> None:
        """Set the rule of a version."""
        self._on_steps(self._index.declare({key: rule}))

    def forget(self, key: VersionKey) -> None:
        """Drop the rule of a version."""
        self._on_steps(self._index.declare({key: None}))

    def saw(self, pod: Object) -> None:
        """Store a pod that was read or written."""
        self._on_steps(self._index.put(pod_for_leader(pod)))

    async def look(self, namespace: str, pods: str, key: VersionKey) -> None:
        """Read the pods of one version (`pods`: their selector) and the autoscalers. Raises ApiError."""
        listed = await self._api.get(path(PODS, namespace), {"labelSelector": pods})
        found = {pod["metadata"]["uid"]: pod_for_leader(pod) for pod in listed["items"]}
        for known in self._index.of(key):
            if known["metadata"]["uid"] not in found:
                self._on_steps(self._index.gone(known))
        for pod in found.values():
            self._on_steps(self._index.put(pod))
        autoscalers = await self._api.get(path(HPAS, namespace))
        self._autoscalers = {place: each for place, each in self._autoscalers.items() if place[0] != namespace}
        for each in autoscalers["items"]:
            self._autoscalers[namespace, each["metadata"]["name"]] = each

    def _pod(self, change: ObjectPut | ObjectGone) -> None:
        self._on_steps(
            self._index.put(change.object) if isinstance(change, ObjectPut) else self._index.gone(change.object)
        )

    def _autoscaler(self, change: ObjectPut | ObjectGone) -> None:
        place = change.object["metadata"]["namespace"], change.object["metadata"]["name"]
        if isinstance(change, ObjectPut):
            self._autoscalers[place] = change.object
        else:
            self._autoscalers.pop(place, None)
