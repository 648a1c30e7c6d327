"""Judge of the promises about time: no wait beside a free slot, no overtaking."""

from collections import OrderedDict, deque

from serving.endpoint import VersionKey
from tests.sim.failures import PromiseBroken
from tests.sim.replicas import Site
from tests.sim.scenario import Scenario
from tests.sim.worker import Request


class Judge:
    """All waiting requests of all workers, in the order of arrival.

    The promises about time hold while the world is calm: no fault is on, and the effects of the last one have
    settled.
    """

    def __init__(self, scenario: Scenario, site: Site) -> None:
        self.calm_since = 0.0
        self.faults_on = 0
        self.audits = 0
        self.served_count = 0
        self.longest_stuck_s = 0.0
        self._scenario = scenario
        self._site = site
        self._waiting: dict[VersionKey, OrderedDict[Request, float]] = {}
        self._left: dict[VersionKey, deque[float]] = {}
        # Overtaken requests: latest time of their own grant, and the overtaker.
        self._overtaken: dict[Request, tuple[float, str]] = {}

    # ---- events

    def waits(self, request: Request, now: float) -> None:
        """The request starts to wait: no free slot, or its slot was lost."""
        self._waiting.setdefault(request.key, OrderedDict())[request] = now

    def served(self, request: Request, now: float) -> None:
        """The request got a slot. Older ones, beyond the bound, must have a grant under way."""
        self.served_count += 1
        line = self._waiting.get(request.key)
        if line is None:
            return
        line.pop(request, None)
        self._overtaken.pop(request, None)
        if request.retry or not line or not self.calm(now):
            return
        older = next((other for other in line if not other.retry), None)
        if older is not None and older not in self._overtaken:
            overtaking_s = request.arrived - max(older.arrived, self.calm_since)
            if overtaking_s > self._scenario.unfair_s:
                self._overtaken[older] = (
                    now + self._scenario.link_s,
                    f"{request}, which came {overtaking_s:.4f} s later",
                )

    def ended(self, request: Request, now: float) -> None:
        """The request stops waiting, if it did; a grant may be under way to it."""
        line = self._waiting.get(request.key)
        if line is not None and line.pop(request, None) is not None:
            self._overtaken.pop(request, None)
            self._left.setdefault(request.key, deque(maxlen=1000)).append(now)

    def disturb(self, now: float, settle_s: float) -> None:
        """A disturbance: promises hold again after the recovery time."""
        self.calm_since = max(self.calm_since, now + settle_s)

    # ---- judgement

    def calm(self, now: float) -> bool:
        """Check every promise now."""
        return not self.faults_on and now >= self.calm_since

    def audit(self, now: float) -> None:
        """Fail if a request waits beside a slot free for longer than the bound, or was overtaken."""
        if not self.calm(now):
            self._overtaken.clear()
            return
        self.audits += 1
        self._site.settle()
        for request, (deadline, by) in self._overtaken.items():
            if now > deadline:
                raise PromiseBroken(f"{request} is served after {by} (bound {self._scenario.unfair_s:.4f} s)")
        for key, line in self._waiting.items():
            if not line:
                continue
            free = self._site.longest_free(key)
            if free is None:
                continue
            oldest = next(iter(line))
            free_since, replica_id = free
            since = max(line[oldest], free_since, self.calm_since)
            stuck_s = now - since
            self.longest_stuck_s = max(self.longest_stuck_s, stuck_s)
            if stuck_s > self._scenario.stuck_s + self._bounced_s(key, since):
                raise PromiseBroken(
                    f"{oldest} waits while a slot of {replica_id} is free: {stuck_s:.4f} s "
                    f"(bound {self._scenario.stuck_s:.4f} s)"
                )

    def _bounced_s(self, key: VersionKey, since: float) -> float:
        """Extra time for slots granted to tickets that had just left."""
        ways = 2 * self._scenario.link_s
        return ways * sum(moment >= since - ways for moment in self._left.get(key, ()))

    def waiting(self) -> list[Request]:
        """All waiting requests."""
        return [request for line in self._waiting.values() for request in line]
