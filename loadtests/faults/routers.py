"""One of two routers goes, behind a balancer of connections: in order, or at once."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator

from loadtests import witness
from loadtests.closedloop import LOST, Clients, Tally
from loadtests.faults.site import Verdict
from loadtests.http1 import post
from tests.router_groups.balancer import Balancer, is_healthy
from tests.router_groups.group import KEY, VERSION
from tests.router_groups.rig import Groups, Shape, groups

CLIENTS = 12
LAME_DUCK_S = 0.5
DRAIN_S = 8.0
LEASE_S = 1.0
TAKEN_S = 2.0
"""By when the slots that a dead router had are in use again; with a lease length of LEASE_S."""
NOTICED_S = 1.0
_PATH = f"/api/v1/service/{VERSION.endpoint}/score"


@contextlib.asynccontextmanager
async def _behind_balancer(running: Groups) -> AsyncIterator[tuple[Balancer, Clients]]:
    balancer = Balancer(*(running.address(number) for number in (1, 2)))
    await balancer.start()
    try:
        yield balancer, Clients(balancer.address, post(_PATH, KEY), CLIENTS)
    finally:
        await balancer.close()


async def terminated(quick: bool) -> Verdict:
    """13: SIGTERM to one of two routers: its requests end, clients are sent away in time, none is lost."""
    shape = Shape(environment={"SCOREFRONT_LAME_DUCK_S": str(LAME_DUCK_S)})
    async with groups(shape) as running, _behind_balancer(running) as (_, load):
        load.start()
        await asyncio.sleep(1 if quick else 4)
        process, began = running.process(1), time.monotonic()
        process.send_signal(signal.SIGTERM)
        unready_s = await _until_unready(running.address(1), began)
        status = await asyncio.to_thread(process.wait, DRAIN_S + 5)
        took_s = time.monotonic() - began
        await asyncio.sleep(1)
        tally = await load.stop()
        home_s = await running.home_within(5.0, 2)
        await running.settled()
        overlaps = running.overlaps()
        good = not tally.failures and tally.asked_to_leave > 0 and status == 0 and took_s <= LAME_DUCK_S + DRAIN_S
        good &= unready_s <= 0.3 and home_s <= 3.0 and not overlaps
        return Verdict(
            good,
            f"{dict(tally.statuses)}, lost {tally.lost}, {tally.asked_to_leave} answers said Connection: close, not "
            f"ready after {unready_s:.2f} s, ended with {status} after {took_s:.1f} s, all slots at the other after "
            f"{home_s:.2f} s, overlaps {overlaps}",
        )


async def _until_unready(address: tuple[str, int], began: float) -> float:
    while await is_healthy(address):
        if time.monotonic() - began > DRAIN_S:
            return float("inf")
        await asyncio.sleep(0.02)
    return time.monotonic() - began


async def killed(quick: bool) -> Verdict:
    """14: kill -9 of one of two routers: only its requests in flight are lost, the other soon has every slot."""
    shape = Shape(environment={"SCOREFRONT_LEASE_S": str(LEASE_S)})
    async with groups(shape) as running, _behind_balancer(running) as (_, load):
        load.start()
        await asyncio.sleep(1 if quick else 4)
        at_s = await running.kill(1)
        told_s = time.monotonic() - at_s
        await asyncio.sleep(2 * TAKEN_S)
        tally = await load.stop()
        await running.settled()
        taken_s = witness.full_at(witness.read(running.written), at_s, shape.total) - at_s
        overlaps, strange = running.overlaps(), unexplained(tally, at_s)
        good = not strange and taken_s <= TAKEN_S and not overlaps and tally.statuses[200] > 0
        return Verdict(
            good,
            f"{dict(tally.statuses)}, lost {tally.lost}, not explained {strange}, the other had every slot after "
            f"{taken_s:.2f} s (told of the death after {told_s:.2f} s, lease {LEASE_S:g} s), overlaps {overlaps}",
        )


def unexplained(tally: Tally, at_s: float) -> int:
    """Failures other than connections that broke as the router was killed; a client has one connection to lose."""
    broken = [each for each in tally.failures if each.status == LOST and 0 <= each.at_s - at_s <= NOTICED_S]
    return len(tally.failures) - min(len(broken), CLIENTS)
