"""kill -9: of replicas under load, and of `scorefront up` itself.

python -m loadtests.kills [--kills 10]
"""

import argparse
import asyncio
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

from loadtests.installation import REPLICA, Client, Installation, manifest, witness_version

CLIENTS = 8
REPLICAS = 4
GONE_S = 2.0


def _replicas(installation: Installation) -> list[psutil.Process]:
    found = []
    for process in installation.descendants():
        try:
            if str(REPLICA) in process.cmdline():
                found.append(process)
        except psutil.Error:  # it ended while we looked
            continue
    return found


async def kill_replicas(kills: int) -> bool:
    """Each kill may cost the one request in flight on that replica (502) and nothing else."""
    statuses: Counter[int] = Counter()
    with tempfile.TemporaryDirectory() as folder, Installation(Path(folder)) as installation:
        version = witness_version("blue", work_ms=20, numReplicas=REPLICAS, maxQueueWaitMs=10_000)
        installation.start(manifest("victim", [version]))
        async with Client(installation) as client:
            stop = asyncio.Event()

            async def score() -> None:
                while not stop.is_set():
                    status, _, _ = await client.score("victim")
                    statuses[status] += 1

            load = [asyncio.create_task(score(), name=f"client {number}") for number in range(CLIENTS)]
            replaced = []
            for _ in range(kills):
                await asyncio.sleep(0.5)
                began = time.monotonic()
                random.choice(_replicas(installation)).send_signal(signal.SIGKILL)
                await asyncio.sleep(0.1)
                await client.until("victim", "blue", 20, ready=REPLICAS)
                replaced.append(time.monotonic() - began)
            stop.set()
            await asyncio.gather(*load)
        installation.stop()
    print(
        f"{kills} replicas killed under load: {dict(statuses)}; replaced and ready after at most {max(replaced):.2f} s"
    )
    return set(statuses) <= {200, 502} and statuses[502] <= kills


async def kill_everything() -> bool:
    """Nothing is left running, and the next start serves the same endpoints with the same keys."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        document = manifest("phoenix", [witness_version("blue", work_ms=5, numReplicas=3)])
        first = Installation(directory)
        first.start(document)
        async with Client(first) as client:
            key = await client.key("phoenix")
        left = first.descendants()
        first.stop(signal.SIGKILL)
        _, alive = psutil.wait_procs(left, timeout=GONE_S)
        print(f"scorefront up killed: {len(left)} processes below it, {len(alive)} left after {GONE_S:.0f} s")
        with Installation(directory) as second:
            second.start()
            async with Client(second) as client:
                same = await client.key("phoenix") == key
                status, _, _ = await client.score("phoenix")
            print(f"started again without a file: same key {same}, score {status}, stop {second.stop()}")
        return not alive and same and status == 200


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=10)
    good = asyncio.run(kill_replicas(parser.parse_args().kills))
    good &= asyncio.run(kill_everything())
    print("as promised" if good else "NOT as promised")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
