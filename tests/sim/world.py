"""One run: created from its seed, run to its end, and judged."""

import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from router.core.health import LONGEST_EJECTION_S
from router.core.ledger import Lease
from serving.endpoint import (
    AutoscalePolicy,
    LivenessProbe,
    ReplicaKind,
    ReplicaSource,
    Version,
    VersionKey,
    VersionType,
)
from tests.sim.clock import Clock
from tests.sim.failures import PromiseBroken
from tests.sim.faults import Faults
from tests.sim.judge import Judge
from tests.sim.network import Network
from tests.sim.replicas import Site
from tests.sim.scenario import MOST_SLOTS, Scenario, draw
from tests.sim.supervisor import Supervisor
from tests.sim.worker import HEALTH_TIMEOUT_S, TUNNEL_TIMEOUTS, Request, SimWorker

CALM_S = 0.7
"""Time for which requests arrive after the last recovery."""
QUIET_S = 0.2
"""Idle time after which every slot must be back at its owner."""
REMEMBERED = 120
"""Number of events printed with a failure."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Figures of a run without a failure."""

    seed: int
    events: int
    requests: int
    outcomes: dict[str, int]
    broken_sessions: int
    double_returns: int
    longest_stuck_s: float


class World:
    """All components of one run."""

    def __init__(self, scenario: Scenario, trace: bool = False) -> None:
        self.scenario = scenario
        self.random = Random(scenario.seed * 2 + 1)
        self.clock = Clock()
        self.site = Site()
        self.judge = Judge(scenario, self.site)
        self.network = Network(self.clock, self.random, scenario)
        self.versions = {VersionKey("iris", name): self._version(name) for name in "abc"[: scenario.versions]}
        self.requests: list[Request] = []
        self.past: deque[tuple[float, tuple[object, ...]]] = deque(maxlen=REMEMBERED)
        self._trace = trace
        self._arrivals_end = 0.0
        self.supervisor = Supervisor(self)

    def _version(self, name: str) -> Version:
        return Version(
            name=name,
            share=1.0,
            is_default=name == "a",
            type=VersionType.TREATMENT,
            replica=ReplicaSource(ReplicaKind.STATIC, static=("127.0.0.1:9400",)),
            autoscale=AutoscalePolicy(),
            queue_wait_s=self.scenario.queue_wait_s,
            scoring_timeout_s=self.scenario.scoring_timeout_s,
            liveness=LivenessProbe(timeout_s=HEALTH_TIMEOUT_S),
        )

    def note(self, *what: object) -> None:
        """Append an event to the trace."""
        self.past.append((self.clock.now, what))
        if self._trace:
            print(told(self.past[-1]), file=sys.stdout)

    # ---- requests at replicas

    def site_start(self, request: Request, lease: Lease) -> None:
        """A request starts on its replica. One that is known as suspect to all breaks a promise."""
        one, now = self.site.replicas[lease.replica.id], self.clock.now
        if one.doubted is not None and self.judge.calm(now) and now > one.doubted[0] + self.scenario.unfair_s:
            raise PromiseBroken(f"{request} is sent to {lease.replica.id}, a suspect of {one.doubted[1]}")
        one.start(request, now)

    def site_end(self, request: Request, lease: Lease) -> bool:
        """A request ends on its replica, or its connection is closed."""
        ended = self.site.replicas[lease.replica.id].end(request, self.clock.now)
        if ended:
            self.note(lease.replica.id, "ends", request)
        return ended

    def lose(self, worker: SimWorker) -> None:
        """A worker has ended: its requests are lost, but occupy replicas until the quarantine ends."""
        for request in (*worker.using, *worker.waiting):
            request.outcome = "lost"
            self.judge.ended(request, self.clock.now)
        for one in self.site.replicas.values():
            if one.doubted is not None and one.doubted[1] == worker.name:
                one.trust(self.clock.now)  # the others may not know
        for request, lease in worker.using.items():
            self.clock.after(self.scenario.lease_s, self.site_end, request, lease)

    def network_is_good(self) -> None:
        """Stop losing, duplicating and reordering frames."""
        self.network.faulty = False

    # ---- the run

    def run(self) -> Outcome:
        """Run from the start to the last judgement."""
        scenario = self.scenario
        for key in self.versions:
            for _ in range(scenario.replicas):
                self.supervisor.add_replica(key, self.random.randint(1, scenario.slots))
        self._start_workers()
        self.judge.disturb(0.0, scenario.settle_s)
        self.clock.after(scenario.feed_s * 4, self._next_arrival)
        Faults(self).start()
        calm_from = scenario.busy_s if scenario.faults else 0.0
        self._arrivals_end = calm_from + scenario.settle_s + CALM_S
        events = self._run_until(self._arrivals_end)
        longest_s = scenario.scoring_timeout_s * (TUNNEL_TIMEOUTS if scenario.tunnels else 1)
        events += self.clock.run_until(self.clock.now + scenario.queue_wait_s + longest_s + QUIET_S)
        while self._is_held() and self.clock.now < self._arrivals_end + 2 * LONGEST_EJECTION_S:
            events += self.clock.run_until(self.clock.now + QUIET_S)
        self._judge_the_quiet()
        for role in (0, 1):
            events += self._fill_every_slot(role)
        return self._outcome(events)

    def _start_workers(self) -> None:
        """Start the workers, all in one view or one by one."""
        together = self.random.random() < 0.5
        for index in range(self.scenario.workers):
            self.supervisor.start(index)
            if not together:
                self.supervisor.publish()
        if together:
            self.supervisor.publish()

    def _run_until(self, end: float) -> int:
        events = 0
        pause_s = max(0.002, self.scenario.stuck_s / 8)
        while self.clock.now < end:
            events += self.clock.run_until(min(end, self.clock.now + pause_s))
            self.judge.audit(self.clock.now)
        return events

    # ---- requests

    def _next_arrival(self) -> None:
        scenario, uniform = self.scenario, self.random.random
        if self.clock.now > self._arrivals_end:
            return
        serving = self.supervisor.serving()
        if serving:
            chosen = {"even": uniform(), "skewed": uniform() ** 3, "one": 0.0}[scenario.skew]
            worker = serving[int(chosen * len(serving))]
            key = self.random.choice(list(self.versions))
            work_s = self.random.expovariate(1 / scenario.work_s)
            request = self.request(worker, key, work_s, tunnel=uniform() < scenario.tunnels)
            if uniform() < scenario.leaving_clients:
                leaves_s = uniform() * (scenario.queue_wait_s + scenario.work_s)
                self.clock.after(leaves_s, worker.do, worker.client_leaves, request)
        self.clock.after(self.random.expovariate(scenario.requests_per_s), self._next_arrival)

    def request(self, worker: SimWorker, key: VersionKey, work_s: float, tunnel: bool = False) -> Request:
        """Create a request at a worker."""
        request = Request(len(self.requests), key, work_s, worker.name, self.clock.now)
        request.tunnel = tunnel
        self.requests.append(request)
        worker.do(worker.arrive, request)
        return request

    # ---- judgement at the end

    def _judge_the_quiet(self) -> None:
        """Fail if a request still waits or runs, or was never answered."""
        waiting = self.judge.waiting()
        running = [work for one in self.site.replicas.values() for work in one.running]
        if waiting or running:
            raise PromiseBroken(f"after quiet {waiting} wait and {running} run")
        for request in self.requests:
            worker = self.supervisor.workers.get(request.worker)
            if not request.outcome and worker is not None:
                raise PromiseBroken(f"{request} has been forgotten")

    def _is_held(self) -> bool:
        """True if a replica is still ejected."""
        queues = [queue for worker in self.supervisor.workers.values() for queue in worker.dispatcher.queues.values()]
        return any(
            replica.barred for queue in queues if queue.lender is not None for replica in queue.replicas.values()
        )

    def _fill_every_slot(self, role: int) -> int:
        """Fail unless the owner can use exactly all slots at once, and a borrower soon after."""
        scenario, work_s = self.scenario, self.scenario.scoring_timeout_s * 0.9
        filled: list[tuple[VersionKey, int, list[Request]]] = []
        for key in self.versions:
            owner = self.supervisor.owner(key)
            assert owner is not None
            others = [worker for worker in self.supervisor.serving() if worker is not owner]
            worker = owner if role == 0 or not others else self.random.choice(others)
            slots = self.site.slots(key)
            requests = [self.request(worker, key, work_s) for _ in range(slots + 1)]
            if role == 0 and sum(one.attempts for one in requests) != slots:
                started = sum(one.attempts for one in requests)
                raise PromiseBroken(f"{owner.name} owns {slots} slots of {key}, and {started} were at home after quiet")
            filled.append((key, slots, requests))
        events = self._run_until(self.clock.now + min(scenario.stuck_s, work_s * 0.9))
        for key, slots, requests in filled:
            started = sum(one.attempts for one in requests)
            if started < slots and scenario.stuck_s < work_s * 0.9:
                raise PromiseBroken(f"{started} of {slots} slots of {key} came to a borrower within the bound")
        events += self.clock.run_until(self.clock.now + 2 * scenario.scoring_timeout_s + QUIET_S)
        self._judge_the_quiet()
        return events

    def _outcome(self, events: int) -> Outcome:
        outcomes: dict[str, int] = {}
        for request in self.requests:
            outcomes[request.outcome] = outcomes.get(request.outcome, 0) + 1
        queues = [queue for worker in self.supervisor.workers.values() for queue in worker.dispatcher.queues.values()]
        violations = sum(queue.ledger.violations + queue.ledger.double_releases for queue in queues)
        if violations:
            raise PromiseBroken(f"ledgers count {violations} violations and double releases")
        double_returns = sum(
            worker.dispatcher.counters["double_returns"] for worker in self.supervisor.workers.values()
        )
        # A change of view or session may return a slot twice, once per change.
        changes = self.supervisor.view.epoch + self.network.broken_sessions
        slots = sum(len(replicas) * MOST_SLOTS for replicas in self.site.by_key.values())
        if double_returns > changes * slots:
            raise PromiseBroken(f"{double_returns} slots of {slots} came back twice in {changes} views and sessions")
        return Outcome(
            self.scenario.seed,
            events,
            len(self.requests),
            outcomes,
            self.network.broken_sessions,
            double_returns,
            self.judge.longest_stuck_s,
        )


def told(event: tuple[float, tuple[object, ...]]) -> str:
    """Format one event of a trace."""
    moment, what = event
    return f"{moment:10.6f}  " + "  ".join(str(one) for one in what)


def run(seed: int, trace: bool = False, changes: Mapping[str, Any] | None = None) -> Outcome:
    """Run one seed. A failure carries the scenario and the last events. `changes`: overrides of the drawn scenario."""
    world = World(replace(draw(seed), **(changes or {})), trace)
    try:
        return world.run()
    except Exception as error:
        last = "\n".join(told(event) for event in world.past)
        error.add_note(f"last events:\n{last}\nscenario: {world.scenario}\nreplay: python -m tests.sim --seed {seed}")
        raise
