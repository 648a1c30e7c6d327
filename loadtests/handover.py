"""The slots of a version passed between workers, in virtual time: the tail as a function of the delay of one message.

    python -m loadtests.handover [--load 0.9] [--hop-us 100,200] [--turn-us 150] [--requests 20000] [--seeds 1,2,3,4]

The workers' real dispatchers, 8 replicas with one slot, the arrivals and the work of `loadtests.tail`, clients spread
over all workers. Every message takes one hop; every request keeps its replica idle for one turn more than its work (two
wake-ups and what a worker does between them). Nothing else takes time, so a run has no noise: what differs from the
ideal FIFO is caused by the protocol.
"""

import argparse
import heapq
import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

from loadtests.bench.figures import Table, percentile, poisson
from loadtests.tail import MEAN_WORK_S, REPLICAS, ideal_fifo
from router.core.dispatcher import Dispatcher, Grant, Ticket
from router.core.ledger import Lease
from router.core.slot_messages import PeerMessage
from router.core.view import Member, View
from serving.endpoint import VersionKey
from serving.replica import Replica, ReplicaState

KEY = VersionKey("bench", "blue")
_FOREVER_S = 1e9


class _Request(Ticket):
    """A request on its way; `index` in order of arrival."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index


@dataclass(slots=True)
class Passed:
    """The result of one run."""

    latencies_s: list[float]
    ideal_s: list[float]
    messages: int = 0
    """Between workers."""
    overlaps: int = 0
    """Requests at a replica that was at work."""
    hops: list[int] = field(default_factory=list)
    """Messages until a freed slot reached a request that was already waiting, for each such slot."""
    overtaken: int = 0
    """Requests that began before the one that arrived just before them had begun."""

    @property
    def mean_ratio(self) -> float:
        """Mean latency over the ideal's."""
        return fmean(self.latencies_s) / fmean(self.ideal_s)

    @property
    def p99_ratio(self) -> float:
        """p99 over the ideal's."""
        return percentile(self.latencies_s, 0.99) / percentile(self.ideal_s, 0.99)


class _Model:
    """Workers, replicas and messages on one virtual clock."""

    def __init__(self, workers: int, hop_s: float, turn_s: float, work_s: Sequence[float]) -> None:
        self._now = 0.0
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = itertools.count()
        self._hop_s, self._turn_s, self._work_s = hop_s, turn_s, work_s
        self._arrived_s = [0.0] * len(work_s)
        self._ticks: dict[str, float] = {}
        self._working: set[str] = set()
        self._free_since: dict[str, float] = {}
        self._begun: set[int] = set()
        self.result = Passed([0.0] * len(work_s), [])
        self.names = [f"w{number}" for number in range(workers)]
        self._workers = {name: Dispatcher(name, number) for number, name in enumerate(self.names)}
        view = View(1, tuple(Member(name, f"unix:/{name}") for name in self.names))
        for worker in self._workers.values():
            for number in range(REPLICAS):
                worker.upsert(Replica(f"r{number}", *KEY, "127.0.0.1", 80, ReplicaState.READY, 1), 0.0)
            worker.queue(KEY).queue_wait_s = worker.queue(KEY).scoring_timeout_s = _FOREVER_S
            worker.enter(view, 0.0)
        for one, other in itertools.permutations(self.names, 2):
            self._carry_out(one, self._workers[one].link_up(other, 0.0))

    def at(self, moment_s: float, action: Callable[..., None], *arguments: Any) -> None:
        """Plan an event."""
        heapq.heappush(self._events, (moment_s, next(self._order), action, arguments))

    def run(self, until_s: float) -> None:
        """Run events, at least until this time and until every request has ended."""
        while self._now < until_s or len(self._begun) < len(self._work_s) or self._working:
            self._now, _, action, arguments = heapq.heappop(self._events)
            action(*arguments)

    def arrive(self, name: str, index: int) -> None:
        """A request comes to this worker."""
        self._arrived_s[index] = self._now
        request = _Request(index)
        lease = self._workers[name].queue(KEY).enqueue(request, self._now)
        self._carry_out(name, [] if lease is None else [Grant(request, lease)])

    def _begin(self, name: str, request: _Request, lease: Lease) -> None:
        result, replica, index = self.result, lease.replica.id, request.index
        result.overlaps += replica in self._working
        result.overtaken += index > 0 and index - 1 not in self._begun
        self._working.add(replica)
        self._begun.add(index)
        free_since_s = self._free_since.get(replica, 0.0)
        if self._arrived_s[index] < free_since_s and self._hop_s:
            result.hops.append(round((self._now - free_since_s) / self._hop_s))
        self.at(self._now + self._turn_s + self._work_s[index], self._end, name, request, lease)

    def _end(self, name: str, request: _Request, lease: Lease) -> None:
        self.result.latencies_s[request.index] = self._now - self._arrived_s[request.index]
        self._working.discard(lease.replica.id)
        self._free_since[lease.replica.id] = self._now
        grant = self._workers[name].queue(KEY).release(lease, self._now)
        self._carry_out(name, [] if grant is None else [grant])

    def _carry_out(self, name: str, grants: Iterable[Grant]) -> None:
        for grant in grants:
            assert isinstance(grant.ticket, _Request)
            self._begin(name, grant.ticket, grant.lease)
        worker = self._workers[name]
        for peer, message in worker.outbox:
            self.result.messages += 1
            self.at(self._now + self._hop_s, self._deliver, name, peer, message)
        worker.outbox.clear()
        worker.starved.clear()
        due = worker.due()
        if due is not None and due < self._ticks.get(name, _FOREVER_S):
            self._ticks[name] = due
            self.at(max(due, self._now), self._tick, name, due)

    def _deliver(self, sender: str, name: str, message: PeerMessage) -> None:
        self._carry_out(name, self._workers[name].receive(sender, message, self._now))

    def _tick(self, name: str, due: float) -> None:
        if self._ticks.get(name) == due:
            del self._ticks[name]
            self._carry_out(name, self._workers[name].tick(self._now))


