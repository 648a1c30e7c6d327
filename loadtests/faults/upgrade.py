"""The router's processes are replaced under load by new ones that run the installed code."""

import asyncio
import signal
import time

from loadtests.faults.caller import Outcome, quantile, statuses
from loadtests.faults.site import RATE, Site, Verdict, site


async def restarting(quick: bool) -> Verdict:
    """37: SIGHUP, 50 times under load: no request is lost, no slot is used by two workers."""
    times = 5 if quick else 50
    async with site() as here:
        before = await here.caller.open_loop(RATE, 2)
        asked = asyncio.create_task(_restart(here, times), name="restart")
        outcomes: list[Outcome] = []
        while not asked.done():
            outcomes += await here.caller.open_loop(RATE, 1.0, len(outcomes))
        took = await asked
        overlapping, repeated = here.overlapping(), here.repeated()
        good = set(statuses(outcomes)) == {200} and not overlapping and not repeated and await here.at_rest()
        return Verdict(
            good,
            f"{times} restarts of at most {took:.1f} s, {statuses(outcomes)}, overlapping {overlapping}, begun twice "
            f"{repeated}, p99 {quantile(outcomes, 0.99) * 1000:.0f} ms (before {quantile(before, 0.99) * 1000:.0f})",
        )


async def _restart(here: Site, times: int) -> float:
    """Seconds that the longest took."""
    up = here.installation.process
    assert up is not None
    longest = 0.0
    for _ in range(times):
        began, old = time.monotonic(), here.worker().pid
        up.send_signal(signal.SIGHUP)
        while old in (workers := here.workers()) or len(workers) != 1:
            if time.monotonic() - began > 20:
                raise TimeoutError(f"worker {old} has not been replaced; there are {workers}")
            await asyncio.sleep(0.02)
        longest = max(longest, time.monotonic() - began)
    return longest
