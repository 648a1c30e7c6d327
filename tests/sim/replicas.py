"""Replicas, as they see themselves: which requests run on each, and since when each of its slots has been free."""

from collections import deque
from dataclasses import replace

from serving.endpoint import VersionKey
from serving.replica import Replica, ReplicaState
from tests.sim.failures import PromiseBroken


class SimReplica:
    """One replica. It never refuses: what it is sent runs, so that what is sent wrongly is seen."""

    __slots__ = ("ceiling", "declared", "down", "free_since", "idle_before", "listed", "most", "running")

    def __init__(self, declared: Replica) -> None:
        self.declared = declared
        self.listed = True
        self.down = False
        """Nobody can connect to it."""
        self.running: dict[object, float] = {}
        """What is in flight, with its start."""
        self.ceiling = self.slots
        """What may be in flight after a start; follows `slots` at once upwards, and downwards when workers know."""
        self.free_since: deque[float] = deque([0.0] * self.slots)
        """One moment per free slot, the longest free one first."""
        self.idle_before = 0.0
        """No slot counts as free before."""
        self.most = 0

    @property
    def slots(self) -> int:
        """Slots that new requests may use."""
        in_service = self.listed and self.declared.state is ReplicaState.READY
        return self.declared.slots if in_service else 0

    def start(self, work: object, now: float) -> None:
        """A request arrives. One too many breaks the first promise."""
        self.running[work] = now
        if self.free_since:
            self.free_since.popleft()
        count = len(self.running)
        self.most = max(self.most, count)
        if count > self.ceiling:
            raise PromiseBroken(
                f"{self.declared.id} has {count} requests in flight and {self.ceiling} slots "
                f"({self.declared.slots} declared, {self.declared.state}, {'' if self.listed else 'not '}listed): "
                + ", ".join(str(one) for one in self.running)
            )

    def end(self, work: object, now: float) -> bool:
        """A request has ended, or does not count any more. Whether it ran until now."""
        if self.running.pop(work, None) is None:
            return False
        if len(self.free_since) < self.slots - len(self.running):
            self.free_since.append(max(now, self.idle_before))
        return True

    def change(self, declared: Replica, idle_before: float, listed: bool = True) -> None:
        """It has other slots or another state from now on; free slots count from `idle_before`."""
        self.declared, self.listed = declared, listed
        self.ceiling = max(self.ceiling, self.slots)
        self.hide(idle_before)

    def hide(self, idle_before: float) -> None:
        """Its slots cannot be expected to be used before that moment."""
        self.idle_before = max(idle_before, self.idle_before)
        self.free_since = deque([self.idle_before] * max(0, self.slots - len(self.running)))

    def with_state(self, state: ReplicaState) -> Replica:
        """Its record in another state."""
        return replace(self.declared, state=state)


class Site:
    """All replicas of a run."""

    def __init__(self) -> None:
        self.replicas: dict[str, SimReplica] = {}
        self.by_key: dict[VersionKey, list[SimReplica]] = {}

    def add(self, declared: Replica, now: float) -> SimReplica:
        """A replica that has not been there before."""
        one = self.replicas[declared.id] = SimReplica(declared)
        one.hide(now)
        self.by_key.setdefault(declared.key, []).append(one)
        return one

    def longest_free(self, key: VersionKey) -> tuple[float, str] | None:
        """Since when a slot of the version has been free, and whose; None without a free one."""
        free = [
            (one.free_since[0], one.declared.id) for one in self.by_key.get(key, ()) if one.free_since and not one.down
        ]
        return min(free, default=None)

    def slots(self, key: VersionKey) -> int:
        """Of one version, in service."""
        return sum(one.slots for one in self.by_key.get(key, ()))

    def settle(self) -> None:
        """Every worker knows by now what was declared: nothing may start beyond it any more."""
        for one in self.replicas.values():
            one.ceiling = one.slots

    def listed(self) -> list[Replica]:
        """Records of what is there now."""
        return [one.declared for one in self.replicas.values() if one.listed]
