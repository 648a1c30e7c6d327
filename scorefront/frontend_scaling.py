"""The front end scales itself: the workers of every router, and in a cluster the routers, too.

`autoscaler.frontend_policy` decides; here are the numbers that it decides on, the groups of workers as what it
changes, and
what becomes known of it. One machine is one group; a cluster has one for each router (`scorefront.control`). The
numbers are read from memory that the workers write to: a busy worker need not answer.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from autoscaler.frontend_policy import FrontEndDecision, FrontEndRule
from autoscaler.frontend_settings import ClusterPurpose, FrontEndLoad, FrontEndSettings, RouterLoad, Size, WorkerLoad
from autoscaler.policy import Direction
from autoscaler.scaling_loop import FrontEndLoop
from controlplane.openapi import MAX_LAST
from controlplane.records import FrontEndRecord
from router.settings import SettingError, number
from scorefront.cores import MAX_WORKERS
from serving.clock import Clock
from serving.usage import Work

_log = logging.getLogger("scorefront.frontend_scaling")

PREFIX = "SCOREFRONT_FRONTEND_"
PURPOSE = "SCOREFRONT_CLUSTER_PURPOSE"
TOLD = ("routing_limit_s", "full_cpu", "up_after_s", "down_cpu", "down_after_s")
"""The settings that have an environment variable everywhere: those that make sense for one machine."""
TOLD_IN_CLUSTER = (*TOLD, "in_cpu", "in_after_s", "min_routers", "max_routers")

EVEN_S = 5.0
"""How long to wait for the clients to be spread over the workers after a step: some keep theirs for long."""
LOOK_S = 0.1
"""How often it is looked whether they are."""


def front_end_settings(environment: Mapping[str, str], in_cluster: bool = False) -> FrontEndSettings:
    """With what the environment says, for one machine or for a cluster.

    Raises SettingError that names the variable and the rule.
    """
    purpose = _purpose(environment)
    settings = FrontEndSettings(purpose) if in_cluster else FrontEndSettings(purpose, min_routers=1, max_routers=1)
    if in_cluster:
        settings = replace(settings, min_routers=settings.least_routers)
    for name in TOLD_IN_CLUSTER if in_cluster else TOLD:
        variable = f"{PREFIX}{name.upper()}"
        told: dict[str, Any] = {name: number(environment, variable, getattr(settings, name))}
        try:
            settings = replace(settings, **told)
        except ValueError as error:
            raise SettingError(f"{variable}: {error}") from error
    return settings


def _purpose(environment: Mapping[str, str]) -> ClusterPurpose:
    text = environment.get(PURPOSE, ClusterPurpose.FAST_PROD)
    try:
        return ClusterPurpose(text)
    except ValueError as error:
        raise SettingError(f"{PURPOSE}: must be {' or '.join(ClusterPurpose)} (got {text!r})") from error


class ScalableWorkers(Protocol):
    """The workers of one router; `router.supervisor.worker_supervisor.Supervisor` fits."""

    @property
    def wanted(self) -> int:
        """How many workers there shall be."""

    def work(self) -> Mapping[str, Work]:
        """Name -> what it has done so far, of every worker that serves."""

    def is_even(self) -> bool:
        """Every worker that serves has about its part of the clients."""

    async def resize(self, count: int) -> None:
        """Have so many workers; returns when so many serve."""


class Surroundings(Protocol):
    """What the routers run in."""

    async def take_over(self) -> Size:
        """What was last asked for; every router has it, or is told."""

    def groups(self) -> Mapping[str, ScalableWorkers]:
        """Of the routers that are heard, by a name that no two ever had."""

    def unheard(self) -> int:
        """Routers that serve, as far as is known, and are not heard."""

    def cores(self) -> int:
        """The most workers that a router may have now."""

    def room(self) -> bool:
        """There is room for one more router."""

    async def make_room(self, workers: int) -> None:
        """Have so many cores in every router, no fewer than it began with; raising means that it cannot be done."""

    async def scale_out(self, routers: int) -> None:
        """Have so many routers."""


class OneMachine:
    """One router, and no more; fits `Surroundings`."""

    def __init__(self, group: ScalableWorkers, cores: Callable[[], int]) -> None:
        self._group = group
        self._cores = cores

    async def take_over(self) -> Size:
        """See `Surroundings`."""
        return Size(self._group.wanted, 1)

    def groups(self) -> Mapping[str, ScalableWorkers]:
        """See `Surroundings`."""
        return {"": self._group}

    def unheard(self) -> int:
        """See `Surroundings`."""
        return 0

    def cores(self) -> int:
        """See `Surroundings`."""
        return self._cores()

    def room(self) -> bool:
        """See `Surroundings`."""
        return False

    async def make_room(self, workers: int) -> None:
        """The cores are there."""

    async def scale_out(self, routers: int) -> None:
        """One machine has one router: `max_routers` says so, and this is never called with another number."""


class FrontEndFleet:
    """All there is of the front end; fits `autoscaler.scaling_loop.FrontEndSource` and `FrontEnd`."""

    def __init__(self, surroundings: Surroundings, clock: Clock) -> None:
        self._surroundings = surroundings
        self._clock = clock
        self._last: dict[str, Mapping[str, Work]] = {}

    async def observe(self, period_s: float) -> FrontEndLoad:
        """What the workers have done since the last look, a period ago, or since the last step was there.

        Who has not said anything since, or not before, is silent.
        """
        before, self._last = self._last, self._work()
        heard = tuple(_router(before.get(name, {}), work) for name, work in self._last.items())
        unheard = (RouterLoad(1, ()),) * self._surroundings.unheard()
        cores = max(1, min(self._surroundings.cores(), MAX_WORKERS))
        return FrontEndLoad(heard + unheard, cores, self._surroundings.room())

    async def resize(self, workers: int) -> None:
        """Have so many workers in every router; returns when they serve and have their clients, since the load of a
        worker that has got none yet says nothing of the new size.
        """
        await self._surroundings.make_room(workers)
        groups = self._surroundings.groups().values()
        async with asyncio.TaskGroup() as tasks:
            for group in groups:
                tasks.create_task(group.resize(workers), name=f"have {workers} workers")
        give_up_s = self._clock.now() + EVEN_S
        while not all(group.is_even() for group in groups) and self._clock.now() < give_up_s:
            await self._clock.sleep(LOOK_S)
        self._last = self._work()  # what was before says nothing of the new size

    async def scale_out(self, routers: int) -> None:
        """Have so many routers."""
        await self._surroundings.scale_out(routers)

    def _work(self) -> dict[str, Mapping[str, Work]]:
        return {name: dict(group.work()) for name, group in self._surroundings.groups().items()}


def _router(before: Mapping[str, Work], after: Mapping[str, Work]) -> RouterLoad:
    loads = (load_between(before.get(name), work) for name, work in after.items())
    return RouterLoad(len(after), tuple(load for load in loads if load is not None))


def load_between(before: Work | None, after: Work) -> WorkerLoad | None:
    """What one worker had to do from one beat to another; None where that is not known."""
    if before is None or not 0 < before.beats < after.beats:
        return None
    seconds = after.at_s - before.at_s
    routed = after.routed - before.routed
    return WorkerLoad(
        routing_s=(after.routing_s - before.routing_s) / routed if routed else None,
        cpu=min(1.0, (after.cpu_s - before.cpu_s) / seconds),
        loop_lag_s=(after.late_s - before.late_s) / (after.beats - before.beats),
    )


@dataclass(frozen=True, slots=True)
class FrontEndFigures:
    """What `/metrics` tells of the front end, over all routers."""

    workers: int
    """That serve."""
    desired: int
    decisions: Mapping[Direction, int]
    """That were recorded."""


class FrontEndScaler:
    """Scales the front end as long as it runs, and knows what became of it."""

    def __init__(
        self,
        surroundings: Surroundings,
        settings: FrontEndSettings,
        clock: Clock,
        wall: Callable[[], float],
        scales: bool,
    ) -> None:
        """`wall` gives unix seconds. `scales`: False where the number of workers was chosen."""
        self._settings = settings
        self._surroundings = surroundings
        self._clock = clock
        self._wall = wall
        self._scales = scales and settings.purpose is not ClusterPurpose.DEV_TEST
        self._decisions: Counter[Direction] = Counter()
        self._records: deque[FrontEndRecord] = deque(maxlen=MAX_LAST)

    async def run(self) -> None:
        """For ever, or not at all. Cancel it to stop. The workers must have been started."""
        if self._scales:
            routers = FrontEndFleet(self._surroundings, self._clock)
            size = await self._surroundings.take_over()
            await FrontEndLoop(routers, routers, self._clock, self._settings, size, self._record).run()

    def figures(self) -> FrontEndFigures:
        """Now."""
        groups = self._surroundings.groups().values()
        serving, wanted = sum(len(group.work()) for group in groups), sum(group.wanted for group in groups)
        return FrontEndFigures(serving, wanted, dict(self._decisions))

    def decisions(self, last: int) -> list[FrontEndRecord]:
        """The newest, newest last; none where the number of workers was chosen."""
        return list(self._records)[-last:]

    def _record(self, decision: FrontEndDecision) -> None:
        self._decisions[decision.direction] += 1
        self._records.append(FrontEndRecord(decision, self._wall() - (self._clock.now() - decision.at_s)))
        told = decision.direction is not Direction.HOLD or decision.rule == FrontEndRule.LIMIT
        _log.log(logging.WARNING if told else logging.INFO, "router workers: %s", decision.reason)
