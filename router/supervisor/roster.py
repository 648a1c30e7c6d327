"""Which workers a group has and should have: what has happened goes in, what to do comes out. Pure.

Every worker stands in a place, 0 to count - 1. A place is vacant when nobody in it serves or is about to; then a worker
is started there, later and later if they do not live. Two in one place are a change of guard: when the newer one
serves, the older one leaves.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from router.core.view import Departed, Member
from router.membership.agreement import MembershipPart

RESTART_DELAYS_S = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
STABLE_S = 10.0
"""A worker that lived this long is restarted at once when it dies."""
START_S = 20.0
"""A worker whose loop has not turned once after this long never will."""
DEPARTED_S = 60.0
"""How long those who have left stay listed: longer than any worker may lag behind the views."""
MOST_BETWEEN_TICKS_S = 0.5
"""What counts of the time between two looks: if nobody looked for longer, this process itself stood still."""


class WorkerPhase(StrEnum):
    """The life of a worker."""

    STARTING = "starting"
    """A process, and no member yet: it cannot have anything of anybody."""
    JOINED = "joined"
    SERVING = "serving"
    DRAINING = "draining"
    KILLED = "killed"
    """Killed, and not gone yet."""


class WorkerEvent(StrEnum):
    """What moves it on."""

    JOIN = "join"
    SERVE = "serve"
    DRAIN = "drain"
    """It is not wanted any more."""
    KILL = "kill"


NEXT: dict[tuple[WorkerPhase, WorkerEvent], WorkerPhase] = {
    (WorkerPhase.STARTING, WorkerEvent.JOIN): WorkerPhase.JOINED,
    (WorkerPhase.STARTING, WorkerEvent.SERVE): WorkerPhase.STARTING,
    (WorkerPhase.STARTING, WorkerEvent.DRAIN): WorkerPhase.KILLED,
    (WorkerPhase.STARTING, WorkerEvent.KILL): WorkerPhase.KILLED,
    (WorkerPhase.JOINED, WorkerEvent.JOIN): WorkerPhase.JOINED,
    (WorkerPhase.JOINED, WorkerEvent.SERVE): WorkerPhase.SERVING,
    (WorkerPhase.JOINED, WorkerEvent.DRAIN): WorkerPhase.KILLED,
    (WorkerPhase.JOINED, WorkerEvent.KILL): WorkerPhase.KILLED,
    (WorkerPhase.SERVING, WorkerEvent.JOIN): WorkerPhase.SERVING,
    (WorkerPhase.SERVING, WorkerEvent.SERVE): WorkerPhase.SERVING,
    (WorkerPhase.SERVING, WorkerEvent.DRAIN): WorkerPhase.DRAINING,
    (WorkerPhase.SERVING, WorkerEvent.KILL): WorkerPhase.KILLED,
    (WorkerPhase.DRAINING, WorkerEvent.JOIN): WorkerPhase.DRAINING,
    (WorkerPhase.DRAINING, WorkerEvent.SERVE): WorkerPhase.DRAINING,
    (WorkerPhase.DRAINING, WorkerEvent.DRAIN): WorkerPhase.DRAINING,
    (WorkerPhase.DRAINING, WorkerEvent.KILL): WorkerPhase.KILLED,
    (WorkerPhase.KILLED, WorkerEvent.JOIN): WorkerPhase.KILLED,
    (WorkerPhase.KILLED, WorkerEvent.SERVE): WorkerPhase.KILLED,
    (WorkerPhase.KILLED, WorkerEvent.DRAIN): WorkerPhase.KILLED,
    (WorkerPhase.KILLED, WorkerEvent.KILL): WorkerPhase.KILLED,
}
assert NEXT.keys() == set(itertools.product(WorkerPhase, WorkerEvent))

PRESENT = (WorkerPhase.STARTING, WorkerPhase.JOINED, WorkerPhase.SERVING)
"""A place with one of these is not vacant."""


@dataclass(frozen=True, slots=True)
class SpawnWorker:
    """Start a worker."""

    name: str
    place: int
    address: str


@dataclass(frozen=True, slots=True)
class DrainWorker:
    """Tell a worker that serves to leave."""

    name: str


@dataclass(frozen=True, slots=True)
class KillWorker:
    """End a worker at once."""

    name: str
    why: str
    silent: bool = False
    """Whether that is because its loop stood still."""


@dataclass(frozen=True, slots=True)
class PublishPart:
    """This group's part has changed."""

    part: MembershipPart


