"""Settings, size and load of the front end: the inputs of `autoscaler.frontend_policy`."""

import math
from dataclasses import dataclass
from enum import StrEnum

EARLY_SHARE = 0.1
"""Tolerance of the period between observations, as a share of it: timers are not exact, and one may be late."""


class ClusterPurpose(StrEnum):
    """Purpose of the cluster; the values are azureml-fe's `clusterPurpose`."""

    FAST_PROD = "FastProd"
    DEV_TEST = "DevTest"


LEAST_ROUTERS = {ClusterPurpose.FAST_PROD: 3, ClusterPurpose.DEV_TEST: 1}
"""azureml-fe: three for production, so that the loss of a node is not noticed; one for test."""


@dataclass(frozen=True, slots=True)
class FrontEndSettings:
    """Settings of front end scaling. Raises ValueError naming the field and its range."""

    purpose: ClusterPurpose = ClusterPurpose.FAST_PROD
    """DevTest: no scaling."""
    min_routers: int | None = None
    """None: by purpose, 3 or 1. On one machine: 1, with `max_routers` 1."""
    max_routers: int = 10
    """Upper limit at any load; bounds the cost of a fault."""
    period_s: float = 0.5
    """Time between decisions, and averaging time of the workers' numbers."""
    routing_limit_s: float = 0.003
    """Mean routing time above which a worker is slow. azureml-fe promises 3 ms on average; a request costs a worker
    some 0.035 ms of CPU, so 3 ms is reached only when its core is all but used up."""
    full_cpu: float = 0.95
    """CPU, as a share of a core, above which a worker is slow at any routing time: input waits unseen in the kernel,
    and waiting clients send less. 1: only the routing time counts."""
    up_after_s: float = 0.5
    """Slow time before a step up: two observations in a row. With a start of 1 s, the next worker serves within 3 s."""
    down_cpu: float = 0.5
    """CPU, as a share of a core, allowed per worker after a step down. A worker routes fast up to about 0.9."""
    down_after_s: float = 60.0
    """Time for which one worker fewer must have been enough: a minute, as with replicas."""
    in_cpu: float = 0.3
    """The same after a step in: lower, because a router takes many seconds to come back, a worker one."""
    in_after_s: float = 300.0
    """Time for which one router fewer must have been enough: the default of a HorizontalPodAutoscaler."""
    patience_s: float = 60.0
    """Longest wait for a step to complete, for example for a pod to be scheduled, before the next decision."""

    def __post_init__(self) -> None:
        times = ("period_s", "routing_limit_s", "up_after_s", "down_after_s", "in_after_s", "patience_s")
        for name in times:
            self._demand(name, math.isfinite(getattr(self, name)) and getattr(self, name) > 0, "finite and above 0")
        for name in ("full_cpu", "down_cpu", "in_cpu"):
            self._demand(name, 0 < getattr(self, name) <= 1, "above 0 and at most 1")
        self._demand("min_routers", self.least_routers >= 1, "at least 1")
        self._demand("max_routers", self.max_routers >= self.least_routers, f"at least {self.least_routers}")

    def _demand(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise ValueError(f"{name} must be {rule}, not {getattr(self, name)!r}")

    @property
    def slow_for_s(self) -> float:
        """`up_after_s` less the tolerance, so that an observation that is a little early does not cost another one."""
        return self.up_after_s - EARLY_SHARE * self.period_s

    @property
    def least_routers(self) -> int:
        """`min_routers`, or the number for the purpose."""
        return LEAST_ROUTERS[self.purpose] if self.min_routers is None else self.min_routers


@dataclass(frozen=True, slots=True)
class Size:
    """Size of the front end."""

    workers: int
    """Per router."""
    routers: int

    @property
    def workers_in_all(self) -> int:
        """Total over all routers."""
        return self.workers * self.routers


@dataclass(frozen=True, slots=True)
class WorkerLoad:
    """Load of one worker over the last period."""

    routing_s: float | None
    """Mean time inside the router per request, without waiting for a slot and for the replica; None without requests.
    """
    cpu: float
    """Share of its core in use, from 0 to 1."""
    loop_lag_s: float = 0.0
    """Mean lateness of the event loop: input waits as long unseen, so it counts as routing time."""


@dataclass(frozen=True, slots=True)
class RouterLoad:
    """Load of one router, silent or not."""

    workers: int
    """Current number of workers."""
    answered: tuple[WorkerLoad, ...]
    """Loads of the workers that answered; the others are missing data."""


@dataclass(frozen=True, slots=True)
class FrontEndLoad:
    """Load of the front end at one instant."""

    routers: tuple[RouterLoad, ...]
    cores: int
    """Most workers per router: the cores allowed and present. Takes effect at once, so a source that does not know it
    returns the last known value."""
    room: bool
    """True if the cluster has room for one more router."""
