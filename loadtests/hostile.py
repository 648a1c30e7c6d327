"""The cost to a worker of byte patterns chosen by a stranger, a client with a valid key or a replica.

    python -m loadtests.hostile [--only half-heads|crowd|crlf] [--connections 5000] [--rounds 3] [--megabytes 100]

half-heads: CPU for a head of 64 KB that comes byte by byte, from a client and from a replica. crowd: p99 of a client at
a low rate, beside connections that each send a large half of a head and then single bytes. crlf: CPU to decode a
chunked body that consists of line ends, against one of zeros. Exit status 1 where a bound is broken.
"""

import argparse
import asyncio
import contextlib
import os
import random
import resource
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from loadtests.bench.figures import Promise, judged, middle, percentile
from loadtests.installation import manifest, witness_version
from loadtests.openloop import drive
from loadtests.peers.rig import ROOT, Rig, Target
from loadtests.peers.scorefront import KEY, QUEUE_WAIT_MS, SLOTS, Product
from router.accesslog import AccessLog, AccessLogMode
from router.core.dispatcher import Dispatcher
from router.core.ids import RequestIds
from router.proxy.chunked import LAST_CHUNK, ChunkedBody, chunk
from router.proxy.downstream import Downstream
from router.proxy.gateway import Gateway
from router.proxy.request_head import parse_request
from router.proxy.upstream import UpstreamConnection
from router.settings import RouterSettings

HEAD_BYTES = 65_000
HEAD_S = 0.050
P99_RATIO = 2.0
CRLF_RATIO = 1.3
CHUNK_BYTES = 16_384
READS_BYTES = (65_536, 1024)
CONNECTIONS, RATE, SECONDS, MEGABYTES = 5000, 100.0, 10.0, 100
WORK_MS = 5.0
ROUNDS = 3
OPENINGS_PER_S, OPENINGS_AGAIN_PER_S = 1000, 100
"""Half heads opened per second: until the crowd is complete, then as replacement of those that the router closed."""
DRIBBLES_PER_S = 2000
"""Single bytes of the crowd."""
HALF_BYTES = 60_000
SPARE_DESCRIPTORS = 100
READY_S = 60.0


def cpu_s(work: Callable[[], None], repeated: int = 3) -> float:
    """CPU time of the work, the best of several."""
    best = float("inf")
    for _ in range(repeated):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best


# ---- half heads


