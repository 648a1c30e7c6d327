"""More workers, fewer workers, every worker replaced, all under load: nobody may notice.

    python -m loadtests.resizing [--steps 4,2] [--seconds 5] [--check]

SIGTTIN and SIGTTOU to `scorefront up` add and remove a worker, SIGHUP replaces them all. Some clients send one request
after the other, some leave their connection idle in between, some make a new connection for every request.
"""

import argparse
import asyncio
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from loadtests import witness
from loadtests.bench.figures import Promise, Table, judged
from loadtests.closedloop import Clients, Tally
from loadtests.stage import Shape, Stage, stage

SHAPE = Shape(workers=1)
STEPS = (4, 2)
SECONDS = 5.0
"""Of load between two changes."""
BUSY, THINKING, FRESH = 12, 12, 4
THINK_S = 0.15


@dataclass(frozen=True, slots=True)
class Change:
    """One change and its duration."""

    what: str
    seconds: float
    workers: int
    spread: tuple[int, ...]
    """Clients of each worker a while later."""


@dataclass(slots=True)
class Record:
    """The results."""

    changes: list[Change]
    tallies: dict[str, Tally]
    overlaps: int
    miscounts: int
    home_s: float


async def resize(here: Stage, count: int) -> float:
    """Seconds until so many run. One signal at a time: two of a kind that have not been taken yet are one."""
    took_s = 0.0
    while (have := len(here.workers())) != count:
        wanted = have + (1 if count > have else -1)
        here.signal(signal.SIGTTIN if wanted > have else signal.SIGTTOU)
        took_s += await here.until_there_are(wanted)
    return took_s


async def restart(here: Stage) -> float:
    """Seconds until none of those that run now is left."""
    old = set(here.workers())
    here.signal(signal.SIGHUP)
    count = len(old)
    return await here.until(
        lambda: len(now := here.workers()) == count and old.isdisjoint(now), "every worker is replaced"
    )


async def measure(steps: Sequence[int], seconds: float) -> Record:
    """One installation, changed under load."""
    async with stage(SHAPE) as here:
        groups = {
            "one after the other": here.clients(BUSY),
            "with pauses": here.clients(THINKING, think_s=THINK_S),
            "a connection each": here.clients(FRESH, fresh=True),
        }
        for group in groups.values():
            group.start()
        await asyncio.sleep(seconds)
        changes = []
        for count in steps:
            changes.append(await _changed(here, f"to {count} workers", await resize(here, count), seconds))
        changes.append(await _changed(here, "every worker replaced", await restart(here), seconds))
        tallies = await _stopped(groups)
        home_s = await here.home_within(5.0)
        await here.settled()
        overlaps = here.overlaps() + witness.repeated(here.spans())
        return Record(changes, tallies, overlaps, await here.miscounts(), home_s)


async def _changed(here: Stage, what: str, took_s: float, seconds: float) -> Change:
    await asyncio.sleep(seconds)
    spread = here.spread()
    return Change(what, took_s, len(spread), tuple(sorted(spread.values())))


async def _stopped(groups: dict[str, Clients]) -> dict[str, Tally]:
    return {name: await group.stop() for name, group in groups.items()}


def tables(record: Record) -> tuple[Table, Table]:
    """The changes, and the results of clients."""
    changes = [
        (each.what, f"{each.seconds:.2f}", str(each.workers), ", ".join(map(str, each.spread)))
        for each in record.changes
    ]
    clients = [
        (name, f"{tally.statuses[200]:,}", str(tally.refused), str(tally.lost), str(tally.asked_to_leave))
        for name, tally in record.tallies.items()
    ]
    return (
        Table(("", "s", "workers", "clients of each"), tuple(changes), words=(0, 3)),
        Table(("clients", "answered 200", "other answers", "broken off", "asked to leave"), tuple(clients)),
    )


def promises(record: Record) -> list[Promise]:
    """The promises of the product."""
    tallies = record.tallies.values()
    refused, lost = sum(each.refused for each in tallies), sum(each.lost for each in tallies)
    miscounted = record.overlaps + record.miscounts
    return [
        Promise("requests answered", sum(each.statuses[200] for each in tallies), 1, digits=0),
        Promise("requests that failed", refused, 0, at_least=False, digits=0),
        Promise("connections broken off, idle ones too", lost, 0, at_least=False, digits=0),
        Promise("overlaps, requests begun twice, miscounts", miscounted, 0, at_least=False, digits=0),
        Promise("all slots to be had at the end, s", record.home_s, 3.0, at_least=False),
    ]


def main() -> int:
    """Change, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.resizing")
    parser.add_argument("--steps", default=",".join(map(str, STEPS)), help="numbers of workers, separated by commas")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of load between two changes")
    parser.add_argument("--check", action="store_true", help="exit status 1 when a promise is not kept")
    arguments = parser.parse_args()
    record = asyncio.run(measure([int(count) for count in arguments.steps.split(",")], arguments.seconds))
    for table in tables(record):
        print(table.text(), end="\n\n")
    for name, tally in record.tallies.items():
        for failure in tally.failures[:5]:
            print(f"{name}: {failure}")
    return judged(promises(record), arguments.check)


if __name__ == "__main__":
    raise SystemExit(main())
