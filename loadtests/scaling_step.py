"""A step of load from rest, five clients in a closed loop on one replica: time to scale up and to scale down.

    python -m loadtests.scaling_step [--trials 10] [--window 60]

Every trial has an endpoint of its own, so that each starts from rest; they run one after the other, and give their
replicas back side by side. 1 slot per replica, 100 ms of work, min 1, max 6, target 70 %, queue wait 10 s.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.installation import Client, Installation, manifest, overlaps, witness_version

CLIENTS = 5
LOAD_S = 8.0
EXPECTED = 6  # ceil(5 busy ÷ 0.7) = 8, at most 6


@dataclass
class Trial:
    """The result of one trial; times in seconds."""

    name: str
    first_wait_at: float = 0.0
    asked_after_s: float = 0.0
    desired: int = 0
    back_after_s: float = 0.0
    statuses: dict[int, int] = field(default_factory=dict)
    overlapping: int = 0


async def _load(client: Client, trial: Trial, until: float) -> None:
    while time.monotonic() < until:
        status, _, _ = await client.score(trial.name)
        trial.statuses[status] = trial.statuses.get(status, 0) + 1


async def _up(client: Client, trial: Trial) -> None:
    await client.key(trial.name)
    await client.until(trial.name, "blue", 30, desired=1, ready=1, starting=0, draining=0)
    # One request takes the slot; the second finds none: from that moment on the clock runs.
    trial.first_wait_at = time.time()  # noqa: TID251 - decision records carry wall-clock times
    until = time.monotonic() + LOAD_S
    await asyncio.gather(*(_load(client, trial, until) for _ in range(CLIENTS)))
    _, answer = await client.rest("GET", f"/api/v1/endpoints/{trial.name}/decisions?last=100")
    ups = [record for record in answer["value"] if record["direction"] == "up" and record["actedAt"]]
    trial.asked_after_s = ups[0]["actedAt"] - trial.first_wait_at
    trial.desired = (await client.status(trial.name, "blue"))["desired"]


async def _down(client: Client, trial: Trial, window_s: float) -> None:
    """A trickle goes on, so that a request lost by scaling down would be seen."""
    ended = time.monotonic()
    deadline = ended + window_s + 30
    while time.monotonic() < deadline:
        status, _, _ = await client.score(trial.name, {"work_ms": 20})
        trial.statuses[status] = trial.statuses.get(status, 0) + 1
        seen = await client.status(trial.name, "blue")
        if seen["desired"] == 1 and not trial.back_after_s:
            trial.back_after_s = time.monotonic() - ended
        if seen["ready"] == 1 and seen["draining"] == 0 and seen["desired"] == 1:
            return
        await asyncio.sleep(0.5)
    raise TimeoutError(f"{trial.name} has not come back to one replica")


async def measure(trials: int, window_s: float) -> list[Trial]:
    """Run the trials."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        scaler = {"autoscaleEnabled": True, "minReplicas": 1, "maxReplicas": EXPECTED, "targetUtilization": 70}
        scaler["scaleDownWindowInSeconds"] = int(window_s)
        runs = [Trial(f"step-{number}") for number in range(trials)]
        with Installation(directory) as installation:
            installation.start(
                *(
                    manifest(
                        trial.name,
                        [witness_version("blue", directory / trial.name, autoScaler=scaler, maxQueueWaitMs=10_000)],
                    )
                    for trial in runs
                )
            )
            async with Client(installation) as client, asyncio.TaskGroup() as downs:
                for trial in runs:
                    await _up(client, trial)
                    downs.create_task(_down(client, trial, window_s), name=f"give back {trial.name}")
            installation.stop()
        for trial in runs:
            trial.overlapping = overlaps(directory / trial.name, 1)[1]
    return runs


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--window", type=float, default=60.0)
    arguments = parser.parse_args()
    runs = asyncio.run(measure(arguments.trials, arguments.window))
    asked = [trial.asked_after_s for trial in runs]
    back = [trial.back_after_s for trial in runs]
    failed = sum(count for trial in runs for status, count in trial.statuses.items() if status != 200)
    total = sum(count for trial in runs for count in trial.statuses.values())
    print(f"asked for more after   median {statistics.median(asked) * 1000:.0f} ms, max {max(asked) * 1000:.0f} ms")
    print(f"desired at the end     {sorted({trial.desired for trial in runs})} (formula: {EXPECTED})")
    print(f"back at 1 after        {min(back):.1f} to {max(back):.1f} s (window {arguments.window:.0f} s)")
    print(f"requests               {total}, failed {failed}")
    print(f"overlapping requests   {sum(trial.overlapping for trial in runs)}")
    good = (
        statistics.median(asked) <= 0.5
        and max(asked) <= 1.0
        and {trial.desired for trial in runs} == {EXPECTED}
        and all(arguments.window <= seconds <= arguments.window + 15 for seconds in back)
        and failed == 0
        and not any(trial.overlapping for trial in runs)
    )
    print("as promised" if good else "NOT as promised")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
