"""The front end scaling policy: workers per router and number of routers.

azureml-fe's rule. Routing time triggers growth: first up (one more worker in every router, to the cores allowed), then
out (one more router, if the cluster has room). CPU triggers shrinking: first down (one worker fewer), then in (one
router fewer). One step at a time; the next is decided when the step is complete. Off for DevTest. azureml-fe's
thresholds were never published; those here are explained with each setting. One addition: a core that is used up counts
as slow.

No flapping: a step back is taken only if the rest would stay below a CPU threshold, and never to a size that proved too
small under about the same load. Missing data counts neither as slow nor as idle.
"""

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from autoscaler.frontend_settings import ClusterPurpose, FrontEndLoad, FrontEndSettings, Size
from autoscaler.policy import Direction
from autoscaler.sizing import replicas_needed
from autoscaler.window import PeakWindow

LESSON_SHARE = 0.8
"""A size that proved too small is tried again at this share of the CPU of that time, or less."""
LESSON_S = 3600.0
"""A size that proved too small is tried again after this time at any load: the cause may have been a neighbour."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A size that proved too small."""

    workers_in_all: int
    cores_used: float
    at_s: float


@dataclass(frozen=True, slots=True)
class FrontEndState:
    """State from one decision to the next. `decide` changes the windows in place: continue with the one it returns."""

    size: Size
    """Size of the last decision."""
    changed_s: float = -math.inf
    slow_since_s: float | None = None
    lessons: tuple[Lesson, ...] = ()
    workers_needed: PeakWindow = field(default_factory=PeakWindow)
    """Workers per router needed at `down_cpu`."""
    routers_needed: PeakWindow = field(default_factory=PeakWindow)
    """Routers needed at `in_cpu`, at the current number of workers in each."""

    def proved_too_small(self, size: Size, cores_used: float, now: float) -> bool:
        """True if this size, or a larger one, was too small for about the load of now."""
        return any(
            size.workers_in_all <= lesson.workers_in_all
            and cores_used > LESSON_SHARE * lesson.cores_used
            and now < lesson.at_s + LESSON_S
            for lesson in self.lessons
        )


class FrontEndRule(StrEnum):
    """The cause of a decision, as decision records and metrics name it."""

    OFF = "off"
    """No scaling for DevTest."""
    BOUNDS = "bounds"
    """The size was outside the bounds."""
    UNDER_WAY = "under way"
    """The last step is incomplete."""
    BRIEF = "brief"
    """Routing is slow, but not for long enough."""
    ROUTING = "routing"
    """Routing is slow: grow."""
    LIMIT = "limit"
    """Routing is slow, at the maximum."""
    NO_ROOM = "no room"
    """Routing is slow, and the cluster has no room."""
    INCOMPLETE = "incomplete"
    """Data is missing: no shrinking."""
    CPU = "cpu"
    """CPU use allows fewer."""
    ENOUGH = "enough"
    """Routing is fast, and CPU is in use or was until recently."""
    LESSON = "lesson"
    """CPU use allows fewer, but that size proved too small."""
    LEAST = "least"
    """Routing is fast, at the minimum."""


@dataclass(frozen=True, slots=True)
class FrontEndDecision:
    """The desired size of the front end, and the reason."""

    at_s: float
    """Time of the decision on the clock of the caller."""
    previous: Size
    desired: Size
    direction: Direction
    """UP for up and out, DOWN for down and in."""
    rule: str
    """A value of `FrontEndRule`."""
    reason: str
    """One sentence with the numbers, shown by `scorefront why`."""

    @property
    def workers(self) -> int:
        """Per router."""
        return self.desired.workers

    @property
    def routers(self) -> int:
        """Number of routers."""
        return self.desired.routers


class _Facts(NamedTuple):
    """Conclusions from the current data."""

    workers: int
    silent: int
    slow: int
    slowest_s: float
    cores_used: float
    busiest_cores: float
    """Cores in use by the busiest router."""
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
    """The next state and the decision for the front end.

    `state`: of the decision before. `seen`: the load now. `now`: seconds, never decreasing; equal times are fine.
    """
    size = state.size
    facts = _read(settings, state, seen, now)
    if settings.purpose is not ClusterPurpose.DEV_TEST:
        state = _with_evidence(settings, state, facts, now)
    outcome = _first_outcome(settings, state, seen, facts, now)
    if outcome.desired != size:
        state = _after_step(state, outcome, facts, now)
    return state, FrontEndDecision(
        at_s=now,
        previous=size,
        desired=outcome.desired,
        direction=_direction(size, outcome.desired),
        rule=outcome.rule,
        reason=f"{_load_text(settings, facts)}; {outcome.because}: {_change_text(size, outcome.desired)}.",
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
        # Half of all, silent ones included: one worker with a bad neighbour must not make the whole grow.
        is_slow=slow > 0 and 2 * slow >= workers,
        is_complete=len(answers) == workers > 0,
        under_way=not is_there and now < state.changed_s + settings.patience_s,
    )


