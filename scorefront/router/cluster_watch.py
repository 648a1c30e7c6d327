"""Watches of a router: endpoints, pods and token keys from the Kubernetes API, published to its workers."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cluster.kubernetes import slim_objects as kept
from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.paths import CONFIGMAPS, ENDPOINTS, PODS, path
from cluster.kubernetes.client.reflector import Change, ObjectGone, ObjectPut, ObjectsListed, Reflector
from cluster.kubernetes.discovery import TRUST, Discovery
from cluster.kubernetes.objects.labels import COMPONENT
from cluster.kubernetes.snapshot import Objects, Snapshot
from cluster.link import ToWorker
from serving.clock import Clock

_log = logging.getLogger("scorefront.watch")

OWN_PODS = f"{COMPONENT} in (router,control)"

_Take = Callable[[Change], list[ToWorker]]


class ClusterWatch:
    """Watches of endpoints and pods in some namespaces, and of the trusted token keys."""

    def __init__(
        self,
        api: Api,
        namespaces: Sequence[str | None],
        clock: Clock,
        u: Callable[[], float],
        publish: Callable[[ToWorker], None],
        on_own_pod: Callable[[dict[str, Any]], None],
        on_own_pod_gone: Callable[[str], None],
    ) -> None:
        """`u` draws from [0, 1). `on_own_pod`: receives every change of a pod of the installation.

        `on_own_pod_gone`: receives the name of one that was removed.
        """
        self.discovery = Discovery()
        self.listed = asyncio.Event()
        """Set once everything has been listed."""
        self.changed = False
        """True after a change since it was set to False: a new snapshot is due."""
        self._publish = publish
        self._on_own_pod = on_own_pod
        self._on_own_pod_gone = on_own_pod_gone
        self._clock = clock
        self._problems: Mapping[str, str] = {}
        self._sent_revision = 0
        self._endpoints = {
            place: Reflector(api, path(ENDPOINTS, place), clock, u, keep=kept.endpoint_for_routers)
            for place in namespaces
        }
        self._pods = {
            place: Reflector(api, path(PODS, place), clock, u, keep=kept.pod_for_routers) for place in namespaces
        }
        self._trust = Reflector(api, path(CONFIGMAPS, api.home), clock, u, field_selector=f"metadata.name={TRUST}")
        self._own = Reflector(
            api, path(PODS, api.home), clock, u, label_selector=OWN_PODS, keep=kept.own_pod_for_routers
        )
        self._unlisted = set(self._reflectors())

    async def run(self) -> None:
        """Run until cancelled."""
        discovery = self.discovery
        async with asyncio.TaskGroup() as tasks:
            for place, reflector in self._endpoints.items():
                take = self._within(discovery.endpoint_changes, place)
                tasks.create_task(self._follow(reflector, take), name=f"watch endpoints in {place or 'the cluster'}")
            for place, reflector in self._pods.items():
                take = self._within(discovery.pod_changes, place)
                tasks.create_task(self._follow(reflector, take), name=f"watch pods in {place or 'the cluster'}")
            tasks.create_task(self._follow(self._own, self._own_changes), name="watch the installation's own pods")
            tasks.create_task(self._follow(self._trust, discovery.trust_changes), name="watch whose tokens count")

    def restore(self, snapshot: Snapshot) -> None:
        """Start from a snapshot; later lists are compared with it."""
        for place, objects in snapshot.endpoints.items():
            self.discovery.endpoint_changes(ObjectsListed(tuple(objects)), place or None)
        for place, objects in snapshot.pods.items():
            self.discovery.pod_changes(ObjectsListed(tuple(objects)), place or None)
        self.discovery.trust_changes(ObjectsListed(tuple(snapshot.trust)))

    def known(self) -> tuple[Objects, Objects, list[dict[str, Any]]]:
        """Endpoints, pods and trust for a snapshot; complete once everything is listed."""
        endpoints = {place or "": list(each.objects.values()) for place, each in self._endpoints.items()}
        pods = {place or "": list(each.objects.values()) for place, each in self._pods.items()}
        return endpoints, pods, list(self._trust.objects.values())

    def age_s(self) -> float:
        """Seconds since the last word from the API server, for the oldest watch."""
        now = self._clock.now()
        return max(reflector.age_s(now) for reflector in self._reflectors())

    def last_error(self) -> str:
        """The last error of a watch; "" if there is none."""
        return next((each.last_error for each in self._reflectors() if each.last_error), "")

    def _reflectors(self) -> list[Reflector]:
        return [*self._endpoints.values(), *self._pods.values(), self._own, self._trust]

    async def _follow(self, reflector: Reflector, take: _Take) -> None:
        async for change in reflector.changes():
            for message in take(change):
                self.changed = True
                self._publish(message)
            self._tell_problems()
            self._unlisted.discard(reflector)
            if not self._unlisted and not self.listed.is_set():
                self.changed = True
                self.listed.set()

    def _within(self, take: Callable[[Change, str | None], list[ToWorker]], place: str | None) -> _Take:
        return lambda change: take(change, place)

    def _own_changes(self, change: Change) -> list[ToWorker]:
        match change:
            case ObjectsListed(objects):
                for pod in objects:
                    self._on_own_pod(pod)
            case ObjectPut(pod):
                self._on_own_pod(pod)
            case ObjectGone(pod):
                self._on_own_pod_gone(pod["metadata"]["name"])
        return self.discovery.own_changes(change)

    def _tell_problems(self) -> None:
        if self._sent_revision == self.discovery.revision:
            return
        self._sent_revision = self.discovery.revision
        problems = self.discovery.problems()
        for place, problem in problems.items():
            if self._problems.get(place) != problem:
                _log.warning("%s is not followed: %s", place, problem)
        self._problems = problems
