"""Front end scaling: the number of workers of every router, and of routers in a cluster.

`autoscaler.frontend_policy` decides; this module measures the load, resizes the groups of workers and keeps the
decision records. One machine has one group, a cluster one for each router (`scorefront.control`). The load is read
from memory shared with the workers, so that a busy worker need not answer.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

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
MACHINE_FIELDS = ("routing_limit_s", "full_cpu", "up_after_s", "down_cpu", "down_after_s")
"""Fields of FrontEndSettings with an environment variable on one machine."""
CLUSTER_FIELDS = (*MACHINE_FIELDS, "in_cpu", "in_after_s", "min_routers", "max_routers")
"""The same in a cluster."""

EVEN_S = 5.0
"""Longest wait for an even distribution of clients after a resize; some connections live long."""
LOOK_S = 0.1
"""Seconds between checks of the distribution."""


def front_end_settings(environment: Mapping[str, str], in_cluster: bool = False) -> FrontEndSettings:
    """Settings from the environment.

    environment: variables by name.
    in_cluster: True for a cluster, default False for one machine.
    Raises SettingError that names the variable and the rule.
    """
    purpose = _purpose(environment)
    settings = FrontEndSettings(purpose) if in_cluster else FrontEndSettings(purpose, min_routers=1, max_routers=1)
    if in_cluster:
        settings = replace(settings, min_routers=settings.least_routers)
    for name in CLUSTER_FIELDS if in_cluster else MACHINE_FIELDS:
        variable = f"{PREFIX}{name.upper()}"
        value: dict[str, Any] = {name: number(environment, variable, getattr(settings, name))}
        try:
            settings = replace(settings, **value)
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
    """The workers of one router; implemented by `router.supervisor.worker_supervisor.Supervisor`."""

    @property
    def wanted(self) -> int:
        """Desired number of workers."""

    def work(self) -> Mapping[str, Work]:
        """Cumulative work of every serving worker, by name."""

    def is_even(self) -> bool:
        """True if the clients are about evenly distributed over the serving workers."""

    async def resize(self, count: int) -> None:
        """Change the number of workers; returns when all of them serve."""


class PlatformCapacity(NamedTuple):
    """Limits of the number of workers and routers at one time."""

    cores: int
    """Most workers of one router."""
    unheard: int = 0
    """Serving routers that do not report."""
    room: bool = False
    """True if one more router can be scheduled."""


class RouterPlatform(Protocol):
    """The routers and their environment: one machine, or a cluster."""

    async def take_over(self) -> Size:
        """The current desired size, ordered to every router."""

    def groups(self) -> Mapping[str, ScalableWorkers]:
        """Reporting routers, by a name that is never reused."""

    def capacity(self) -> PlatformCapacity:
        """Limits of the number of workers and routers at present."""

    async def make_room(self, workers: int) -> None:
        """Provide this number of cores in every router, at least its initial number; raises if impossible."""

    async def scale_out(self, routers: int) -> None:
        """Change the number of routers."""


class OneMachine:
    """A single router; implements `RouterPlatform`."""

    def __init__(self, group: ScalableWorkers, cores: Callable[[], int]) -> None:
        """`group`: the workers. `cores`: usable cores at present."""
        self._group = group
        self._cores = cores

    async def take_over(self) -> Size:
        """See `RouterPlatform`."""
        return Size(self._group.wanted, 1)

    def groups(self) -> Mapping[str, ScalableWorkers]:
        """See `RouterPlatform`."""
        return {"": self._group}

    def capacity(self) -> PlatformCapacity:
        """See `RouterPlatform`."""
        return PlatformCapacity(self._cores())

    async def make_room(self, workers: int) -> None:
        """Not needed: the cores exist."""

    async def scale_out(self, routers: int) -> None:
        """Never called with another number, because `max_routers` is 1."""


class FrontEndFleet:
    """All routers and their workers; implements `autoscaler.scaling_loop.FrontEndSource` and `FrontEnd`."""

    def __init__(self, platform: RouterPlatform, clock: Clock) -> None:
        """`platform`: runs the routers. `clock`: event-loop clock."""
        self._platform = platform
        self._clock = clock
        self._last: dict[str, Mapping[str, Work]] = {}

    async def observe(self, period_s: float) -> FrontEndLoad:
        """Load since the last call, or since the last resize. Workers without two reports have no load."""
        before, self._last = self._last, self._work()
        heard = tuple(_router(before.get(name, {}), work) for name, work in self._last.items())
        capacity = self._platform.capacity()
        unheard = (RouterLoad(1, ()),) * capacity.unheard
        return FrontEndLoad(heard + unheard, max(1, min(capacity.cores, MAX_WORKERS)), capacity.room)

    async def resize(self, workers: int) -> None:
        """Resize every router; returns when all workers serve and have their clients.

        The load of a worker without clients would not represent the new size.
        """
        await self._platform.make_room(workers)
        groups = self._platform.groups().values()
        async with asyncio.TaskGroup() as tasks:
            for group in groups:
                tasks.create_task(group.resize(workers), name=f"resize to {workers} workers")
        give_up_s = self._clock.now() + EVEN_S
        while not all(group.is_even() for group in groups) and self._clock.now() < give_up_s:
            await self._clock.sleep(LOOK_S)
        self._last = self._work()  # earlier work does not represent the new size

    async def scale_out(self, routers: int) -> None:
        """Change the number of routers."""
        await self._platform.scale_out(routers)

    def _work(self) -> dict[str, Mapping[str, Work]]:
        return {name: dict(group.work()) for name, group in self._platform.groups().items()}


def _router(before: Mapping[str, Work], after: Mapping[str, Work]) -> RouterLoad:
    loads = (load_between(before.get(name), work) for name, work in after.items())
    return RouterLoad(len(after), tuple(load for load in loads if load is not None))


def load_between(before: Work | None, after: Work) -> WorkerLoad | None:
    """Load of one worker between two reports; None: unknown."""
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
    """Figures of front end scaling for `/metrics`, over all routers."""

    workers: int
    """Serving workers."""
    desired: int
    decisions: Mapping[Direction, int]
    """Recorded decisions by direction."""


class FrontEndScaler:
    """Scales the front end and keeps its decision records."""

    def __init__(
        self,
        platform: RouterPlatform,
        settings: FrontEndSettings,
        clock: Clock,
        wall: Callable[[], float],
        scales: bool,
    ) -> None:
        """A front end scaler.

        platform: runs the routers.
        settings: limits and periods.
        clock: event-loop clock.
        wall: unix seconds.
        scales: False for a fixed number of workers.
        """
        self._settings = settings
        self._platform = platform
        self._clock = clock
        self._wall = wall
        self._scales = scales and settings.purpose is not ClusterPurpose.DEV_TEST
        self._decisions: Counter[Direction] = Counter()
        self._records: deque[FrontEndRecord] = deque(maxlen=MAX_LAST)

    async def run(self) -> None:
        """Scale until cancelled; returns at once for a fixed number. The workers must have been started."""
        if self._scales:
            routers = FrontEndFleet(self._platform, self._clock)
            size = await self._platform.take_over()
            await FrontEndLoop(routers, routers, self._clock, self._settings, size, self._record).run()

    def figures(self) -> FrontEndFigures:
        """Current figures."""
        groups = self._platform.groups().values()
        serving, wanted = sum(len(group.work()) for group in groups), sum(group.wanted for group in groups)
        return FrontEndFigures(serving, wanted, dict(self._decisions))

    def decisions(self, last: int) -> list[FrontEndRecord]:
        """The `last` newest records, newest last; none for a fixed number of workers."""
        return list(self._records)[-last:]

    def _record(self, decision: FrontEndDecision) -> None:
        self._decisions[decision.direction] += 1
        self._records.append(FrontEndRecord(decision, self._wall() - (self._clock.now() - decision.at_s)))
        is_notable = decision.direction is not Direction.HOLD or decision.rule == FrontEndRule.LIMIT
        _log.log(logging.WARNING if is_notable else logging.INFO, "router workers: %s", decision.reason)
