"""Faults of a run: start, target and end."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from router.core.health import LONGEST_EJECTION_S
from router.core.peer_group import RECLAIM_MARGIN_S
from serving.endpoint import VersionKey
from tests.sim import scenario as kinds
from tests.sim.routers import Pod

if TYPE_CHECKING:
    from tests.sim.world import World


class Faults:
    """Draws faults one by one until the busy part of the run is over."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._next_index = world.scenario.workers
        self._vanished: set[VersionKey] = set()
        self._table: dict[str, Callable[[], None]] = {
            kinds.CRASH: self._crash,
            kinds.PAUSE: self._pause,
            kinds.LEAVE: self._leave,
            kinds.JOIN: self._join,
            kinds.FLAP: self._flap,
            kinds.CUT: self._cut,
            kinds.STALL: self._stall,
            kinds.ONE_WAY: self._one_way,
            kinds.RESET: self._reset,
            kinds.RETIRE: self._retire,
            kinds.RESIZE: self._resize,
            kinds.VANISH: self._vanish,
            kinds.DOWN: self._down,
            kinds.HANG: self._hang,
            kinds.ROUTER_DEATH: self._router_death,
            kinds.API_AWAY: self._api_away,
        }

    def start(self) -> None:
        """Schedule the first fault, if the scenario has any."""
        scenario = self._world.scenario
        if scenario.loss or scenario.duplication or scenario.reordering:
            self._world.network.faulty = True
            self._on(scenario.busy_s, self._world.network_is_good)
        if scenario.faults:
            self._plan()

    def _plan(self) -> None:
        world = self._world
        pause_s = world.random.expovariate(1 / world.scenario.fault_every_s)
        if world.clock.now + pause_s < world.scenario.busy_s:
            world.clock.after(pause_s, self._strike)

    def _strike(self) -> None:
        world = self._world
        kind = world.random.choice(world.scenario.faults)
        world.note("fault", kind)
        self._table[kind]()
        if kind != kinds.HANG:  # the promises hold for the other replicas
            world.judge.disturb(world.clock.now, world.scenario.settle_s)
        self._plan()

    def _on(self, duration_s: float, over: Callable[..., object], *args: object) -> None:
        """Start a lasting fault; it ends with the busy part at the latest."""
        world = self._world
        world.judge.faults_on += 1
        world.clock.at(min(world.clock.now + duration_s, world.scenario.busy_s), self._off, over, args)

    def _off(self, over: Callable[..., object], args: tuple[object, ...]) -> None:
        world = self._world
        world.note("fault ends", over.__name__)
        world.judge.faults_on -= 1
        over(*args)
        world.judge.disturb(world.clock.now, world.scenario.settle_s)

    def _duration_s(self) -> float:
        """Pauses: short ones, and some longer than a lease and the longest request."""
        scenario, random = self._world.scenario, self._world.random
        reclaimed_s = scenario.lease_s + scenario.scoring_timeout_s + RECLAIM_MARGIN_S
        return random.choice((0.05, 0.3 * scenario.lease_s, 2 * reclaimed_s)) * random.random()

    def _pick(self) -> str | None:
        names = [worker.name for worker in self._world.supervisor.serving()]
        return self._world.random.choice(names) if names else None

    # ---- lives

    def _crash(self) -> None:
        name = self._pick()
        if name is None:
            return
        world = self._world
        world.supervisor.kill(name)
        index = int(name[1:].split(".")[0])
        world.clock.after(0.05 + 0.3 * world.random.random(), self._start, index)

    def _start(self, index: int) -> None:
        world = self._world
        if not world.supervisor.routers.of(index).runs:
            return
        world.supervisor.start(index)
        world.supervisor.publish()
        world.judge.disturb(world.clock.now, world.scenario.settle_s)

    def _join(self) -> None:
        if len(self._world.supervisor.workers) < 2 * self._world.scenario.workers:
            self._start(self._next_index)
            self._next_index += 1

    def _leave(self) -> None:
        serving = self._world.supervisor.serving()
        if len(serving) > 1:
            self._world.supervisor.leave(self._world.random.choice(serving).name)

    def _flap(self) -> None:
        """Make a worker ineligible for a moment: its versions move and return; many workers skip the view between."""
        name = self._pick()
        if name is None:
            return
        self._world.supervisor.make_eligible(name, False)
        self._on(self._world.random.choice((0.001, 0.1, 0.5)), self._world.supervisor.make_eligible, name, True)

    def _pause(self) -> None:
        name = self._pick()
        if name is None or self._world.supervisor.workers[name].paused:
            return
        self._world.supervisor.workers[name].paused = True
        self._on(self._duration_s(), self._go_on, name)

    def _go_on(self, name: str) -> None:
        worker = self._world.supervisor.workers.get(name)
        if worker is not None:
            worker.go_on()

    # ---- routers

    def _router_death(self) -> None:
        """End a router, which is started again later; sometimes it crash-loops."""
        world = self._world
        running = [pod for pod in world.supervisor.routers.pods if pod.runs]
        if len(running) < 2:
            return
        pod = world.random.choice(running)
        world.supervisor.kill_router(pod, world.scenario.busy_s)
        self._on(world.random.choice((0.1, 0.5, 2.0)) * (0.2 + world.random.random()), self._router_starts, pod)

    def _router_starts(self, pod: Pod) -> None:
        world = self._world
        busy = world.clock.now + 0.02 < world.scenario.busy_s
        if busy and world.random.random() < 0.3:  # it ends before it has announced itself
            world.supervisor.routers.start_container(pod)
            world.supervisor.kill_router(pod, world.scenario.busy_s)
            self._on(0.5 * world.random.random(), self._router_starts, pod)
        else:
            world.supervisor.start_router(pod)

    def _api_away(self) -> None:
        supervisor = self._world.supervisor
        if not supervisor.api_away:
            supervisor.api_away = True
            self._on(0.5 * self._world.random.random(), self._api_is_back)

    def _api_is_back(self) -> None:
        self._world.supervisor.api_away = False
        self._world.supervisor.publish()

    # ---- links

    def _pairs(self) -> list[tuple[str, str]]:
        """Cut the links between two parts of the workers, or one link."""
        world = self._world
        names = list(world.supervisor.workers)
        if len(names) < 2:
            return []
        if world.random.random() < 0.4:
            one, other = world.random.sample(names, 2)
            return [(one, other)]
        part = set(world.random.sample(names, world.random.randint(1, len(names) - 1)))
        return [(one, other) for one in names if one in part for other in names if other not in part]

    def _cut(self) -> None:
        self._cut_ways([way for one, other in self._pairs() for way in ((one, other), (other, one))])

    def _one_way(self) -> None:
        self._cut_ways(self._pairs())

    def _cut_ways(self, ways: list[tuple[str, str]]) -> None:
        for way in ways:
            self._world.network.way(*way).cut = True
        self._on(self._duration_s(), self._heal, ways)

    def _heal(self, ways: list[tuple[str, str]]) -> None:
        for way in ways:
            self._world.network.way(*way).cut = False

    def _stall(self) -> None:
        ways = [way for one, other in self._pairs() for way in ((one, other), (other, one))]
        for way in ways:
            self._world.network.way(*way).stalled = True
        self._on(self._duration_s(), self._flow, ways)

    def _flow(self, ways: list[tuple[str, str]]) -> None:
        for way in ways:
            self._world.network.release(*way)

    def _reset(self) -> None:
        for one, other in self._pairs()[:3]:
            worker = self._world.supervisor.workers[one]
            worker.do(self._world.network.reset, one, other)

    # ---- replicas

    def _replica_ids(self) -> list[str]:
        return [replica.id for replica in self._world.site.listed() if replica.state == "ready"]

    def _pick_replica(self) -> str | None:
        ids = self._replica_ids()
        return self._world.random.choice(ids) if ids else None

    def _retire(self) -> None:
        key = self._world.random.choice(list(self._world.versions))
        if key not in self._vanished:
            self._world.supervisor.retire(key)

    def _resize(self) -> None:
        self._change_replica(lambda slots: self._world.random.randint(1, kinds.MOST_SLOTS))

    def _change_replica(self, new_slots: Callable[[int], int]) -> None:
        replica_id = self._pick_replica()
        if replica_id is None:
            return
        world = self._world
        one = world.site.replicas[replica_id]
        declared = one.declared
        changed = type(declared)(
            declared.id,
            declared.endpoint,
            declared.version,
            declared.host,
            declared.port,
            declared.state,
            new_slots(declared.slots),
        )
        one.change(changed, world.clock.now + world.scenario.settle_s)
        world.supervisor.tell(changed)

    def _vanish(self) -> None:
        """Unlist a replica for a moment, except one about to be retired."""
        world = self._world
        replica_id = self._pick_replica()
        if replica_id is None:
            return
        one = world.site.replicas[replica_id]
        if one.declared.key in world.supervisor.retiring:
            return
        self._vanished.add(one.declared.key)
        one.change(one.declared, world.clock.now, listed=False)
        world.supervisor.tell_removal(replica_id)
        world.clock.after(0.5 * world.random.random(), self._return, replica_id)

    def _return(self, replica_id: str) -> None:
        """List the replica again; its requests may still run."""
        world = self._world
        one = world.site.replicas[replica_id]
        one.doubted = None  # the provider has seen it answer
        one.change(one.declared, world.clock.now + world.scenario.settle_s)
        world.supervisor.tell(one.declared)
        world.judge.disturb(world.clock.now, world.scenario.settle_s)

    def _down(self) -> None:
        replica_id = self._pick_replica()
        if replica_id is None:
            return
        one = self._world.site.replicas[replica_id]
        one.down = True
        self._on(self._duration_s(), self._up, replica_id)

    def _hang(self) -> None:
        """A replica answers nothing for a while."""
        replica_id = self._pick_replica()
        if replica_id is None:
            return
        world = self._world
        world.site.replicas[replica_id].hung = True
        world.clock.at(
            min(world.clock.now + self._duration_s(), world.scenario.busy_s), self._go_on_answering, replica_id
        )

    def _go_on_answering(self, replica_id: str) -> None:
        one = self._world.site.replicas[replica_id]
        one.hung = False
        one.hide(self._world.clock.now)

    def _up(self, replica_id: str) -> None:
        one = self._world.site.replicas[replica_id]
        one.down = False
        one.hide(self._world.clock.now + LONGEST_EJECTION_S)