class _Sink(asyncio.Transport):
    """Takes everything and does nothing."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def write(self, data: Any) -> None:
        raise RuntimeError(f"answered {bytes(data)[:80]!r}")

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0


class _Asker:
    """The exchange of a replica's connection, as far as it is needed."""

    head = parse_request(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", RouterSettings())

    def reject_response(self, error: Exception) -> None:
        raise RuntimeError(f"failed: {error}")


async def half_heads(size_bytes: int) -> list[Promise]:
    """CPU for a head of this size, one byte at a time, on either side."""
    gateway = Gateway(
        RouterSettings(),
        Dispatcher("hostile", 0, 2.0),
        AccessLog(AccessLogMode.OFF, -1),
        RequestIds(os.urandom(16)),
        time.monotonic,
        time.time,  # noqa: TID251 - a shell
        random.random,  # noqa: TID251
    )
    rest = [b"a"] * size_bytes
    head = [bytes([octet]) for octet in b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: "]
    answer = [bytes([octet]) for octet in b"HTTP/1.1 200 OK\r\nX: "]

    def from_client() -> None:
        client = Downstream(gateway)
        client.connection_made(_Sink())
        for octet in (*head, *rest):
            client.data_received(octet)
        client.connection_lost(None)

    def from_replica() -> None:
        connection = UpstreamConnection(gateway.pool, "r0")
        connection.connection_made(_Sink())
        connection.exchange = cast(Any, _Asker())
        for octet in (*answer, *rest):
            connection.data_received(octet)

    sides = {"a client": cpu_s(from_client), "a replica": cpu_s(from_replica)}
    await gateway.close()
    what = f"{size_bytes / 1000:.0f} KB of head byte by byte from"
    return [
        Promise(f"{what} {side}, CPU ms", 1000 * spent, 1000 * HEAD_S, at_least=False) for side, spent in sides.items()
    ]


# ---- a chunked body of line ends


def crlf(megabytes: int) -> list[Promise]:
    """CPU to decode so much of either, in large and in small reads."""
    found = []
    for read_bytes in READS_BYTES:
        zeros, ends = (_decoding_s(pattern, megabytes, read_bytes) for pattern in (b"\0\0", b"\r\n"))
        print(f"{megabytes} MB in reads of {read_bytes} bytes: zeros {zeros:.3f} s of CPU, line ends {ends:.3f} s")
        what = f"line ends in chunks, reads of {read_bytes} bytes, CPU ratio to zeros"
        found.append(Promise(what, ends / zeros, CRLF_RATIO, at_least=False))
    return found


def _decoding_s(pattern: bytes, megabytes: int, read_bytes: int) -> float:
    part = chunk(pattern * (CHUNK_BYTES // 2)) * (1_000_000 // CHUNK_BYTES)
    pieces = [part[at : at + read_bytes] for at in range(0, len(part), read_bytes)]

    def decode() -> None:
        body = ChunkedBody()
        for _ in range(megabytes):
            for piece in pieces:
                body.feed(piece)
                body.pop_data()
        body.feed(LAST_CHUNK)
        if not body.complete:
            raise RuntimeError("the body has not ended")

    return cpu_s(decode)


# ---- a crowd


def crowd(connections: int, rate: float, seconds: float, rounds: int) -> list[Promise]:
    """p99 without and with the crowd, in turn; medians of the rounds."""
    version = witness_version(KEY.version, work_ms=WORK_MS, slots=SLOTS, maxQueueWaitMs=QUEUE_WAIT_MS)
    without_s, with_s, failed, crowded = [], [], 0, ""
    with Rig() as rig:
        target = Product(rig, manifest(KEY.endpoint, [version])).target()
        drive(target, rate, 2.0, 0)
        for number in range(1, rounds + 1):
            without = drive(target, rate, seconds, number)
            with _besieged(target, connections, seconds) as (process, crowded):
                beside = drive(target, rate, seconds, number)
                assert process.stdin is not None and process.stdout is not None
                process.stdin.close()
                said = process.stdout.readline().decode().strip()
            without_s.append(percentile(without.latencies_s, 0.99))
            with_s.append(percentile(beside.latencies_s, 0.99))
            failed += without.failed + beside.failed
            print(f"p99 without {1000 * without_s[-1]:.2f} ms, with {1000 * with_s[-1]:.2f} ms; {crowded}: {said}")
    ratio = middle(with_s) / middle(without_s)
    return [
        Promise(f"p99 beside {crowded}, ratio to without", ratio, P99_RATIO, at_least=False),
        Promise("requests that failed beside them", failed, 0, at_least=False, digits=0),
    ]


@contextlib.contextmanager
def _besieged(target: Target, connections: int, seconds: float) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    command = [sys.executable, "-m", "loadtests.hostile", "--besiege", str(target.port)]
    command += ["--connections", str(connections), "--seconds", str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            opened = process.stdout.readline().decode().strip()
            if not opened:
                raise RuntimeError("the crowd could not be opened")
            yield process, opened
        finally:
            process.kill()


class HalfHeads:
    """Connections that never send a whole head."""

    def __init__(self, port: int, connections: int, seed: int) -> None:
        self._port = port
        self._wanted = connections
        self._chance = random.Random(seed)
        self._open: list[socket.socket] = []
        self._selector = selectors.DefaultSelector()
        self.opened = self.closed = self.dribbled = 0

    def open_one(self) -> None:
        """Connect, and send a half of a head."""
        sock = socket.create_connection(("127.0.0.1", self._port), 10.0)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        size = self._chance.randrange(100, HALF_BYTES)
        with contextlib.suppress(BlockingIOError, ConnectionError):
            sock.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"a" * size)
        self._selector.register(sock, selectors.EVENT_READ)
        self._open.append(sock)
        self.opened += 1

    def dribble(self) -> None:
        """One byte on one connection."""
        if self._open:
            with contextlib.suppress(OSError):
                self._chance.choice(self._open).send(b"a")
                self.dribbled += 1

    def notice(self) -> None:
        """Drop the connections that the router has answered or closed."""
        gone = {cast(socket.socket, key.fileobj) for key, _ in self._selector.select(0)}
        if gone:
            for sock in gone:
                self._selector.unregister(sock)
                sock.close()
            self._open = [sock for sock in self._open if sock not in gone]
            self.closed += len(gone)

    def run(self, until: Callable[[], bool], openings_per_s: float) -> None:
        """Open and dribble at their rates."""
        began, openings, dribbles = time.monotonic(), 0, 0
        while not until():
            elapsed = time.monotonic() - began
            while openings < openings_per_s * elapsed:
                openings += 1
                if len(self._open) < self._wanted:
                    self.open_one()
            while dribbles < DRIBBLES_PER_S * elapsed:
                dribbles += 1
                self.dribble()
            self.notice()
            time.sleep(0.002)  # pace of the load, not a wait for a condition


def besiege(port: int, connections: int, seconds: float) -> None:
    """In a process of its own: be the crowd until the input ends; say when it is there, and what became of it."""
    signal.alarm(int(2 * READY_S + 2 * seconds))  # independent of the parent
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_DESCRIPTORS
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limit, min(soft, limit)), hard))
    connections = min(connections, limit - SPARE_DESCRIPTORS)
    siege = HalfHeads(port, connections, seed=1)
    ready_by = time.monotonic() + READY_S
    siege.run(lambda: siege.opened >= connections or time.monotonic() > ready_by, OPENINGS_PER_S)
    print(f"{siege.opened:,} half heads", flush=True)
    with selectors.DefaultSelector() as ended:
        ended.register(sys.stdin, selectors.EVENT_READ)
        siege.run(lambda: bool(ended.select(0)), OPENINGS_AGAIN_PER_S)
    print(
        f"{siege.opened:,} opened, {siege.closed:,} closed by the router, {siege.dribbled:,} single bytes", flush=True
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, judge; or be the crowd, for the process that measures."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.hostile")
    parser.add_argument("--only", choices=("half-heads", "crowd", "crlf"))
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    parser.add_argument("--rate", type=float, default=RATE, help="requests per second of the client beside the crowd")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of that client, without and with the crowd")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="without and with the crowd, in turn")
    parser.add_argument("--megabytes", type=int, default=MEGABYTES, help="of the chunked bodies")
    parser.add_argument("--besiege", type=int, metavar="PORT", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.besiege:
        besiege(chosen.besiege, chosen.connections, chosen.seconds)
        return 0
    found: list[Promise] = []
    if chosen.only in (None, "half-heads"):
        found += asyncio.run(half_heads(HEAD_BYTES))
    if chosen.only in (None, "crlf"):
        found += crlf(chosen.megabytes)
    if chosen.only in (None, "crowd"):
        found += crowd(chosen.connections, chosen.rate, chosen.seconds, chosen.rounds)
    return judged(found, True)


if __name__ == "__main__":
    raise SystemExit(main())
