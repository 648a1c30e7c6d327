"""One version in virtual time: its replicas with their slots, and its queue. The rules are those of the router.

- A free slot goes to the oldest waiting request; a request that waits longer than the queue wait is refused.
- Placement: fewest requests in flight first, among equals the most recently used.
- Fewer replicas: those with the fewest requests in flight go first, among equals the longest unused; a starting one
  goes before a ready one. One that is to go takes no request and ends what it has.
"""

from collections import deque
from itertools import chain

from autoscaler.policy import Observation
from autoscaler.replica_facts import ReplicaFacts


class SimulatedReplica:
    """One replica."""

    __slots__ = ("busy", "ready", "retired")

    def __init__(self) -> None:
        self.busy = 0
        self.ready = False
        self.retired = False


class SimulatedVersion:
    """Replicas and queue; all times are in seconds from the start of the trace and never decrease."""

    def __init__(self, slots: int, queue_wait_s: float, start_s: float, replicas: int) -> None:
        """`slots`: of a replica. `queue_wait_s`: longest wait. `start_s`: from start to readiness. `replicas`: ready at
        the beginning."""
        self.slots = slots
        self.waits_s: list[float] = []
        """Waits of the requests that were served."""
        self.refused = 0
        self.history: list[tuple[float, int]] = []
        """(time, number of replicas that run: starting, ready or ending) after each change."""
        self.replica_seconds = 0.0
        self.ready_slot_seconds = 0.0
        self.busy_slot_seconds = 0.0
        self._queue_wait_s = queue_wait_s
        self._start_s = start_s
        self._queue: deque[tuple[float, float]] = deque()
        # Ready replicas by requests in flight, each level ordered by last use.
        self._levels: list[dict[SimulatedReplica, None]] = [{} for _ in range(slots + 1)]
        self._starting: dict[SimulatedReplica, None] = {}
        self._ending = 0
        self._ready = 0
        self._busy = 0
        self._now_s = 0.0
        self._marks: deque[tuple[float, float]] = deque([(0.0, 0.0)])
        """(time, busy integral) at each change within the last period."""
        for _ in range(replicas):
            replica = SimulatedReplica()
            replica.ready = True
            self._levels[0][replica] = None
            self._ready += 1
        self._note()

    # ---- time

    def advance(self, now: float) -> None:
        """Let time pass: the integrals grow."""
        passed_s = now - self._now_s
        if passed_s > 0:
            self.replica_seconds += passed_s * self.running
            self.ready_slot_seconds += passed_s * self._ready * self.slots
            self.busy_slot_seconds += passed_s * self._busy
            self._now_s = now
            self._marks.append((now, self.busy_slot_seconds))

    @property
    def running(self) -> int:
        """Replicas that run: starting, ready or ending."""
        return self._ready + len(self._starting) + self._ending

    @property
    def number(self) -> int:
        """Replicas that run and are not to go."""
        return self._ready + len(self._starting)

    # ---- requests; each event returns the requests that get a slot: (replica, service time in seconds)

    def arrive(self, service_s: float) -> list[tuple[SimulatedReplica, float]]:
        """A request arrives."""
        self._queue.append((self._now_s, service_s))
        return self._match()

    def depart(self, replica: SimulatedReplica) -> list[tuple[SimulatedReplica, float]]:
        """A request ends on a replica."""
        self._busy -= 1
        if replica.retired:
            replica.busy -= 1
            if not replica.busy:
                self._ending -= 1
                self._note()
            return []
        self._move(replica, -1)
        return self._match()

    def expire(self) -> None:
        """Refuse the requests whose wait is over."""
        while self._queue and self._queue[0][0] + self._queue_wait_s <= self._now_s:
            self._queue.popleft()
            self.refused += 1

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    def _match(self) -> list[tuple[SimulatedReplica, float]]:
        granted = []
        while self._queue and (replica := self._free()) is not None:
            arrived_s, service_s = self._queue.popleft()
            self.waits_s.append(self._now_s - arrived_s)
            self._busy += 1
            self._move(replica, 1)
            granted.append((replica, service_s))
        return granted

    def _free(self) -> SimulatedReplica | None:
        for level in self._levels[:-1]:
            if level:
                return next(reversed(level))
        return None

    def _move(self, replica: SimulatedReplica, by: int) -> None:
        del self._levels[replica.busy][replica]
        replica.busy += by
        self._levels[replica.busy][replica] = None

    # ---- replicas

    def scale(self, number: int) -> list[SimulatedReplica]:
        """Set the number of replicas; the ones returned start now and are ready after the start-up time."""
        started = [SimulatedReplica() for _ in range(number - self.number)]
        self._starting.update(dict.fromkeys(started))
        for _ in range(self.number - number):
            self._retire()
        self._note()
        return started

    def get_ready(self, replica: SimulatedReplica) -> list[tuple[SimulatedReplica, float]]:
        """A replica has started; the requests that get its slots."""
        if self._starting.pop(replica, 0) == 0:
            return []
        replica.ready = True
        self._levels[0][replica] = None
        self._ready += 1
        return self._match()

    def _retire(self) -> None:
        if self._starting:
            self._starting.popitem()
            return
        replica = next(chain.from_iterable(self._levels))
        del self._levels[replica.busy][replica]
        replica.retired = True
        self._ready -= 1
        self._ending += bool(replica.busy)

    def _note(self) -> None:
        if self.history and self.history[-1][0] == self._now_s:
            self.history.pop()
        if not self.history or self.history[-1][1] != self.running:
            self.history.append((self._now_s, self.running))

    # ---- as the policy sees it

    def observe(self, period_s: float) -> Observation:
        """The slots now and over the last period; what was before the start counts as idle."""
        since_s = self._now_s - period_s
        marks = self._marks
        while len(marks) > 1 and marks[1][0] <= since_s:
            marks.popleft()
        before_s, before = marks[0]
        if since_s > before_s and len(marks) > 1:
            after_s, after = marks[1]
            before += (after - before) * (since_s - before_s) / (after_s - before_s)
        busy_mean = (self.busy_slot_seconds - before) / period_s
        return Observation(busy_mean, self._busy, len(self._queue), self._ready * self.slots, complete=True)

    def facts(self) -> ReplicaFacts:
        """The replicas now."""
        return ReplicaFacts(ready=self._ready, starting=len(self._starting), start_s=self._start_s)
