"""The budgets of all versions: made with the second replica, removed with the last but one.

Scaling and serving never wait for them: a missing right is logged, recorded as an Event and tried again.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Protocol

from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.api_errors import ApiError, WriteConflict
from cluster.kubernetes.client.paths import BUDGETS, path
from cluster.kubernetes.client.reflector import ObjectGone, ObjectPut
from cluster.kubernetes.client.watched import ResourceWatch
from cluster.kubernetes.endpoint_objects import EndpointObjects
from cluster.kubernetes.fence import Fence
from cluster.kubernetes.objects.disruption_budget import BudgetStep, budget_step
from cluster.kubernetes.objects.labels import key_of
from cluster.kubernetes.ownership import controls
from cluster.kubernetes.workloads import number_of
from serving.clock import Clock

GATHER_S = 0.2
"""Changes within this time are handled together; a budget is not urgent."""
RETRY_S = 30.0

Object = dict[str, Any]
Place = tuple[str, str]
"""(namespace, name) of a Deployment."""

_log = logging.getLogger(__name__)


class RecordWarning(Protocol):
    """Records a Kubernetes Event of an endpoint."""

    def __call__(self, endpoint: str, reason: str, note: str, warning: bool = False) -> None: ...


class DisruptionBudgets:
    """The budgets during one leadership; `run` keeps them right."""

    def __init__(
        self,
        api: Api,
        deployments: ResourceWatch,
        budgets: ResourceWatch,
        objects: EndpointObjects,
        fence: Fence,
        clock: Clock,
        record_event: RecordWarning,
    ) -> None:
        """`deployments`, `budgets`: watches of the leader. `objects`: the ScoringEndpoints. `fence`: of this
        leadership. `record_event`: for refusals.
        """
        self._api = api
        self._deployments = deployments
        self._budgets = budgets
        self._objects = objects
        self._fence = fence
        self._clock = clock
        self._record_event = record_event
        self._dirty: set[Place] = set()
        self._failed: dict[Place, str] = {}
        self._wake = asyncio.Event()
        self._seen: dict[Place, object] = {}
        """Budget -> the fields that matter; its status changes with every pod."""
        deployments.listen(self._deployment)
        budgets.listen(self._budget)

    async def run(self) -> None:
        """For ever. Raises Fenced."""
        await self._budgets.listed()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._retry(), name="retry disruption budgets")
            while True:
                await self._wake.wait()
                await self._clock.sleep(GATHER_S)
                self._wake.clear()
                dirty, self._dirty = self._dirty, set()
                for place in sorted(dirty):
                    await self._keep(place)

    async def _retry(self) -> None:
        while True:
            await self._clock.sleep(RETRY_S)
            self._touch(*self._failed)

    def _touch(self, *places: Place) -> None:
        if places:
            self._dirty.update(places)
            self._wake.set()

    def _deployment(self, change: ObjectPut | ObjectGone) -> None:
        metadata = change.object["metadata"]
        place = metadata["namespace"], metadata["name"]
        if isinstance(change, ObjectGone):
            self._failed.pop(place, None)
        elif key_of(metadata) is not None:
            self._touch(place)

    def _budget(self, change: ObjectPut | ObjectGone) -> None:
        metadata = change.object["metadata"]
        place = metadata["namespace"], metadata["name"]
        known = self._seen.pop(place, None)
        if isinstance(change, ObjectPut):
            self._seen[place] = metadata["uid"], change.object["spec"], metadata.get("ownerReferences")
        if self._seen.get(place) != known:
            self._touch(*self._places_in(metadata["namespace"]))

    def _places_in(self, namespace: str) -> list[Place]:
        found = (each["metadata"] for each in self._deployments.all())
        return [(each["namespace"], each["name"]) for each in found if each["namespace"] == namespace and key_of(each)]

    async def _keep(self, place: Place) -> None:
        deployment = self._deployments.find(*place)
        key = key_of(deployment["metadata"]) if deployment is not None else None
        if deployment is None or key is None or not self._is_ours(key.endpoint, deployment):
            return
        there = [each for each in self._budgets.all() if each["metadata"]["namespace"] == place[0]]
        step = budget_step(deployment, number_of(deployment), there)
        problem = step.obstacle
        try:
            await self._take(step, place)
        except WriteConflict:
            return  # another object has come meanwhile; the watch will report it
        except ApiError as error:
            problem = f"cannot write PodDisruptionBudget {place[0]}/{place[1]}: {error}"
            self._record_event(key.endpoint, "BudgetRefused", problem, warning=True)
        if problem and problem != self._failed.get(place):
            _log.warning("%s: no disruption budget: %s", key, problem)
        if problem:
            self._failed[place] = problem
        else:
            self._failed.pop(place, None)

    def _is_ours(self, endpoint: str, deployment: Mapping[str, Any]) -> bool:
        owner = self._objects.owner(endpoint)
        return owner is not None and controls(owner["metadata"]["uid"], deployment)

    async def _take(self, step: BudgetStep, place: Place) -> None:
        namespace, name = place
        if step.create is not None:
            self._fence.check()
            await self._api.create(path(BUDGETS, namespace), step.create)
        if step.delete is not None:
            self._fence.check()
            await self._api.delete(path(BUDGETS, namespace, name), step.delete["metadata"]["uid"])
