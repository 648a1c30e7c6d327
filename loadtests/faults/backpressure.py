"""One side is slow, the other sends as fast as it can: memory must not grow."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable

from loadtests.faults.caller import Caller
from loadtests.faults.site import Verdict, site
from loadtests.replica import LARGE_BYTES

STREAMS = 20
BYTES_PER_STREAM = 1_000_000


async def slow_clients(quick: bool) -> Verdict:
    """25: 20 answers of 1 GB to clients that read 1 kB/s: memory grows by less than 1 MB each."""
    return await _measured(_download, 3 if quick else 25)


async def slow_replicas(quick: bool) -> Verdict:
    """26: 20 uploads of 1 GB to replicas that read 1 MB/s: memory grows by less than 1 MB each."""
    return await _measured(_upload, 3 if quick else 25)


async def _measured(stream: Callable[[Caller, list[int], int], Awaitable[None]], seconds: float) -> Verdict:
    environment = {"SCOREFRONT_MAX_BODY_BYTES": str(2 * LARGE_BYTES)}
    async with site(environment=environment, numReplicas=2, maxConcurrentRequestsPerContainer=STREAMS // 2) as here:
        await here.caller.open_loop(100, 0.3)
        worker = here.worker()
        base = peak = worker.memory_info().rss
        moved = [0] * STREAMS
        tasks = [asyncio.ensure_future(stream(here.caller, moved, number)) for number in range(STREAMS)]
        for _ in range(int(seconds * 10)):
            await asyncio.sleep(0.1)
            peak = max(peak, worker.memory_info().rss)
        busy = (await here.metrics())["scorefront_busy_slots"]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        good = peak - base <= STREAMS * BYTES_PER_STREAM and busy == STREAMS and await here.at_rest()
        return Verdict(
            good,
            f"memory grew by {(peak - base) / 1e6:.1f} MB while {busy:.0f} streams went on for {seconds:.0f} s, "
            f"{sum(moved) / 1e6:.1f} MB passed",
        )


async def _download(caller: Caller, moved: list[int], number: int) -> None:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    with contextlib.closing(sock):
        await loop.sock_connect(sock, caller.address)
        await loop.sock_sendall(sock, caller.head(0, "large"))
        while data := await loop.sock_recv(sock, 100):
            moved[number] += len(data)
            await asyncio.sleep(0.1)


async def _upload(caller: Caller, moved: list[int], number: int) -> None:
    _, writer = await asyncio.open_connection(*caller.address)
    try:
        writer.write(caller.head(LARGE_BYTES, "slow"))
        piece = bytes(1 << 16)
        while True:
            writer.write(piece)
            await writer.drain()
            moved[number] += len(piece)
    finally:
        # A plain close would wait, unheard, behind all that the replica has not read yet.
        reset = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        writer.transport.abort()
