"""Scaling of the front end itself: how many workers each router should have, and how many routers there should be.

azureml-fe's rule: the time that it takes to route says when more is needed, up first (one more worker in every router,
to the cores allowed), then out (one more router, where the cluster has room); the CPU says when less will do, first
down (one worker fewer), then in (one router fewer). One step at a time, judged anew when the step is there. Off for
DevTest. Its thresholds were never published; those here are explained with each setting. One thing is added: a core
that is used up counts as slow.

It cannot flap: a step back is taken only where what remains would stay below a CPU threshold, and never to a size that
proved too small under about the same load. Missing data counts neither as slow nor as idle.
"""

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from autoscaler.policy import Direction
from autoscaler.sizing import replicas_needed
from autoscaler.window import PeakWindow

EARLY_SHARE = 0.1
"""Looks lie a period apart, give or take this share of it: timers are not exact, and a look may be late."""
LESSON_SHARE = 0.8
"""A size that proved too small is tried again when no more than this share of the CPU of then is in use."""
LESSON_S = 3600.0
"""A size that proved too small is tried again after this time, whatever is in use: it may have been a bad neighbour."""


class ClusterPurpose(StrEnum):
    """What the cluster is for; the values are azureml-fe's `clusterPurpose`."""

    FAST_PROD = "FastProd"
    DEV_TEST = "DevTest"


LEAST_ROUTERS = {ClusterPurpose.FAST_PROD: 3, ClusterPurpose.DEV_TEST: 1}
"""azureml-fe: three for production, so that the loss of a node is not felt; one for test."""


@dataclass(frozen=True, slots=True)
class FrontEndSettings:
    """What the self-scaler can be told. Raises ValueError naming the field and its range."""

    purpose: ClusterPurpose = ClusterPurpose.FAST_PROD
    """DevTest: nothing is ever scaled."""
    min_routers: int | None = None
    """None: by purpose, 3 or 1. On one machine: 1, with `max_routers` 1."""
    max_routers: int = 10
    """Whatever the load; bounds what a fault can cost."""
    period_s: float = 0.5
    """From one decision to the next, and the time over which a worker's numbers are taken."""
    routing_limit_s: float = 0.003
    """Mean time to route above which a worker is slow. azureml-fe promises 3 ms on average; a request costs a worker
    some 0.035 ms of CPU, so that it comes near 3 ms only when its core is all but used up."""
    full_cpu: float = 0.95
    """CPU, as a share of a core, above which a worker is slow whatever its own clock says: what comes in waits where
    it cannot see it, and clients that wait for an answer ask less because they wait. 1: only the clock counts."""
    up_after_s: float = 0.5
    """So long it must have been slow: in two looks running. With a start of 1 s, the next worker is there in 3 s."""
    down_cpu: float = 0.5
    """CPU, as a share of a core, that each worker may use after a step down. A worker routes fast up to about 0.9."""
    down_after_s: float = 60.0
    """So long one worker fewer must have been enough: a minute, as with replicas."""
    in_cpu: float = 0.3
    """The same after a step in: lower, because a router takes many seconds to come back, a worker one."""
    in_after_s: float = 300.0
    """So long one router fewer must have been enough: what a HorizontalPodAutoscaler waits before it takes a pod."""
    patience_s: float = 60.0
    """A step that is not there by then (a pod that is not scheduled) holds up the next one no longer."""

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
        """`up_after_s`, less what a look may come early: a hair must not cost a further look."""
        return self.up_after_s - EARLY_SHARE * self.period_s

    @property
    def least_routers(self) -> int:
        """`min_routers`, or what the purpose says."""
        return LEAST_ROUTERS[self.purpose] if self.min_routers is None else self.min_routers


@dataclass(frozen=True, slots=True)
class Size:
    """How large the front end is."""

    workers: int
    """In every router."""
    routers: int

    @property
    def workers_in_all(self) -> int:
        """Over all routers."""
        return self.workers * self.routers


@dataclass(frozen=True, slots=True)
class WorkerLoad:
    """What one worker told of the last period."""

    routing_s: float | None
    """Mean time inside the router per request, less waiting for a slot and for the replica; None: it had no request."""
    cpu: float
    """Share of its core that it used, from 0 to 1."""
    loop_lag_s: float = 0.0
    """Mean lateness of its event loop: what comes in waits as long before it is seen, so it counts as routing."""


@dataclass(frozen=True, slots=True)
class RouterLoad:
    """One router that exists, whether it was heard or not."""

    workers: int
    """That it has now."""
    answered: tuple[WorkerLoad, ...]
    """Those that told their numbers; the others are missing data."""


