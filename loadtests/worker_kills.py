"""kill -9 of router workers at random, under load: lost requests, and the return of every slot.

    python -m loadtests.worker_kills [--kills 200] [--seed N] [--check]

Half of the kills with replicas of one slot and four workers, half with two slots and three workers; now and then two
die at once, and whoever has just been started may be next. A request may fail only where its connection was with a
worker that was killed, and only by a broken connection: no worker that lives may answer anything but 200. After every
tenth kill nobody dies for a while: slots are home when as many requests as there are slots, all begun after that kill,
run side by side by the replicas' log; then the load pauses, and the counts must say the same.
"""

import argparse
import asyncio
import os
import random
import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from loadtests import witness
from loadtests.bench.figures import Promise, Table, judged, middle
from loadtests.closedloop import LOST, Clients, Failure
from loadtests.crew import Worker, clients
from loadtests.stage import Shape, Stage, stage

SHAPES = (Shape(workers=4, slots=1), Shape(workers=3, slots=2))
CLIENTS_PER_SLOT = 2
LONG_MS = 300
"""Of a third of the clients: their requests run on long after a worker was killed, and nobody may have their slots."""
KILLS = 200
EVERY_S = 0.8
"""Between two kills, on average."""
TWO_AT_ONCE = 0.1
CHECK_EVERY = 10
HOME_S = 3.0
QUIET_S = 4.0
COUNTED_S = 1.0
"""By when the counts are right once nothing is in flight."""
NOTICED_S = 1.0
"""A client on this machine knows of a broken connection at once; the rest is for a busy machine."""


@dataclass(frozen=True, slots=True)
class Kill:
    """One moment of it; monotonic seconds."""

    at_s: float
    spared: frozenset[int]
    """Clients (their ports) of workers that were left alone, before and after."""


@dataclass(slots=True)
class Record:
    """The results with one shape."""

    shape: Shape
    kills: list[Kill] = field(default_factory=list)
    killed: int = 0
    home_s: list[float] = field(default_factory=list)
    miscounted: int = 0
    """Pauses in which not every slot was counted as free, or available."""
    failures: list[Failure] = field(default_factory=list)
    requests: int = 0
    overlaps: int = 0
    miscounts: int = 0
    full_s: float = float("nan")
    """Until the last one killed was replaced."""


def unexplained(failures: Iterable[Failure], kills: Sequence[Kill]) -> list[Failure]:
    """Failures other than a connection that broke as its worker was killed."""
    return [each for each in failures if each.status != LOST or not any(_took(kill, each) for kill in kills)]


def _took(kill: Kill, failure: Failure) -> bool:
    # An idle connection may be on its way from a worker that lives to the one that dies: it is lost with that one.
    mine = failure.idle or failure.port not in kill.spared
    return 0 <= failure.at_s - kill.at_s <= NOTICED_S and mine


def victims(workers: Sequence[Worker], chance: random.Random) -> list[Worker]:
    """One, or now and then two; somebody is always left."""
    count = 2 if len(workers) > 2 and chance.random() < TWO_AT_ONCE else 1
    return chance.sample(workers, count) if len(workers) > count else []


def strike(here: Stage, chance: random.Random) -> tuple[Kill, int] | None:
    """Kill at random; None if there are too few to lose one."""
    workers = here.workers()
    chosen = victims(workers, chance)
    if not chosen:
        return None
    left = [each for each in workers if each not in chosen]
    port = here.address[1]
    # Before and after: a connection may pass between workers meanwhile, and then belongs to either.
    before = [clients(each, port) for each in left]
    at_s = time.monotonic()
    for each in chosen:
        os.kill(each.pid, signal.SIGKILL)
    after = [clients(each, port) for each in left]
    return Kill(at_s, frozenset().union(*before) & frozenset().union(*after)), len(chosen)


