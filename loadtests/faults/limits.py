"""Floods: of connections, of requests, of retries, of header fields, and of bytes that are no HTTP."""

import asyncio
import contextlib
import resource
import socket
import sys
import time

from loadtests.faults.caller import Outcome, quantile, statuses
from loadtests.faults.clients import NOISE_S
from loadtests.faults.site import RATE, Site, Verdict, site

DESCRIPTORS = 256
SPIN = 0.2
PROMPT_S = 0.1
GOODPUT = 0.95
QUEUE_WAIT_S = 0.5
RETRY_BUDGET = 1.2
HUGE_BYTES = 10_000_000
FLOOD_RATE = 2000


async def descriptors(quick: bool) -> Verdict:
    """23: the worker has 256 descriptors and 400 clients: no spinning, requests go on, the control port lives."""
    async with site() as here:
        await here.caller.open_loop(RATE, 0.5)  # its connections are there before the flood
        worker = here.worker()
        worker.rlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
        await asyncio.sleep(1.5)  # the worker looks once a second
        crowd = await asyncio.to_thread(_crowd, here.caller.address, 400)
        try:
            cpu, at = sum(worker.cpu_times()[:2]), time.monotonic()
            await asyncio.sleep(2 if quick else 15)
            busy = (sum(worker.cpu_times()[:2]) - cpu) / (time.monotonic() - at)
            outcomes = [await here.caller.call() for _ in range(10)]
            control, _ = await here.client.rest("GET", "/healthz")
            newcomer = await _newcomer(here)
        finally:
            for sock in crowd:
                sock.close()
        await asyncio.sleep(0.5)
        later = await _newcomer(here)
        good = busy <= SPIN and set(statuses(outcomes)) == {200} and control == 200 and await here.at_rest()
        good &= newcomer in ("503", "refused") and later == "200"
        return Verdict(
            good,
            f"CPU {busy:.0%} with 400 clients, requests {statuses(outcomes)}, a newcomer is told {newcomer}, "
            f"control port {control}; afterwards a newcomer is told {later}",
        )


def _crowd(address: tuple[str, int], count: int) -> list[socket.socket]:
    crowd = []
    for _ in range(count):
        with contextlib.suppress(OSError):
            crowd.append(socket.create_connection(address, timeout=1))
    return crowd


async def _newcomer(here: Site) -> str:
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(*here.caller.address)
            try:
                writer.write(here.caller.head(2) + b"{}")
                answer = await reader.read(4096)
                return answer[9:12].decode() or "refused"
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError):
        return "refused"


async def overload(quick: bool) -> Verdict:
    """27: five times the capacity: the capacity is served, the rest told soon to come again; over when it is over."""
    async with site(maxQueueWaitMs=int(QUEUE_WAIT_S * 1000)) as here:
        capacity = await _capacity(here, 2 if quick else 5)
        seconds = 3 if quick else 25
        began = time.monotonic()
        outcomes = await here.caller.open_loop(5 * capacity, seconds)
        served = [each for each in outcomes if each.status == 200]
        # The first half second fills the queue, and its tickets are still served afterwards.
        rate = sum(began + QUEUE_WAIT_S <= each.done_at <= began + seconds for each in served) / (
            seconds - QUEUE_WAIT_S
        )
        refused = [each for each in outcomes if each.status == 503]
        late = max((each.latency_s - QUEUE_WAIT_S for each in refused), default=0.0)
        ended = time.monotonic()
        while quantile(calm := await here.caller.open_loop(RATE, 0.5), 0.9) > 0.1 and time.monotonic() < ended + 10:
            pass
        recovered = time.monotonic() - ended
        good = set(statuses(outcomes)) == {200, 503} and all(each.retry_after for each in refused)
        good &= rate >= GOODPUT * capacity and quantile(refused, 0.99) <= QUEUE_WAIT_S + PROMPT_S and recovered <= 5.5
        good &= set(statuses(calm)) == {200} and await here.at_rest() and not here.overlapping()
        return Verdict(
            good,
            f"capacity {capacity:.0f}/s, served {rate:.0f}/s ({rate / capacity:.0%}), {statuses(outcomes)}, told "
            f"p99 {(quantile(refused, 0.99) - QUEUE_WAIT_S) * 1000:.0f} ms, at most {late * 1000:.0f} ms after the "
            f"queue wait of {QUEUE_WAIT_S * 1000:.0f} ms, calm after {recovered:.1f} s",
        )


