"""The scaling loops: one task that decides for every version when it is due, and tells the target what changed; and one
that does the same for the front end itself.

The only asyncio module of the package. It knows neither where observations come from nor what a replica or a router is:
`UsageSource`, `ScalingTarget`, `FrontEndSource` and `FrontEnd` are declared here and satisfied by others.
All methods are
for the event loop's own thread.
"""

import asyncio
import logging
import math
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from autoscaler import frontend_policy as frontend
from autoscaler.due_times import DueTimes
from autoscaler.frontend_policy import FrontEndDecision, FrontEndLoad, FrontEndSettings, FrontEndState, Size
from autoscaler.journal import Journal
from autoscaler.policy import Decision, Direction, Observation, ScalingState, decide
from serving.clock import Clock
from serving.endpoint import AutoscalePolicy, VersionKey

POKE_GAP_S = 0.05
"""At most one decision per version in this time, however many requests find no free slot."""

SCALE_TIMEOUT_S = 30.0
"""A call of the target that has not returned by then has failed, and is tried again at the next tick."""

LOOK_TIMEOUT_S = 2.0
"""Workers that have not told their numbers by then are missing data, and it is for the source to say so earlier."""

DECISIONS_AT_ONCE = 64
"""Other tasks of the process get a turn after this many; a decision takes about 25 µs."""

_log = logging.getLogger("scorefront.autoscaler")


class UsageSource(Protocol):
    """Where observations come from; `autoscaler.utilization.UtilizationFeed` fits."""

    def observe(self, key: VersionKey, period_s: float, now: float) -> Observation:
        """The version now and over the last period."""


class ScalingTarget(Protocol):
    """Who carries a decision out."""

    async def scale(self, key: VersionKey, decision: Decision) -> None:
        """Have `decision.desired` replicas, absolute. Raising means it failed: it is asked again at the next tick."""


class FrontEndSource(Protocol):
    """Where the numbers of the routers come from."""

    async def observe(self, period_s: float) -> FrontEndLoad:
        """The front end over the last period, soon: a worker that does not answer is left out, not waited for."""


class FrontEnd(Protocol):
    """Who changes the size of the front end. Both are absolute and idempotent; raising means it failed: asked again."""

    async def resize(self, workers: int) -> None:
        """Have so many workers in every router, without a lost connection."""

    async def scale_out(self, routers: int) -> None:
        """Have so many routers: more or fewer than now."""


@dataclass(slots=True, eq=False)
class _Tracked:
    """One version under way."""

    key: VersionKey
    policy: AutoscalePolicy
    slots_per_replica: int
    state: ScalingState
    accepted: int | None
    """The number the target took last; None after a call that failed, because nobody knows what became of it."""
    order: Decision | None = None
    """The decision that set the number the target should have."""
    refused: int | None = None
    """The number of the last call, if it failed."""
    decided_s: float = -math.inf
    complaint: str = ""
    """The failure that was logged last; the same one is not logged at every tick."""
    journal: Journal = field(default_factory=Journal)

    def take_over(self, decision: Decision) -> None:
        """Keep the decision to be carried out. One that only holds does not replace the one that set the number."""
        changes = decision.direction is not Direction.HOLD
        if changes or self.order is None or self.order.desired != decision.desired:
            self.order = decision

    def outstanding(self) -> Decision | None:
        """What the target has still to be told, if anything."""
        return None if self.order is None or self.order.desired == self.accepted else self.order

    def next_tick(self, now: float) -> float:
        """The first point of this version's time grid after `now`.

        Versions are spread over the period by their name, so that thousands of them do not fall due together.
        """
        period_s = self.policy.refresh_period_s
        phase_s = period_s * zlib.crc32(str(self.key).encode()) / 2**32
        tick_s = phase_s + period_s * (math.floor((now - phase_s) / period_s) + 1)
        return tick_s if tick_s > now else tick_s + period_s


