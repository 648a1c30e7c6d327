"""9,000 idle connections: memory of each next to Envoy's, and the latency of everybody else with and without them.

    python -m loadtests.idle [--connections 9000] [--rate 1000] [--seconds 5] [--rounds 2] [--check]

The connections come from many addresses of 127.0.0.0/8. Each has scored once and is then silent, as those of a client's
pool are. A process of its own holds them. Normal load is open loop; without and with take turns.
"""

import argparse
import contextlib
import itertools
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from loadtests.bench.figures import Promise, Table, judged, middle, percentile
from loadtests.bench.traffic import BODY
from loadtests.http1 import read_answer
from loadtests.openloop import drive
from loadtests.peers import envoy, nginx, scorefront
from loadtests.peers.rig import ROOT, Rig, Target, resident_bytes

OURS = "scorefront"
CONNECTIONS = 9000
P99_RATIO = 1.5
GROWTH_BYTES = 30_000
HELD_S = 60.0
"""To open them all; less than the router's idle timeout of 75 s."""
AT_ONCE = 100


@dataclass(slots=True)
class Measured:
    """One proxy; p99 in seconds, a value for each round."""

    name: str
    bytes_each: float = 0.0
    without_s: list[float] = field(default_factory=list)
    with_s: list[float] = field(default_factory=list)
    failed: int = 0
    lost: int = 0
    """Idle connections that the proxy closed while they were meant to be open."""

    @property
    def p99_ratio(self) -> float:
        """p99 with the idle connections over p99 without."""
        return middle(self.with_s) / middle(self.without_s)


def measure(connections: int, rate: float, seconds: float, rounds: int) -> list[Measured]:
    """One proxy after the other, each fresh: memory once given is seldom given back."""
    starters = {OURS: scorefront.start} | ({"Envoy": envoy.start} if envoy.version() else {})
    measured = []
    for name, start in starters.items():
        with Rig() as rig:
            target = start(rig, [nginx.start_backend(rig).port])
            each = Measured(name)
            drive(target, rate, 2.0, 0)
            for number in range(rounds):
                _round(each, target, connections, rate, seconds, number)
            measured.append(each)
    return measured


def _round(each: Measured, target: Target, connections: int, rate: float, seconds: float, number: int) -> None:
    without = drive(target, rate, seconds, 2 * number)
    before = resident_bytes(target.pids)
    with held(target, connections) as process:
        if not number:
            each.bytes_each = (resident_bytes(target.pids) - before) / connections
        beside = drive(target, rate, seconds, 2 * number + 1)
        said, _ = process.communicate(timeout=HELD_S)
        each.lost += int(said)
    each.without_s.append(percentile(without.latencies_s, 0.99))
    each.with_s.append(percentile(beside.latencies_s, 0.99))
    each.failed += without.failed + beside.failed


@contextlib.contextmanager
def held(target: Target, connections: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds the connections until its input ends, then prints the number that were lost."""
    command = [sys.executable, "-m", "loadtests.idle", "--hold", str(target.port), "--connections", str(connections)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        try:
            assert process.stdin is not None and process.stdout is not None
            request = target.post(BODY)
            process.stdin.write(b"%d\n%b" % (len(request), request))
            process.stdin.flush()
            if process.stdout.readline() != b"open\n":
                raise RuntimeError(f"{connections} connections to {target.name} could not be opened")
            yield process
        finally:
            process.kill()


def hold(port: int, connections: int) -> None:
    """In a process of its own: open, score once on each, wait for the end of the input, count the closed ones."""
    signal.alarm(int(2 * HELD_S))  # independent of the parent
    request = sys.stdin.buffer.read(int(sys.stdin.buffer.readline()))
    sources = (f"127.{a}.{b}.1" for a, b in itertools.product(range(1, 255), range(255)))
    sockets: list[socket.socket] = []
    while len(sockets) < connections:
        batch = [_connected(port, next(sources)) for _ in range(min(AT_ONCE, connections - len(sockets)))]
        for sock in batch:
            sock.sendall(request)
        for sock in batch:
            read_answer(sock)
        sockets += batch
    print("open", flush=True)
    sys.stdin.buffer.read()
    print(sum(map(_is_closed, sockets)))


def _connected(port: int, source: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 10.0, (source, 0))


def _is_closed(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return not sock.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        return True


def table(measured: Sequence[Measured]) -> Table:
    """A row for each."""
    rows = [
        (
            each.name,
            f"{each.bytes_each / 1000:.1f}",
            f"{1000 * middle(each.without_s):.2f}",
            f"{1000 * middle(each.with_s):.2f}",
            f"{each.failed:,}",
            f"{each.lost:,}",
        )
        for each in measured
    ]
    columns = ("", "kB per idle connection", "p99 ms without", "p99 ms with", "failed", "idle ones lost")
    return Table(columns, tuple(rows))


def promises(measured: Sequence[Measured]) -> list[Promise]:
    """The promises of the product."""
    by_name = {each.name: each for each in measured}
    ours, theirs = by_name[OURS], by_name.get("Envoy")
    to_envoy = ours.bytes_each / theirs.bytes_each if theirs else float("nan")
    return [
        Promise("memory of an idle connection, ratio to Envoy", to_envoy, 1.0, at_least=False),
        Promise("memory of an idle connection, kB", ours.bytes_each / 1000, GROWTH_BYTES / 1000, at_least=False),
        Promise("p99 beside them, ratio to without", ours.p99_ratio, P99_RATIO, at_least=False),
        Promise("requests failed, connections lost", ours.failed + ours.lost, 0, at_least=False, digits=0),
    ]


def main() -> int:
    """Measure, print, judge; or hold the connections, for the process that measures."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.idle")
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    parser.add_argument("--rate", type=float, default=1000.0, help="normal requests per second")
    parser.add_argument("--seconds", type=float, default=5.0, help="of normal load, without and with, in each round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--check", action="store_true", help="exit status 1 when a promise is not kept")
    parser.add_argument("--hold", type=int, metavar="PORT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.hold:
        hold(arguments.hold, arguments.connections)
        return 0
    measured = measure(arguments.connections, arguments.rate, arguments.seconds, arguments.rounds)
    print(table(measured).text(), end="\n\n")
    return judged(promises(measured), arguments.check)


if __name__ == "__main__":
    raise SystemExit(main())
