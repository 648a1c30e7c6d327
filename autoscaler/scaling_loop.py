"""The scaling loops: a task that decides for every due version and calls the scaling target, and one for the front end.

The only asyncio module of the package. Sources of observations, targets and clocks are Protocols, satisfied by other
packages. All methods are for the thread of the event loop.
"""

import asyncio
import logging
import math
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from autoscaler import frontend_policy as frontend
from autoscaler.adoption import adopt
from autoscaler.due_times import DueTimes
from autoscaler.frontend_policy import FrontEndDecision, FrontEndState
from autoscaler.frontend_settings import FrontEndLoad, FrontEndSettings, Size
from autoscaler.input_log import InputLog, ScalingInput
from autoscaler.journal import Journal
from autoscaler.policy import POKE_GAP_S, UNKNOWN, Decision, Direction, Observation, ScalingState, decide
from autoscaler.replica_facts import ReplicaFacts
from serving.clock import Clock
from serving.endpoint import AutoscalePolicy, VersionKey

SCALE_TIMEOUT_S = 30.0
"""Timeout of a call of the target; the call is then repeated at the next tick."""

LOOK_TIMEOUT_S = 2.0
"""Timeout of an observation of the front end, a backstop: the source leaves out silent workers earlier."""

DECISIONS_AT_ONCE = 64
"""Decisions between two yields to the event loop; a decision takes about 25 µs."""

_log = logging.getLogger("scorefront.autoscaler")


class UsageSource(Protocol):
    """Source of observations; satisfied by `autoscaler.utilization.UtilizationFeed`."""

    def observe(self, key: VersionKey, period_s: float, now: float) -> Observation:
        """The slots of a version now and over the last `period_s`."""


class ScalingTarget(Protocol):
    """Executor of scaling decisions."""

    async def scale(self, key: VersionKey, decision: Decision) -> None:
        """Set the number of replicas to `decision.desired`. An exception means failure; the call is repeated at the
        next tick."""


class FrontEndSource(Protocol):
    """Source of the load of the front end."""

    async def observe(self, period_s: float) -> FrontEndLoad:
        """The load of the front end over the last `period_s`. Silent workers are left out, not waited for."""


class FrontEnd(Protocol):
    """Executor of front end decisions. Calls are absolute and idempotent; an exception means failure and a retry."""

    async def resize(self, workers: int) -> None:
        """Set the number of workers of every router, without losing a connection."""

    async def scale_out(self, routers: int) -> None:
        """Set the number of routers."""


@dataclass(slots=True, eq=False)
class _Tracked:
    """One version under scaling."""

    key: VersionKey
    policy: AutoscalePolicy
    slots_per_replica: int
    state: ScalingState
    accepted: int | None
    """The number last accepted by the target; None after a failed call, because its effect is unknown."""
    order: Decision | None = None
    """The decision that set the number for the target."""
    refused: int | None = None
    """The number of the last call, if it failed."""
    adoptions: int = 0
    """Numbers set by other clients so far."""
    decided_s: float = -math.inf
    failure: str = ""
    """The failure logged last; repeats are logged at debug level."""
    journal: Journal = field(default_factory=Journal)

    def keep(self, decision: Decision) -> None:
        """Keep `decision` to be carried out. A HOLD does not replace the decision that set the number."""
        changes = decision.direction is not Direction.HOLD
        if changes or self.order is None or self.order.desired != decision.desired:
            self.order = decision

    def outstanding(self) -> Decision | None:
        """The decision still to be carried out; None if the target has accepted its number."""
        return None if self.order is None or self.order.desired == self.accepted else self.order

    def next_tick(self, now: float) -> float:
        """The first point after `now` of this version's time grid.

        Grids are shifted by a hash of the key, so that thousands of versions do not fall due together.
        """
        period_s = self.policy.refresh_period_s
        phase_s = period_s * zlib.crc32(str(self.key).encode()) / 2**32
        tick_s = phase_s + period_s * (math.floor((now - phase_s) / period_s) + 1)
        return tick_s if tick_s > now else tick_s + period_s