class ScalingLoop:
    """Decides for every tracked version, once per refresh period and at once when poked."""

    def __init__(
        self,
        source: UsageSource,
        target: ScalingTarget,
        clock: Clock,
        wall: Callable[[], float],
        record: Callable[[Decision], None],
    ) -> None:
        """`clock` paces the loop, `wall` gives unix seconds for bounds; `record` is called with decisions to keep."""
        self._source = source
        self._target = target
        self._clock = clock
        self._wall = wall
        self._record = record
        self._versions: dict[VersionKey, _Tracked] = {}
        self._ticks = DueTimes()
        self._pokes = DueTimes()
        self._wake = asyncio.Event()
        self._calls: dict[VersionKey, asyncio.Task[None]] = {}
        """Calls of the target under way; they outlive a `forget` until their cancellation is through."""

    def track(self, key: VersionKey, policy: AutoscalePolicy, slots_per_replica: int, desired: int) -> None:
        """Scale this version from now on; `desired` is the number that its provider was last asked for.

        A version that is tracked already keeps its history and its number. A new one, or one whose policy has changed,
        is decided on at once.
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
        """Scale this version no more; a call under way for it is cancelled. Unknown versions are ignored."""
        self._versions.pop(key, None)
        self._ticks.drop(key)
        self._pokes.drop(key)
        call = self._calls.get(key)
        if call is not None:
            call.cancel()

    def poke(self, key: VersionKey) -> None:
        """A request found no free slot: decide now, or as soon as `POKE_GAP_S` have passed since the last decision.

        A version that is not tracked is ignored: its first decision comes when it is.
        """
        version = self._versions.get(key)
        if version is None or key in self._pokes:
            return
        self._pokes.set(key, max(self._clock.now(), version.decided_s + POKE_GAP_S))
        self._wake.set()

    def desired(self, key: VersionKey) -> int:
        """The number of replicas this version should have. Raises KeyError for one that is not tracked."""
        return self._versions[key].state.desired

    async def run(self) -> None:
        """Decide for ever. Cancel it to stop: every call of the target that is under way is cancelled and awaited."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._wake.clear()
                self._decide_due(tasks)
                await self._until_due()

    def _decide_due(self, tasks: asyncio.TaskGroup) -> None:
        for _ in range(DECISIONS_AT_ONCE):
            now = self._clock.now()
            # What has waited longest goes first, or a flood of pokes would leave the other versions undecided.
            agenda = min(self._pokes, self._ticks, key=DueTimes.next_s)
            key = agenda.take(now)
            if key is None:
                return
            version, is_tick = self._versions[key], agenda is self._ticks
            if is_tick and now < version.decided_s + POKE_GAP_S:
                self._ticks.set(key, version.decided_s + POKE_GAP_S)
                continue
            if is_tick:
                self._ticks.set(key, version.next_tick(now))
                self._pokes.drop(key)  # this decision sees what the poke was about
            try:
                self._decide(version, now, tasks, is_tick)
            except Exception:  # one version's fault must not stop the scaling of all others
                _log.exception("%s: this decision failed; the next one is made at the next tick", key)

    async def _until_due(self) -> None:
        """Return when a version is due or something has changed."""
        wait_s = min(self._pokes.next_s(), self._ticks.next_s()) - self._clock.now()
        if wait_s <= 0:
            await asyncio.sleep(0)
            return
        async with asyncio.TaskGroup() as tasks:
            alarm = tasks.create_task(self._ring_after(wait_s), name="autoscaler alarm") if wait_s < math.inf else None
            await self._wake.wait()
            if alarm is not None:
                alarm.cancel()

    async def _ring_after(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._wake.set()

    def _decide(self, version: _Tracked, now: float, tasks: asyncio.TaskGroup, is_tick: bool) -> None:
        version.decided_s = now
        policy = version.policy
        observation = self._source.observe(version.key, policy.refresh_period_s, now)
        version.state, decision = decide(
            version.key, policy, version.slots_per_replica, version.state, observation, now, self._wall()
        )
        version.take_over(decision)
        if is_tick or decision.desired != version.refused:
            self._carry_out(version, tasks)
        if version.journal.wants(decision):
            self._record(decision)

    def _carry_out(self, version: _Tracked, tasks: asyncio.TaskGroup) -> None:
        """Call the target unless it has the number. A call under way takes up the newest number when it returns."""
        call = self._calls.get(version.key)
        if version.outstanding() is None or (call is not None and not call.done()):
            return
        task = tasks.create_task(self._tell_target(version), name=f"scale {version.key}")
        self._calls[version.key] = task
        task.add_done_callback(lambda done: self._call_ended(version.key, done))

    def _call_ended(self, key: VersionKey, call: asyncio.Task[None]) -> None:
        if self._calls.get(key) is call:
            del self._calls[key]

    async def _tell_target(self, version: _Tracked) -> None:
        while (order := version.outstanding()) is not None:
            try:
                async with asyncio.timeout(SCALE_TIMEOUT_S):
                    await self._target.scale(version.key, order)
            except Exception as error:  # whatever a target raises means: not done
                version.accepted, version.refused = None, order.desired
                self._complain(version, order, error)
                return
            version.accepted, version.refused, version.complaint = order.desired, None, ""

    def _complain(self, version: _Tracked, order: Decision, error: Exception) -> None:
        complaint = f"{order.desired} replicas: {error!r}"
        level = logging.DEBUG if complaint == version.complaint else logging.WARNING
        version.complaint = complaint
        _log.log(level, "%s: the target failed and is asked again at the next tick: %s", version.key, complaint)


class FrontEndLoop:
    """Decides once a period how large the front end should be, and has it so. One thing at a time, in one task."""

    def __init__(
        self,
        source: FrontEndSource,
        front_end: FrontEnd,
        clock: Clock,
        settings: FrontEndSettings,
        size: Size,
        record: Callable[[FrontEndDecision], None],
    ) -> None:
        """`size` is what the front end was last asked for."""
        self._source = source
        self._front_end = front_end
        self._clock = clock
        self._settings = settings
        self._record = record
        self._state = FrontEndState(size)
        self._workers: int | None = size.workers
        """What the front end took last; None after a call that failed, because nobody knows what became of it."""
        self._routers: int | None = size.routers
        self._journal = Journal()
        self._complaints: dict[str, str] = {}
        """What was not done -> why, as it was logged last; the same is not logged at every look."""

    @property
    def desired(self) -> Size:
        """How large the front end should be."""
        return self._state.size

    async def run(self) -> None:
        """Decide for ever. Cancel it to stop; a call of the front end that is under way is cancelled with it."""
        while True:
            due_s = self._clock.now() + self._settings.period_s
            await self._attempt("seen", LOOK_TIMEOUT_S, self._decide)
            await self._attempt("resized", SCALE_TIMEOUT_S, self._resize)
            await self._attempt("scaled out or in", SCALE_TIMEOUT_S, self._scale_out)
            await self._clock.sleep(max(0.0, due_s - self._clock.now()))

    async def _attempt(self, what: str, timeout_s: float, step: Callable[[], Awaitable[None]]) -> None:
        """One fault must not stop the others, nor what is tried next time."""
        try:
            async with asyncio.timeout(timeout_s):
                await step()
        except Exception as error:  # whatever they raise means: not done
            complaint = repr(error)
            level = logging.DEBUG if complaint == self._complaints.get(what) else logging.WARNING
            self._complaints[what] = complaint
            _log.log(level, "the front end was not %s, which is tried again: %s", what, complaint)
        else:
            self._complaints.pop(what, None)

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
