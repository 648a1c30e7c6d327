"""Sends bytes that are no HTTP, each on a connection of its own: `python -m loadtests.faults.flood PORT RATE SECONDS`.

Prints the number sent, and the number that got neither a 4xx or 5xx nor a closed connection.
"""

import asyncio
import random
import sys
import time

_HEAD = b"POST /api/v1/service/victim/score HTTP/1.1\r\nHost: front\r\n"
CASES = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /\r\n\r\n",
    b"\r\n\r\n\r\n\r\n",
    b"\x00" * 100,
    b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\n\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET http://user@/ HTTP/1.1\r\nHost: a\r\n\r\n",
    _HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    _HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    _HEAD + b"Content-Length: +1\r\n\r\na",
    _HEAD + b"Content-Length: 1,1\r\n\r\na",
    _HEAD + b"Content-Length: -1\r\n\r\n",
    _HEAD + b"Content-Length: 99999999999999999999\r\n\r\n",
    _HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    _HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    _HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    _HEAD + b"X: a\r\n folded\r\n\r\n",
    _HEAD + b"X: a\rb\r\n\r\n",
    _HEAD + b"X: a\x00b\r\n\r\n",
    _HEAD + b": nameless\r\n\r\n",
    _HEAD + b"no colon\r\n\r\n",
    _HEAD + b"X" * 70_000 + b": y\r\n\r\n",
    _HEAD + b"X: y\r\n" * 10_000 + b"\r\n",
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
)


async def _send(port: int, case: bytes) -> bool:
    """True if it was refused."""
    try:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(case)
                answer = await reader.read(4096)
            finally:
                writer.transport.abort()
    except OSError:
        return True
    return not answer or answer[9:10] in b"45"


async def flood(port: int, rate: float, seconds: float) -> tuple[int, int]:
    """(sent, not refused)."""
    rng = random.Random(1)
    began = time.monotonic()
    tasks: set[asyncio.Task[bool]] = set()
    sent = passed = 0
    while (now := time.monotonic() - began) < seconds:
        while sent < rate * now and len(tasks) < 500:
            tasks.add(asyncio.create_task(_send(port, rng.choice(CASES)), name=f"case {sent}"))
            sent += 1
        await asyncio.sleep(0.005)
        done = {task for task in tasks if task.done()}
        tasks -= done
        passed += sum(not task.result() for task in done)
    passed += sum(not refused for refused in await asyncio.gather(*tasks))
    return sent, passed


if __name__ == "__main__":
    print(*asyncio.run(flood(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))))
