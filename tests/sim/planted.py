"""Planted bugs: each wrong method of the real core must be found by the simulation.

Each is one method of the core in a wrong version. Methods that would break everything at once are wrong for few
leases
only: the failures must be rare, like real mistakes.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any

from cluster.kubernetes import container_end
from router.core.borrowing import Borrower
from router.core.health import HealthSign
from router.core.health_watch import HealthProbe, HealthWatch
from router.core.ledger import ReplicaSlots
from router.core.lending import Lender
from router.core.peer_group import PeerGroup
from router.core.peer_liveness import PeerLiveness
from router.core.quarantine import Quarantine
from router.core.slot_messages import Declare, Failed, Recall, Return, SlotGranted
from router.core.view import Departed
from router.membership import history
from router.membership.history import InFlight, PodRecord, ViewHistory
from tests.sim.routers import wall_text
from tests.sim.scenario import CUT, ONE_WAY, PAUSE, ROUTER_FAULTS

RARELY = 16
"""One lease in so many."""

Wrong = tuple[type | ModuleType, str, Callable[[Callable[..., Any]], Callable[..., Any]]]


def _lends_and_keeps(right: Callable[..., None]) -> Callable[..., None]:
    def _add_loan(self: Lender, peer: str, lease: int, replica: ReplicaSlots) -> None:
        right(self, peer, lease, replica)
        if lease % RARELY == 0:
            self.queue.ledger.vacate(replica)

    return _add_loan


def _loses_returns(right: Callable[..., Any]) -> Callable[..., Any]:
    def _returned(self: PeerGroup, peer: str, message: Return, now: float) -> Any:
        return right(self, peer, Return(tuple(lease for lease in message.leases if lease % RARELY)), now)

    return _returned


def _counts_returns_twice(right: Callable[..., bool]) -> Callable[..., bool]:
    def returned(self: Lender, peer: str, lease: int) -> bool:
        replica = self._loans.get(peer, {}).get(lease)
        known = right(self, peer, lease)
        if known and replica is not None and replica.busy and lease % RARELY == 0:
            self.queue.ledger.vacate(replica)
        return known

    return returned


def _does_not_learn(right: Callable[..., Any]) -> Callable[..., Any]:
    def _finish_learning(self: PeerGroup, now: float) -> Any:
        self._undeclared.clear()
        return right(self, now)

    return _finish_learning


def _quarantines_nothing(right: Callable[..., Any]) -> Callable[..., Any]:
    def add(self: Quarantine, departed: tuple[Departed, ...], now: float) -> tuple[str, ...]:
        return ()

    return add


def _takes_grants_of_anybody(right: Callable[..., Any]) -> Callable[..., Any]:
    def _granted(self: PeerGroup, peer: str, message: SlotGranted, now: float) -> Any:
        borrower = self._dispatcher.queue_for_peer(message.key).borrower
        grant = None if borrower is None else borrower.granted(message, now)
        return [] if grant is None else [grant]

    return _granted


def _takes_declarations_of_any_view(right: Callable[..., Any]) -> Callable[..., Any]:
    def _declared(self: PeerGroup, peer: str, declare: Declare, now: float) -> Any:
        epoch = declare.epoch if self._view is None else self._view.epoch
        return right(self, peer, Declare(epoch, declare.holdings), now)

    return _declared


def _keeps_for_ever(right: Callable[..., Any]) -> Callable[..., Any]:
    def _return_expired(self: Borrower, now: float) -> list[Any]:
        return []

    return _return_expired


def _is_always_valid(right: Callable[..., bool]) -> Callable[..., bool]:
    def is_valid(self: PeerLiveness, peer: str, now: float) -> bool:
        return True

    return is_valid


def _is_deaf_to_recalls(right: Callable[..., None]) -> Callable[..., None]:
    def recalled(self: Borrower, message: Recall, now: float) -> None:
        return None

    return recalled


def _serves_itself_first(right: Callable[..., Any]) -> Callable[..., Any]:
    def _set_others(self: Borrower, others_age_s: float | None, now: float) -> None:
        return None

    return _set_others


def _prefers_its_own(right: Callable[..., Any]) -> Callable[..., Any]:
    def match(self: Lender, now: float) -> Any:
        return self.queue.match_own(now) or right(self, now)

    return match


def _keeps_slots_of_lost_sessions(right: Callable[..., None]) -> Callable[..., None]:
    def _replace_loans(self: Lender, peer: str, declared: dict[int, str], first: bool) -> None:
        kept = {lease: replica.id for lease, replica in self._loans.get(peer, {}).items()}
        right(self, peer, {**kept, **declared}, first)

    return _replace_loans


def _trusts_suspects(right: Callable[..., None]) -> Callable[..., None]:
    def reported(self: HealthWatch, message: Failed, now: float) -> None:
        return None

    return reported


def _never_forgives(right: Callable[..., Any]) -> Callable[..., Any]:
    def answered(self: HealthWatch, probe: HealthProbe, sign: HealthSign, now: float) -> Any:
        return right(self, probe, HealthSign.NONE, now)

    return answered


def _takes_any_end(right: Callable[..., bool]) -> Callable[..., bool]:
    def _is_end_of(ended: Mapping[str, Any], started_at: float) -> bool:
        return True

    return _is_end_of


def _compares_ends_only(right: Callable[..., bool]) -> Callable[..., bool]:
    def _is_end_of(ended: Mapping[str, Any], started_at: float) -> bool:
        return right({**ended, "startedAt": wall_text(started_at)}, started_at)

    return _is_end_of


def _takes_an_ended_router_for_idle(right: Callable[..., ViewHistory]) -> Callable[..., ViewHistory]:
    def without(self: ViewHistory, pod: str, held: InFlight = history.NOTHING_KNOWN) -> ViewHistory:
        record = self.records.get(pod)
        idle = {member.name: held.get(member.name, {}) for member in record.part.members} if record else {}
        return right(self, pod, idle)

    return without


def _takes_reports_of_any_group(right: Callable[..., ViewHistory]) -> Callable[..., ViewHistory]:
    def after_end(found: ViewHistory, pod: str, group: str, held: InFlight) -> ViewHistory:
        record = found.records.get(pod)
        return right(found, pod, group if record is None else record.group, held)

    return after_end


def _forgets_the_group_before(right: Callable[..., ViewHistory]) -> Callable[..., ViewHistory]:
    def said(self: ViewHistory, pod: str, record: PodRecord) -> ViewHistory:
        return replace(self, records={**self.records, pod: record})

    return said


def _reserves_nothing_for_late_reports(right: Callable[..., Any]) -> Callable[..., Any]:
    def add(self: Quarantine, departed: tuple[Departed, ...], now: float) -> tuple[str, ...]:
        before = set(self.members)
        return tuple(name for name in right(self, departed, now) if name not in before)

    return add


BUGS_OF_ROUTERS: dict[str, Wrong] = {
    "end of an earlier container": (container_end, "_is_end_of", _takes_any_end),
    "end by its time alone": (container_end, "_is_end_of", _compares_ends_only),
    "idle after death": (ViewHistory, "without", _takes_an_ended_router_for_idle),
    "report of another group": (history, "after_end", _takes_reports_of_any_group),
    "group before forgotten": (ViewHistory, "said", _forgets_the_group_before),
    "late report": (Quarantine, "add", _reserves_nothing_for_late_reports),
}

BUGS: dict[str, Wrong] = {
    "double grant": (Lender, "_add_loan", _lends_and_keeps),
    "lost return": (PeerGroup, "_returned", _loses_returns),
    "return counted twice": (Lender, "returned", _counts_returns_twice),
    "no learning": (PeerGroup, "_finish_learning", _does_not_learn),
    "no quarantine": (Quarantine, "add", _quarantines_nothing),
    "grant of an old owner": (PeerGroup, "_granted", _takes_grants_of_anybody),
    "declaration of another view": (PeerGroup, "_declared", _takes_declarations_of_any_view),
    "hoarding": (Borrower, "_return_expired", _keeps_for_ever),
    "no validity": (PeerLiveness, "is_valid", _is_always_valid),
    "deaf to recalls": (Borrower, "recalled", _is_deaf_to_recalls),
    "selfish borrower": (Borrower, "_set_others", _serves_itself_first),
    "selfish owner": (Lender, "match", _prefers_its_own),
    "loans of lost sessions": (Lender, "_replace_loans", _keeps_slots_of_lost_sessions),
    "deaf to reports of failures": (HealthWatch, "reported", _trusts_suspects),
    "suspects for ever": (HealthWatch, "answered", _never_forgives),
    **BUGS_OF_ROUTERS,
}


ROUTERS: dict[str, Any] = {
    "workers": 4,
    "routers": 2,
    "faults": ROUTER_FAULTS,
    "fault_every_s": 0.2,
    "busy_s": 4.0,
    "lease_s": 0.5,
    "link_s": 0.001,
    "scoring_timeout_s": 0.4,
    "work_s": 0.15,
    "requests_per_s": 60.0,
    "long_work": False,
    "tunnels": 0.0,
}
"""Scenario with many deaths of routers under much load."""


WHERE: dict[str, dict[str, Any]] = {
    "no validity": {
        "workers": 3,
        "faults": (CUT, ONE_WAY, PAUSE),
        "tunnels": 0.0,
        "fault_every_s": 0.5,
        "busy_s": 4.0,
        "lease_s": 0.3,
        "link_s": 0.002,
        "scoring_timeout_s": 0.1,
        "work_s": 0.05,
        "requests_per_s": 60.0,
    },
    **dict.fromkeys(BUGS_OF_ROUTERS, ROUTERS),
}
"""Scenario in which a bug shows soon: silence longer than a lease and the longest request.
Links are fast against a lease, or a sign of life would come too late for its turn."""


@contextmanager
def planted(bug: str | None) -> Iterator[None]:
    """Run with a planted bug; None for none."""
    if bug is None:
        yield
        return
    owner, name, make_wrong = BUGS[bug]
    right = getattr(owner, name)
    setattr(owner, name, make_wrong(right))
    try:
        yield
    finally:
        setattr(owner, name, right)
