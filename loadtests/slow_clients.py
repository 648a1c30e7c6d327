"""Other clients beside slow ones, on replicas with one slot: p99, scale-up and memory.

    python -m loadtests.slow_clients [--uploaders 1] [--readers 10] [--rate 20] [--seconds 20] [--rounds 3] [--crowd]

Uploaders send 5 MB, readers receive 5 MB, each at 20 kB/s. `--crowd`: 500 of each, memory only. Exit status 1 where a
bound is broken.
"""

import argparse
import asyncio
import contextlib
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from loadtests.bench.figures import Promise, judged, middle, percentile
from loadtests.crew import crew
from loadtests.installation import Client, Installation, manifest, witness_version
from loadtests.openloop import drive
from loadtests.peers.rig import ROOT, Target, forget_peak, peak_resident_bytes, resident_bytes
from loadtests.replica import HELD_BYTES

RATE_BYTES_PER_S = 20_000
TICK_S = 0.25
RECEIVE_BUFFER_BYTES = 4096
GAP_S, START_S = 0.3, 10.0
"""Between the first requests of two slow clients, and of all: many at the same time would be a reason to scale up."""
P99_RATIO = 1.2
WORK_MS = 10.0
CROWD = 500
TOTAL_BYTES = 64_000_000
"""Setting `collect_total_bytes` of the router."""
OWN_BYTES = 262_144
"""Memory of one connection beside the setting: a read of the loop, and buffers in both directions."""


async def upload(port: int, path: str, after_s: float) -> None:
    """Send a body slowly, again and again. `after_s`: delay of the first time."""
    await asyncio.sleep(after_s)
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"POST {path} HTTP/1.1\r\nHost: front\r\nContent-Length: {HELD_BYTES}\r\n\r\n".encode())
            for _ in range(round(HELD_BYTES / RATE_BYTES_PER_S / TICK_S)):
                writer.write(b"1" * round(RATE_BYTES_PER_S * TICK_S))
                await writer.drain()
                await asyncio.sleep(TICK_S)
            writer.close()


async def download(port: int, path: str, after_s: float) -> None:
    """Receive a response slowly, again and again. `after_s`: delay of the first time."""
    await asyncio.sleep(after_s)
    while True:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            sock.connect(("127.0.0.1", port))
            reader, writer = await asyncio.open_connection(sock=sock, limit=RECEIVE_BUFFER_BYTES)
            writer.write(f"GET {path.removesuffix('/score')}/held HTTP/1.1\r\nHost: front\r\n\r\n".encode())
            while True:
                if not await reader.read(round(RATE_BYTES_PER_S * TICK_S)):
                    break
                await asyncio.sleep(TICK_S)
            writer.close()


async def be_slow(port: int, path: str, uploaders: int, readers: int) -> None:
    """In a process of its own: the slow clients, until the input ends."""
    gap_s = min(GAP_S, START_S / (uploaders + readers))
    clients = [
        (upload if number < uploaders else download)(port, path, number * gap_s)
        for number in range(uploaders + readers)
    ]
    running = asyncio.gather(*clients)
    print("slow", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    running.cancel()


@contextlib.contextmanager
def slow_clients(target: Target, uploaders: int, readers: int) -> Iterator[None]:
    """Slow clients of the target for the time of the block."""
    command = [sys.executable, "-m", "loadtests.slow_clients", "--be-slow", str(target.port), target.path]
    command += ["--uploaders", str(uploaders), "--readers", str(readers)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != b"slow\n":
                raise RuntimeError("the slow clients have not started")
            yield
        finally:
            process.kill()


async def wanted_replicas(installation: Installation) -> int:
    """Number of replicas that the autoscaler wants."""
    async with Client(installation) as client:
        return round((await client.metrics())["scorefront_desired_replicas"])


def measure(uploaders: int, readers: int, rate: float, seconds: float, rounds: int) -> list[Promise]:
    """Rounds without and with the slow clients in turn. `rate`: requests per second of the others."""
    scaler = {"minReplicas": 4, "maxReplicas": 10, "targetUtilization": 70}
    version = witness_version("blue", work_ms=WORK_MS, autoScaler=scaler, maxQueueWaitMs=5000)
    environment = {"SCOREFRONT_COLLECT_TOTAL_BYTES": str(TOTAL_BYTES)}
    without_s, with_s, failed, wanted, most = [], [], 0, 0, 0
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        installation = stack.enter_context(Installation(Path(directory), "--workers", "1", environment=environment))
        installation.start(manifest("slow", [version], authEnabled=False))
        assert installation.process is not None
        workers = tuple(worker.pid for worker in crew(installation.process.pid))
        port = int(installation.scoring.rpartition(":")[2])
        target = Target("scorefront", port, "/api/v1/service/slow/score", pids=workers)
        drive(target, rate, 2.0, 0)
        at_rest = resident_bytes(workers)
        forget_peak(workers)
        for number in range(1, rounds + 1):
            without = drive(target, rate, seconds, number)
            wanted = max(wanted, asyncio.run(wanted_replicas(installation)))
            with slow_clients(target, uploaders, readers):
                beside = drive(target, rate, seconds, number)
                most = max(most, asyncio.run(wanted_replicas(installation)))
            without_s.append(percentile(without.latencies_s, 0.99))
            with_s.append(percentile(beside.latencies_s, 0.99))
            failed += without.failed + beside.failed
            p99 = f"p99 without {1000 * without_s[-1]:.1f} ms, beside slow clients {1000 * with_s[-1]:.1f} ms"
            print(f"{p99}; replicas wanted {wanted}, {most}")
        grown = peak_resident_bytes(workers) - at_rest
        installation.stop()
    bound = TOTAL_BYTES + (uploaders + readers) * OWN_BYTES
    return [
        Promise("p99 beside slow clients, ratio to without", middle(with_s) / middle(without_s), P99_RATIO, False),
        Promise("requests of the others that failed", failed, 0, at_least=False, digits=0),
        Promise("replicas wanted, and without slow clients", most, wanted, at_least=False, digits=0),
        Promise("memory grown, MB", grown / 1e6, bound / 1e6, at_least=False),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, judge; or be the slow clients, for the process that measures."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.slow_clients")
    parser.add_argument("--uploaders", type=int, default=1)
    parser.add_argument("--readers", type=int, default=10)
    parser.add_argument("--rate", type=float, default=20.0, help="requests per second of the others")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each half of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--crowd", action="store_true", help=f"{CROWD} of each kind of slow client; memory only")
    parser.add_argument("--be-slow", nargs=2, metavar=("PORT", "PATH"), help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.be_slow:
        asyncio.run(be_slow(int(chosen.be_slow[0]), chosen.be_slow[1], chosen.uploaders, chosen.readers))
        return 0
    if chosen.crowd:
        return judged(measure(CROWD, CROWD, chosen.rate, chosen.seconds, 1)[-1:], True)
    return judged(measure(chosen.uploaders, chosen.readers, chosen.rate, chosen.seconds, chosen.rounds), True)


if __name__ == "__main__":
    raise SystemExit(main())
