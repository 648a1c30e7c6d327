"""A worker stands still (SIGSTOP) under load and goes on: the one that grants the slots, and one that borrows them.

    python -m loadtests.pauses [--seconds 0.5,1,2,4] [--check]

Shorter than SCOREFRONT_WORKER_SILENT_S, so nobody is killed; some are longer than SCOREFRONT_LEASE_S. Clients of the
worker that stands still wait, and so may others whose slots it grants; nobody may fail, and no slot be used twice.
"""

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.bench.figures import Promise, Table, judged
from loadtests.closedloop import Clients
from loadtests.crew import Worker, owner, standing_still
from loadtests.stage import KEY, Shape, Stage, stage

SHAPE = Shape(workers=3, replicas=4, slots=2)
CLIENTS = 24
WAIT_MS = 30_000
"""Longest queue wait of a request: longer than any pause."""
PAUSES_S = (0.5, 1.0, 2.0, 4.0)
BETWEEN_S = 1.0
HOME_S = 3.0
OWNER, BORROWER = "the owner", "a borrower"


@dataclass(frozen=True, slots=True)
class Pause:
    """One of them."""

    who: str
    seconds: float
    served: int
    """Requests answered meanwhile, by the others."""
    home_s: float
    """From its end until every slot was home."""
    same_workers: bool
    lag_s: float
    """The router's own measurement: the longest lateness of a loop."""


def chosen(who: str, workers: Sequence[Worker]) -> Worker:
    """The one to stop."""
    granting = owner(KEY, workers)
    return granting if who == OWNER else next(each for each in workers if each != granting)


async def pause(here: Stage, load: Clients, who: str, seconds: float) -> Pause:
    """Stop one worker for so long, under load; then let everything come home."""
    workers = here.workers()
    before = load.tally.statuses[200]
    await here.client.metrics()  # the lateness of a loop is told since the last time
    with standing_still([chosen(who, workers).pid]):
        await asyncio.sleep(seconds)
        served = load.tally.statuses[200] - before
    await asyncio.sleep(0.25)
    lag_s = (await here.client.metrics())["scorefront_worker_loop_lag_seconds"]
    await load.hold()
    home_s = await here.home_within(10.0)
    load.resume()
    return Pause(who, seconds, served, home_s, here.workers() == workers, lag_s)


@dataclass(slots=True)
class Record:
    """The results."""

    pauses: list[Pause]
    requests: int
    failed: int
    overlaps: int
    miscounts: int


async def measure(pauses_s: Sequence[float], whose: Sequence[str] = (OWNER, BORROWER)) -> Record:
    """One installation; each of them stands still for each time."""
    async with stage(SHAPE, maxQueueWaitMs=WAIT_MS) as here:
        load = here.clients(CLIENTS)
        load.start()
        pauses = []
        for seconds in pauses_s:
            for who in whose:
                await asyncio.sleep(BETWEEN_S)
                pauses.append(await pause(here, load, who, seconds))
        tally = await load.stop()
        await here.settled()
        failed = len(tally.failures)
        return Record(pauses, tally.statuses.total(), failed, here.overlaps(), await here.miscounts())


def table(record: Record) -> Table:
    """A row for each pause."""
    rows = [
        (each.who, f"{each.seconds:g}", str(each.served), f"{each.home_s:.2f}", f"{each.lag_s:.2f}")
        for each in record.pauses
    ]
    return Table(("who stands still", "s", "served by others", "home s", "loop lag s"), tuple(rows))


def promises(record: Record) -> list[Promise]:
    """The promises of the product."""
    replaced = sum(not each.same_workers for each in record.pauses)
    home_s = max((each.home_s for each in record.pauses), default=float("nan"))
    return [
        Promise("requests answered", record.requests - record.failed, 1, digits=0),
        Promise("requests that failed, connections lost", record.failed, 0, at_least=False, digits=0),
        Promise("overlaps, miscounts", record.overlaps + record.miscounts, 0, at_least=False, digits=0),
        Promise("pauses that cost a worker", replaced, 0, at_least=False, digits=0),
        Promise("slots home after a pause, longest, s", home_s, HOME_S, at_least=False),
    ]


def main() -> int:
    """Pause, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.pauses")
    parser.add_argument("--seconds", default=",".join(map(str, PAUSES_S)), help="of each pause, separated by commas")
    parser.add_argument("--check", action="store_true", help="exit status 1 when a promise is not kept")
    arguments = parser.parse_args()
    record = asyncio.run(measure([float(seconds) for seconds in arguments.seconds.split(",")]))
    print(table(record).text(), end="\n\n")
    return judged(promises(record), arguments.check)


if __name__ == "__main__":
    raise SystemExit(main())
