"""The single source of views and replica changes: delivered to every worker in order, with its own delay.

The workers belong to one router or to several (`tests.sim.routers`).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from router.core.dispatcher import Dispatcher
from router.core.view import Departed, Member, View
from serving.endpoint import VersionKey
from serving.replica import Replica, ReplicaState
from tests.sim.failures import PromiseBroken
from tests.sim.replicas import SimReplica
from tests.sim.routers import Pod, Routers
from tests.sim.worker import SimWorker

if TYPE_CHECKING:
    from tests.sim.world import World

NOTICE_S = 0.02
"""Longest time until the end of a process is noticed and its row of the in-flight table is read."""
SKIPPED = 0.2
"""Share of views delivered so late that most are skipped."""
REMEMBERED_S = 20.0
"""Time for which views list a departed member: longer than any worker lags behind."""


class Supervisor:
    """Starts workers, notices their end, publishes views; also the control plane's changes of replicas."""

    def __init__(self, world: "World") -> None:
        self.workers: dict[str, SimWorker] = {}
        """Running processes, by name."""
        self.retiring: set[VersionKey] = set()
        """Versions with a replica retired so far."""
        self.view = View(0, ())
        self.api_away = False
        """True while no view can be published."""
        self.routers = Routers(world.clock, world.random, world.scenario.routers, self.publish)
        self._world = world
        self._pods: dict[str, Pod] = {}
        self._departed_at: dict[str, float] = {}
        self._generations: dict[int, int] = {}
        self._fed: dict[str, float] = {}
        self._replicas_made = 0

    # ---- workers

    def start(self, index: int) -> SimWorker:
        """Start a process; it is a member from the next view. Some are eligible at once, some later."""
        world = self._world
        ready = world.random.random() < 0.5
        generation = self._generations[index] = self._generations.get(index, 0) + 1
        name = f"w{index}.{generation}"
        dispatcher = Dispatcher(name, world.random.getrandbits(32), world.scenario.lease_s)
        worker = self.workers[name] = SimWorker(name, dispatcher, world)
        world.network.ends[name] = worker
        for key, version in world.versions.items():
            dispatcher.configure(key.endpoint, version)
        for replica in world.site.listed():
            self._feed(worker, worker.hear_replica, replica)
        self._pods[name] = pod = self.routers.of(index)
        pod.indexes.add(index)
        pod.members[name] = Member(name, f"unix:{name}", eligible=ready)
        if not ready:
            world.clock.after(0.2 * world.random.random(), self.make_eligible, name, True)
        world.note(name, "starts")
        return worker

    def leave(self, name: str) -> None:
        """Drain a worker; it ends when idle."""
        worker = self.workers[name]
        worker.leaving = True
        self._pods[name].members[name] = Member(name, f"unix:{name}", eligible=False)
        self.publish()
        epoch = self.view.epoch
        self._world.clock.after(self._world.scenario.feed_s, self._end_when_idle, worker, epoch)

    def make_eligible(self, name: str, eligible: bool) -> None:
        """Change a member's eligibility; a leaving member stays ineligible."""
        worker = self.workers.get(name)
        if worker is not None and not worker.leaving:
            self._pods[name].members[name] = Member(name, f"unix:{name}", eligible)
            self._world.judge.disturb(self._world.clock.now, self._world.scenario.settle_s)
            self.publish()

    def kill(self, name: str) -> None:
        """Kill a process."""
        worker = self.workers[name]
        known = self._world.scenario.held_known
        departed = Departed(name, _in_flight(worker) if known else None)
        self._end(worker)
        self._world.clock.after(self._world.random.random() * NOTICE_S, self._notice, self._pods[name].group, departed)

    def kill_router(self, pod: Pod, until: float) -> None:
        """Kill a router with all its workers. `until`: latest time of the evidence for it."""
        workers = [worker for worker in self.workers.values() if self._pods[worker.name] is pod]
        held = {worker.name: _in_flight(worker) for worker in workers}
        self._world.note(pod.group, "ends")
        for worker in workers:
            self._end(worker)
        self.routers.end_container(pod, held, until)

    def start_router(self, pod: Pod) -> None:
        """Start the next container of a router, with all its workers."""
        self.routers.start_container(pod)
        self._world.note(pod.group, "starts")
        for index in sorted(pod.indexes):
            self.start(index)
        self.publish()

    def serving(self) -> list[SimWorker]:
        """Workers that accept new connections."""
        return [worker for worker in self.workers.values() if not worker.leaving and worker.view is not None]

    def owner(self, key: VersionKey) -> SimWorker | None:
        """Owner of a version in the newest view, if it runs."""
        return self.workers.get(self.view.owner(key))

    def publish(self) -> None:
        """Publish a new view to every worker, once the API server can be reached."""
        world = self._world
        now = world.clock.now
        if self.api_away:
            return
        forgotten = [name for name, moment in self._departed_at.items() if moment <= now - REMEMBERED_S]
        for pod in self.routers.pods:
            pod.departed = [one for one in pod.departed if one.name not in forgotten]
        self.view = self.routers.view(self.view.epoch + 1, forgotten)
        for one in self.view.departed:
            self._departed_at.setdefault(one.name, now)
        world.judge.disturb(now, world.scenario.settle_s)
        world.note("supervisor", "publishes", self.view)
        for worker in self.workers.values():
            delay_s = world.random.random() * world.scenario.feed_s
            if world.random.random() < SKIPPED:
                delay_s += 3 * world.scenario.feed_s
            world.clock.after(delay_s, worker.do, worker.see, self.view)

    def _end_when_idle(self, worker: SimWorker, epoch: int) -> None:
        if not worker.alive:
            return
        world = self._world
        knows = worker.view is not None and worker.view.epoch >= epoch
        if worker.paused or worker.using or worker.waiting or not knows:
            world.clock.after(0.01, self._end_when_idle, worker, epoch)
            return
        departed = Departed(worker.name, {} if world.scenario.held_known else None)
        self._end(worker)
        world.clock.after(world.random.random() * NOTICE_S, self._notice, self._pods[worker.name].group, departed)

    def _end(self, worker: SimWorker) -> None:
        world = self._world
        world.note(worker.name, "ends")
        worker.alive = False
        world.lose(worker)
        world.network.leave(worker.name)
        del self.workers[worker.name]

    def _notice(self, group: str, departed: Departed) -> None:
        """The supervisor of a group notices the end of a worker, if it still runs itself."""
        pod = self._pods[departed.name]
        if pod.runs and pod.group == group:
            del pod.members[departed.name]
            pod.departed.append(departed)
            self.publish()

    # ---- replicas

    def add_replica(self, key: VersionKey, slots: int) -> None:
        """Add a ready replica."""
        self._replicas_made += 1
        number = self._replicas_made
        replica = Replica(
            f"r{number}", key.endpoint, key.version, "127.0.0.1", 9000 + number, ReplicaState.READY, slots
        )
        self._world.site.add(replica, self._world.clock.now + self._world.scenario.settle_s)
        self.tell(replica)

    def tell(self, replica: Replica) -> None:
        """Send a replica's record to every worker."""
        self._world.note("control", "replica", replica.id, str(replica.state), replica.slots)
        for worker in self.workers.values():
            self._feed(worker, worker.hear_replica, replica)

    def tell_removal(self, replica_id: str) -> None:
        """Remove a replica from every worker."""
        self._world.note("control", "replica removed", replica_id)
        for worker in self.workers.values():
            self._feed(worker, worker.hear_removal, replica_id)

    def retire(self, key: VersionKey) -> None:
        """Scale down: the owner retires a replica. Commands and replica changes share one stream."""
        owner = self.owner(key)
        if owner is not None:
            self.retiring.add(key)
            self._feed(owner, self._retire, owner, key)

    def _retire(self, owner: SimWorker, key: VersionKey) -> None:
        world = self._world
        for replica_id in owner.dispatcher.retire(key, 1):
            world.note(owner.name, "retires", replica_id)
            one = world.site.replicas[replica_id]
            one.change(one.with_state(ReplicaState.DRAINING), world.clock.now)
            self.tell(one.declared)

    def drained(self, name: str, replica_id: str) -> None:
        """A worker reports a drained replica."""
        self._world.note(name, "drained", replica_id)
        one = self._world.site.replicas[replica_id]
        if one.running:
            raise PromiseBroken(f"{name} says that {replica_id} is drained while it runs {list(one.running)}")
        self._stop(one)

    def _stop(self, one: SimReplica) -> None:
        """Stop a drained replica once every worker has disabled it: the owner that reported it may have died, and its
        successor may not know yet that it is retired.
        """
        if not one.listed:
            return
        world, key, replica_id = self._world, one.declared.key, one.declared.id
        known = [worker.dispatcher.queue(key).replicas.get(replica_id) for worker in self.workers.values()]
        if one.running or not all(replica is None or replica.disabled for replica in known):
            world.clock.after(0.01, self._stop, one)
            return
        one.change(one.declared, world.clock.now, listed=False)
        one.ceiling = 0
        self.tell_removal(replica_id)
        if len(world.site.by_key[key]) < 40:
            world.clock.after(0.1, self.add_replica, key, one.declared.slots)

    def _feed(self, worker: SimWorker, action: Callable[..., object], *args: object) -> None:
        world = self._world
        delay_s = world.random.random() * world.scenario.feed_s
        moment = max(self._fed.get(worker.name, 0.0), world.clock.now + delay_s)
        self._fed[worker.name] = moment
        world.clock.at(moment, worker.do, action, *args)


def _in_flight(worker: SimWorker) -> dict[str, int]:
    """Requests in flight of a worker, by replica."""
    held: dict[str, int] = {}
    for lease in worker.using.values():
        held[lease.replica.id] = held.get(lease.replica.id, 0) + 1
    return held