@dataclass(frozen=True, slots=True)
class FrontEndLoad:
    """What is known of the front end at one instant."""

    routers: tuple[RouterLoad, ...]
    cores: int
    """The most workers that a router may have: the cores that it is allowed and that are there for it. Counts at once,
    so one who does not know it gives what was known last."""
    room: bool
    """The cluster has room for one more router."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A size that was too small."""

    workers_in_all: int
    cores_used: float
    at_s: float


@dataclass(frozen=True, slots=True)
class FrontEndState:
    """What a decision leaves for the next. The windows move on with it: after `decide` use the state returned."""

    size: Size
    """The size that was last decided on."""
    changed_s: float = -math.inf
    slow_since_s: float | None = None
    lessons: tuple[Lesson, ...] = ()
    workers_needed: PeakWindow = field(default_factory=PeakWindow)
    """Per router, for `down_cpu`."""
    routers_needed: PeakWindow = field(default_factory=PeakWindow)
    """With the workers that each has, for `in_cpu`."""

    def proved_too_small(self, size: Size, cores_used: float, now: float) -> bool:
        """That size, or a larger one, was too small for hardly more load than there is."""
        return any(
            size.workers_in_all <= lesson.workers_in_all
            and cores_used > LESSON_SHARE * lesson.cores_used
            and now < lesson.at_s + LESSON_S
            for lesson in self.lessons
        )


class FrontEndRule(StrEnum):
    """Which part of the rule settled a decision."""

    OFF = "off"
    """DevTest."""
    BOUNDS = "bounds"
    """The size was outside what is allowed now."""
    UNDER_WAY = "under way"
    """The last step is not there yet."""
    BRIEF = "brief"
    """Routing is slow, but has not been for long."""
    ROUTING = "routing"
    """Routing is slow: more."""
    LIMIT = "limit"
    """Routing is slow, and there is nothing more to have."""
    NO_ROOM = "no room"
    """Routing is slow, and the cluster has no room."""
    INCOMPLETE = "incomplete"
    """A worker did not answer, so nothing is given back."""
    CPU = "cpu"
    """Less will do: fewer."""
    ENOUGH = "enough"
    """Routing is fast, and the CPU is used, or has not been idle for long."""
    LESSON = "lesson"
    """Less would do by CPU, but proved too little."""
    LEAST = "least"
    """Routing is fast, and there is nothing to give back."""


@dataclass(frozen=True, slots=True)
class FrontEndDecision:
    """How large the front end should be, and why."""

    at_s: float
    """On the clock of whoever asked."""
    previous: Size
    desired: Size
    direction: Direction
    """UP for up and out, DOWN for down and in."""
    rule: str
    """One of `FrontEndRule`."""
    reason: str
    """One sentence for people, with the numbers."""

    @property
    def workers(self) -> int:
        """In every router."""
        return self.desired.workers

    @property
    def routers(self) -> int:
        """In all."""
        return self.desired.routers


class _Facts(NamedTuple):
    """What the present data proves."""

    workers: int
    silent: int
    slow: int
    slowest_s: float
    cores_used: float
    busiest_cores: float
    """Of one router."""
    is_slow: bool
    is_complete: bool
    under_way: bool


class _FrontEndOutcome(NamedTuple):
    desired: Size
    rule: FrontEndRule
    because: str


def decide(
    settings: FrontEndSettings, state: FrontEndState, seen: FrontEndLoad, now: float
) -> tuple[FrontEndState, FrontEndDecision]:
    """The state after and the decision at `now` (seconds, never decreasing; equal times are fine)."""
    size = state.size
    facts = _read(settings, state, seen, now)
    if settings.purpose is not ClusterPurpose.DEV_TEST:
        state = _with_evidence(settings, state, facts, now)
    outcome = _settle(settings, state, seen, facts, now)
    if outcome.desired != size:
        state = _after_step(state, outcome, facts, now)
    return state, FrontEndDecision(
        at_s=now,
        previous=size,
        desired=outcome.desired,
        direction=_direction(size, outcome.desired),
        rule=outcome.rule,
        reason=f"{_told(settings, facts)}; {outcome.because}: {_move(size, outcome.desired)}.",
    )


