"""A step of load that one worker cannot route in time, and its end: when is there a second worker, when only one again?

    python -m loadtests.selfscaling [--load-s 15] [--back-s 120] [--check]

`scorefront up --workers auto` in front of a backend that answers at once; wrk keeps so many requests in one worker that
each waits for milliseconds in it. A second worker counts from when it has clients, since one that merely runs is no
help. A few clients go on all the time, and may not notice: no failed request, no lost connection.
"""

import argparse
import asyncio
import os
import re
import sys
import time
from dataclasses import dataclass

from loadtests.bench import wrk
from loadtests.bench.figures import Promise, Table, judged
from loadtests.bench.traffic import BODY
from loadtests.closedloop import Clients, Tally
from loadtests.crew import clients, crew
from loadtests.faults.caller import until
from loadtests.http1 import post
from loadtests.installation import Client, Installation, manifest
from loadtests.peers import nginx
from loadtests.peers.rig import Rig, Target
from loadtests.peers.scorefront import KEY, routed

CONNECTIONS = 512
"""Each with a request, all the time: those that one worker has not got to wait in it for some 20 ms."""
LOAD_S, BACK_S = 15, 120.0
SECOND_S = 3.0
LOOK_S = 0.05
CALM_CLIENTS, THINK_S = 4, 0.1


@dataclass(slots=True)
class Measured:
    """Seconds; infinite if it did not happen."""

    before: int
    """Workers before the step."""
    second_s: float
    """From the step until a second worker has clients."""
    most: int
    back_s: float
    """From the end of the load until there is one worker."""
    changes: int
    """Number of changes, up or down."""
    load: wrk.Run
    tally: Tally

    @property
    def failed(self) -> int:
        """Requests, of the load and of the calm clients, and connections lost."""
        return self.load.failed + len(self.tally.failures)


async def measure(load_s: int, back_s: float) -> Measured:
    """One step up, one down."""
    with Rig() as rig:
        backend = nginx.start_backend(rig).port
        # The number of usable cores limits the number of workers.
        os.sched_setaffinity(0, rig.cores.proxy | rig.cores.load)
        with Installation(rig.directory, "--workers", "auto") as installation:
            installation.start(manifest(KEY.endpoint, [routed(KEY.version, [backend])]))
            async with Client(installation) as client:
                key = await client.key(KEY.endpoint)
                assert installation.process is not None
                port = int(installation.scoring.rpartition(":")[2])
                fields = (("Authorization", f"Bearer {key}"),)
                target = Target("scorefront", port, f"/api/v1/service/{KEY.endpoint}/score", fields)
                found = await _step(rig, target, key, installation.process.pid, load_s, back_s)
                found.changes = await _changes(client)
            await asyncio.to_thread(installation.stop)
            return found


async def _step(rig: Rig, target: Target, key: str, up: int, load_s: int, back_s: float) -> Measured:
    calm = Clients(("127.0.0.1", target.port), post(target.path, key, BODY), CALM_CLIENTS, THINK_S)
    calm.start()
    await asyncio.sleep(1)
    before = len(crew(up))
    script = wrk.script(target.head("POST", ("Content-Length", str(len(BODY)))), BODY)
    began = time.monotonic()
    load = asyncio.create_task(
        asyncio.to_thread(wrk.drive, target, script, rig.directory, load_s, CONNECTIONS), name="load"
    )
    second_s, most = float("inf"), before
    while not load.done():
        serving = sum(len(clients(each, target.port)) > 0 for each in crew(up))
        most = max(most, serving)
        if serving > 1:
            second_s = min(second_s, time.monotonic() - began)
        await asyncio.sleep(LOOK_S)
    run = await load

    async def alone() -> bool:
        return len(crew(up)) == 1

    took_s = await until(alone, back_s) if most > 1 else float("nan")
    return Measured(before, second_s, most, took_s, 0, run, await calm.stop())


async def _changes(client: Client) -> int:
    """The counters of the product."""
    _, text = await client.rest("GET", "/metrics")
    return sum(
        int(float(count))
        for count in re.findall(r'scorefront_frontend_decisions_total{direction="[ud]\w+"} (\S+)', text)
    )


def table(measured: Measured) -> Table:
    """One row."""
    columns = (
        "workers before",
        "a second after s",
        "most",
        "one again after s",
        "changes",
        "requests/s",
        "calm ones",
        "failed",
    )
    row = (
        str(measured.before),
        f"{measured.second_s:.2f}",
        str(measured.most),
        f"{measured.back_s:.1f}",
        str(measured.changes),
        f"{measured.load.rate:,.0f}",
        str(measured.tally.statuses[200]),
        str(measured.failed),
    )
    return Table(columns, (row,), words=())


def promises(measured: Measured, back_s: float) -> list[Promise]:
    """The promises of the product."""
    to_and_fro = measured.changes - 2 * (measured.most - 1)
    return [
        Promise("workers before the step", measured.before, 1, at_least=False, digits=0),
        Promise("a second worker after, s", measured.second_s, SECOND_S, at_least=False),
        Promise("one worker again after, s", measured.back_s, back_s, at_least=False, digits=1),
        Promise("changes to and fro", to_and_fro, 0, at_least=False, digits=0),
        Promise("requests that failed, connections lost", measured.failed, 0, at_least=False, digits=0),
    ]


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.selfscaling")
    parser.add_argument("--load-s", type=int, default=LOAD_S)
    parser.add_argument("--back-s", type=float, default=BACK_S, help="how long to wait for a single worker again")
    parser.add_argument("--check", action="store_true", help="exit status 1 when a promise is not kept")
    options = parser.parse_args()
    if wrk.version() is None or nginx.version() is None:
        print("wrk and nginx are needed (Debian: apt-get install wrk nginx)", file=sys.stderr)
        return 1
    measured = asyncio.run(measure(options.load_s, options.back_s))
    print(table(measured).text(), end="\n\n")
    return judged(promises(measured, options.back_s), options.check)


if __name__ == "__main__":
    raise SystemExit(main())