class ScalingLoop:
    """Decides for every tracked version once per refresh period, and at once when poked."""

    def __init__(
        self,
        source: UsageSource,
        target: ScalingTarget,
        clock: Clock,
        wall: Callable[[], float],
        record: Callable[[Decision], None],
        facts: Callable[[VersionKey], ReplicaFacts] = lambda key: UNKNOWN,
        inputs: InputLog | None = None,
    ) -> None:
        """A loop without versions.

        source: has the slots of every version.
        target: carries out the decisions.
        clock: paces the loop.
        wall: gives unix seconds for bounds.
        record: receives the decisions to be kept.
        facts: the replicas of a version now; default: unknown.
        inputs: keeps the inputs of every decision; default: a new log.
        """
        self._source = source
        self._target = target
        self._clock = clock
        self._wall = wall
        self._record = record
        self._facts = facts
        self.inputs = InputLog() if inputs is None else inputs
        self._versions: dict[VersionKey, _Tracked] = {}
        self._ticks = DueTimes()
        self._pokes = DueTimes()
        self._wake = asyncio.Event()
        self._calls: dict[VersionKey, asyncio.Task[None]] = {}
        """Calls of the target in progress; after `forget` they stay until their cancellation has completed."""

    def track(self, key: VersionKey, policy: AutoscalePolicy, slots_per_replica: int, desired: int) -> None:
        """Start scaling a version, or change its policy.

        A tracked version keeps its window and its number; a new one, or one with a changed policy, is decided at once.
        `slots_per_replica`: requests at a time per replica. `desired`: the number last requested from its provider.
        """
        known = self._versions.get(key)
        if known is None:
            self._versions[key] = _Tracked(key, policy, slots_per_replica, ScalingState(desired), accepted=desired)
            self._ticks.set(key, self._clock.now())
        else:
            known.accepted = desired
            if (known.policy, known.slots_per_replica) == (policy, slots_per_replica):
                return
            known.policy, known.slots_per_replica = policy, slots_per_replica
            self._ticks.set(key, self._clock.now())
        self._wake.set()

    def forget(self, key: VersionKey) -> None:
        """Stop scaling a version and cancel a call in progress for it. Unknown versions are ignored."""
        self._versions.pop(key, None)
        self.inputs.forget(key)
        self._ticks.drop(key)
        self._pokes.drop(key)
        call = self._calls.get(key)
        if call is not None:
            call.cancel()

    def poke(self, key: VersionKey) -> None:
        """Decide for a version that has no free slot: now, or `POKE_GAP_S` after its last decision.

        Untracked versions are ignored; `track` decides for them.
        """
        version = self._versions.get(key)
        if version is None or key in self._pokes:
            return
        self._pokes.set(key, max(self._clock.now(), version.decided_s + POKE_GAP_S))
        self._wake.set()

    def adopt(self, key: VersionKey, number: int, writer: str) -> None:
        """Continue from the number that another client, `writer`, has set. Untracked versions are ignored."""
        version, now = self._versions.get(key), self._clock.now()
        if version is None:
            return
        seen = self._source.observe(key, version.policy.refresh_period_s, now)
        version.state, decision = adopt(key, version.state, number, writer, seen, now)
        version.order, version.accepted, version.refused = None, number, None
        version.adoptions += 1
        if version.journal.wants(decision):
            self._record(decision)

    def desired(self, key: VersionKey) -> int:
        """The desired number of replicas of a version. Raises KeyError if it is not tracked."""
        return self._versions[key].state.desired

    async def run(self) -> None:
        """Run until cancelled. Cancellation cancels and awaits all calls in progress."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._wake.clear()
                self._decide_due(tasks)
                await self._wait_until_due()

    def _decide_due(self, tasks: asyncio.TaskGroup) -> None:
        for _ in range(DECISIONS_AT_ONCE):
            now = self._clock.now()
            # The longest overdue first: a flood of pokes must not starve the other versions.
            earliest = min(self._pokes, self._ticks, key=DueTimes.next_s)
            key = earliest.pop(now)
            if key is None:
                return
            version, is_tick = self._versions[key], earliest is self._ticks
            if is_tick and now < version.decided_s + POKE_GAP_S:
                self._ticks.set(key, version.decided_s + POKE_GAP_S)
                continue
            if is_tick:
                self._ticks.set(key, version.next_tick(now))
                self._pokes.drop(key)  # this decision sees what the poke was about
            try:
                self._decide(version, now, tasks, is_tick)
            except Exception:  # one version's fault must not stop the scaling of all others
                _log.exception("%s: scaling decision failed, retried at the next tick", key)

    async def _wait_until_due(self) -> None:
        """Return when a version is due or a version, a policy or a poke is new."""
        wait_s = min(self._pokes.next_s(), self._ticks.next_s()) - self._clock.now()
        if wait_s <= 0:
            await asyncio.sleep(0)  # other tasks run between two decisions
            return
        async with asyncio.TaskGroup() as tasks:
            alarm = tasks.create_task(self._wake_after(wait_s), name="autoscaler alarm") if wait_s < math.inf else None
            await self._wake.wait()
            if alarm is not None:
                alarm.cancel()

    async def _wake_after(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._wake.set()

    def _decide(self, version: _Tracked, now: float, tasks: asyncio.TaskGroup, is_tick: bool) -> None:
        version.decided_s = now
        policy = version.policy
        observation = self._source.observe(version.key, policy.refresh_period_s, now)
        facts = self._facts(version.key)
        version.state, decision = decide(
            version.key,
            policy,
            version.slots_per_replica,
            version.state,
            observation,
            now,
            self._wall(),
            facts,
        )
        self.inputs.add(version.key, ScalingInput(now, observation, facts, decision.desired))
        version.keep(decision)
        if is_tick or decision.desired != version.refused:
            self._carry_out(version, tasks)
        if version.journal.wants(decision):
            self._record(decision)

    def _carry_out(self, version: _Tracked, tasks: asyncio.TaskGroup) -> None:
        """Call the target unless it has the number. A call in progress picks up the newest number when it returns."""
        call = self._calls.get(version.key)
        if version.outstanding() is None or (call is not None and not call.done()):
            return
        task = tasks.create_task(self._call_target(version), name=f"scale {version.key}")
        self._calls[version.key] = task
        task.add_done_callback(lambda done: self._call_ended(version.key, done))

    def _call_ended(self, key: VersionKey, call: asyncio.Task[None]) -> None:
        if self._calls.get(key) is call:
            del self._calls[key]

    async def _call_target(self, version: _Tracked) -> None:
        while (order := version.outstanding()) is not None:
            adoptions = version.adoptions
            try:
                async with asyncio.timeout(SCALE_TIMEOUT_S):
                    await self._target.scale(version.key, order)
            except Exception as error:  # whatever a target raises means: not done
                version.accepted, version.refused = None, order.desired
                self._log_failure(version, order, error)
                return
            # A number that another client set meanwhile is before or after this one.
            version.accepted = order.desired if adoptions == version.adoptions else None
            version.refused, version.failure = None, ""

    def _log_failure(self, version: _Tracked, order: Decision, error: Exception) -> None:
        failure = str(error) or type(error).__name__
        level = logging.DEBUG if failure == version.failure else logging.WARNING
        version.failure = failure
        _log.log(level, "%s: scaling to %d replicas failed, retried at a tick: %s", version.key, order.desired, failure)


class FrontEndLoop:
    """Decides for the front end once per period and carries the decision out, one step at a time in one task."""

    def __init__(
        self,
        source: FrontEndSource,
        front_end: FrontEnd,
        clock: Clock,
        settings: FrontEndSettings,
        size: Size,
        record: Callable[[FrontEndDecision], None],
    ) -> None:
        """`size`: the size last requested. `record` receives the decisions to be kept."""
        self._source = source
        self._front_end = front_end
        self._clock = clock
        self._settings = settings
        self._record = record
        self._state = FrontEndState(size)
        self._workers: int | None = size.workers
        """The number last accepted; None after a failed call, because its effect is unknown."""
        self._routers: int | None = size.routers
        self._journal = Journal()
        self._failures: dict[str, str] = {}
        """Failed step -> the error logged last; repeats are logged at debug level."""

    @property
    def desired(self) -> Size:
        """The desired size of the front end."""
        return self._state.size

    async def run(self) -> None:
        """Run until cancelled; a call in progress is cancelled too."""
        while True:
            due_s = self._clock.now() + self._settings.period_s
            await self._run_step("observation", LOOK_TIMEOUT_S, self._decide)
            await self._run_step("change of workers", SCALE_TIMEOUT_S, self._resize)
            await self._run_step("change of routers", SCALE_TIMEOUT_S, self._scale_out)
            await self._clock.sleep(max(0.0, due_s - self._clock.now()))

    async def _run_step(self, what: str, timeout_s: float, step: Callable[[], Awaitable[None]]) -> None:
        """Run one step with a timeout in seconds; a failure is logged and the step repeated in the next period."""
        try:
            async with asyncio.timeout(timeout_s):
                await step()
        except Exception as error:  # whatever they raise means: not done
            failure = str(error) or type(error).__name__
            level = logging.DEBUG if failure == self._failures.get(what) else logging.WARNING
            self._failures[what] = failure
            _log.log(level, "front end: %s failed, retried: %s", what, failure)
        else:
            self._failures.pop(what, None)

    async def _decide(self) -> None:
        seen = await self._source.observe(self._settings.period_s)
        self._state, decision = frontend.decide(self._settings, self._state, seen, self._clock.now())
        if self._journal.wants(decision):
            self._record(decision)

    async def _resize(self) -> None:
        if (workers := self.desired.workers) != self._workers:
            self._workers = None
            await self._front_end.resize(workers)
            self._workers = workers

    async def _scale_out(self) -> None:
        if (routers := self.desired.routers) != self._routers:
            self._routers = None
            await self._front_end.scale_out(routers)
            self._routers = routers