def _read(settings: FrontEndSettings, state: FrontEndState, seen: FrontEndLoad, now: float) -> _Facts:
    answers = [worker for router in seen.routers for worker in router.answered]
    workers = sum(max(router.workers, len(router.answered)) for router in seen.routers)
    loads = [(each.routing_s + each.loop_lag_s, each.cpu) for each in answers if each.routing_s is not None]
    slow = sum(time_s > settings.routing_limit_s or cpu > settings.full_cpu for time_s, cpu in loads)
    used = [sum(worker.cpu for worker in router.answered) for router in seen.routers]
    size = state.size
    is_there = len(seen.routers) == size.routers and all(router.workers == size.workers for router in seen.routers)
    return _Facts(
        workers=workers,
        silent=workers - len(answers),
        slow=slow,
        slowest_s=max((time_s for time_s, _ in loads), default=0.0),
        cores_used=sum(used),
        busiest_cores=max(used, default=0.0),
        # Half of all, the silent ones included: one worker with a bad neighbour must not have the whole grow.
        is_slow=slow > 0 and 2 * slow >= workers,
        is_complete=len(answers) == workers > 0,
        under_way=not is_there and now < state.changed_s + settings.patience_s,
    )


def _with_evidence(settings: FrontEndSettings, state: FrontEndState, facts: _Facts, now: float) -> FrontEndState:
    """The state with what this look adds: since when routing has been slow, and what the CPU asks for."""
    size = state.size
    workers = replicas_needed(facts.busiest_cores, 1, settings.down_cpu)
    routers = replicas_needed(facts.cores_used, size.workers, settings.in_cpu)
    if facts.is_slow and not facts.under_way:
        since_s = now if state.slow_since_s is None else state.slow_since_s
    elif facts.under_way or facts.is_complete:
        since_s = None
    else:
        since_s = state.slow_since_s  # workers that are too busy to answer disprove nothing
    # Slow for one look is any machine now and then: if that counted, a busy neighbour would keep what nobody needs.
    is_slow = facts.is_slow and since_s is not None and now - since_s >= settings.slow_for_s
    stands = is_slow or facts.under_way or not facts.is_complete
    if stands or state.proved_too_small(_one_less(size), facts.cores_used, now):
        # What is not known to be needless is needed: the windows must remember that much.
        workers, routers = max(workers, size.workers), max(routers, size.routers)
    state.workers_needed.add(workers, now)
    state.routers_needed.add(routers, now)
    return replace(state, slow_since_s=since_s)


def _settle(
    settings: FrontEndSettings, state: FrontEndState, seen: FrontEndLoad, facts: _Facts, now: float
) -> _FrontEndOutcome:
    """The rule, first match wins."""
    size = state.size
    if settings.purpose is ClusterPurpose.DEV_TEST:
        return _FrontEndOutcome(size, FrontEndRule.OFF, "the front end of a DevTest cluster does not scale itself")
    bounded = _bounded(size, settings, seen)
    if bounded != size:
        return _FrontEndOutcome(bounded, FrontEndRule.BOUNDS, _bounds(settings, seen))
    if facts.under_way:
        return _FrontEndOutcome(size, FrontEndRule.UNDER_WAY, f"{_shown(size)} is not there yet, {_shown_now(seen)}")
    if facts.is_slow:
        return _more(settings, state, seen, now)
    if not facts.is_complete:
        return _FrontEndOutcome(size, FrontEndRule.INCOMPLETE, "numbers are missing, which neither raise nor lower")
    return _less(settings, state, facts, now)


def _more(settings: FrontEndSettings, state: FrontEndState, seen: FrontEndLoad, now: float) -> _FrontEndOutcome:
    """Up while there are cores, then out."""
    size = state.size
    slow_s = 0.0 if state.slow_since_s is None else now - state.slow_since_s
    if slow_s < settings.slow_for_s:
        so_far = f"slow for {slow_s:.1f} s so far, and {settings.up_after_s:g} s count"
        return _FrontEndOutcome(size, FrontEndRule.BRIEF, so_far)
    if size.workers < seen.cores:
        return _FrontEndOutcome(
            replace(size, workers=size.workers + 1), FrontEndRule.ROUTING, f"slow for {slow_s:.1f} s"
        )
    if size.routers >= settings.max_routers:
        return _FrontEndOutcome(size, FrontEndRule.LIMIT, _bounds(settings, seen))
    if not seen.room:
        return _FrontEndOutcome(
            size, FrontEndRule.NO_ROOM, "every core allowed has a worker, and no room for a further router"
        )
    every = f"slow for {slow_s:.1f} s with a worker on every core allowed"
    return _FrontEndOutcome(replace(size, routers=size.routers + 1), FrontEndRule.ROUTING, every)