async def measure(shape: Shape, kills: int, seed: int) -> Record:
    """One installation, killed at again and again."""
    record, chance, checked = Record(shape), random.Random(seed), list[Kill]()
    async with stage(shape) as here:
        count = CLIENTS_PER_SLOT * shape.total
        loads = [here.clients(count - count // 3), here.clients(count // 3, work_ms=LONG_MS)]
        for load in loads:
            load.start()
        while record.killed < kills:
            await asyncio.sleep(chance.expovariate(1 / EVERY_S))
            struck = strike(here, chance)
            if struck is None:
                continue
            record.kills.append(struck[0])
            record.killed += struck[1]
            if len(record.kills) % CHECK_EVERY == 0:
                record.miscounted += not await _is_whole(here, loads)
                checked.append(struck[0])
        record.miscounted += not await _is_whole(here, loads)
        checked.append(record.kills[-1])
        record.full_s = await here.until_there_are(shape.workers)
        for load in loads:
            tally = await load.stop()
            record.failures += tally.failures
            record.requests += tally.statuses.total()
        await here.settled()
        spans = here.spans()
        record.home_s = [witness.full_at(spans, kill.at_s, shape.total) - kill.at_s for kill in checked]
        record.overlaps = witness.over(spans, shape.slots) + witness.repeated(spans)
        record.miscounts = await here.miscounts()
    return record


async def _is_whole(here: Stage, loads: Sequence[Clients]) -> bool:
    """True if every slot is counted as free and can be used, after a while without kills or load."""
    await asyncio.sleep(QUIET_S)
    await asyncio.gather(*(load.hold() for load in loads))
    whole = await here.home_within(COUNTED_S) < COUNTED_S
    for load in loads:
        load.resume()
    return whole


def table(records: Sequence[Record]) -> Table:
    """A row for each shape."""
    columns = ("workers", "slots", "killed", "requests", "broken off", "other failures", "overlaps")
    rows = [
        (
            str(each.shape.workers),
            f"{each.shape.replicas} × {each.shape.slots}",
            str(each.killed),
            f"{each.requests:,}",
            str(sum(failure.status == LOST for failure in each.failures)),
            str(len(unexplained(each.failures, each.kills))),
            str(each.overlaps),
            f"{middle(each.home_s):.2f}",
            f"{max(each.home_s, default=float('nan')):.2f}",
        )
        for each in records
    ]
    return Table((*columns, "home s", "at most"), tuple(rows), words=())


def promises(records: Sequence[Record]) -> list[Promise]:
    """The promises of the product."""
    strange = sum(len(unexplained(each.failures, each.kills)) for each in records)
    miscounted = sum(each.overlaps + each.miscounts + each.miscounted for each in records)
    home = max((value for each in records for value in each.home_s), default=float("nan"))
    return [
        Promise("workers killed", sum(each.killed for each in records), 1, digits=0),
        Promise("overlaps, requests begun twice, slots miscounted", miscounted, 0, at_least=False, digits=0),
        Promise("failures but on connections of killed workers", strange, 0, at_least=False, digits=0),
        Promise("slots home after a kill, longest, s", home, HOME_S, at_least=False),
    ]


async def run(kills: int, seed: int) -> list[Record]:
    """Every shape, one after the other."""
    share = -(-kills // len(SHAPES))
    records = []
    for number, shape in enumerate(SHAPES):
        records.append(await measure(shape, share, seed + number))
        for failure in unexplained(records[-1].failures, records[-1].kills)[:5]:
            print(f"not explained: {failure}", flush=True)
    return records


def main() -> int:
    """Kill, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.worker_kills")
    parser.add_argument("--kills", type=int, default=KILLS, help="200 take about six minutes")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--check", action="store_true", help="exit status 1 when a promise is not kept")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    records = asyncio.run(run(arguments.kills, arguments.seed))
    print("", table(records).text(), "", sep="\n")
    return judged(promises(records), arguments.check)


if __name__ == "__main__":
    raise SystemExit(main())
