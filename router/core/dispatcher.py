"""Late binding: requests wait in one FIFO per version and get a slot as soon as one is free (`VersionQueue`).

Results for the shell besides leases are collected in `Dispatcher.drained`, `starved`, `lapsed`, `probes`, `unpooled`
and `outbox`.

A worker is alone until it enters a view (`router.core.peer_group`).
"""

from collections import Counter
from collections.abc import Iterator
from itertools import count

from router.core.health_watch import HealthProbe
from router.core.ledger import InflightRecorder, Lease
from router.core.peer_group import PeerGroup
from router.core.router_errors import NoReadyReplicas, RouterError
from router.core.slot_messages import PeerMessage, Recall
from router.core.version_queue import Grant, Ticket, VersionQueue
from router.core.view import View
from serving.endpoint import ReplicaKind, Version, VersionKey
from serving.replica import Replica

__all__ = ["Dispatcher", "Grant", "Ticket", "VersionQueue"]


class Dispatcher:
    """All version queues of one worker.

    After each call the shell sends and clears `outbox`, and schedules a call of `tick` at `due`.
    """

    def __init__(
        self,
        me: str = "",
        incarnation: int = 0,
        lease_s: float = 2.0,
        keep_s: float = 0.005,
        flights: InflightRecorder | None = None,
    ) -> None:
        """`me`: name of this worker in views, default "" (alone). `incarnation`: 32 random bits, for unique lease ids.

        `lease_s`: length of a quarantine, and validity of an owner's answer, in seconds. `keep_s`: seconds for which a
        borrower keeps an idle slot. `flights`: observer of leases, default none.
        """
        self.lease_ids = count((incarnation << 32) + 1)
        self.flights = flights
        self.outbox: list[tuple[str, PeerMessage]] = []
        """Messages to linked peers, in order."""
        self.counters: Counter[str] = Counter(
            dict.fromkeys(("double_returns", "late_grants", "messages_without_session", "stale_grants"), 0)
        )
        """Harmless irregularities between workers."""
        self.lapsed: list[Lease] = []
        """Tunnels on slots of an owner unreachable for too long; the shell ends them."""
        self.group = PeerGroup(self, me, lease_s, keep_s)
        self.queues: dict[VersionKey, VersionQueue] = {}
        self.drained: list[str] = []
        """Drained replicas; emptied by the shell."""
        self.starved: list[VersionQueue] = []
        """Versions with a request that found no free slot; emptied by the shell."""
        self.probes: list[HealthProbe] = []
        """Health requests to be sent; emptied by the shell."""
        self.unpooled: list[str] = []
        """Replicas whose idle connections are to be closed; emptied by the shell."""
        self.retired: set[str] = set()
        """Retired replicas; the provider may still list them as READY."""
        self._keys: dict[str, VersionKey] = {}
        self._forgotten: set[VersionKey] = set()

    def queue(self, key: VersionKey) -> VersionQueue:
        """The version's queue, created on first use."""
        queue = self.queues.get(key)
        if queue is None:
            queue = self.queues[key] = VersionQueue(key, self)
            self.group.add_queue(queue)
        return queue

    def queue_for_peer(self, key: VersionKey) -> VersionQueue:
        """The version's queue. One known only from peers is pruned once empty."""
        if key not in self.queues:
            self._forgotten.add(key)
        return self.queue(key)

    def configure(self, endpoint: str, version: Version) -> VersionQueue:
        """Set queue wait and scoring timeout, for present and future requests."""
        key = VersionKey(endpoint, version.name)
        self._forgotten.discard(key)
        queue = self.queue(key)
        queue.queue_wait_s = version.queue_wait_s
        queue.scoring_timeout_s = version.scoring_timeout_s
        queue.stream_idle_timeout_s = version.stream_idle_timeout_s
        queue.health_path = version.replica.health_path
        queue.host_header = version.replica.host_header
        queue.health_timeout_s = version.liveness.timeout_s
        queue.static = version.replica.kind is ReplicaKind.STATIC
        return queue

    def upsert(self, replica: Replica, now: float) -> list[Grant]:
        """Add or update a replica."""
        self._keys[replica.id] = replica.key
        return self.queue(replica.key).lifecycle.upsert(replica, now)

    def remove(self, replica_id: str) -> None:
        """Remove a replica; an unknown id is ignored."""
        key = self._keys.pop(replica_id, None)
        self.retired.discard(replica_id)
        if key is not None:
            self.queues[key].lifecycle.remove(replica_id)

    def retire(self, key: VersionKey, count: int) -> list[str]:
        """Retire up to `count` replicas of a version; see `ReplicaLifecycle.retire`."""
        queue = self.queues.get(key)
        return queue.lifecycle.retire(count) if queue else []

    def forget(self, key: VersionKey) -> list[tuple[Ticket, RouterError]]:
        """Drop a version that is no longer declared; returns its waiting tickets, each with its error."""
        queue = self.queues.get(key)
        if queue is None:
            return []
        self._forgotten.add(key)
        return [(ticket, NoReadyReplicas(key.endpoint)) for ticket in queue.clear()]

    def prune(self) -> None:
        """Delete the queues of forgotten versions without replicas, tickets or leases; called periodically."""
        for key in list(self._forgotten):
            queue = self.queues[key]
            asked = queue.lender is not None and queue.lender.peer_queues
            idle = not queue.replicas and not queue.waiting and not queue.ledger.busy and not asked
            if idle and not queue.ledger.violations:
                self._forgotten.discard(key)
                del self.queues[key]

    def known(self) -> Iterator[str]:
        """Ids of all replicas upserted and not removed."""
        yield from list(self._keys)

    def close_idle(self, key: VersionKey, replica_id: str) -> None:
        """Have idle slots of the replica returned, and idle connections to it closed, in all workers.

        A server with few threads may give all of them to idle connections.
        """
        self.unpooled.append(replica_id)
        for peer in self.group.linked:
            self.group.send(peer, Recall(key, replica_id, None))

    def slots_of(self, replica_id: str) -> int:
        """Slots of the replica; 0 if it is unknown."""
        key = self._keys.get(replica_id)
        replica = self.queues[key].replicas.get(replica_id) if key is not None else None
        return replica.slots if replica is not None else 0

    def recalled(self, peer: str, message: Recall, now: float) -> None:
        """Apply a recall: close idle connections to its replica; return slots if `peer` is the owner of the version."""
        if message.replica:
            self.unpooled.append(message.replica)
        borrower = self.queue_for_peer(message.key).borrower
        if borrower is not None and borrower.owner == peer:
            borrower.recalled(message, now)

    # ---- other workers

    def enter(self, view: View, now: float) -> list[Grant]:
        """Enter a newer view of the group; others are ignored."""
        return self.group.enter(view, now)

    def link_up(self, peer: str, now: float) -> list[Grant]:
        """Start a session with a peer."""
        return self.group.link_up(peer, now)

    def link_down(self, peer: str, now: float) -> None:
        """End the session: undelivered messages of it are lost."""
        self.group.link_down(peer, now)

    def receive(self, peer: str, message: PeerMessage, now: float) -> list[Grant]:
        """Handle the next `message` of the session with `peer`; in order, each once. Returns grants of this worker."""
        return self.group.receive(peer, message, now)

    def due(self) -> float | None:
        """Time of the next `tick`, or None."""
        return self.group.timers.next()

    def tick(self, now: float) -> list[Grant]:
        """Run timers due by now."""
        return self.group.timers.run(now)
