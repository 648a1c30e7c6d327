"""One worker takes over from another: what it may use of each replica while the other still uses some of it. Pure.

Every slot belongs to one of the two at any time. The one that leaves says what it still uses, which only becomes less
(`cluster.link.Holding`); its successor is shown the rest, and more whenever there is less.
"""

from collections.abc import Iterable
from dataclasses import replace

from cluster.link import Holding
from serving.replica import Replica, ReplicaState


class Succession:
    """One handing over, as the successor is told of it."""

    def __init__(self) -> None:
        self._holding: Holding | None = None
        self._ended = False
        self._shown: dict[str, Replica] = {}
        self._owed: set[str] = set()

    def show(self, replicas: Iterable[Replica]) -> list[Replica]:
        """What the successor has to be told, given how the replicas are now."""
        told = []
        for replica in replicas:
            rest = self._rest(replica)
            if rest is not None and self._shown.get(replica.id) != rest:
                self._shown[replica.id] = rest
                told.append(rest)
        return told

    def forget(self, replica_id: str) -> None:
        """The replica is gone."""
        self._shown.pop(replica_id, None)
        self._owed.discard(replica_id)

    def reset(self) -> None:
        """The successor has been told to forget every replica."""
        self._shown.clear()

    def update(self, holding: Holding) -> None:
        """The predecessor uses only this any more."""
        self._holding = holding

    def end(self) -> None:
        """The predecessor has ended, in whatever way: it uses nothing."""
        self._ended = True

    def drained(self, replica_id: str) -> list[str]:
        """The successor has nothing in flight on a withdrawn replica: the replicas on which neither has anything."""
        self._owed.add(replica_id)
        return self.settled()

    def settled(self) -> list[str]:
        """Replicas that the successor has drained, and now the predecessor, too; each is told once."""
        settled = [replica_id for replica_id in self._owed if self._ended or self._is_free(replica_id)]
        self._owed.difference_update(settled)
        return settled

    def _is_free(self, replica_id: str) -> bool:
        return self._holding is not None and not self._holding.busy.get(replica_id)

    def _rest(self, replica: Replica) -> Replica | None:
        """What is left of the replica for the successor; None: it must not know of it yet."""
        if self._ended:
            return replica
        holding = self._holding
        if holding is None or replica.key in holding.wanting:
            return None
        if replica.id in holding.retired and replica.state is ReplicaState.READY:
            replica = replace(replica, state=ReplicaState.DRAINING)
        return replace(replica, slots=max(0, replica.slots - holding.busy.get(replica.id, 0)))
