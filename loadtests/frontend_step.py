"""A step of load that one router worker cannot route: when does a second one serve, and when is it given back?

    python -m loadtests.frontend_step [--seconds 20] [--connections 256] [--down-after 60] [--check]

`scorefront up --workers auto` in front of nginx, which answers at once. wrk makes the step; a few clients that send one
request after the other stay before, during and after it, so that a request lost by a change is seen. The load shares
its cores with the workers: how many requests two workers route is not what this is about.
"""

import argparse
import asyncio
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from loadtests.bench import wrk
from loadtests.bench.figures import Promise, Table, judged
from loadtests.closedloop import Clients, Tally, request
from loadtests.crew import clients, crew
from loadtests.installation import Client, Installation, manifest
from loadtests.peers import nginx
from loadtests.peers.rig import Rig, Target
from loadtests.peers.scorefront import routed
from scorefront.cores import allowed_cores

SECONDS = 20
CONNECTIONS = 256
DOWN_AFTER_S = 60.0
REST_S = 3.0
STEADY, THINK_S = 4, 0.1
LOOK_S = 0.05
PATIENCE_S = 20.0
"""How much longer than it should take is waited for."""
ENDPOINT, VERSION = "step", "blue"
PATH = f"/api/v1/service/{ENDPOINT}/score"
SLOTS = 1000
"""Nothing waits for a slot."""
BODY = b"{}"


@dataclass(frozen=True, slots=True)
class Record:
    """What was seen; times in seconds."""

    at_rest: int
    """Workers before the step."""
    second_s: float
    """From the step until a second worker had clients."""
    peak: int
    back_s: float
    """From the end of the load until one worker was left."""
    ups: int
    downs: int
    load: wrk.Run
    steady: Tally
    said: tuple[str, ...]
    """What the log says of the number of workers."""


class Front:
    """One installation, seen from outside."""

    def __init__(self, installation: Installation, client: Client, key: str) -> None:
        assert installation.process is not None
        self._up = installation.process.pid
        self._output = installation.output
        parts = urlsplit(installation.scoring)
        self._address = (parts.hostname or "", parts.port or 0)
        self._client = client
        self._key = key
        self.target = Target("scorefront", self._address[1], PATH, (("Authorization", f"Bearer {key}"),))
        self.peak = 0

    def steady(self) -> Clients:
        """Clients that stay."""
        return Clients(self._address, request(PATH, self._key, BODY), STEADY, THINK_S)

    def workers(self) -> int:
        """Processes."""
        count = len(crew(self._up))
        self.peak = max(self.peak, count)
        return count

    def with_clients(self) -> int:
        """Workers that have some."""
        return sum(bool(clients(worker, self._address[1])) for worker in crew(self._up))

    async def until_two_serve(self) -> float:
        """Seconds; infinite if that takes too long."""
        return await self._until(lambda: self.workers() >= 2 and self.with_clients() >= 2, PATIENCE_S)

    async def until_one_is_left(self, within_s: float) -> float:
        """Seconds; infinite if that takes too long."""
        return await self._until(lambda: self.workers() == 1, within_s + PATIENCE_S)

    async def _until(self, happened: Callable[[], bool], within_s: float) -> float:
        began = time.monotonic()
        while not happened():
            if time.monotonic() - began > within_s:
                return float("inf")
            await asyncio.sleep(LOOK_S)
        return time.monotonic() - began

    async def changes(self) -> tuple[int, int]:
        """How often the number went up and down."""
        _, text = await self._client.rest("GET", "/metrics")
        counts = dict(re.findall(r'^scorefront_frontend_decisions_total{direction="(\w+)"} (\S+)$', text, re.MULTILINE))
        return int(float(counts["up"])), int(float(counts["down"]))

    def said(self) -> tuple[str, ...]:
        """Lines of the log on the number of workers."""
        return tuple(line for line in self._output.read_text().splitlines() if "router workers:" in line)


async def measure(seconds: int, connections: int, down_after_s: float) -> Record:
    """One installation, one step."""
    with Rig() as rig:
        backend = nginx.start_backend(rig)
        os.sched_setaffinity(
            0, rig.cores.load | rig.cores.proxy
        )  # what is measured is how the product uses all of them
        document = manifest(ENDPOINT, [routed(VERSION, [backend.port], SLOTS)])
        environment = {"SCOREFRONT_FRONTEND_DOWN_AFTER_S": str(down_after_s)}
        installation = rig.stack.enter_context(
            Installation(rig.directory, "--workers", "auto", environment=environment)
        )
        rig.stack.callback(installation.stop)
        installation.start(document)
        os.sched_setaffinity(0, rig.cores.load)
        async with Client(installation) as client:
            front = Front(installation, client, await client.key(ENDPOINT))
            return await _step(front, rig.directory, seconds, connections, down_after_s)


async def _step(front: Front, directory: Path, seconds: int, connections: int, down_after_s: float) -> Record:
    steady = front.steady()
    steady.start()
    await asyncio.sleep(REST_S)
    at_rest = front.workers()
    script = wrk.script(front.target.post(BODY))
    driving = asyncio.create_task(asyncio.to_thread(wrk.drive, front.target, script, directory, seconds, connections))
    second_s = await front.until_two_serve()
    load = await driving
    back_s = await front.until_one_is_left(down_after_s)
    ups, downs = await front.changes()
    return Record(at_rest, second_s, front.peak, back_s, ups, downs, load, await steady.stop(), front.said())


def table(record: Record) -> Table:
    """What was seen."""
    rows = (
        ("workers at rest", str(record.at_rest)),
        ("most workers", str(record.peak)),
        ("a second one had clients, s after the step", f"{record.second_s:.2f}"),
        ("one was left, s after the load", f"{record.back_s:.1f}"),
        ("decisions up, down", f"{record.ups}, {record.downs}"),
        ("requests a second of the load", f"{record.load.rate:,.0f}"),
        ("requests of the load, of those who stay", f"{record.load.requests:,}, {record.steady.statuses[200]:,}"),
    )
    return Table(("", ""), rows)


def promises(record: Record, down_after_s: float) -> list[Promise]:
    """What the product promises."""
    failed = record.load.failed + record.steady.refused + record.steady.lost
    needless = record.ups + record.downs - 2 * (record.peak - 1)
    return [
        Promise("workers at rest", record.at_rest, 1, at_least=False, digits=0),
        Promise("a second worker serves, s after the step", record.second_s, 3.0, at_least=False),
        Promise("more than one kept, s after the load", record.back_s, down_after_s, digits=1),
        Promise("back to one, s after the load", record.back_s, down_after_s + 10, at_least=False, digits=1),
        Promise("changes to and fro", needless, 0, at_least=False, digits=0),
        Promise("requests that failed", failed, 0, at_least=False, digits=0),
    ]


def main() -> int:
    """Step, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.frontend_step")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="of load")
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help="of the load")
    parser.add_argument("--down-after", type=float, default=DOWN_AFTER_S, help="SCOREFRONT_FRONTEND_DOWN_AFTER_S")
    parser.add_argument("--check", action="store_true", help="exit status 1 when a promise is not kept")
    arguments = parser.parse_args()
    if allowed_cores() < 2 or not (wrk.version() and nginx.version()):
        print("this needs two cores, wrk and nginx")
        return 1
    record = asyncio.run(measure(arguments.seconds, arguments.connections, arguments.down_after))
    print(table(record).text(), *record.said, sep="\n", end="\n\n")
    return judged(promises(record, arguments.down_after), arguments.check)


if __name__ == "__main__":
    raise SystemExit(main())
