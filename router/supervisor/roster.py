"""The workers of a router: events in, actions out. Pure.

Every worker has a place, 0 to count - 1. A place without a present worker is vacant and gets a new one, with growing
delays if workers die early. Two workers in one place are a replacement: once the newer one serves, the older drains.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from router.core.view import Departed, Member
from router.membership.agreement import MembershipPart

RESTART_DELAYS_S = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
STABLE_S = 10.0
"""Lifetime after which a dead worker is restarted at once."""
START_S = 20.0
"""Time for the first beat of a worker's event loop."""
DEPARTED_S = 60.0
"""Time for which departed workers stay listed: longer than a worker may lag behind the views."""
MOST_BETWEEN_TICKS_S = 0.5
"""Longest interval that counts between two ticks: a longer one means that this process itself was stopped."""


class WorkerPhase(StrEnum):
    """Phase of a worker."""

    STARTING = "starting"
    """A process, not a member yet: it holds no slots and no connections."""
    JOINED = "joined"
    SERVING = "serving"
    DRAINING = "draining"
    KILLED = "killed"
    """Killed, not ended yet."""


class WorkerEvent(StrEnum):
    """Event that changes the phase."""

    JOIN = "join"
    SERVE = "serve"
    DRAIN = "drain"
    """The worker is replaced or surplus."""
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
"""Phases in which a worker occupies its place."""


@dataclass(frozen=True, slots=True)
class SpawnWorker:
    """Start a worker."""

    name: str
    place: int
    address: str


@dataclass(frozen=True, slots=True)
class DrainWorker:
    """Have a serving worker drain and end."""

    name: str


@dataclass(frozen=True, slots=True)
class KillWorker:
    """Kill a worker."""

    name: str
    why: str
    silent: bool = False
    """True if its event loop was blocked."""


@dataclass(frozen=True, slots=True)
class PublishPart:
    """Announce the new part of this group."""

    part: MembershipPart


RosterAction = SpawnWorker | DrainWorker | KillWorker | PublishPart


@dataclass(slots=True, eq=False)
class RosterWorker:
    """One worker process."""

    name: str
    place: int
    address: str
    since: float
    phase: WorkerPhase = WorkerPhase.STARTING
    joined: bool = False
    """True if it has been a member."""
    _beats: int = 0
    _still_s: float = 0.0

    def watch(self, beats: int, elapsed_s: float, silent_s: float) -> str:
        """Check its beats: the reason to kill it, or "".

        `beats`: of its event loop so far. `elapsed_s`: since the last check. `silent_s`: longest time without a beat.
        """
        if beats != self._beats:
            self._beats, self._still_s = beats, 0.0
            return ""
        self._still_s += elapsed_s
        if beats and self._still_s > silent_s:
            return f"event loop blocked for {self._still_s:.1f} s"
        return "" if beats or self._still_s <= START_S else f"no beat within {self._still_s:.1f} s of its start"


