"""Ground truth of replicas: running requests, and the time since each slot is free."""

from collections import deque
from dataclasses import replace

from serving.endpoint import VersionKey
from serving.replica import Replica, ReplicaState
from tests.sim.failures import PromiseBroken


class SimReplica:
    """One replica. It accepts every request, so that a slot violation shows."""

    __slots__ = (
        "ceiling",
        "declared",
        "doubted",
        "down",
        "free_since",
        "hung",
        "idle_before",
        "listed",
        "most",
        "running",
    )

    def __init__(self, declared: Replica) -> None:
        self.declared = declared
        self.listed = True
        self.down = False
        """True if connections are refused."""
        self.hung = False
        """True if nothing is answered, health requests neither."""
        self.doubted: tuple[float, str] | None = None
        """Time and worker of the last request that was given up, until its health path has answered."""
        self.running: dict[object, float] = {}
        """Requests in flight, with their start."""
        self.ceiling = self.slots
        """Limit of requests in flight: raised with `slots` at once, lowered once all workers know."""
        self.free_since: deque[float] = deque([0.0] * self.slots)
        """Times since slots are free, oldest first."""
        self.idle_before = 0.0
        """No slot counts as free before this time."""
        self.most = 0

    @property
    def slots(self) -> int:
        """Slots usable by new requests."""
        in_service = self.listed and self.declared.state is ReplicaState.READY
        return self.declared.slots if in_service else 0

    def start(self, work: object, now: float) -> None:
        """A request starts; one above the limit breaks the first promise."""
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
        """A request has ended or counts no longer; True if it was running."""
        if self.running.pop(work, None) is None:
            return False
        if len(self.free_since) < self.slots - len(self.running):
            self.free_since.append(max(now, self.idle_before))
        return True

    def change(self, declared: Replica, idle_before: float, listed: bool = True) -> None:
        """Change slots or state; free slots count from `idle_before`."""
        self.declared, self.listed = declared, listed
        self.ceiling = max(self.ceiling, self.slots)
        self.hide(idle_before)

    def hide(self, idle_before: float) -> None:
        """Do not expect its slots to be used before a time."""
        self.idle_before = max(idle_before, self.idle_before)
        self.free_since = deque([self.idle_before] * max(0, self.slots - len(self.running)))

    def doubt(self, worker: str, now: float) -> None:
        """A worker has given up a request."""
        self.doubted = (now, worker)

    def trust(self, idle_before: float) -> None:
        """Its health path has answered; free slots count from `idle_before`."""
        self.doubted = None
        self.hide(idle_before)

    def with_state(self, state: ReplicaState) -> Replica:
        """Its record with another state."""
        return replace(self.declared, state=state)


class Site:
    """All replicas of a run."""

    def __init__(self) -> None:
        self.replicas: dict[str, SimReplica] = {}
        self.by_key: dict[VersionKey, list[SimReplica]] = {}

    def add(self, declared: Replica, now: float) -> SimReplica:
        """Create a replica."""
        one = self.replicas[declared.id] = SimReplica(declared)
        one.hide(now)
        self.by_key.setdefault(declared.key, []).append(one)
        return one

    def longest_free(self, key: VersionKey) -> tuple[float, str] | None:
        """Longest free slot of a version: time since, and replica; None if none is free."""
        free = [
            (one.free_since[0], one.declared.id)
            for one in self.by_key.get(key, ())
            if one.free_since and not one.down and not one.hung and one.doubted is None
        ]
        return min(free, default=None)

    def slots(self, key: VersionKey) -> int:
        """Replicas of one version in service."""
        return sum(one.slots for one in self.by_key.get(key, ()))

    def settle(self) -> None:
        """Lower limits: every worker now knows the declared slots."""
        for one in self.replicas.values():
            one.ceiling = one.slots

    def listed(self) -> list[Replica]:
        """Records of the present replicas."""
        return [one.declared for one in self.replicas.values() if one.listed]
