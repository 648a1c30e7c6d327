"""Passive health of the replicas of one version: failed requests in, health requests and grants out.

The owner of the version judges; a borrower reports to it. Health requests to be sent are collected in
`Dispatcher.probes`, idle connections to be closed in `Dispatcher.unpooled`.
"""

import math
from typing import TYPE_CHECKING, NamedTuple

from router.core.health import (
    STANDINGS,
    UNCERTAIN,
    Failure,
    HealthSign,
    Standing,
    StandingEvent,
    ejection_seconds,
    is_sign_of_life,
    probe_pause_s,
)
from router.core.ledger import ReplicaSlots
from router.core.slot_messages import Failed

if TYPE_CHECKING:
    from router.core.dispatcher import Dispatcher
    from router.core.version_queue import Grant, VersionQueue

SHOWN_AFTER_S = 0.1
"""Most suspects answer within milliseconds: these are not reported."""

_FAILURES = {failure.value: failure for failure in Failure}


class HealthProbe(NamedTuple):
    """A health request to be sent."""

    queue: "VersionQueue"
    replica: ReplicaSlots
    turn: int
    """Value of `ReplicaSlots.turn`: the result of another turn is out of date."""


class HealthWatch:
    """Standing of the replicas of one version queue."""

    __slots__ = ("_dispatcher", "_queue", "_some", "ejected", "suspected")

    def __init__(self, queue: "VersionQueue", dispatcher: "Dispatcher") -> None:
        self._queue = queue
        self._dispatcher = dispatcher
        # True if a replica may be suspect.
        self._some = False
        self.ejected = 0
        """Ejections since the start."""
        self.suspected = 0
        """Times a replica that took requests became suspect."""

    # ---- failures

    def failed(self, replica: ReplicaSlots, failure: Failure, now: float) -> None:
        """Judge a failure of a request, before its slot is released; a borrower leaves that to the owner."""
        if failure is not Failure.ABANDONED:
            replica.failures += 1
        borrower = self._queue.borrower
        if borrower is not None:
            if failure is not Failure.UNREACHABLE:
                replica.standing = Standing.SUSPECT
            borrower.replica_failed(replica, failure)
        elif failure is Failure.UNREACHABLE and self.others_serve(replica):
            if replica.standing is Standing.SERVING:
                self._move(replica, StandingEvent.UNREACHABLE)
                self._due_at(now + ejection_seconds(replica.failures), replica)
        else:
            self.doubt(replica)

    def reported(self, message: Failed, now: float) -> None:
        """Apply a borrower's report of a failure, or of a success after failures."""
        replica = self._queue.replicas.get(message.replica)
        if self._queue.lender is None or replica is None:
            return
        if not message.failure:
            replica.failures = 0
        elif message.failure in _FAILURES:
            self.failed(replica, _FAILURES[message.failure], now)

    def doubt(self, replica: ReplicaSlots) -> None:
        """Assign no request to the replica until its health path has answered."""
        if replica.standing is not Standing.SUSPECT:
            self._suspect(replica, StandingEvent.DOUBTED)
        self.lost(replica)

    def lost(self, replica: ReplicaSlots) -> None:
        """Ask the ejected replicas for health if `replica` was the last that served."""
        if not self.others_serve(replica):
            for other in self._queue.replicas.values():
                if other.standing is Standing.EJECTED:
                    self._suspect(other, StandingEvent.NEEDED)

    def others_serve(self, replica: ReplicaSlots) -> bool:
        """True if another replica can take requests, as far as this worker knows."""
        borrower = self._queue.borrower
        blocked = borrower.blocked if borrower is not None else ()
        others = [other for other in self._queue.replicas.values() if other is not replica]
        return any(not other.disabled and not other.barred and other.id not in blocked for other in others)

    # ---- health requests

    def suspects(self) -> tuple[str, ...]:
        """Replicas in need of an answer of their health path."""
        return tuple(one.id for one in self._queue.replicas.values() if one.standing in UNCERTAIN and one.present)

    def reported_suspects(self, now: float) -> tuple[str, ...]:
        """Suspects to be reported as not ready: those without an answer for SHOWN_AFTER_S, at the owner."""
        if not self._some or self._queue.borrower is not None:
            return ()
        suspects = [one for one in self._queue.replicas.values() if one.standing in UNCERTAIN and one.present]
        shown = tuple(one.id for one in suspects if one.unanswered or now >= one.doubted_at + SHOWN_AFTER_S)
        self._some = bool(suspects)
        if len(shown) < len(suspects):
            self._queue.changed = True  # for the next report
        return shown

    def doubt_declared(self, replica_id: str) -> None:
        """Doubt a replica that is suspect at a peer."""
        replica = self._queue.replicas.get(replica_id)
        if replica is not None and replica.standing not in UNCERTAIN:
            self.doubt(replica)

    def resume(self, replica: ReplicaSlots) -> None:
        """Send the next health request to a suspect: it is in service again, or this worker owns the version now."""
        if replica.standing in UNCERTAIN:
            replica.standing = Standing.SUSPECT
            self._some = True
            self._queue.ledger.bar(replica)
            self._due_at(0.0, replica)

    def clear(self, replica: ReplicaSlots) -> None:
        """The owner has lent a slot of the replica: it is no suspect any more."""
        replica.standing = Standing.SERVING
        replica.barred = False

    def answered(self, probe: HealthProbe, sign: HealthSign, now: float) -> "list[Grant]":
        """Apply the result of a health request."""
        replica, queue = probe.replica, self._queue
        if replica.turn != probe.turn or replica.standing is not Standing.PROBING or queue.borrower is not None:
            return []
        # A server may say 503 for as long as it works on a request that was abandoned, but for no longer.
        at_work = replica.busy > 0 or now - replica.doubted_at > queue.scoring_timeout_s
        if not is_sign_of_life(sign, at_work):
            replica.unanswered += 1
            self._move(replica, StandingEvent.UNANSWERED)
            pause_s = probe_pause_s(replica.unanswered, queue.queue_wait_s)
            self._due_at(max(now, replica.probed_at + pause_s), replica)
            return []
        if replica.failures > 1 and self.others_serve(replica):
            self._move(replica, StandingEvent.RELAPSED)
            self._due_at(now + ejection_seconds(replica.failures - 1), replica)
            return []
        self._move(replica, StandingEvent.ANSWERED)
        return queue.match_all(now)

    # ---- inside

    def _suspect(self, replica: ReplicaSlots, event: StandingEvent) -> None:
        """Ask the health path of the replica at once."""
        replica.unanswered = 0
        replica.doubted_at = math.inf  # until the health request
        self._move(replica, event)
        self._due_at(0.0, replica)

    def _move(self, replica: ReplicaSlots, event: StandingEvent) -> None:
        """Change the standing of the replica, and its place in the ledger."""
        queue = self._queue
        before, replica.standing = replica.standing, STANDINGS[replica.standing, event]
        replica.turn += 1
        queue.changed = True
        if replica.standing is Standing.SERVING:
            queue.ledger.readmit(replica)
        elif before is Standing.SERVING:
            self.ejected += replica.standing is Standing.EJECTED
            self.suspected += replica.standing is not Standing.EJECTED
            self._some = True
            queue.ledger.bar(replica)
            self._dispatcher.close_idle(queue.key, replica.id)

    def _due_at(self, moment: float, replica: ReplicaSlots) -> None:
        self._dispatcher.group.timers.at(moment, self._due, replica, replica.turn)

    def _due(self, replica: ReplicaSlots, turn: int, now: float) -> "list[Grant]":
        queue = self._queue
        if replica.turn != turn:
            return []
        if replica.standing is Standing.EJECTED:
            self._move(replica, StandingEvent.DUE)
            return queue.match_all(now)
        # A borrower's suspects are the owner's business; one out of service is asked once it is back (`resume`).
        if replica.standing is Standing.SUSPECT and queue.borrower is None and not replica.disabled:
            if not replica.unanswered:
                replica.doubted_at = now
            self._move(replica, StandingEvent.DUE)
            replica.probed_at = now
            self._dispatcher.probes.append(HealthProbe(queue, replica, replica.turn))
        return []
