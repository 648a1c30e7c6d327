"""Clients that are slow, idle, many, or leave in the middle."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator

from loadtests.faults.caller import Caller, quantile, statuses
from loadtests.faults.site import RATE, Site, Verdict, site

TIMEOUT_S = 3.0
"""Of heads, bodies and clients that do not read, set short so that the cut can be seen."""
NOISE_S = 0.02
"""What two runs may differ by on a machine that others use, too."""
SLOW = 1000
IDLE = 9000
IDLE_BYTES = 30_000
SOURCES = 200
"""Loopback addresses that idle clients come from: one address has only 28,000 ports."""


async def slow(quick: bool) -> Verdict:
    """21: 1,000 clients with slow heads, slow bodies and slow reading: others notice nothing, each is cut in time."""
    timeouts = ("HEAD", "BODY", "FIRST_BYTE", "WRITE")
    environment = {f"SCOREFRONT_{name}_TIMEOUT_S": str(TIMEOUT_S) for name in timeouts}
    count = 90 if quick else SLOW
    async with site(environment=environment) as here:
        before = await here.caller.open_loop(RATE, 2 if quick else 8)
        # No more slow readers than a few: each of them holds a slot until it is cut, as any client with a request does.
        kinds = [_slow_head] * (count // 2) + [_slow_body] * (count - count // 2 - 1) + [_slow_reader]
        crowd = [asyncio.create_task(kind(here.caller), name=kind.__name__) for kind in kinds]
        outcomes = await here.caller.open_loop(RATE, 4 if quick else 12)
        lives = await asyncio.gather(*crowd)
        p99, p99_before = quantile(outcomes, 0.99), quantile(before, 0.99)
        good = set(statuses(outcomes)) == {200} and max(lives) <= 2 * TIMEOUT_S + 2.5
        good &= p99 <= 2 * p99_before + NOISE_S and await here.at_rest()
        return Verdict(
            good,
            f"{count} slow clients, {statuses(outcomes)}, p99 {p99 * 1000:.0f} ms (before {p99_before * 1000:.0f}), "
            f"the last was cut after {max(lives):.1f} s (timeouts {TIMEOUT_S:.0f} s)",
        )


async def _slow_head(caller: Caller) -> float:
    return await _drip(
        caller, b"", b"POST /api/v1/service/victim/score HTTP/1.1\r\nHost: front\r\nX-Slow: " + b"a" * 4000
    )


async def _slow_body(caller: Caller) -> float:
    # A body may be slow, it must not stop: this one stops after a few bytes.
    return await _drip(caller, caller.head(1000), b"abc")


async def _slow_reader(caller: Caller) -> float:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, caller.address)
    return await _drip(caller, caller.head(0, "large"), b"", sock)


async def _drip(caller: Caller, at_once: bytes, slowly: bytes, sock: socket.socket | None = None) -> float:
    """Seconds until the router ends it."""
    began = time.monotonic()
    with contextlib.suppress(OSError):
        reader, writer = await (
            asyncio.open_connection(sock=sock, limit=1024) if sock else asyncio.open_connection(*caller.address)
        )
        try:
            writer.write(at_once)
            for byte in slowly:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.2)
                if reader.at_eof() or writer.transport.is_closing():
                    return time.monotonic() - began
            if sock is not None:  # reads so little that the router's buffers stay full
                await asyncio.sleep(TIMEOUT_S + 2.0)
            await reader.read()
        finally:
            writer.transport.abort()
    return time.monotonic() - began


@contextlib.contextmanager
def idle_connections(address: tuple[str, int], count: int) -> Iterator[list[socket.socket]]:
    """Connections that have got one answer each and then say nothing."""
    crowd: list[socket.socket] = []
    try:
        for number in range(count):
            source = f"127.1.{number % SOURCES}.1"
            sock = socket.create_connection(address, timeout=10, source_address=(source, 0))
            crowd.append(sock)
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: front\r\n\r\n")
            sock.recv(4096)
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
            # Those who wait leave first: a slot that becomes free would rightly go to one who is still there.
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
