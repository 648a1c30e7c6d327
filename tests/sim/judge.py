"""Who waits while something is free, and who overtakes whom: the promises that are about time."""

from collections import OrderedDict

from serving.endpoint import VersionKey
from tests.sim.failures import PromiseBroken
from tests.sim.replicas import Site
from tests.sim.scenario import Scenario
from tests.sim.worker import Request


class Judge:
    """Keeps every waiting request of every worker in the order of arrival.

    The promises about time hold while the world is calm: no fault is on, and what the last one did has settled.
    """

    def __init__(self, scenario: Scenario, site: Site) -> None:
        self.calm_since = 0.0
        self.faults_on = 0
        self.audits = 0
        self.served_count = 0
        self.longest_stuck_s = 0.0
        self.longest_overtaking_s = 0.0
        self._scenario = scenario
        self._site = site
        self._waiting: dict[VersionKey, OrderedDict[Request, float]] = {}

    # ---- what happens

    def waits(self, request: Request, now: float) -> None:
        """It has found no free slot, or lost the one it had."""
        self._waiting.setdefault(request.key, OrderedDict())[request] = now

    def served(self, request: Request) -> None:
        """It gets a slot. Whoever came before it must not wait any more, but for the bound."""
        self.served_count += 1
        line = self._waiting.get(request.key)
        if line is None:
            return
        line.pop(request, None)
        if request.retry or self.faults_on or not line:
            return
        for other, arrived in line.items():
            if other.retry:
                continue
            overtaking_s = request.arrived - max(arrived, self.calm_since)
            self.longest_overtaking_s = max(self.longest_overtaking_s, overtaking_s)
            if overtaking_s > self._scenario.unfair_s:
                raise PromiseBroken(
                    f"{request} is served before {other}, which came {overtaking_s:.4f} s earlier "
                    f"(bound {self._scenario.unfair_s:.4f} s)"
                )
            return

    def ended(self, request: Request) -> None:
        """It does not wait any more, if it did."""
        line = self._waiting.get(request.key)
        if line is not None:
            line.pop(request, None)

    def disturb(self, now: float, settle_s: float) -> None:
        """Something has happened that needs time to be put right."""
        self.calm_since = max(self.calm_since, now + settle_s)

    # ---- judgement

    def calm(self, now: float) -> bool:
        """Whether every promise holds now."""
        return not self.faults_on and now >= self.calm_since

    def audit(self, now: float) -> None:
        """Nobody waits for longer than the bound while a slot is free for as long."""
        if not self.calm(now):
            return
        self.audits += 1
        self._site.settle()
        for key, line in self._waiting.items():
            if not line:
                continue
            free = self._site.longest_free(key)
            if free is None:
                continue
            oldest = next(iter(line))
            free_since, replica_id = free
            stuck_s = now - max(line[oldest], free_since, self.calm_since)
            self.longest_stuck_s = max(self.longest_stuck_s, stuck_s)
            if stuck_s > self._scenario.stuck_s:
                raise PromiseBroken(
                    f"{oldest} waits while a slot of {replica_id} is free: {stuck_s:.4f} s "
                    f"(bound {self._scenario.stuck_s:.4f} s)"
                )

    def waiting(self) -> list[Request]:
        """Everybody who waits."""
        return [request for line in self._waiting.values() for request in line]
