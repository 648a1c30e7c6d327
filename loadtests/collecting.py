"""Cost and losses of collected payloads, and cost of telemetry.

    python -m loadtests.collecting cost [--rounds 15] [--seconds 1]    CPU per request: off, at 0, 1, 100 %
    python -m loadtests.collecting cost --telemetry                  the same for request records and spans
    python -m loadtests.collecting tail [--rounds 5] [--seconds 5]    p99 at 2,000 requests/s, off and at 100 %
    python -m loadtests.collecting loss [--requests 100000]          each request once, bodies by hash
    python -m loadtests.collecting kill [--requests 100000]          the same; each collector is killed as it works
    python -m loadtests.collecting away [--seconds 600]              the store fails for so long

Exit status 1: a limit is exceeded, or a payload is missing, doubled, changed or not counted.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from aiohttp import web

from loadtests import collecting_cost
from loadtests.installation import Installation, manifest
from loadtests.peers.scorefront import routed
from loadtests.telemetry_cost import telemetry_cost

CONNECTIONS = 32
KILL_S = 2.0
"""Time from the first batch of a collector to its kill, in the middle of another one."""
SETTLE_S = 90.0
_result = re.compile(r'scorefront_payloads_total\{endpoint="load",result="(\w+)",version="blue"\} (\d+)')


@dataclass(slots=True)
class Driven:
    """Bodies that were sent."""

    bodies: dict[str, bytes] = field(default_factory=dict)
    """Request id -> SHA-256 of its body, which the replica sends back."""
    failed: int = 0
    times_s: list[float] = field(default_factory=list)

    def p99_ms(self) -> float:
        """99th percentile of the durations."""
        return 1000 * sorted(self.times_s)[int(len(self.times_s) * 0.99)] if self.times_s else 0.0


class LoadedInstallation:
    """An installation whose one version collects, with a replica that sends bodies back."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.installation = Installation(directory, "--workers=2")
        self.key = ""

    @contextlib.asynccontextmanager
    async def running(self) -> Any:
        """Run during the block."""
        runner = web.AppRunner(_echo(), access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        version = routed("blue", [port], 64, dataCollection={"storageEnabled": True})
        await asyncio.to_thread(self.installation.start, manifest("load", [version], authEnabled=False))
        try:
            yield self
        finally:
            await asyncio.to_thread(self.installation.stop)
            await runner.cleanup()

    async def drive(self, requests: int, until: float = float("inf")) -> Driven:
        """Send requests. `until`: monotonic seconds after which none is begun."""
        driven = Driven()
        numbers = iter(range(requests))
        url = f"{self.installation.scoring}/api/v1/service/load/score"

        async def client(session: aiohttp.ClientSession) -> None:
            for number in numbers:
                if time.monotonic() > until:
                    return
                body = json.dumps({"number": number, "text": os.urandom(number % 700).hex()}).encode()
                began = time.monotonic()
                async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as answer:
                    ok = answer.status == 200 and await answer.read() == body
                driven.times_s.append(time.monotonic() - began)
                driven.failed += not ok
                driven.bodies[answer.headers["x-ms-request-id"]] = hashlib.sha256(body).digest()

        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as session:
            await asyncio.gather(*(client(session) for _ in range(CONNECTIONS)))
        return driven

    async def counts(self) -> dict[str, int]:
        """Payloads by result."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.installation.control}/metrics") as answer:
            return {result: int(count) for result, count in _result.findall(await answer.text())}

    async def settled(self, requests: int) -> dict[str, int]:
        """The counts once all requests are counted, or after SETTLE_S."""
        deadline = time.monotonic() + SETTLE_S
        while True:
            found = await self.counts()
            if sum(found.values()) >= requests or time.monotonic() > deadline:
                return found
            await asyncio.sleep(0.2)  # interval of the polls

    def collector(self) -> psutil.Process | None:
        """The collector's process."""
        for process in self.installation.descendants():
            with contextlib.suppress(psutil.Error):
                if "collector" in process.cmdline():
                    return process
        return None

    @property
    def data(self) -> Path:
        """Folder of the collected data."""
        return self.directory / "state" / "store" / "modelDataCollector"

    def stored(self, collection: str) -> Iterator[tuple[str, bytes]]:
        """Request id and SHA-256 of the data of each record."""
        for path in self.data.rglob(f"{collection}/**/*.jsonl"):
            for line in path.read_bytes().splitlines():
                data, _, rest = line.partition(b'"data":')[2].rpartition(b',"correlationid":"')
                yield rest[:36].decode(), hashlib.sha256(data).digest()


def _echo() -> web.Application:
    async def score(request: web.Request) -> web.Response:
        return web.Response(body=await request.read(), content_type="application/json")

    async def health(request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application(client_max_size=1 << 24)
    app.add_routes([web.post("/score", score), web.get("/", health)])
    return app


def judged(load: LoadedInstallation, driven: Driven, counts: dict[str, int], lost: int) -> int:
    """Print what is missing, doubled and changed; the exit status. `lost`: payloads that may be missing."""
    wrong = 0
    for collection in ("request", "response"):
        found = list(load.stored(collection))
        times = Counter(identity for identity, _ in found)
        missing = len(driven.bodies.keys() - times.keys())
        doubled = sum(count - 1 for count in times.values())
        changed = sum(driven.bodies.get(identity) != digest for identity, digest in found)
        print(f"{collection}s: {len(found)} stored, {missing} missing, {doubled} doubled, {changed} changed")
        wrong += max(0, missing - lost) + doubled + changed
    uncounted = len(driven.bodies) - sum(counts.values())
    print(f"counted: {counts}; {uncounted} uncounted; {driven.failed} failed; p99 {driven.p99_ms():.1f} ms")
    return int(bool(wrong or uncounted or driven.failed))


async def loss(requests: int, kill: bool) -> int:
    """Send requests, in `kill` while the collector is killed again and again; the exit status."""
    with _folder() as folder:
        async with LoadedInstallation(folder).running() as load:
            kills: list[int] = []
            killer = asyncio.create_task(_kill(load, kills)) if kill else None
            driven = await load.drive(requests)
            if killer is not None:
                killer.cancel()
                await asyncio.gather(killer, return_exceptions=True)
                print(f"{len(kills)} collectors killed")
            counts = await load.settled(requests)
            # The rings outlive the collector: the batch that it was making is made again.
            return judged(load, driven, counts, 0)


async def _kill(load: LoadedInstallation, kills: list[int]) -> None:
    """Kill each collector that has stored a batch. `kills`: gets their process ids."""
    stored = 0
    while True:
        await asyncio.sleep(0.1)  # interval of the looks
        counts = await load.counts()
        if counts.get("stored", 0) > stored and (collector := load.collector()) is not None:
            await asyncio.sleep(KILL_S)
            collector.kill()
            kills.append(collector.pid)
            stored = (await load.counts()).get("stored", 0)


async def away(seconds: float) -> int:
    """Send requests while the store fails; the exit status."""
    with _folder() as folder:
        async with LoadedInstallation(folder).running() as load:
            before = await load.drive(5000)
            counts = await load.settled(len(before.bodies))
            aside = load.data.with_name("aside")
            load.data.rename(aside)
            load.data.write_text("in the way: no folder can be made here")
            during = await load.drive(10**9, time.monotonic() + seconds)
            memory = {
                process.name() + str(process.pid): process.memory_info().rss >> 20
                for process in load.installation.descendants()
            }
            load.data.unlink()
            aside.rename(load.data)
            after = await load.drive(1000)
            everything = len(before.bodies) + len(during.bodies) + len(after.bodies)
            counts = await load.settled(everything)
            stored = len(list(load.stored("request")))
            print(f"before: p99 {before.p99_ms():.1f} ms; while the store failed: p99 {during.p99_ms():.1f} ms")
            print(f"sent {everything}, {before.failed + during.failed + after.failed} failed; counted {counts}")
            print(f"stored {stored}; memory in MiB by process: {memory}")
            exact = counts.get("stored") == stored and sum(counts.values()) == everything
            return int(not exact or bool(before.failed + during.failed + after.failed))


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="scorefront-collecting-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def main() -> int:
    """Measure, print, judge."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parser = argparse.ArgumentParser(prog="python -m loadtests.collecting")
    parser.add_argument("what", choices=("cost", "tail", "loss", "kill", "away"))
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=None, help="cost: 15, tail: 5")
    parser.add_argument("--seconds", type=float, help="of a run (cost: 1, tail: 5), or of the failure (away: 600)")
    parser.add_argument("--compiled", action="store_true", help="cost, tail: the build of `make compiled`")
    parser.add_argument("--telemetry", action="store_true", help="cost of request records and spans")
    options = parser.parse_args()
    if options.what == "cost" and options.telemetry:
        return telemetry_cost(options.rounds or 9, int(options.seconds or 3))
    if options.what == "cost":
        return collecting_cost.cost(options.rounds or 15, int(options.seconds or 1), options.compiled)
    if options.what == "tail":
        return collecting_cost.tail(options.rounds or 5, options.seconds or 5.0, options.compiled)
    if options.what == "away":
        return asyncio.run(away(options.seconds or 600))
    return asyncio.run(loss(options.requests, options.what == "kill"))


if __name__ == "__main__":
    raise SystemExit(main())