RosterAction = SpawnWorker | DrainWorker | KillWorker | PublishPart


@dataclass(slots=True, eq=False)
class RosterWorker:
    """One process."""

    name: str
    place: int
    address: str
    since: float
    phase: WorkerPhase = WorkerPhase.STARTING
    joined: bool = False
    """Whether it was ever told of as a member."""
    _beats: int = 0
    _still_s: float = 0.0

    def watch(self, beats: int, elapsed_s: float, silent_s: float) -> str:
        """Look at its pulse again; why it has to be killed, or ""."""
        if beats != self._beats:
            self._beats, self._still_s = beats, 0.0
            return ""
        self._still_s += elapsed_s
        if beats and self._still_s > silent_s:
            return f"its loop has stood still for {self._still_s:.1f} s"
        return "" if beats or self._still_s <= START_S else f"it has not come to life in {self._still_s:.1f} s"


class Roster:
    """One group. `now`: monotonic seconds. Every method returns what is to be done, in order."""

    def __init__(self, group: str, address: Callable[[int], str], silent_s: float) -> None:
        """`group`: in every name, different for every supervisor; `address`: of the n-th worker ever started."""
        self.count = 0
        self.workers: dict[str, RosterWorker] = {}
        """Those that run, in the order of their start."""
        self._group = group
        self._address = address
        self._silent_s = silent_s
        self._serials = itertools.count()
        self._departed: list[tuple[float, Departed]] = []
        self._failures: dict[int, int] = {}
        self._not_before: dict[int, float] = {}
        self._said = MembershipPart()
        self._looked_at: float | None = None
        self._others_serve = False
        self.closed = False

    # ---- what happens

    def resize(self, count: int, now: float) -> list[RosterAction]:
        """From now on there shall be `count` workers."""
        for place in range(self.count, count):
            self._failures.pop(place, None)
            self._not_before.pop(place, None)
        self.count = count
        return self._settle(now)

    def replace(self, name: str, now: float) -> list[RosterAction]:
        """Start a worker in the place of one that serves; nothing if that does not, or if another is on its way."""
        worker = self.workers.get(name)
        if worker is None or worker.phase is not WorkerPhase.SERVING or self.successor(name) is not None:
            return []
        return [self._spawn(worker.place, now), *self._settle(now)]

    def joined(self, name: str, now: float) -> list[RosterAction]:
        """Its peers can reach the worker."""
        return self._step(name, WorkerEvent.JOIN, now)

    def serving(self, name: str, now: float) -> list[RosterAction]:
        """The worker accepts connections."""
        return self._step(name, WorkerEvent.SERVE, now)

    def kill(self, name: str, why: str, now: float) -> list[RosterAction]:
        """Do without this worker."""
        worker = self.workers.get(name)
        if worker is None or worker.phase is WorkerPhase.KILLED:
            return []
        worker.phase = NEXT[worker.phase, WorkerEvent.KILL]
        return [KillWorker(name, why), *self._settle(now)]

    def gone(self, name: str, held: Mapping[str, int] | None, now: float) -> list[RosterAction]:
        """The process has ended; `held` is what it had in flight then, None if nobody knows."""
        worker = self.workers.pop(name)
        if worker.joined:
            self._departed.append((now + DEPARTED_S, Departed(name, held)))
        if worker.phase is not WorkerPhase.DRAINING and self._is_vacant(worker.place):
            failures = 0 if now - worker.since >= STABLE_S else self._failures.get(worker.place, 0) + 1
            self._failures[worker.place] = failures
            delay = RESTART_DELAYS_S[min(failures, len(RESTART_DELAYS_S) - 1)]
            self._not_before[worker.place] = now + delay
        return self._settle(now)

    def tick(self, beats: Mapping[str, int], now: float) -> list[RosterAction]:
        """Some time has passed; `beats` is the pulse of the workers that run."""
        elapsed = 0.0 if self._looked_at is None else min(now - self._looked_at, MOST_BETWEEN_TICKS_S)
        self._looked_at = now
        actions: list[RosterAction] = []
        for worker in self.workers.values():
            if worker.phase is WorkerPhase.KILLED:
                continue
            why = worker.watch(beats.get(worker.name, 0), elapsed, self._silent_s)
            if why:
                worker.phase = NEXT[worker.phase, WorkerEvent.KILL]
                actions.append(KillWorker(worker.name, why, silent=True))
        return actions + self._settle(now)

    def reached_at(self, name: str, address: str) -> None:
        """Workers in other groups reach this one there, not at the address that it was spawned with."""
        self.workers[name].address = address

    def others(self, serve: bool, now: float) -> list[RosterAction]:
        """Whether anybody in another group can own what there is to own."""
        if serve == self._others_serve:
            return []
        self._others_serve = serve
        return self._settle(now)

    def close(self, now: float) -> list[RosterAction]:
        """Start nobody any more, dismiss nobody; everybody leaves, and those who end are told of as before."""
        self.closed = True
        for worker in self.workers.values():
            if worker.phase is WorkerPhase.SERVING:
                worker.phase = NEXT[worker.phase, WorkerEvent.DRAIN]
        return self._settle(now)

    # ---- what is

    def successor(self, name: str) -> str | None:
        """The newer worker in the same place, if there is one."""
        worker = self.workers[name]
        newer = [each.name for each in self._in_place(worker.place, PRESENT) if each is not worker]
        return newer[-1] if newer else None

    def serving_places(self) -> set[int]:
        """Wanted places in which a worker serves."""
        return {
            each.place
            for each in self.workers.values()
            if each.phase is WorkerPhase.SERVING and each.place < self.count
        }

    def part(self) -> MembershipPart:
        """The group as others should see it: while nobody serves, those who are leaving own what there is to own."""
        serve = self._others_serve or any(each.phase is WorkerPhase.SERVING for each in self.workers.values())
        owners = WorkerPhase.SERVING if serve else WorkerPhase.DRAINING
        members = tuple(
            Member(each.name, each.address, eligible=each.phase is owners)
            for each in self.workers.values()
            if each.joined
        )
        return MembershipPart(members, tuple(departed for _, departed in self._departed))

    # ---- inside

    def _step(self, name: str, step: WorkerEvent, now: float) -> list[RosterAction]:
        worker = self.workers.get(name)
        if worker is not None:
            worker.phase = NEXT[worker.phase, step]
            worker.joined = worker.joined or worker.phase is WorkerPhase.JOINED
        return self._settle(now)

    def _settle(self, now: float) -> list[RosterAction]:
        """What follows from how things are. Others hear of a change before whoever it is about acts on it."""
        actions: list[RosterAction] = []
        if not self.closed:
            actions = [*self._dismissals(), *self._recruits(now)]
        self._departed = [(until, departed) for until, departed in self._departed if until > now]
        part = self.part()
        if part != self._said:
            self._said = part
            actions.insert(0, PublishPart(replace(part, departed=self._aged(now))))
        return actions

    def _aged(self, now: float) -> tuple[Departed, ...]:
        """Who starts late need not leave alone for long what has been left alone for a while already."""
        return tuple(replace(departed, age_s=now - (until - DEPARTED_S)) for until, departed in self._departed)

    def _dismissals(self) -> list[RosterAction]:
        """Of several that serve in one place the newest stays. Beyond the wanted places nobody does.

        But whoever serves there stays until those who are wanted do.
        """
        surplus: list[RosterWorker] = []
        complete = len(self.serving_places()) == self.count
        for worker in self.workers.values():
            serves = worker.phase is WorkerPhase.SERVING
            if worker.place >= self.count:
                if worker.phase in PRESENT and (complete or not serves):
                    surplus.append(worker)
            elif serves and self._in_place(worker.place, (WorkerPhase.SERVING,))[-1] is not worker:
                surplus.append(worker)
        actions: list[RosterAction] = []
        for worker in surplus:
            worker.phase = NEXT[worker.phase, WorkerEvent.DRAIN]
            leaves = worker.phase is WorkerPhase.DRAINING
            actions.append(DrainWorker(worker.name) if leaves else KillWorker(worker.name, "it is not wanted any more"))
        return actions

    def _recruits(self, now: float) -> list[RosterAction]:
        due = [place for place in range(self.count) if self._not_before.get(place, now) <= now]
        return [self._spawn(place, now) for place in due if self._is_vacant(place)]

    def _spawn(self, place: int, now: float) -> SpawnWorker:
        serial = next(self._serials)
        worker = RosterWorker(f"w{place}-{self._group}-{serial}", place, self._address(serial), now)
        self.workers[worker.name] = worker
        return SpawnWorker(worker.name, place, worker.address)

    def _is_vacant(self, place: int) -> bool:
        return not self._in_place(place, PRESENT)

    def _in_place(self, place: int, phases: tuple[WorkerPhase, ...]) -> list[RosterWorker]:
        return [each for each in self.workers.values() if each.place == place and each.phase in phases]
