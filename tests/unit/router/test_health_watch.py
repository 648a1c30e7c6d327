"""Suspect replicas: what is sent to them, and when they are used again."""

from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from router.core.dispatcher import Dispatcher, Grant, Ticket
from router.core.health import LONGEST_PAUSE_S, Failure, HealthSign, Standing
from router.core.health_watch import HealthProbe
from router.core.ledger import Lease
from router.core.router_errors import NoReadyReplicas
from serving.endpoint import VersionKey
from serving.replica import ReplicaState
from tests.unit.router.records import replica, version

BLUE = VersionKey("iris", "blue")
HEALTH_TIMEOUT_S = 2.0


@dataclass
class Truth:
    """A replica as it is."""

    hung: bool = False
    doubted: bool = False
    """True from a failure to the next answer of its health path."""


@dataclass
class Site:
    """A dispatcher alone, its replicas as they are, and their health requests."""

    names: tuple[str, ...] = ("a", "b", "c")
    slots: int = 1
    now: float = 100.0
    truths: dict[str, Truth] = field(default_factory=dict)
    running: list[Lease] = field(default_factory=list)
    probes: list[tuple[float, HealthProbe]] = field(default_factory=list)
    """Health requests without an answer yet, with their deadline."""
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dispatcher = Dispatcher()
        self.dispatcher.configure("iris", version())
        self.queue = self.dispatcher.queue(BLUE)
        for name in self.names:
            self.truths[name] = Truth()
            self.dispatcher.upsert(replica(name, slots=self.slots), self.now)

    def request(self) -> Ticket:
        ticket = Ticket()
        lease = self.queue.enqueue(ticket, self.now)
        if lease is not None:
            self._starts(lease)
        return ticket

    def fails(self, lease: Lease, failure: Failure) -> None:
        self.running.remove(lease)
        self.truths[lease.replica.id].doubted |= failure is not Failure.UNREACHABLE
        self.queue.health.failed(lease.replica, failure, self.now)
        if failure is Failure.UNREACHABLE:
            self._granted(self.queue.requeue(lease, self.now))
        else:
            self._granted(self.queue.release(lease, self.now))
        self.settle()

    def answers(self, lease: Lease) -> None:
        self.running.remove(lease)
        lease.replica.failures = 0
        self._granted(self.queue.release(lease, self.now))

    def recovers(self, name: str) -> None:
        self.truths[name].hung = False
        self.settle()

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            due = self.dispatcher.due()
            moments = [deadline for deadline, _ in self.probes] + ([due] if due is not None else [])
            if not moments or min(moments) > end:
                break
            self.now = max(self.now, min(moments))
            self.settle()
        self.now = end

    def settle(self) -> None:
        """Run timers that are due, answer the health requests of those that can, end those that are over."""
        while True:
            for grant in self.dispatcher.tick(self.now):
                self._granted(grant)
            for probe in self.dispatcher.probes:
                self.asked.append(probe.replica.id)
                self.probes.append((self.now + HEALTH_TIMEOUT_S, probe))
            self.dispatcher.probes.clear()
            over = [one for one in self.probes if one[0] <= self.now or not self.truths[one[1].replica.id].hung]
            if not over:
                return
            for one in over:
                self.probes.remove(one)
                truth = self.truths[one[1].replica.id]
                truth.doubted &= truth.hung or one[1].turn != one[1].replica.turn
                sign = HealthSign.NONE if truth.hung else HealthSign.WELL
                for grant in self.queue.health.answered(one[1], sign, self.now):
                    self._granted(grant)

    def _granted(self, grant: Grant | None) -> None:
        if grant is not None:
            self._starts(grant.lease)

    def _starts(self, lease: Lease) -> None:
        assert not self.truths[lease.replica.id].doubted, f"sent to {lease.replica}"
        self.running.append(lease)

    def ran_at(self, ticket: Ticket) -> str:
        assert ticket.lease is not None
        return ticket.lease.replica.id


@pytest.mark.parametrize("failure", [Failure.TIMEOUT, Failure.ABANDONED, Failure.BROKEN])
def test_a_replica_that_failed_gets_nothing_until_its_health_path_answers_and_is_last_then(failure: Failure) -> None:
    site = Site()
    failed = site.ran_at(site.request())
    site.truths[failed].hung = True
    site.fails(site.running[0], failure)
    used = {site.ran_at(site.request()) for _ in range(2)}
    assert failed not in used and site.request().waiting
    site.recovers(failed)
    assert [lease.replica.id for lease in site.running][-1] == failed, "the third waited for it"
    for lease in list(site.running):
        site.answers(lease)
    site.fails(site.running[-1] if site.running else _only(site, failed), failure)
    assert [site.ran_at(site.request()) for _ in range(3)][-1] == failed


def _only(site: Site, name: str) -> Lease:
    """A request that runs on this replica, alone."""
    tickets = [site.request() for _ in site.names]
    for ticket in tickets:
        if site.ran_at(ticket) != name:
            assert ticket.lease is not None
            site.answers(ticket.lease)
    return next(lease for lease in site.running if lease.replica.id == name)


def test_when_all_are_suspect_requests_wait_and_are_refused_only_after_the_queue_wait() -> None:
    site = Site(names=("a",))
    site.request()
    site.truths["a"].hung = True
    site.fails(site.running[0], Failure.TIMEOUT)
    ticket = site.request()
    assert ticket.waiting
    [(expired, error)] = site.queue.expire(site.now + site.queue.queue_wait_s)
    assert expired is ticket and isinstance(error, NoReadyReplicas)


