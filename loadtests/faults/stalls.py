"""The loop of a router worker stands still for a moment: others must notice nothing but the time."""

import asyncio

from loadtests.faults.site import Verdict
from loadtests.pauses import BORROWER, CLIENTS, OWNER, SHAPE, WAIT_MS, Pause, pause
from loadtests.stage import ENDPOINT, VERSION, Stage, stage

STALL_S = 0.5
LOOK_S = 0.05
ANSWER_S = 1.0


async def stalled(quick: bool) -> Verdict:
    """36: a worker's loop stands still for 500 ms: it says so, health does not flap, every slot is used once."""
    times = 1 if quick else 10
    async with stage(SHAPE, maxQueueWaitMs=WAIT_MS) as here:
        load = here.clients(CLIENTS)
        load.start()
        flaps: list[str] = []
        looking = asyncio.create_task(_look(here, flaps), name="look at the health")
        stalls: list[Pause] = []
        for _ in range(times):
            for who in (OWNER, BORROWER):
                await asyncio.sleep(STALL_S)
                stalls.append(await pause(here, load, who, STALL_S))
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        tally = await load.stop()
        await here.settled()
        overlaps, miscounts = here.overlaps(), await here.miscounts()
        lags = [each.lag_s for each in stalls]
        good = not (tally.failures or overlaps or miscounts or flaps) and tally.statuses[200] > 0
        good &= all(each.same_workers and each.home_s <= 3.0 for each in stalls)
        good &= min(lags) >= 0.7 * STALL_S  # the loop may have been about to look
        return Verdict(
            good,
            f"{len(stalls)} stalls, {dict(tally.statuses)}, lag told {min(lags):.2f} to {max(lags):.2f} s, "
            f"overlaps {overlaps}, health flaps {flaps[:3]}, slots home after at most "
            f"{max(each.home_s for each in stalls):.2f} s",
        )


async def _look(here: Stage, flaps: list[str]) -> None:
    """Again and again: the health of the router, the readiness of everything, the replicas that are ready."""
    while True:
        try:
            async with asyncio.timeout(ANSWER_S):
                probe = here.clients(1)
                await probe.connect()
                probe.leave()
                readyz, _ = await here.client.rest("GET", "/readyz")
                ready = (await here.client.status(ENDPOINT, VERSION))["ready"]
        except (OSError, TimeoutError) as error:
            flaps.append(repr(error))
            continue
        if readyz != 200 or ready != here.shape.replicas:
            flaps.append(f"/readyz {readyz}, {ready} replicas ready")
        await asyncio.sleep(LOOK_S)
