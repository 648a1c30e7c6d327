"""Runs scenarios by number and prints a line for each."""

import argparse
import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from loadtests.faults import (
    backpressure,
    clients,
    clock,
    limits,
    outputs,
    partitions,
    replicas,
    routers,
    stalls,
    upgrade,
)
from loadtests.faults.site import Verdict

SCENARIOS: dict[int, Callable[[bool], Coroutine[Any, Any, Verdict]]] = {
    2: replicas.killed,
    3: replicas.refusing,
    4: replicas.swallowing,
    5: replicas.stopped,
    6: replicas.closing_idle,
    7: replicas.resetting,
    8: replicas.truncating,
    13: routers.terminated,
    14: routers.killed,
    15: partitions.partitioned,
    16: partitions.disturbed,
    20: clock.jumping,
    21: clients.slow,
    22: clients.idle,
    23: limits.descriptors,
    24: clients.leaving,
    25: backpressure.slow_clients,
    26: backpressure.slow_replicas,
    27: limits.overload,
    28: limits.retry_storm,
    29: limits.huge,
    30: limits.malformed,
    33: outputs.unread,
    34: outputs.full_disk,
    36: stalls.stalled,
    37: upgrade.restarting,
}
"""Numbered as in the table of faults that the project holds itself to."""


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.faults")
    parser.add_argument("numbers", type=int, nargs="*", metavar="NUMBER", help=f"of {list(SCENARIOS)}; all if none")
    parser.add_argument("--quick", action="store_true", help="some seconds each")
    arguments = parser.parse_args()
    unknown = set(arguments.numbers) - set(SCENARIOS)
    if unknown:
        parser.error(f"no scenario {sorted(unknown)}; there are {list(SCENARIOS)}")
    failed = 0
    for number in arguments.numbers or SCENARIOS:
        scenario = SCENARIOS[number]
        began = time.monotonic()
        verdict = asyncio.run(scenario(arguments.quick))
        failed += not verdict.passed
        title = (scenario.__doc__ or "").split(": ", 1)[1].strip()
        word = "skip" if verdict.skipped else "pass" if verdict.passed else "FAIL"
        print(f"{word} {number:3} {title}", flush=True)
        print(f"         {verdict.figures} ({time.monotonic() - began:.0f} s)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
