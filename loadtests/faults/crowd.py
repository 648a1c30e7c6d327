"""Clients that are slow on purpose: `python -m loadtests.faults.crowd URL KEY COUNT`, beside those that are measured.

Half of them send a head, half a body, a byte now and then; the last reads almost nothing of a large answer. Prints the
seconds after which the last of them was cut off.
"""

import asyncio
import contextlib
import socket
import sys
import time

from loadtests.faults.caller import Caller

TIMEOUT_S = 3.0
"""Timeouts of the router for heads, bodies, and clients that do not read: short, so that the cut can be seen."""
DRIP_S = 0.2


async def main(url: str, key: str, count: int) -> float:
    """Seconds until the last was cut off."""
    caller = Caller(url, "victim", key)
    kinds = [_slow_head] * (count // 2) + [_slow_body] * (count - count // 2 - 1) + [_slow_reader]
    return max(await asyncio.gather(*(kind(caller) for kind in kinds)))


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
                await asyncio.sleep(DRIP_S)
                if reader.at_eof() or writer.transport.is_closing():
                    return time.monotonic() - began
            if sock is not None:  # reads so little that the router's buffers stay full
                await asyncio.sleep(TIMEOUT_S + 2.0)
            await reader.read()
        finally:
            writer.transport.abort()
    return time.monotonic() - began


if __name__ == "__main__":
    print(asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
