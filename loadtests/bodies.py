"""Bodies of 10 MB in both directions: bytes per second next to nginx, and the growth of the router's memory.

    python -m loadtests.bodies [--rounds 3] [--seconds 3] [--connections 8] [--peers] [--check]

Up: a POST is taken and answered briefly. Down: a GET is answered with 10 MB. Both: what was sent comes back. nginx is
set up to stream with large buffers, which is its best. Rounds are interleaved. Memory: the most that was resident
during any run, less what was resident after small requests.
"""

import argparse
import hashlib
import http.client
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from loadtests.bench import wrk
from loadtests.bench.figures import Promise, Table, judged, middle, rotated
from loadtests.peers import bodies, envoy, haproxy, nginx, scorefront
from loadtests.peers.rig import Rig, Target, forget_peak, peak_resident_bytes, resident_bytes

OURS = "scorefront"
RATIO = 0.5
GROWTH_BYTES = 8_000_000
CHUNK = b"0123456789"


@dataclass(frozen=True, slots=True)
class Direction:
    """A request and its target; `moved`: bodies of 10 MB moved by one request."""

    name: str
    method: str
    path: str
    upload: bool
    moved: int = 1


DIRECTIONS = (
    Direction("up", "POST", "/sink", True),
    Direction("down", "GET", "/source", False),
    Direction("both", "POST", "/echo", True, 2),
)


@dataclass(slots=True)
class Measured:
    """One proxy: runs by direction, and its memory in bytes."""

    target: Target
    at_rest: int = 0
    peak: int = 0
    runs: dict[str, list[wrk.Run]] = field(default_factory=lambda: {each.name: [] for each in DIRECTIONS})

    def bytes_per_s(self, direction: Direction) -> float:
        """Median of the rounds."""
        moved = direction.moved * bodies.SIZE
        return middle([run.rate * moved for run in self.runs[direction.name]])

    @property
    def failed(self) -> int:
        """Requests that failed."""
        return sum(run.failed for runs in self.runs.values() for run in runs)

    @property
    def grown_bytes(self) -> int:
        """The largest growth of its memory."""
        return self.peak - self.at_rest


def measure(rounds: int, seconds: int, connections: int, peers: bool) -> list[Measured]:
    """Interleaved rounds; every proxy has its say on a body of chance bytes first."""
    with Rig() as rig:
        measured = [Measured(target) for target in _targets(rig, bodies.start(rig), peers)]
        for each in measured:
            _prove(each.target)
            small = wrk.script(_head(each.target, DIRECTIONS[0], 0))
            wrk.drive(each.target, small, rig.directory, 1, connections)
            each.at_rest = resident_bytes(each.target.pids)
        for _, each in rotated(measured, rounds):
            forget_peak(each.target.pids)
            for direction in DIRECTIONS:
                each.runs[direction.name].append(_run(rig, each.target, direction, seconds, connections))
            each.peak = max(each.peak, peak_resident_bytes(each.target.pids))
    return measured


def _targets(rig: Rig, port: int, peers: bool) -> list[Target]:
    started = [scorefront.start(rig, [port]), nginx.start(rig, [port], streaming=True)]
    if peers:
        started.append(nginx.start(rig, [port], name="nginx, defaults"))
    if peers and haproxy.version():
        started.append(haproxy.start(rig, [port]))
    if peers and envoy.version():
        started.append(envoy.start(rig, [port]))
    return started


def _path(target: Target, direction: Direction) -> str:
    return target.path.removesuffix("/score") + direction.path


def _head(target: Target, direction: Direction, size: int) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in target.fields)
    length = f"Content-Length: {size}\r\n" if direction.upload else ""
    first = f"{direction.method} {_path(target, direction)} HTTP/1.1\r\nHost: 127.0.0.1:{target.port}\r\n"
    return f"{first}{lines}{length}\r\n".encode()


def _run(rig: Rig, target: Target, direction: Direction, seconds: int, connections: int) -> wrk.Run:
    size = bodies.SIZE if direction.upload else 0
    script = wrk.script(_head(target, direction, size), CHUNK, size // len(CHUNK))
    return wrk.drive(target, script, rig.directory, seconds, connections, _path(target, direction))


def _prove(target: Target) -> None:
    """Echoed bodies are equal byte for byte. Raises RuntimeError."""
    body = os.urandom(bodies.SIZE)
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=30)
    connection.request("POST", _path(target, DIRECTIONS[2]), body, dict(target.fields))
    answer = connection.getresponse()
    came = answer.read()
    connection.close()
    if answer.status != 200 or hashlib.sha256(came).digest() != hashlib.sha256(body).digest():
        raise RuntimeError(f"{target.name} answered {answer.status} with {len(came)} bytes that are not those sent")


def table(measured: Sequence[Measured]) -> Table:
    """A row for each."""
    columns = ("", *(f"{each.name} MB/s" for each in DIRECTIONS), "at rest MB", "grown MB", "failed")
    rows = [
        (
            each.target.name,
            *(f"{each.bytes_per_s(direction) / 1e6:,.0f}" for direction in DIRECTIONS),
            f"{each.at_rest / 1e6:.1f}",
            f"{each.grown_bytes / 1e6:.1f}",
            f"{each.failed:,}",
        )
        for each in measured
    ]
    return Table(columns, tuple(rows))


def promises(measured: Sequence[Measured]) -> list[Promise]:
    """The promises of the product."""
    by_name = {each.target.name: each for each in measured}
    ours, theirs = by_name[OURS], by_name["nginx"]
    ratios = [
        Promise(f"{each.name}: bytes/s, ratio to nginx", ours.bytes_per_s(each) / theirs.bytes_per_s(each), RATIO)
        for each in DIRECTIONS
    ]
    grown = Promise("memory grown, MB", ours.grown_bytes / 1e6, GROWTH_BYTES / 1e6, at_least=False)
    return [*ratios, grown, Promise("requests that failed", ours.failed, 0, at_least=False, digits=0)]


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bodies")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="of each direction in each round")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--peers", action="store_true", help="HAProxy and Envoy as well")
    parser.add_argument("--check", action="store_true", help="exit status 1 when a promise is not kept")
    arguments = parser.parse_args()
    measured = measure(arguments.rounds, arguments.seconds, arguments.connections, arguments.peers)
    print(table(measured).text(), end="\n\n")
    return judged(promises(measured), arguments.check)


if __name__ == "__main__":
    raise SystemExit(main())