def passed(workers: int, hop_s: float, turn_s: float, load: float, requests: int, seed: int) -> Passed:
    """One run.

    `hop_s`: delay of a message. `turn_s`: idle time of a replica per request. `load`: share of the replicas' capacity.
    """
    chance = random.Random(seed)
    work_s = [chance.expovariate(1 / MEAN_WORK_S) for _ in range(requests)]
    began_s = 1.0
    arrivals_s = [began_s + at for at in poisson(load * REPLICAS / MEAN_WORK_S, requests, seed + 1)]
    model = _Model(workers, hop_s, turn_s, work_s)
    for index, moment_s in enumerate(arrivals_s):
        model.at(moment_s, model.arrive, chance.choice(model.names), index)
    model.run(arrivals_s[-1])
    model.result.ideal_s = ideal_fifo(arrivals_s, work_s, REPLICAS)
    return model.result


def table(arguments: argparse.Namespace) -> Table:
    """A row for each number of workers and each hop; medians over the seeds."""
    rows = []
    for count in map(int, arguments.workers.split(",")):
        for hop_us in map(float, arguments.hop_us.split(",")) if count > 1 else (0.0,):
            times_s = 1e-6 * hop_us, 1e-6 * arguments.turn_us
            runs = [
                passed(count, *times_s, arguments.load, arguments.requests, int(seed))
                for seed in arguments.seeds.split(",")
            ]
            hops = [hops for run in runs for hops in run.hops]
            ratios = median(run.mean_ratio for run in runs), median(run.p99_ratio for run in runs)
            messages = sum(run.messages for run in runs) / (len(runs) * arguments.requests)
            cells = (f"{ratios[0]:.3f}", f"{ratios[1]:.3f}", f"{fmean(hops or [0]):.2f}", f"{messages:.2f}")
            rows.append((str(count), f"{hop_us:g}", *cells))
    return Table(("workers", "hop µs", "mean ratio", "p99 ratio", "hops per slot", "messages per request"), tuple(rows))


def main() -> None:
    """Compute and print."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.handover")
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--load", type=float, default=0.9)
    parser.add_argument("--hop-us", default="100,150,200")
    parser.add_argument("--turn-us", type=float, default=150.0)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seeds", default="1,2,3,4")
    print(table(parser.parse_args()).text())


if __name__ == "__main__":
    main()
