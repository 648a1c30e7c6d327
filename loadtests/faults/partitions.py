"""Workers of several routers cannot hear each other, or hear each other badly. Clients and replicas hear everybody."""

import asyncio

from loadtests.closedloop import Clients, Tally
from loadtests.faults.site import Verdict
from router.core.view import owner_of
from tests.router_groups.group import VERSION
from tests.router_groups.network import NoNetwork
from tests.router_groups.proxy import GOOD, Mischief
from tests.router_groups.rig import Groups, Shape, groups

CLIENTS = 6
"""Of each router."""
SLOW_CLIENTS = 2
"""Requests of every borrowing router run for longer."""
LONG_MS, LONGISH_MS = 1_200, 150
"""Long after a cut; and not so long that little is said between workers."""
HEALED_S = 5.0
SCORING_TIMEOUT_MS = 1_500
QUEUE_WAIT_MS = 500
LEASE_S = 1.0
CUT_S = LEASE_S + SCORING_TIMEOUT_MS / 1000 + 1.5
"""Long enough that the owner takes back its loans, and uses the slots."""
BAD = Mischief(delay_s=0.05, life_s=1.0)


async def partitioned(quick: bool) -> Verdict:
    """15: links between two routers are cut, and heal: no slot is used twice, the owner's side goes on."""
    shape = Shape(
        queue_wait_ms=QUEUE_WAIT_MS,
        scoring_timeout_ms=SCORING_TIMEOUT_MS,
        environment={"SCOREFRONT_LEASE_S": str(LEASE_S)},
    )
    try:
        async with groups(shape, separate=True) as running:
            return await _cut(running, 1 if quick else 5)
    except NoNetwork as error:
        return Verdict(True, f"{error}", skipped=True)


async def _cut(running: Groups, times: int) -> Verdict:
    assert running.network is not None
    tallies, healed, served = [], [], []
    granting = _owner(running)
    for _ in range(times):
        loads = _started(running, granting, LONG_MS)
        await asyncio.sleep(1)
        running.network.cut(granting)
        await asyncio.sleep(CUT_S - 1)
        before = loads[0].tally.statuses[200]
        await asyncio.sleep(1)
        served.append((loads[0].tally.statuses[200] - before) / _most_a_second(running))
        running.network.heal(granting)
        tallies += await _stopped(loads)
        healed.append(await running.home_within(2 * HEALED_S, 1, 2))
    await running.settled()
    count, overlaps = await running.counts(1, 2), running.overlaps()
    statuses = _statuses(tallies)
    good = set(statuses) <= {200, 503} and not overlaps and max(healed) <= HEALED_S
    good &= min(served) >= 0.5 and not (count.violations or count.busy) and count.total == running.shape.total
    return Verdict(
        good,
        f"{times} cuts of {CUT_S:g} s, {statuses} (503: waited for longer than {QUEUE_WAIT_MS} ms on the other side), "
        f"overlaps {overlaps}, the owner's side used {min(served):.0%} of the slots at the end of a cut, all slots at "
        f"both sides within {max(healed):.2f} s, {count}",
    )


async def disturbed(quick: bool) -> Verdict:
    """16: messages between workers are delayed, and links break in mid-frame: no slot is lost or doubled."""
    try:
        async with groups(Shape(groups=3), separate=True, proxied=True) as running:
            return await _disturb(running, 6.0 if quick else 40.0)
    except NoNetwork as error:
        return Verdict(True, f"{error}", skipped=True)


async def _disturb(running: Groups, seconds: float) -> Verdict:
    assert running.proxy is not None
    loads, everybody = _started(running, _owner(running), LONGISH_MS), range(1, running.shape.groups + 1)
    await asyncio.sleep(1)
    running.proxy.mischief = BAD
    running.proxy.break_all()  # a connection has the mischief of its beginning
    await asyncio.sleep(seconds)
    running.proxy.mischief = GOOD
    running.proxy.break_all()
    tallies = await _stopped(loads)
    healed = await running.home_within(10.0, *everybody)
    await running.settled()
    count, overlaps, statuses = await running.counts(*everybody), running.overlaps(), _statuses(tallies)
    good = set(statuses) == {200} and not overlaps and healed <= HEALED_S and running.proxy.broken > 0
    good &= not (count.violations or count.busy or count.waiting) and count.total == running.shape.total
    return Verdict(
        good,
        f"{seconds:g} s of delays up to {1000 * BAD.delay_s:.0f} ms, {running.proxy.broken} links broken off, "
        f"{statuses}, overlaps {overlaps}, all slots at every side within {healed:.2f} s, {count}",
    )


def _owner(running: Groups) -> int:
    """The group of the worker that owns the version, while membership is stable."""
    names = {
        member.name: number
        for number in range(1, running.shape.groups + 1)
        for member in running.authority.history.members[running.name(number)]
    }
    return names[owner_of(VERSION, names)]


def _started(running: Groups, granting: int, slow_ms: int) -> list[Clients]:
    """Clients of every router, those of the one that grants the slots first."""
    others = [number for number in range(1, running.shape.groups + 1) if number != granting]
    loads = [running.clients(number, CLIENTS) for number in (granting, *others)]
    loads += [running.clients(number, SLOW_CLIENTS, slow_ms) for number in others]
    for load in loads:
        load.start()
    return loads


async def _stopped(loads: list[Clients]) -> list[Tally]:
    return [await load.stop() for load in loads]


def _most_a_second(running: Groups) -> float:
    """Requests a second that the replicas can do."""
    return running.shape.total * 1000 / running.shape.work_ms


def _statuses(tallies: list[Tally]) -> dict[int, int]:
    """Status -> number of requests; 0 for no answer, lost idle connections included."""
    found: dict[int, int] = {}
    for tally in tallies:
        for status, count in tally.statuses.items():
            found[status] = found.get(status, 0) + count
        idle = sum(each.idle for each in tally.failures)
        if idle:
            found[0] = found.get(0, 0) + idle
    return found