class Roster:
    """The workers of one router. `now`: monotonic seconds. Every event returns the actions, in order."""

    def __init__(self, group: str, address: Callable[[int], str], silent_s: float) -> None:
        """`group`: unique id of the supervisor, part of every name. `address`: of the n-th worker started.

        `silent_s`: longest time without a beat.
        """
        self.count = 0
        self.workers: dict[str, RosterWorker] = {}
        """Running workers, in the order of their start."""
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

    # ---- events

    def resize(self, count: int, now: float) -> list[RosterAction]:
        """Set the number of workers."""
        for place in range(self.count, count):
            self._failures.pop(place, None)
            self._not_before.pop(place, None)
        self.count = count
        return self._actions(now)

    def replace(self, name: str, now: float) -> list[RosterAction]:
        """Start a replacement of a serving worker; nothing if it does not serve or has one already."""
        worker = self.workers.get(name)
        if worker is None or worker.phase is not WorkerPhase.SERVING or self.successor(name) is not None:
            return []
        return [self._spawn(worker.place, now), *self._actions(now)]

    def joined(self, name: str, now: float) -> list[RosterAction]:
        """The worker listens for its peers."""
        return self._step(name, WorkerEvent.JOIN, now)

    def serving(self, name: str, now: float) -> list[RosterAction]:
        """The worker accepts connections."""
        return self._step(name, WorkerEvent.SERVE, now)

    def kill(self, name: str, why: str, now: float) -> list[RosterAction]:
        """Kill a worker; `why` is logged."""
        worker = self.workers.get(name)
        if worker is None or worker.phase is WorkerPhase.KILLED:
            return []
        worker.phase = NEXT[worker.phase, WorkerEvent.KILL]
        return [KillWorker(name, why), *self._actions(now)]

    def gone(self, name: str, held: Mapping[str, int] | None, now: float) -> list[RosterAction]:
        """The process has ended. `held`: its requests in flight by replica, None if unknown."""
        worker = self.workers.pop(name)
        if worker.joined:
            self._departed.append((now + DEPARTED_S, Departed(name, held)))
        if worker.phase is not WorkerPhase.DRAINING and self._is_vacant(worker.place):
            failures = 0 if now - worker.since >= STABLE_S else self._failures.get(worker.place, 0) + 1
            self._failures[worker.place] = failures
            delay = RESTART_DELAYS_S[min(failures, len(RESTART_DELAYS_S) - 1)]
            self._not_before[worker.place] = now + delay
        return self._actions(now)

    def tick(self, beats: Mapping[str, int], now: float) -> list[RosterAction]:
        """Check the running workers. `beats`: of their event loops, by name."""
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
        return actions + self._actions(now)

    def reached_at(self, name: str, address: str) -> None:
        """Set the address for workers in other groups."""
        self.workers[name].address = address

    def others(self, serve: bool, now: float) -> list[RosterAction]:
        """True in `serve` if a worker of another group can own versions."""
        if serve == self._others_serve:
            return []
        self._others_serve = serve
        return self._actions(now)

    def close(self, now: float) -> list[RosterAction]:
        """Drain all workers and start none; departures are announced as before."""
        self.closed = True
        for worker in self.workers.values():
            if worker.phase is WorkerPhase.SERVING:
                worker.phase = NEXT[worker.phase, WorkerEvent.DRAIN]
        return self._actions(now)

    # ---- state

    def successor(self, name: str) -> str | None:
        """The newer worker in the same place, or None."""
        worker = self.workers[name]
        newer = [each.name for each in self._in_place(worker.place, PRESENT) if each is not worker]
        return newer[-1] if newer else None

    def serving_places(self) -> set[int]:
        """Places below the wanted count with a serving worker."""
        return {
            each.place
            for each in self.workers.values()
            if each.phase is WorkerPhase.SERVING and each.place < self.count
        }

    def part(self) -> MembershipPart:
        """The part of this group: while no worker serves, draining ones are eligible as owners."""
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
        return self._actions(now)

    def _actions(self, now: float) -> list[RosterAction]:
        """The actions for the current state; the part is published before the workers act on it."""
        actions: list[RosterAction] = []
        if not self.closed:
            actions = [*self._surplus(), *self._vacancies(now)]
        self._departed = [(until, departed) for until, departed in self._departed if until > now]
        part = self.part()
        if part != self._said:
            self._said = part
            actions.insert(0, PublishPart(replace(part, departed=self._aged(now))))
        return actions

    def _aged(self, now: float) -> tuple[Departed, ...]:
        """The departed workers with their ages, which shorten the quarantine in workers that start now."""
        return tuple(replace(departed, age_s=now - (until - DEPARTED_S)) for until, departed in self._departed)

    def _surplus(self) -> list[RosterAction]:
        """Surplus workers: older ones in a place with a newer serving one, and all beyond the wanted places.

        Serving ones beyond the wanted places stay until all wanted places serve.
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
            drains = worker.phase is WorkerPhase.DRAINING
            actions.append(DrainWorker(worker.name) if drains else KillWorker(worker.name, "surplus"))
        return actions

    def _vacancies(self, now: float) -> list[RosterAction]:
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
