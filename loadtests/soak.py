"""Half load for a long time; replicas killed or hung, clients leaving, declarations changing at random: finds leaks.

    python -m loadtests.soak [--minutes 20] [--seed N]

Passes when only requests on killed replicas failed, no replica ever had more requests than slots, everything is home at
the end, and memory, descriptors and tasks of the router and of the control plane are in the last third of the time what
they were in the third before. The seed is printed, and gives the same events at the same moments again.
"""

import argparse
import asyncio
import random
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field

import psutil

from loadtests.faults.caller import Outcome, statuses
from loadtests.faults.site import ENDPOINT, Site, site, version
from loadtests.installation import manifest

RATE = 75.0
"""Half of the capacity of three replicas with one slot and 20 ms of work."""
EVENT_EVERY_S = 2.0
SAMPLE_EVERY_S = 2.0
AFTER_A_KILL_S = 1.0
"""A request that fails within this time of a kill was in flight on the replica that was killed."""
TOLERATED = {"worker MB": 2.0, "worker fds": 4, "tasks": 4, "control MB": 4.0, "control fds": 4}


@dataclass
class Record:
    """The results."""

    outcomes: Counter[int] = field(default_factory=Counter)
    failures: list[Outcome] = field(default_factory=list)
    kills: list[float] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)
    samples: list[dict[str, float]] = field(default_factory=list)


class Soak:
    """One run on one site."""

    def __init__(self, here: Site, seed: int, ends_at: float) -> None:
        self.record = Record()
        self._here = here
        self._rng = random.Random(seed)
        self._seed = seed
        self._ends_at = ends_at
        self._extra = 0

    def _goes_on(self) -> bool:
        return time.monotonic() < self._ends_at

    async def load(self) -> None:
        """Requests, open loop, a second at a time."""
        record, second = self.record, 0
        while self._goes_on():
            second += 1
            outcomes = await self._here.caller.open_loop(RATE, 1.0, self._seed + second)
            record.outcomes.update(statuses(outcomes))
            record.failures += [outcome for outcome in outcomes if outcome.status != 200]

    async def events(self) -> None:
        """One event at a time."""
        kinds = [self._kill, self._leave, self._leave, self._change, self._change, self._come_and_go, self._rotate]
        kinds += [self._hang, self._hang]
        while self._goes_on():
            await asyncio.sleep(self._rng.expovariate(1 / EVENT_EVERY_S))
            kind = self._rng.choice(kinds)
            await kind()
            self.record.events[kind.__name__.strip("_")] += 1

    async def _kill(self) -> None:
        replicas = self._here.replicas()
        victim = self._rng.choice(sorted(replicas, key=lambda process: process.pid))
        self.record.kills.append(time.monotonic())
        victim.kill()
        await self._here.client.until(ENDPOINT, "blue", 30, ready=3)

    async def _leave(self) -> None:
        """Some clients disconnect at any point: in a head, in a body, waiting, being answered."""
        here = self._here
        request = here.caller.head(20) + b"x" * 20
        for _ in range(5):
            _, writer = await asyncio.open_connection(*here.caller.address)
            writer.write(request[: self._rng.randrange(len(request) + 1)])
            await asyncio.sleep(self._rng.uniform(0, 0.04))
            writer.transport.abort()

    async def _hang(self) -> None:
        """A replica stops for a moment; clients leave, maybe while it has their requests."""
        victim = self._rng.choice(sorted(self._here.replicas(), key=lambda process: process.pid))
        try:
            victim.suspend()
            await self._leave()
            await asyncio.sleep(self._rng.uniform(0.1, 1.0))
        finally:
            victim.resume()

    async def _change(self) -> None:
        changed = version(self._here.witness, maxQueueWaitMs=self._rng.choice((4000, 5000, 6000)))
        await self._rest("PUT", f"/api/v1/endpoints/{ENDPOINT}", manifest(ENDPOINT, [changed]))

    async def _come_and_go(self) -> None:
        """An endpoint that lives for a moment, with a replica and requests of its own."""
        self._extra += 1
        name = f"guest-{self._extra}"
        await self._rest("PUT", f"/api/v1/endpoints/{name}", manifest(name, [version(numReplicas=1)]))
        await self._here.client.until(name, "blue", 30, ready=1)
        await self._here.client.score(name)
        await self._rest("DELETE", f"/api/v1/endpoints/{name}")

    async def _rotate(self) -> None:
        """The secondary key: nobody uses it."""
        await self._rest("POST", f"/api/v1/endpoints/{ENDPOINT}/keys/regenerate", {"keyType": "secondary"})

    async def _rest(self, method: str, path: str, body: object = None) -> None:
        status, answer = await self._here.client.rest(method, path, body)
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {answer}")

    async def sample(self) -> None:
        """Sample the resources of the processes; a line each minute."""
        up = self._here.installation.process
        assert up is not None
        control, worker = psutil.Process(up.pid), self._here.worker()
        while self._goes_on():
            seen = await self._here.metrics()
            self.record.samples.append(
                {
                    "worker MB": worker.memory_info().rss / 1e6,
                    "worker fds": worker.num_fds(),
                    "tasks": seen["scorefront_worker_tasks"],
                    "control MB": control.memory_info().rss / 1e6,
                    "control fds": control.num_fds(),
                    "busy": seen["scorefront_busy_slots"],
                }
            )
            if len(self.record.samples) % int(60 / SAMPLE_EVERY_S) == 1:
                print("  ", {name: round(value, 1) for name, value in self.record.samples[-1].items()}, flush=True)
            await asyncio.sleep(SAMPLE_EVERY_S)


def grown(samples: list[dict[str, float]]) -> dict[str, float]:
    """Growth of each median from the second third to the last; the first third is for warming up."""
    third = len(samples) // 3
    middle, last = samples[third : 2 * third], samples[2 * third :]
    return {
        name: statistics.median(each[name] for each in last) - statistics.median(each[name] for each in middle)
        for name in TOLERATED
    }


def unexplained(record: Record) -> list[Outcome]:
    """Failures that are not of a request on a replica that was killed."""
    return [
        outcome
        for outcome in record.failures
        if outcome.status != 502 or not any(0 <= outcome.done_at - at <= AFTER_A_KILL_S for at in record.kills)
    ]


async def run(minutes: float, seed: int) -> bool:
    """Run, print, judge."""
    async with site() as here:
        soak = Soak(here, seed, time.monotonic() + 60 * minutes)
        async with asyncio.TaskGroup() as tasks:
            for part in (soak.load, soak.events, soak.sample):
                tasks.create_task(part(), name=part.__name__)
        record = soak.record
        home = await here.at_rest()
        overlapping, stuck = here.overlapping(), (await here.metrics()).get("scorefront_stuck_slots_total", 0)
        growth = grown(record.samples)
        strange = unexplained(record)
        print(f"requests       {dict(record.outcomes)}, {len(record.kills)} kills, other failures {strange[:5]}")
        print(f"events         {dict(record.events)}")
        print(f"growth         { {name: round(value, 2) for name, value in growth.items()} }")
        print(f"slots          home {home}, overlapping {overlapping}, stuck {stuck:.0f}")
        return (
            not strange
            and record.outcomes[502] <= len(record.kills)
            and home
            and not overlapping
            and not stuck
            and all(growth[name] <= most for name, most in TOLERATED.items())
        )


def main() -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.soak")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}, {arguments.minutes:g} minutes")
    good = asyncio.run(run(arguments.minutes, arguments.seed))
    print("as promised" if good else "NOT as promised")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