def _with_evidence(settings: FrontEndSettings, state: FrontEndState, facts: _Facts, now: float) -> FrontEndState:
    """The state with the evidence of this observation: start of slow routing, sizes needed for the CPU in use."""
    size = state.size
    workers = replicas_needed(facts.busiest_cores, 1, settings.down_cpu)
    routers = replicas_needed(facts.cores_used, size.workers, settings.in_cpu)
    if facts.is_slow and not facts.under_way:
        since_s = now if state.slow_since_s is None else state.slow_since_s
    elif facts.under_way or facts.is_complete:
        since_s = None
    else:
        since_s = state.slow_since_s  # workers that are too busy to answer disprove nothing
    # Any machine is slow for one observation now and then; counting that would keep needless workers for good.
    is_slow = facts.is_slow and since_s is not None and now - since_s >= settings.slow_for_s
    stands = is_slow or facts.under_way or not facts.is_complete
    if stands or state.proved_too_small(_one_less(size), facts.cores_used, now):
        # A size not known to be needless counts as needed, so the windows must contain it.
        workers, routers = max(workers, size.workers), max(routers, size.routers)
    state.workers_needed.add(workers, now)
    state.routers_needed.add(routers, now)
    return replace(state, slow_since_s=since_s)


def _first_outcome(
    settings: FrontEndSettings, state: FrontEndState, seen: FrontEndLoad, facts: _Facts, now: float
) -> _FrontEndOutcome:
    """The outcome by the first rule that applies."""
    size = state.size
    if settings.purpose is ClusterPurpose.DEV_TEST:
        return _FrontEndOutcome(size, FrontEndRule.OFF, "the front end of a DevTest cluster does not scale itself")
    bounded = _bounded(size, settings, seen)
    if bounded != size:
        return _FrontEndOutcome(bounded, FrontEndRule.BOUNDS, _bounds_text(settings, seen))
    if facts.under_way:
        return _FrontEndOutcome(
            size, FrontEndRule.UNDER_WAY, f"{_size_text(size)} is not there yet, {_load_size_text(seen)}"
        )
    if facts.is_slow:
        return _more(settings, state, seen, now)
    if not facts.is_complete:
        return _FrontEndOutcome(size, FrontEndRule.INCOMPLETE, "numbers are missing, which neither raise nor lower")
    return _less(settings, state, facts, now)


def _more(settings: FrontEndSettings, state: FrontEndState, seen: FrontEndLoad, now: float) -> _FrontEndOutcome:
    """Grow: up while there are cores, then out."""
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
        return _FrontEndOutcome(size, FrontEndRule.LIMIT, _bounds_text(settings, seen))
    if not seen.room:
        return _FrontEndOutcome(
            size, FrontEndRule.NO_ROOM, "every core allowed has a worker, and no room for a further router"
        )
    every = f"slow for {slow_s:.1f} s with a worker on every core allowed"
    return _FrontEndOutcome(replace(size, routers=size.routers + 1), FrontEndRule.ROUTING, every)


def _less(settings: FrontEndSettings, state: FrontEndState, facts: _Facts, now: float) -> _FrontEndOutcome:
    """Shrink: down while a router has more than one worker, then in."""
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
    """The state after a step: observations before it do not count any more, except for sizes that proved too small."""
    lessons = state.lessons
    if outcome.rule is FrontEndRule.ROUTING:
        lesson = Lesson(state.size.workers_in_all, facts.cores_used, now)
        kept = [each for each in lessons if each.workers_in_all != lesson.workers_in_all and now < each.at_s + LESSON_S]
        lessons = (*kept, lesson)
    return FrontEndState(outcome.desired, changed_s=now, lessons=lessons)


def _one_less(size: Size) -> Size:
    """The next smaller size: down first, then in; not below one of each."""
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


# ---- texts


def _load_text(settings: FrontEndSettings, facts: _Facts) -> str:
    """`2 of 3 workers take over 3 ms to route or 95 % of a core (slowest 7.2 ms, 1 did not answer), 1.84 cores in use`.

    In this order: number of slow workers, the two limits, longest routing time, silent workers, total CPU.
    """
    limit_ms, slowest_ms = settings.routing_limit_s * 1000, facts.slowest_s * 1000
    silent = f", {facts.silent} did not answer" if facts.silent else ""
    of_all = f"{facts.slow} of {_count(facts.workers, 'worker')}"
    verb = "takes" if 1 in (facts.slow, facts.workers) else "take"
    limits = f"{limit_ms:g} ms to route or {settings.full_cpu * 100:g} % of a core"
    slowest = f"slowest {slowest_ms:.1f} ms{silent}"
    return f"{of_all} {verb} over {limits} ({slowest}), {facts.cores_used:.2f} cores in use"


def _bounds_text(settings: FrontEndSettings, seen: FrontEndLoad) -> str:
    routers = f"{settings.least_routers} to {settings.max_routers} routers"
    return f"allowed are 1 to {max(1, seen.cores)} workers in each of {routers}"


def _change_text(previous: Size, desired: Size) -> str:
    if desired == previous:
        return f"stays at {_size_text(previous)}"
    steps = []
    if desired.workers != previous.workers:
        word = "up" if desired.workers > previous.workers else "down"
        steps.append(f"{word} from {previous.workers} to {_count(desired.workers, 'worker')} in each router")
    if desired.routers != previous.routers:
        word = "out" if desired.routers > previous.routers else "in"
        steps.append(f"{word} from {previous.routers} to {_count(desired.routers, 'router')}")
    return " and ".join(steps)


def _size_text(size: Size) -> str:
    return f"{_count(size.workers, 'worker')} in each of {_count(size.routers, 'router')}"


def _load_size_text(seen: FrontEndLoad) -> str:
    workers = sum(router.workers for router in seen.routers)
    return f"now {_count(workers, 'worker')} in {_count(len(seen.routers), 'router')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
