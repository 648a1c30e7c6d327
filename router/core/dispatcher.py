"""Late binding: requests wait in one FIFO per version and get a slot the moment one is free (`VersionQueue`).

What the shell must be told besides leases (a withdrawn replica is idle, a version is starved) collects in
`Dispatcher.drained` and `Dispatcher.starved`, what must be said to other workers in `Dispatcher.outbox`.

A worker is alone until it enters a view (`router.core.peer_group`).
"""

from collections import Counter
from collections.abc import Iterator
from itertools import count

from router.core.ledger import InflightRecorder, Lease
from router.core.peer_group import PeerGroup
from router.core.router_errors import NoReadyReplicas, RouterError
from router.core.slot_messages import PeerMessage
from router.core.version_queue import Grant, Ticket, VersionQueue
from router.core.view import View
from serving.endpoint import ReplicaKind, Version, VersionKey
from serving.replica import Replica

__all__ = ["Dispatcher", "Grant", "Ticket", "VersionQueue"]


class Dispatcher:
    """Every version of one worker.

    After each call the shell sends what is in `outbox` and clears it, and sees to it that `tick` is called at `due`.
    """

    def __init__(
        self,
        me: str = "",
        incarnation: int = 0,
        lease_s: float = 2.0,
        keep_s: float = 0.005,
        flights: InflightRecorder | None = None,
    ) -> None:
        """`me`: this worker's name in views. `incarnation`: 32 random bits, so that lease ids differ between workers.

        `lease_s`: how long what a dead worker used is left alone, and after how much silence of an owner nothing more
        is begun on its slots. `keep_s`: how long a borrower keeps a slot for its next request.
        """
        self.lease_ids = count((incarnation << 32) + 1)
        self.flights = flights
        self.outbox: list[tuple[str, PeerMessage]] = []
        """What is to be said, in order; to peers with a session only."""
        self.counters: Counter[str] = Counter(
            dict.fromkeys(("double_returns", "late_grants", "messages_without_session", "stale_grants"), 0)
        )
        """Things between workers that are harmless, but worth a number."""
        self.lapsed: list[Lease] = []
        """Tunnels on slots of an owner that has been out of reach for too long; the shell ends them now."""
        self.group = PeerGroup(self, me, lease_s, keep_s)
        self.queues: dict[VersionKey, VersionQueue] = {}
        self.drained: list[str] = []
        """Withdrawn replicas on which nothing is in flight any more; the shell takes them from here."""
        self.starved: list[VersionQueue] = []
        """Versions for which a request has found no free slot since the shell last looked."""
        self.retired: set[str] = set()
        """Replicas that shall never serve again, though they may still be listed as READY."""
        self._homes: dict[str, VersionKey] = {}
        self._forgotten: set[VersionKey] = set()

    def queue(self, key: VersionKey) -> VersionQueue:
        """The version's queue, made on first use."""
        queue = self.queues.get(key)
        if queue is None:
            queue = self.queues[key] = VersionQueue(key, self)
            self.group.add_queue(queue)
        return queue

    def queue_for_peer(self, key: VersionKey) -> VersionQueue:
        """The version's queue; one of which only a peer has told is dropped once nothing of it is left."""
        if key not in self.queues:
            self._forgotten.add(key)
        return self.queue(key)

    def configure(self, endpoint: str, version: Version) -> VersionQueue:
        """Take over how long requests may wait and run: new ones, and those that wait or run already."""
        key = VersionKey(endpoint, version.name)
        self._forgotten.discard(key)
        queue = self.queue(key)
        queue.queue_wait_s = version.queue_wait_s
        queue.scoring_timeout_s = version.scoring_timeout_s
        queue.static = version.replica.kind is ReplicaKind.STATIC
        return queue

    def upsert(self, replica: Replica, now: float) -> list[Grant]:
        """A replica is new or has changed."""
        self._homes[replica.id] = replica.key
        return self.queue(replica.key).upsert(replica, now)

    def remove(self, replica_id: str) -> None:
        """A replica is gone; an unknown id is harmless."""
        key = self._homes.pop(replica_id, None)
        self.retired.discard(replica_id)
        if key is not None:
            self.queues[key].remove(replica_id)

    def retire(self, key: VersionKey, count: int) -> list[str]:
        """See VersionQueue.retire."""
        queue = self.queues.get(key)
        return queue.retire(count) if queue else []

    def forget(self, key: VersionKey) -> list[tuple[Ticket, RouterError]]:
        """The version is no longer declared: what waits is answered now, what runs ends as it will."""
        queue = self.queues.get(key)
        if queue is None:
            return []
        self._forgotten.add(key)
        return [(ticket, NoReadyReplicas(key.endpoint)) for ticket in queue.clear()]

    def prune(self) -> None:
        """Drop what is kept of forgotten versions that nothing runs on any more; called from time to time."""
        for key in list(self._forgotten):
            queue = self.queues[key]
            asked = queue.lender is not None and queue.lender.peer_queues
            idle = not queue.replicas and not queue.waiting and not queue.ledger.busy and not asked
            if idle and not queue.ledger.violations:
                self._forgotten.discard(key)
                del self.queues[key]

    def known(self) -> Iterator[str]:
        """Ids of the replicas that were upserted and not removed."""
        yield from list(self._homes)

    # ---- other workers

    def enter(self, view: View, now: float) -> list[Grant]:
        """A new view of the group; one that is not newer than the last is ignored."""
        return self.group.enter(view, now)

    def link_up(self, peer: str, now: float) -> list[Grant]:
        """A session with a peer has begun."""
        return self.group.link_up(peer, now)

    def link_down(self, peer: str, now: float) -> None:
        """It has ended: nothing that was said in it and has not come will come."""
        self.group.link_down(peer, now)

    def receive(self, peer: str, message: PeerMessage, now: float) -> list[Grant]:
        """A message of the session, in the order in which they were sent, each once."""
        return self.group.receive(peer, message, now)

    def due(self) -> float | None:
        """When `tick` has something to do, or None."""
        return self.group.timers.next()

    def tick(self, now: float) -> list[Grant]:
        """Do what is due by now."""
        return self.group.timers.run(now)
