"""Routers of a run, each in a pod: their records, the ends of their containers, and the evidence for these ends.

The real rules decide (`router.membership.history`, `cluster.kubernetes.container_end`). The model is around them: a
container that ends is started again later, which a kubelet may hold back; statuses of its pod arrive late and tell of
earlier containers; the clock of its node may be set back in between; the API server may be away.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

from cluster.kubernetes import container_end
from router.core.view import Departed, Member, View
from router.membership import history
from router.membership.agreement import MembershipPart
from router.membership.history import PodRecord, ViewHistory
from tests.sim.clock import Clock
from tests.sim.failures import PromiseBroken

WALL_SECONDS = 60.0
"""Seconds of a node's clock per second of the run: a run is short, and statuses have whole seconds."""
FIRST_WALL_S = 1_800_000_000.0
STEP_S = 600.0
"""Largest step of a node's clock between two containers."""
NOTICE_S, STATUS_S = 0.1, 0.6
"""Longest delay of an exit report, and of a pod status."""

InFlight = Mapping[str, Mapping[str, int]]


@dataclass(slots=True)
class Pod:
    """The pod of a router."""

    name: str
    node_offset_s: float = 0.0
    containers: int = 0
    """Containers started so far."""
    runs: bool = False
    started_at: float = 0.0
    """Start of the present or last container by the clock of the node."""
    members: dict[str, Member] = field(default_factory=dict)
    departed: list[Departed] = field(default_factory=list)
    indexes: set[int] = field(default_factory=set)
    """Of its workers: all are started with the next container."""

    @property
    def group(self) -> str:
        """Id of the supervisor in the present or last container."""
        return f"{self.name}-{self.containers}"

    def record(self) -> PodRecord:
        """Its part of the membership."""
        part = MembershipPart(tuple(self.members.values()), tuple(self.departed))
        return PodRecord(self.group, self.name, part, self.started_at)


class Routers:
    """All routers of a run, and the membership that they agree on."""

    def __init__(self, clock: Clock, random: Random, count: int, on_change: Callable[[], None]) -> None:
        """`clock`, `random`: of the run. `count`: number of routers. `on_change`: called when a router is removed."""
        self.pods = [Pod(f"pod{number}") for number in range(count)]
        self._clock = clock
        self._random = random
        self._on_change = on_change
        self._history = ViewHistory()
        for pod in self.pods:
            self.start_container(pod)

    def of(self, index: int) -> Pod:
        """The router of the worker with an index."""
        return self.pods[index % len(self.pods)]

    # ---- the membership

    def view(self, epoch: int, forgotten: Collection[str]) -> View:
        """The next view; running routers announce their parts. `forgotten`: departed members to be left out."""
        for pod in self.pods:
            if pod.runs:
                self._history = self._history.said(pod.name, pod.record())
        self._history = self._history.forgetting(forgotten)
        return history.view(ViewHistory(epoch, self._history.records, self._history.departed))

    # ---- containers

    def start_container(self, pod: Pod) -> None:
        """A container starts; the clock of the node may have been set."""
        before = pod.started_at
        if self._random.random() < 0.3:
            pod.node_offset_s = self._random.uniform(-STEP_S, STEP_S)
        started_at = self._wall(pod)
        if abs(started_at - before) <= 2 * container_end.START_TOLERANCE_S:
            pod.node_offset_s += 4 * container_end.START_TOLERANCE_S  # within the tolerance, two cannot be told apart
            started_at = self._wall(pod)
        pod.containers += 1
        pod.started_at = started_at + self._random.random()  # the process, shortly after its container
        pod.members, pod.departed, pod.runs = {}, [], True

    def end_container(self, pod: Pod, held: InFlight, until: float) -> None:
        """The container ends with all its processes. `held`: requests in flight by worker. `until`: latest evidence."""
        pod.runs = False
        ended = {"startedAt": wall_text(pod.started_at), "finishedAt": wall_text(self._wall(pod))}
        group, random = pod.group, self._random
        if random.random() < 0.6:
            self._later(random.uniform(0, NOTICE_S), until, self._report, pod, group, held)
        for state in ("state", "lastState"):
            if random.random() < 0.6:
                self._later(random.uniform(0, STATUS_S), until, self._observe, pod, _status(pod, state, ended))

    def _later(self, delay_s: float, until: float, action: Callable[..., None], *args: object) -> None:
        self._clock.at(min(self._clock.now + delay_s, until), action, *args)

    # ---- evidence

    def _report(self, pod: Pod, group: str, held: InFlight) -> None:
        self._replace(history.after_end(self._history, pod.name, group, held))

    def _observe(self, pod: Pod, status: Mapping[str, Any]) -> None:
        record = self._history.records.get(pod.name)
        if record is not None and container_end.container_ended(status, record.started_at):
            self._replace(self._history.without(pod.name))

    def _replace(self, found: ViewHistory) -> None:
        groups = {record.group for record in found.records.values()}
        for pod in self.pods:
            record = self._history.records.get(pod.name)
            if pod.runs and record is not None and record.group == pod.group and pod.group not in groups:
                raise PromiseBroken(f"{pod.group} is removed while it runs")
        if found != self._history:
            self._history = found
            self._on_change()

    def _wall(self, pod: Pod) -> float:
        return FIRST_WALL_S + WALL_SECONDS * self._clock.now + pod.node_offset_s


def _status(pod: Pod, state: str, ended: Mapping[str, str]) -> dict[str, Any]:
    statuses = [{"name": container_end.CONTAINER, state: {"terminated": ended}}]
    return {"metadata": {"uid": pod.name}, "status": {"phase": "Running", "containerStatuses": statuses}}


def wall_text(wall_s: float) -> str:
    """A time of a pod's status, in whole seconds."""
    return datetime.fromtimestamp(wall_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
