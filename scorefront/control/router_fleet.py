"""The routers of a cluster, as the leader scales them: their groups, their pods, their Deployment.

Implements `scorefront.frontend_scaling.RouterPlatform`. Members are read from the routers' own views
(`router.membership.history`): a member without a link is missing data, for the scaling of routers and of replicas.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping

from autoscaler.frontend_settings import Size
from cluster.kubernetes.client.api import Api, ApiError, NotFound
from cluster.kubernetes.client.paths import CONFIGMAPS, DEPLOYMENTS, PODS, path
from cluster.kubernetes.client.reflector import Change, ObjectGone, ObjectPut, ObjectsListed, Reflector
from cluster.kubernetes.objects.router_pod import DEPLOYMENT, SELECTOR, RouterPod, router_pod
from cluster.link import GroupLoad
from controlplane.router_groups import RouterGroups
from router.membership.history import NAME, HistoryError, ViewHistory, decoded
from scorefront.control.pod_resize import CoresUnavailable, PodResizer
from scorefront.frontend_scaling import PlatformCapacity
from serving.clock import Clock
from serving.usage import Work

_log = logging.getLogger("scorefront.frontend_scaling")

JOIN_S = 5.0
"""Time for all routers to connect to a new leader."""
LOOK_S = 0.1
RETRY_S = 2.0
LEVEL_S = 5.0
"""Interval of the checks for newer routers with fewer cores."""


class LinkedGroup:
    """The workers of one router at the other end of a link; fits `scorefront.frontend_scaling.ScalableWorkers`."""

    def __init__(self, name: str, load: GroupLoad, groups: RouterGroups, clock: Clock) -> None:
        self._name = name
        self._load = load
        self._groups = groups
        self._clock = clock

    @property
    def wanted(self) -> int:
        """See `Group`."""
        return self._load.wanted

    def work(self) -> Mapping[str, Work]:
        """See `Group`."""
        return self._load.work

    def is_even(self) -> bool:
        """As it is now; a group that is gone is no reason to wait."""
        load = self._now()
        return load is None or load.even

    async def resize(self, count: int) -> None:
        """See `Group`; returns also at the end of the link: a new link gets the number again."""
        self._groups.resize(count)
        while (load := self._now()) is not None and (load.wanted != count or len(load.work) != count):
            await self._clock.sleep(LOOK_S)

    def _now(self) -> GroupLoad | None:
        group = self._groups.linked().get(self._name)
        return None if group is None else group.load


class RouterFleet:
    """The routers of a cluster; up to date while `run` runs."""

    def __init__(
        self,
        api: Api,
        groups: RouterGroups,
        clock: Clock,
        u: Callable[[], float],
        most_cores: int,
        leads: Callable[[], bool],
    ) -> None:
        """`most_cores`: largest number of cores of a router. `leads`: True while this process may write."""
        self._api = api
        self._groups = groups
        self._clock = clock
        self._leads = leads
        self._pods = Reflector(api, path(PODS, api.home), clock, u, label_selector=SELECTOR)
        self._history = Reflector(api, path(CONFIGMAPS, api.home), clock, u, field_selector=f"metadata.name={NAME}")
        self._known: dict[str, RouterPod] = {}
        self._parts = ViewHistory()
        self._cores = 1
        self._growth = PodResizer(api, self, clock, most_cores, leads)
        self.seen = asyncio.Event()
        """Set once the members are known."""

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_pods(), name="watch the routers' pods")
            tasks.create_task(self._watch_history(), name="watch who takes part")
            tasks.create_task(self._level(), name="give later routers as many cores")

    async def _watch_pods(self) -> None:
        async for _ in self._pods.changes():
            self._known = {name: router_pod(pod) for (_, name), pod in self._pods.objects.items()}
            self._groups.locate({name: pod.addresses for name, pod in self._known.items()})

    async def _watch_history(self) -> None:
        async for change in self._history.changes():
            self._take(change)
            self.seen.set()

    def _take(self, change: Change) -> None:
        match change:
            case ObjectsListed(objects):
                found = objects[0] if objects else {}
            case ObjectPut(found):
                pass
            case ObjectGone():
                return  # the routers create it again and continue meanwhile
        try:
            self._parts = decoded(found)
        except HistoryError as error:
            _log.error("membership: not read: %s", error)
            return
        self._groups.expect(self._parts.owners())

    async def _level(self) -> None:
        while True:
            await self._clock.sleep(LEVEL_S)
            try:
                await self._growth.level()
            except (ApiError, CoresUnavailable) as error:
                _log.info("newer routers: cores not raised yet: %s", error)

    # ---- RouterPlatform

    async def take_over(self) -> Size:
        """See `RouterPlatform`. Waits for a router to scale, and for its number of workers not to be chosen by hand."""
        give_up_s = self._clock.now() + JOIN_S
        while not self.groups() or (self._unheard() and self._clock.now() < give_up_s) or self._is_fixed():
            await self._clock.sleep(LOOK_S)
        workers = max(group.wanted for group in self.groups().values())
        self._groups.resize(workers)
        return Size(workers, await self._routers())

    async def _routers(self) -> int:
        """Replicas of the Deployment; without one, the number of linked routers."""
        while True:
            try:
                scale = await self._api.get(path(DEPLOYMENTS, self._api.home, DEPLOYMENT, "scale"))
            except NotFound:
                _log.error("there is no Deployment %s in %s: routers are not scaled out", DEPLOYMENT, self._api.home)
                return max(1, len(self.groups()))
            except ApiError as error:
                _log.warning("the scale of the routers is not known yet: %s", error)
                await self._clock.sleep(RETRY_S)
            else:
                return int(scale["spec"].get("replicas", 1))

    def groups(self) -> Mapping[str, LinkedGroup]:
        """See `RouterPlatform`. Of routers that stay."""
        return {
            name: LinkedGroup(name, now.load, self._groups, self._clock)
            for name, now in self._groups.linked().items()
            if now.load is not None and self._stays(now.pod)
        }

    def capacity(self) -> PlatformCapacity:
        """See `RouterPlatform`: there is room if no router waits for a node. The last known cores if none is linked."""
        there = self.cores_there()
        if there is not None:
            self._cores = self._growth.possible(there)
        return PlatformCapacity(self._cores, self._unheard(), not any(pod.unschedulable for pod in self.pods()))

    def _unheard(self) -> int:
        heard = {now.pod for now in self._groups.linked().values() if now.load is not None}
        return sum(
            pod not in heard and bool(record.part.members) and self._stays(pod)
            for pod, record in self._parts.records.items()
        )

    async def make_room(self, workers: int) -> None:
        """See `RouterPlatform`."""
        await self._growth.have(workers)

    async def scale_out(self, routers: int) -> None:
        """See `RouterPlatform`."""
        where = path(DEPLOYMENTS, self._api.home, DEPLOYMENT, "scale")
        scale = await self._api.get(where)
        if not self._leads():
            raise CoresUnavailable("another instance leads")
        version = scale["metadata"]["resourceVersion"]
        await self._api.merge(where, {"metadata": {"resourceVersion": version}, "spec": {"replicas": routers}})

    # ---- Pods

    def pods(self) -> Collection[RouterPod]:
        """Pods that are not being deleted."""
        return [pod for pod in self._known.values() if not pod.leaving]

    def cores_there(self) -> int | None:
        """Cores available to every linked router; None: none is linked."""
        loads = [now.load for now in self._groups.linked().values() if now.load is not None and self._stays(now.pod)]
        return min((load.cores for load in loads), default=None)

    def _stays(self, pod: str) -> bool:
        known = self._known.get(pod)
        return known is None or not known.leaving

    def _is_fixed(self) -> bool:
        return any(now.load is not None and now.load.fixed for now in self._groups.linked().values())