async def _capacity(here: Site, seconds: float) -> float:
    """Requests a second that six clients in a closed loop get out of three replicas."""
    until = time.monotonic() + seconds

    async def one() -> int:
        count = 0
        while time.monotonic() < until:
            count += (await here.caller.call()).status == 200
        return count

    return sum(await asyncio.gather(*(one() for _ in range(6)))) / seconds


async def retry_storm(quick: bool) -> Verdict:
    """28: every replica resets every request, with and without retries allowed: no storm of attempts."""
    figures, good = [], True
    for rule in ("neverBegun", "beforeResponse"):
        spec = {"retry": rule}
        async with site(work_ms=0, maxQueueWaitMs=500, spec=spec) as here:
            outcomes = await here.caller.open_loop(200, 3 if quick else 8, path="reset")
            attempts = sum(here.begun().values())
            good &= set(statuses(outcomes)) <= {502, 503} and attempts <= RETRY_BUDGET * len(outcomes) + 10
            good &= await here.at_rest()
            figures.append(f"{rule}: {len(outcomes)} requests, {attempts} attempts, {statuses(outcomes)}")
        async with site(work_ms=0, maxQueueWaitMs=500, spec=spec) as here:
            await here.caller.open_loop(RATE, 0.3)
            before = await here.metrics()
            for replica in here.replicas():
                replica.send_signal(10)  # SIGUSR1: refuse
            outcomes = await here.caller.open_loop(200, 3 if quick else 8)
            after = await here.metrics()
            refused = after["scorefront_replica_unreachable_total"] - before.get(
                "scorefront_replica_unreachable_total", 0
            )
            good &= set(statuses(outcomes)) <= {502, 503} and refused <= RETRY_BUDGET * len(outcomes)
            figures.append(f"refusing: {len(outcomes)} requests, {refused:.0f} attempts, {statuses(outcomes)}")
    return Verdict(good, "; ".join(figures))


async def huge(quick: bool) -> Verdict:
    """29: huge heads, targets, bodies, 10,000 fields: each is refused, memory does not grow by 10 MB."""
    async with site() as here:
        head = here.caller.head(2)[:-2]
        cases = {
            431: [head + b"X: " + b"a" * 1_000_000 + b"\r\n\r\n", head + b"X: y\r\n" * 10_000 + b"\r\n"],
            414: [head.replace(b"/score", b"/" + b"a" * 1_000_000, 1) + b"\r\n"],
            413: [here.caller.head(1_000_000_000)],
            400: [
                head + b"Y" * 60_000 + b"\r\n\r\n",
                head.replace(b"Content-Length: 2", b"Content-Length: " + b"9" * 5000) + b"\r\n",
            ],
        }
        await _ask(here, head + b"\r\n{}")
        rss = here.worker().memory_info().rss
        wrong = []
        for _ in range(3 if quick else 30):
            for status, requests in cases.items():
                answers = await asyncio.gather(*(_ask(here, request) for request in requests * 10))
                wrong += [answer for answer in answers if answer not in (status, 0)]
        grown = here.worker().memory_info().rss - rss
        good = not wrong and grown < HUGE_BYTES and (await here.caller.call()).status == 200
        return Verdict(good, f"memory grew by {grown / 1e6:.1f} MB, unexpected statuses {sorted(set(wrong))}")


async def _ask(here: Site, request: bytes) -> int:
    """The status; 0 if the connection ended without one."""
    try:
        reader, writer = await asyncio.open_connection(*here.caller.address)
        try:
            writer.write(request)
            return int((await reader.read(4096))[9:12] or b"0")
        finally:
            writer.transport.abort()
    except OSError:
        return 0


async def malformed(quick: bool) -> Verdict:
    """30: 2,000 malformed requests a second: each is refused, and others notice nothing."""
    seconds = 4 if quick else 50
    async with site() as here:
        before = await here.caller.open_loop(RATE, 2 if quick else 8)
        command = ["-m", "loadtests.faults.flood", str(here.caller.address[1]), str(FLOOD_RATE), str(seconds)]
        flood = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
        try:
            outcomes: list[Outcome] = await here.caller.open_loop(RATE, seconds)
            told, _ = await flood.communicate()
        finally:
            if flood.returncode is None:
                flood.kill()
        sent, passed = map(int, told.split())
        p99, p99_before = quantile(outcomes, 0.99), quantile(before, 0.99)
        good = set(statuses(outcomes)) == {200} and not passed and p99 <= 2 * p99_before + NOISE_S
        good &= await here.at_rest()
        return Verdict(
            good,
            f"{sent / seconds:.0f} malformed a second, {passed} not refused, good ones {statuses(outcomes)}, "
            f"p99 {p99 * 1000:.0f} ms (before {p99_before * 1000:.0f})",
        )
