"""The front end of one machine scales itself: one group of workers, from one to the cores allowed.

`autoscaler.frontend` decides; here are the numbers that it decides on, the group as what it changes, and what becomes
known of it. The numbers are read from memory that the workers write to: a busy worker need not answer.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from autoscaler.frontend import (
    ClusterPurpose,
    FrontEndDecision,
    FrontEndLoad,
    FrontEndRule,
    FrontEndSettings,
    RouterLoad,
    Size,
    WorkerLoad,
)
from autoscaler.loop import Clock, FrontEndLoop
from autoscaler.policy import Direction
from router.settings import SettingError, number
from scorefront.cores import MAX_WORKERS
from serving.usage import Work

_log = logging.getLogger("scorefront.frontend")

PREFIX = "SCOREFRONT_FRONTEND_"
PURPOSE = "SCOREFRONT_CLUSTER_PURPOSE"
TOLD = ("routing_limit_s", "full_cpu", "up_after_s", "down_cpu", "down_after_s")
"""The settings that have an environment variable: those that make sense for one machine."""

EVEN_S = 5.0
"""How long to wait for the clients to be spread over the workers after a step: some keep theirs for long."""
LOOK_S = 0.1
"""How often it is looked whether they are."""


def front_end_settings(environment: Mapping[str, str]) -> FrontEndSettings:
    """For one machine, with what the environment says. Raises SettingError that names the variable and the rule."""
    settings = FrontEndSettings(_purpose(environment), min_routers=1, max_routers=1)
    for name in TOLD:
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


class Group(Protocol):
    """One group of workers; `router.supervisor.Supervisor` fits."""

    @property
    def wanted(self) -> int:
        """How many workers there shall be."""

    def work(self) -> Mapping[str, Work]:
        """Name -> what it has done so far, of every worker that serves."""

    def is_even(self) -> bool:
        """Every worker that serves has about its part of the clients."""

    async def resize(self, count: int) -> None:
        """Have so many workers; returns when so many serve."""


class OneRouter:
    """A group as all there is of the front end; fits `autoscaler.loop.FrontEndSource` and `FrontEnd`."""

    def __init__(self, group: Group, cores: Callable[[], int], clock: Clock) -> None:
        self._group = group
        self._cores = cores
        self._clock = clock
        self._last: Mapping[str, Work] = {}

    async def observe(self, period_s: float) -> FrontEndLoad:
        """What the workers have done since the last look, a period ago, or since the last step was there.

        Who has not said anything since, or not before, is silent.
        """
        before, self._last = self._last, dict(self._group.work())
        loads = (load_between(before.get(name), work) for name, work in self._last.items())
        answered = tuple(load for load in loads if load is not None)
        router = RouterLoad(len(self._last), answered)
        return FrontEndLoad((router,), min(self._cores(), MAX_WORKERS), room=False)

    async def resize(self, workers: int) -> None:
        """Have so many workers; returns when they serve and have their clients, since the load of a worker that has
        got none yet says nothing of the new size.
        """
        await self._group.resize(workers)
        give_up_s = self._clock.now() + EVEN_S
        while not self._group.is_even() and self._clock.now() < give_up_s:
            await self._clock.sleep(LOOK_S)
        self._last = dict(self._group.work())  # what was before says nothing of the new size

    async def scale_out(self, routers: int) -> None:
        """One machine has one router: `max_routers` says so, and this is never called with another number."""


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
    """What `/metrics` tells of the front end."""

    workers: int
    """That serve."""
    desired: int
    decisions: Mapping[Direction, int]
    """That were recorded."""


class FrontEndScaler:
    """Scales the workers of one machine as long as it runs, and knows what became of it."""

    def __init__(
        self, group: Group, settings: FrontEndSettings, cores: Callable[[], int], clock: Clock, scales: bool
    ) -> None:
        """`scales`: False where the number of workers was chosen."""
        self._group = group
        self._settings = settings
        self._router = OneRouter(group, cores, clock)
        self._clock = clock
        self._scales = scales and settings.purpose is not ClusterPurpose.DEV_TEST
        self._decisions: Counter[Direction] = Counter()

    async def run(self) -> None:
        """For ever, or not at all. Cancel it to stop. The workers must have been started."""
        if self._scales:
            size = Size(self._group.wanted, 1)
            await FrontEndLoop(self._router, self._router, self._clock, self._settings, size, self._record).run()

    def figures(self) -> FrontEndFigures:
        """Now."""
        return FrontEndFigures(len(self._group.work()), self._group.wanted, dict(self._decisions))

    def _record(self, decision: FrontEndDecision) -> None:
        self._decisions[decision.direction] += 1
        told = decision.direction is not Direction.HOLD or decision.rule == FrontEndRule.LIMIT
        _log.log(logging.WARNING if told else logging.INFO, "router workers: %s", decision.reason)
