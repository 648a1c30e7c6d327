"""Clients that are slow, idle, many, or leave in the middle."""

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator

from loadtests.faults import crowd
from loadtests.faults.caller import quantile, statuses
from loadtests.faults.site import RATE, Site, Verdict, site, version
from loadtests.http1 import exchange_blocking
from loadtests.installation import manifest

NOISE_S = 0.02
"""Accepted difference of two runs on a shared machine."""
SLOW = 1000
IDLE = 9000
IDLE_BYTES = 30_000
SOURCES = 200
"""Loopback addresses that idle clients come from: one address has only 28,000 ports."""


async def slow(quick: bool) -> Verdict:
    """21: 1,000 clients with slow heads, slow bodies and slow reading: others notice nothing, each is cut in time."""
    timeouts = ("HEAD", "BODY", "FIRST_BYTE", "WRITE")
    environment = {f"SCOREFRONT_{name}_TIMEOUT_S": str(crowd.TIMEOUT_S) for name in timeouts}
    count = 90 if quick else SLOW
    async with site(environment=environment) as here:
        before = await here.caller.open_loop(RATE, 2 if quick else 8)
        # The slow reader holds a slot until it is cut, as any client with a request does: so one replica more.
        await here.client.rest(
            "PUT", "/api/v1/endpoints/victim", manifest("victim", [version(here.witness, numReplicas=4)])
        )
        await here.client.until("victim", "blue", 20, ready=4)
        arguments = ["-m", "loadtests.faults.crowd", here.installation.scoring, here.caller.key, str(count)]
        process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
        try:
            outcomes = await here.caller.open_loop(RATE, 4 if quick else 10)
            told, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        longest = float(told)
        p99, p99_before = quantile(outcomes, 0.99), quantile(before, 0.99)
        good = set(statuses(outcomes)) == {200} and longest <= 2 * crowd.TIMEOUT_S + 2.5
        good &= p99 <= 2 * p99_before + NOISE_S and await here.at_rest()
        return Verdict(
            good,
            f"{count} slow clients, {statuses(outcomes)}, p99 {p99 * 1000:.0f} ms (before {p99_before * 1000:.0f}), "
            f"the last was cut after {longest:.1f} s (timeouts {crowd.TIMEOUT_S:.0f} s)",
        )


@contextlib.contextmanager
def idle_connections(address: tuple[str, int], count: int) -> Iterator[list[socket.socket]]:
    """Connections that have got one answer each and then say nothing."""
    crowd: list[socket.socket] = []
    try:
        for number in range(count):
            source = f"127.1.{number % SOURCES}.1"
            sock = socket.create_connection(address, timeout=10, source_address=(source, 0))
            crowd.append(sock)
            exchange_blocking(sock)
        yield crowd
    finally:
        for sock in crowd:
            sock.close()


@contextlib.asynccontextmanager
async def _idle(here: Site, count: int) -> AsyncIterator[None]:
    with contextlib.ExitStack() as stack:
        await asyncio.to_thread(stack.enter_context, idle_connections(here.caller.address, count))
        yield


async def idle(quick: bool) -> Verdict:
    """22: 9,000 idle connections: at most 30 kB each, and others notice nothing."""
    count = 1000 if quick else IDLE
    async with site() as here:
        before = await here.caller.open_loop(RATE, 2 if quick else 10)
        worker = here.worker()
        rss = worker.memory_info().rss
        async with _idle(here, count):
            grown = (worker.memory_info().rss - rss) / count
            outcomes = await here.caller.open_loop(RATE, 2 if quick else 10)
            open_now = (await here.metrics())["scorefront_connections"]
        p99, p99_before = quantile(outcomes, 0.99), quantile(before, 0.99)
        good = grown <= IDLE_BYTES and set(statuses(outcomes)) == {200} and open_now >= count
        good &= p99 <= 1.5 * p99_before + NOISE_S and await here.at_rest()
        return Verdict(
            good,
            f"{open_now:.0f} connections, {grown / 1000:.1f} kB each, {statuses(outcomes)}, "
            f"p99 {p99 * 1000:.0f} ms (before {p99_before * 1000:.0f})",
        )


async def leaving(quick: bool) -> Verdict:
    """24: clients leave while queued, being served, in mid-body: all is free within 1 s, none queued is called."""
    rounds = 2 if quick else 20
    worst = 0.0
    async with site(numReplicas=1, work_ms=600) as here:
        for _ in range(rounds):
            begun = sum(here.begun().values())
            crowd = [await asyncio.open_connection(*here.caller.address) for _ in range(6)]
            for number, (_, writer) in enumerate(crowd):
                # The first gets the slot, four wait for it, the last sends half a body.
                writer.write(here.caller.head(20) + (b"x" * (20 if number < 5 else 10)))
                await asyncio.sleep(0.02)
            await _until_waiting(here, 4)
            # Waiting clients leave first: a slot that becomes free would rightly go to a remaining one.
            for _, writer in crowd[1:]:
                writer.transport.abort()
            await asyncio.sleep(0.2)
            crowd[0][1].transport.abort()
            left_at = time.monotonic()
            home = await here.at_rest(3)
            worst = max(worst, time.monotonic() - left_at if home else float("inf"))
            await asyncio.sleep(0.7)  # the replica does not notice that its request is not wanted any more
            if sum(here.begun().values()) != begun + 1:
                return Verdict(False, "a request whose client had left was sent to a replica")
        gone = (await here.metrics())["scorefront_client_gone_total"]
        good = worst <= 1.0 and gone >= 5 * rounds
        return Verdict(good, f"{rounds} times 6 clients: home after at most {worst:.2f} s, counted {gone:.0f}")


async def _until_waiting(here: Site, count: int) -> None:
    for _ in range(100):
        if (await here.metrics())["scorefront_waiting_requests"] >= count:
            return
        await asyncio.sleep(0.01)
