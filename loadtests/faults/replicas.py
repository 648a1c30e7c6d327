"""Replicas that die, refuse, swallow, hang, close too early, reset, and break off."""

import asyncio
import random
import re
import signal
import time

from loadtests.faults.caller import Caller, Outcome, quantile, statuses
from loadtests.faults.site import RATE, Verdict, site

SETTLED_S = 1.0


async def killed(quick: bool) -> Verdict:
    """2: kill -9 of one of three, again and again: only its request in flight is lost, and its client knows soon."""
    kills = 3 if quick else 12
    async with site() as here:
        moments: list[float] = []

        async def kill() -> None:
            for _ in range(kills):
                await asyncio.sleep(SETTLED_S)
                moments.append(time.monotonic())
                random.choice(here.replicas()).kill()
                await here.client.until("victim", "blue", 20, ready=3)

        killing = asyncio.create_task(kill(), name="kill replicas")
        outcomes: list[Outcome] = []
        while not killing.done():
            outcomes += await here.caller.open_loop(RATE, 1.0, len(outcomes))
        await killing
        failed = [outcome for outcome in outcomes if outcome.status != 200]
        told_after = [min(each.done_at - at for at in moments if each.done_at >= at) for each in failed]
        good = (
            {each.status for each in failed} <= {502}
            and len(failed) <= kills
            and max(told_after, default=0) <= 0.1
            and await here.at_rest()
            and not here.overlapping()
            and not here.repeated()
        )
        return Verdict(good, f"{kills} kills, {statuses(outcomes)}, told after {max(told_after, default=0):.3f} s")


async def refusing(quick: bool) -> Verdict:
    """3: one of three refuses connections but is still listed: nobody notices."""
    async with site() as here:
        await here.caller.open_loop(RATE, 0.5)
        here.replicas()[0].send_signal(signal.SIGUSR1)
        outcomes = await here.caller.open_loop(RATE, 2 if quick else 15)
        good = set(statuses(outcomes)) == {200} and not here.repeated() and await here.at_rest()
        good &= not here.overlapping()
        return Verdict(
            good, f"{statuses(outcomes)}, begun twice {here.repeated()}, p99 {quantile(outcomes, 0.99):.3f} s"
        )


async def swallowing(quick: bool) -> Verdict:
    """4: one of three is a black hole: the connect timeout, then another replica; and it is left alone."""
    async with site() as here:
        await here.caller.open_loop(RATE, 0.5)
        here.replicas()[0].send_signal(signal.SIGUSR2)
        await asyncio.sleep(0.2)
        outcomes = await here.caller.open_loop(RATE, 4 if quick else 30)
        slow = [outcome for outcome in outcomes if outcome.latency_s > 0.9]
        worst = quantile(outcomes, 1.0)
        good = set(statuses(outcomes)) <= {200, 502} and statuses(outcomes).get(502, 0) <= 1  # reset as it vanished
        good &= worst <= 1.0 + 0.25 and await here.at_rest() and not here.overlapping()
        figures = f"{statuses(outcomes)}, {len(slow)} waited for the connect timeout of 1 s, worst {worst:.3f} s"
        return Verdict(good, figures)


async def stopped(quick: bool) -> Verdict:
    """5: kill -STOP of one of three: 504 at the scoring timeout; the slot is not lost; it serves again after CONT."""
    timeout_s = 1.0 if quick else 2.0
    async with site(scoringTimeoutMs=int(timeout_s * 1000)) as here:
        await here.caller.open_loop(RATE, 0.5)
        victim = here.replicas()[0]
        victim.suspend()
        try:
            outcomes = await here.caller.open_loop(RATE, 2 if quick else 12)
        finally:
            victim.resume()
        late = [outcome for outcome in outcomes if outcome.status == 504]
        off = max((abs(each.latency_s / timeout_s - 1) for each in late), default=1.0)
        after = await here.caller.open_loop(RATE, 1)
        good = set(statuses(outcomes)) == {200, 504} and off <= 0.05 and set(statuses(after)) == {200}
        good &= await here.at_rest()
        served = f"after CONT {statuses(after)}"
        return Verdict(good, f"{statuses(outcomes)}, 504 off its timeout by at most {off:.1%}, {served}")


async def closing_idle(quick: bool) -> Verdict:
    """6: replicas close idle connections after 0.05 to 0.5 s at random: no POST is lost, none is sent twice."""
    seconds, rate = (3, 150) if quick else (42, 600)
    async with site(work_ms=0, idle_ms=500, maxConcurrentRequestsPerContainer=4) as here:
        outcomes = await here.caller.open_loop(rate, seconds)
        # Slowly, too, so that every request meets a connection about to be closed.
        calm = await asyncio.gather(*(_at_edges(here.caller, 5 if quick else 30, seed) for seed in range(8)))
        outcomes += [outcome for each in calm for outcome in each]
        stale = (await here.metrics()).get("scorefront_stale_connections_total", 0)
        good = set(statuses(outcomes)) == {200} and not here.repeated() and await here.at_rest()
        return Verdict(
            good, f"{statuses(outcomes)}, begun twice {here.repeated()}, connections found closed {stale:.0f}"
        )


async def _at_edges(caller: Caller, count: int, seed: int) -> list[Outcome]:
    rng = random.Random(seed)
    outcomes = []
    for _ in range(count):
        await asyncio.sleep(rng.uniform(0.05, 0.5))
        outcomes.append(await caller.call())
    return outcomes


async def resetting(quick: bool) -> Verdict:
    """7: a replica resets after it has read the request: 502 once, and the POST is not sent again."""
    async with site() as here:
        outcomes = [await here.caller.call(path="reset") for _ in range(10 if quick else 50)]
        begun = here.begun()
        good = set(statuses(outcomes)) == {502} and sum(begun.values()) == len(outcomes) and not here.repeated()
        good &= await here.at_rest()
        return Verdict(good, f"{statuses(outcomes)}, begun {sum(begun.values())} times by replicas")


async def truncating(quick: bool) -> Verdict:
    """8: an answer ends before its end: the client sees that it does, also one of HTTP/1.0."""
    async with site() as here:
        ends = [await _is_cut(here.caller, path, minor) for path in ("short", "cut") for minor in (1, 0)]
        good = all(ends) and await here.at_rest()
        return Verdict(good, f"{sum(ends)} of {len(ends)} truncations seen as such (length and chunks, 1.1 and 1.0)")


async def _is_cut(caller: Caller, path: str, minor: int) -> bool:
    """True if no reader can take the end for the end of the answer: too few bytes, no last chunk, or a reset."""
    reader, writer = await asyncio.open_connection(*caller.address)
    writer.write(caller.head(0, path).replace(b"HTTP/1.1", b"HTTP/1.%d" % minor))
    try:
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
        if length is not None:
            return len(body) < int(length[1])
        return b"chunked" in head.lower() and not body.endswith(b"0\r\n\r\n")
    except ConnectionResetError:
        return True
    finally:
        writer.close()