def test_the_health_path_is_asked_at_once_and_a_silent_replica_always_has_a_request_waiting() -> None:
    site = Site(names=("a",))
    site.request()
    site.truths["a"].hung = True
    site.fails(site.running[0], Failure.TIMEOUT)
    assert site.asked == ["a"]
    site.pass_time(60.0)
    assert 60.0 / HEALTH_TIMEOUT_S - 1 <= len(site.asked) <= 60.0 / HEALTH_TIMEOUT_S + 1 and site.probes


def test_a_busy_replica_that_says_503_is_alive_and_an_idle_one_is_believed_for_the_scoring_timeout() -> None:
    site = Site(names=("a",), slots=2)
    site.request(), site.request()
    site.truths["a"].hung = True
    site.fails(site.running[0], Failure.ABANDONED)
    [(_, probe)] = site.probes
    site.queue.health.answered(probe, HealthSign.UNREADY, site.now)
    assert probe.replica.standing is Standing.SERVING
    site.fails(site.running[0], Failure.ABANDONED)
    _, probe = site.probes[-1]
    site.queue.health.answered(probe, HealthSign.UNREADY, site.now)
    assert "a" in site.queue.health.suspects()
    site.pass_time(site.queue.scoring_timeout_s)
    site.queue.health.answered(site.probes[-1][1], HealthSign.UNREADY, site.now + 3)
    assert probe.replica.standing is Standing.SERVING


def test_a_replica_that_breaks_again_and_again_is_left_alone_longer_while_others_serve() -> None:
    site = Site(names=("a", "b"))
    site.fails(_only(site, "a"), Failure.BROKEN)
    site.fails(_only(site, "a"), Failure.BROKEN)
    slots = site.queue.replicas["a"]
    assert slots.standing is Standing.EJECTED
    site.request()
    site.truths["b"].hung = True
    site.fails(site.running[-1], Failure.ABANDONED)
    assert not slots.barred, "no other serves"


def test_a_suspect_that_leaves_the_service_is_asked_when_it_is_back() -> None:
    site = Site(names=("a", "b"))
    lease = _only(site, "a")
    site.truths["a"].hung = True
    site.fails(lease, Failure.TIMEOUT)
    site.dispatcher.upsert(replica("a", ReplicaState.FAILED), site.now)
    site.pass_time(10.0)
    asked = len(site.asked)
    site.pass_time(10.0)
    assert len(site.asked) == asked
    site.truths["a"].hung = False
    site.dispatcher.upsert(replica("a"), site.now)
    site.settle()
    assert site.queue.replicas["a"].standing is Standing.SERVING


def test_only_a_suspect_that_does_not_answer_soon_is_reported_and_the_report_is_renewed_for_it() -> None:
    site = Site(names=("a", "b"))
    lease = _only(site, "a")
    site.truths["a"].hung = True
    site.fails(lease, Failure.ABANDONED)
    site.queue.changed = False
    assert site.queue.health.reported_suspects(site.now) == () and site.queue.changed
    site.queue.changed = False
    assert site.queue.health.reported_suspects(site.now + 0.2) == ("a",) and not site.queue.changed
    site.recovers("a")
    assert site.queue.changed and site.queue.health.reported_suspects(site.now + 0.2) == ()


class SuspectsInAnyOrder(RuleBasedStateMachine):
    """Requests, hangs, abandonments, breaks and recoveries in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.site = Site(slots=2)

    @rule()
    def a_request_comes(self) -> None:
        self.site.request()

    @precondition(lambda self: self.site.running)
    @rule(pick=st.integers(0, 99), failure=st.sampled_from(Failure))
    def a_request_fails(self, pick: int, failure: Failure) -> None:
        self.site.fails(self.site.running[pick % len(self.site.running)], failure)

    @rule(pick=st.integers(0, 99))
    def a_request_is_answered(self, pick: int) -> None:
        able = [lease for lease in self.site.running if not self.site.truths[lease.replica.id].hung]
        if able:
            self.site.answers(able[pick % len(able)])

    @rule(name=st.sampled_from("abc"))
    def a_replica_hangs(self, name: str) -> None:
        self.site.truths[name].hung = True

    @rule(name=st.sampled_from("abc"))
    def a_replica_recovers(self, name: str) -> None:
        self.site.recovers(name)

    @rule(seconds=st.sampled_from([0.01, 0.3, 3.0]))
    def time_passes(self, seconds: float) -> None:
        self.site.pass_time(seconds)

    @rule()
    def a_pause_brings_every_healthy_replica_back_if_none_serves(self) -> None:
        site = self.site
        site.pass_time(LONGEST_PAUSE_S)
        replicas = site.queue.replicas
        healthy = [name for name, truth in site.truths.items() if not truth.hung]
        serving = [name for name, slots in replicas.items() if slots.standing is Standing.SERVING]
        assert serving or not healthy

    @invariant()
    def no_request_waits_while_a_serving_replica_has_a_free_slot(self) -> None:
        queue = self.site.queue
        assert not (queue.waiting and queue.ledger.has_free())
        assert (queue.ledger.violations, queue.ledger.double_releases) == (0, 0)

    @invariant()
    def only_serving_replicas_have_free_slots(self) -> None:
        for slots in self.site.queue.ledger.idle_first():
            assert slots.standing is Standing.SERVING


TestSuspectsInAnyOrder = SuspectsInAnyOrder.TestCase
