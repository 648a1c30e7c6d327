"""Replicas of one version in one worker: added, retired, removed. Their health: `router.core.health_watch`."""

from typing import TYPE_CHECKING

from router.core.ledger import ReplicaSlots
from serving.replica import Replica, ReplicaState

if TYPE_CHECKING:
    from router.core.dispatcher import Dispatcher
    from router.core.version_queue import Grant, VersionQueue


class ReplicaLifecycle:
    """State changes of the replicas of one version queue."""

    __slots__ = ("_dispatcher", "_queue")

    def __init__(self, queue: "VersionQueue", dispatcher: "Dispatcher") -> None:
        self._queue = queue
        self._dispatcher = dispatcher

    def upsert(self, replica: Replica, now: float) -> "list[Grant]":
        """Add or update a replica."""
        queue = self._queue
        queue.changed = True
        slots = self.ensure_replica(replica.id)
        slots.present = True
        slots.host, slots.port, slots.static = replica.host, replica.port, replica.static
        if slots.slots != replica.slots:
            largest_before = slots.largest
            queue.ledger.resize(slots, replica.slots)
            if queue.lender is not None:
                queue.lender.replica_resized(slots, largest_before)
        if replica.state is ReplicaState.DRAINING:
            self.retire_replica(slots)
        elif replica.state is not ReplicaState.READY:
            self.disable(slots)
        # A retired replica stays retired: an echo of its READY state must not enable it again.
        elif slots.id not in self._dispatcher.retired:
            slots.disabled = False
            if queue.borrower is None:
                queue.ledger.enable(slots)
                queue.health.resume(slots)
        return queue.match_all(now)

    def remove(self, replica_id: str) -> None:
        """Remove a replica. Its leases stay until released."""
        self._queue.changed = True
        replica = self._queue.replicas.get(replica_id)
        if replica is not None:
            replica.present = False
            self.disable(replica)
            self.drop_if_gone(replica)

    def ensure_replica(self, replica_id: str, host: str = "", port: int = 0) -> ReplicaSlots:
        """The record of `replica_id`, created if missing.

        `host`, `port`: address given by a peer, default none; used until the provider gives one. A replica known only
        from peers gets no request by a decision of this worker.
        """
        queue = self._queue
        replica = queue.replicas.get(replica_id)
        if replica is None:
            replica = queue.replicas[replica_id] = ReplicaSlots(replica_id, host, port)
            replica.static = queue.static
            if queue.lender is not None:
                queue.lender.start_quarantine(replica)
        elif not replica.present and host:
            replica.host, replica.port = host, port
        return replica

    # ---- retire, draining, drained

    def disable(self, replica: ReplicaSlots) -> None:
        """Assign no new request to the replica."""
        self._queue.changed = True
        replica.disabled = True
        self._queue.ledger.disable(replica)
        self._recall(replica)
        self._queue.health.lost(replica)

    def retire_replica(self, replica: ReplicaSlots) -> None:
        """Disable the replica for good; it is reported in `Dispatcher.drained` once nothing is in flight on it."""
        self.disable(replica)
        self._dispatcher.retired.add(replica.id)
        self.check_drained(replica)

    def retire(self, count: int) -> list[str]:
        """Retire up to `count` replicas; returns their ids. Only an owner that has finished learning does.

        Order: fewest requests in flight first; among equals those barred first, then longest unchanged first.
        """
        queue = self._queue
        if queue.borrower is not None or (queue.lender is not None and not queue.lender.learned):
            return []
        candidates = dict.fromkeys([*queue.ledger.idle_first(), *queue.replicas.values()])
        in_service = [replica for replica in candidates if replica.in_service]
        in_service.sort(key=lambda replica: (replica.busy, not replica.barred))
        for replica in in_service[:count]:
            self.retire_replica(replica)
        return [replica.id for replica in in_service[:count]]

    def retired(self) -> tuple[str, ...]:
        """Retired replicas that the provider still lists."""
        retired = self._dispatcher.retired
        replicas = self._queue.replicas.values()
        return tuple(replica.id for replica in replicas if replica.present and replica.id in retired)

    def retire_declared(self, replica_id: str) -> None:
        """Retire a replica that the former owner of the version has retired."""
        replica = self._queue.replicas.get(replica_id)
        if replica is not None and replica.present and replica_id not in self._dispatcher.retired:
            self.retire_replica(replica)

    def check_drained(self, replica: ReplicaSlots) -> None:
        """Report a retired replica as drained if nothing is in flight on it. Only the owner can decide that."""
        if replica.disabled and not replica.busy:
            queue = self._queue
            owned = queue.lender is not None or (queue.borrower is None and self._dispatcher.group.alone)
            if owned and replica.id in self._dispatcher.retired:
                self._dispatcher.drained.append(replica.id)
            self.drop_if_gone(replica)

    def drop_if_gone(self, replica: ReplicaSlots) -> None:
        """Delete the record of a removed replica with nothing in flight."""
        queue = self._queue
        if not replica.present and not replica.busy:
            queue.replicas.pop(replica.id, None)
            if queue.borrower is not None:
                queue.borrower.forget_replica(replica.id)

    def _recall(self, replica: ReplicaSlots) -> None:
        if self._queue.borrower is not None:
            self._queue.borrower.return_spares(replica.id)
        elif self._queue.lender is not None:
            self._queue.lender.recall_replica(replica)