def _less(settings: FrontEndSettings, state: FrontEndState, facts: _Facts, now: float) -> _FrontEndOutcome:
    """Down while a router has more than one worker, then in."""
    size, target = state.size, _one_less(state.size)
    if size.workers > 1:
        peak, length_s, cpu = state.workers_needed, settings.down_after_s, settings.down_cpu
        standing, needed = size.workers, peak.peak(length_s, now)
    elif size.routers > settings.least_routers:
        peak, length_s, cpu = state.routers_needed, settings.in_after_s, settings.in_cpu
        standing, needed = size.routers, peak.peak(length_s, now)
    else:
        return _FrontEndOutcome(size, FrontEndRule.LEAST, "that is the least there may be")
    if needed is not None and needed < standing:
        fewer = f"for {length_s:g} s one fewer would have used at most {cpu * 100:g} % of each core"
        return _FrontEndOutcome(target, FrontEndRule.CPU, fewer)
    if state.proved_too_small(target, facts.cores_used, now):
        return _FrontEndOutcome(size, FrontEndRule.LESSON, "fewer were too slow with hardly more CPU in use")
    enough = f"one fewer has not been enough for {length_s:g} s yet, at {cpu * 100:g} % of each core"
    return _FrontEndOutcome(size, FrontEndRule.ENOUGH, enough)


def _after_step(state: FrontEndState, outcome: _FrontEndOutcome, facts: _Facts, now: float) -> FrontEndState:
    """Nothing that was seen before a step says what is needed after it, but for what proved too small."""
    lessons = state.lessons
    if outcome.rule is FrontEndRule.ROUTING:
        lesson = Lesson(state.size.workers_in_all, facts.cores_used, now)
        kept = [each for each in lessons if each.workers_in_all != lesson.workers_in_all and now < each.at_s + LESSON_S]
        lessons = (*kept, lesson)
    return FrontEndState(outcome.desired, changed_s=now, lessons=lessons)


def _one_less(size: Size) -> Size:
    """Down first, then in; not below one of each."""
    if size.workers > 1:
        return replace(size, workers=size.workers - 1)
    return replace(size, routers=max(1, size.routers - 1))


def _bounded(size: Size, settings: FrontEndSettings, seen: FrontEndLoad) -> Size:
    workers = max(1, min(seen.cores, size.workers))
    return Size(workers, max(settings.least_routers, min(settings.max_routers, size.routers)))


def _direction(previous: Size, desired: Size) -> Direction:
    if desired == previous:
        return Direction.HOLD
    return Direction.UP if desired.workers_in_all > previous.workers_in_all else Direction.DOWN


# ---- for people


def _told(settings: FrontEndSettings, facts: _Facts) -> str:
    """`2 of 3 workers take over 3 ms to route or 95 % of a core (slowest 7.2 ms, 1 did not answer), 1.84 cores in use`.

    In the order of the words: how many, the two limits, the longest time to route, who is missing, the CPU of all.
    """
    limit_ms, slowest_ms = settings.routing_limit_s * 1000, facts.slowest_s * 1000
    silent = f", {facts.silent} did not answer" if facts.silent else ""
    of_all = f"{facts.slow} of {_count(facts.workers, 'worker')}"
    verb = "takes" if 1 in (facts.slow, facts.workers) else "take"
    limits = f"{limit_ms:g} ms to route or {settings.full_cpu * 100:g} % of a core"
    slowest = f"slowest {slowest_ms:.1f} ms{silent}"
    return f"{of_all} {verb} over {limits} ({slowest}), {facts.cores_used:.2f} cores in use"


def _bounds(settings: FrontEndSettings, seen: FrontEndLoad) -> str:
    routers = f"{settings.least_routers} to {settings.max_routers} routers"
    return f"allowed are 1 to {max(1, seen.cores)} workers in each of {routers}"


def _move(previous: Size, desired: Size) -> str:
    if desired == previous:
        return f"stays at {_shown(previous)}"
    steps = []
    if desired.workers != previous.workers:
        word = "up" if desired.workers > previous.workers else "down"
        steps.append(f"{word} from {previous.workers} to {_count(desired.workers, 'worker')} in each router")
    if desired.routers != previous.routers:
        word = "out" if desired.routers > previous.routers else "in"
        steps.append(f"{word} from {previous.routers} to {_count(desired.routers, 'router')}")
    return " and ".join(steps)


def _shown(size: Size) -> str:
    return f"{_count(size.workers, 'worker')} in each of {_count(size.routers, 'router')}"


def _shown_now(seen: FrontEndLoad) -> str:
    workers = sum(router.workers for router in seen.routers)
    return f"now {_count(workers, 'worker')} in {_count(len(seen.routers), 'router')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
