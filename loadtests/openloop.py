"""Latency under load that does not wait: arrivals are fixed in advance, so a slow answer cannot slow the arrivals.

    python -m loadtests.openloop [--rate 2000] [--seconds 5] [--rounds 5] [--only scorefront,nginx] [--check]

Latency runs from the moment a request was meant to be sent to the last byte of its answer, as wrk2 counts. The
difference to the same load on the backend itself is what a proxy adds.
"""

import argparse
import contextlib
import random
import select
import socket
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from loadtests.bench.figures import Promise, Table, judged, median_difference, middle, percentile, poisson, rotated
from loadtests.bench.throughput import COMPILED, OURS, PEERS, POLLING, Answers, targets
from loadtests.bench.traffic import Heads, requests
from loadtests.http1 import READ_BYTES, answer_size, exchange_blocking
from loadtests.peers.rig import Rig, Target, exact_timers

MOST_CONNECTIONS = 900
"""select(2) takes file descriptors below 1,024."""
CONNECT_S = 2.0
PATIENCE_S = 30.0
"""After the last arrival; requests unanswered then have failed."""
LEAD_S = 0.1
RATE, SECONDS, ROUNDS, SEED = 2000, 5, 5, 20
OPEN_LOOP_PEERS = (OURS, COMPILED, POLLING, *PEERS[2:])


class Outcomes:
    """The outcome of each request; times in seconds from the start of the run, as the arrivals."""

    def __init__(self, arrivals_s: Sequence[float]) -> None:
        self.arrivals_s = arrivals_s
        self.sent_s = array("d", bytes(8 * len(arrivals_s)))
        self.done_s = array("d", bytes(8 * len(arrivals_s)))
        self.status = array("H", bytes(2 * len(arrivals_s)))
        """0: no answer, or a broken one."""
        self.connections = 0
        """That were made."""
        self.began_s = 0.0
        """Start of the run on the monotonic clock."""

    @property
    def latencies_s(self) -> list[float]:
        """From the intended moment to the end of the answer, of the requests answered 200, in order of arrival."""
        return [
            done - at
            for at, done, status in zip(self.arrivals_s, self.done_s, self.status, strict=True)
            if status == 200
        ]

    @property
    def failed(self) -> int:
        """Requests that were not answered 200."""
        return len(self.status) - self.status.count(200)

    @property
    def lateness_s(self) -> list[float]:
        """Delay of each request behind its intended moment."""
        return [sent - at for at, sent in zip(self.arrivals_s, self.sent_s, strict=True)]


@dataclass(eq=False, slots=True)
class _Connection:
    sock: socket.socket
    request: int = -1
    data: bytes = b""

    def fileno(self) -> int:
        return self.sock.fileno()


class Generator:
    """Sends requests to one port at their times, on as many connections as that takes."""

    def __init__(self, port: int, requests: Sequence[bytes], arrivals_s: Sequence[float]) -> None:
        self._port = port
        self._requests = requests
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self.outcomes = Outcomes(arrivals_s)

    def connect(self, count: int) -> None:
        """Open connections beforehand, each with an answer to a harmless request, so that it has been accepted."""
        opened = [self._opened() for _ in range(count)]
        for connection in opened:
            connection.sock.setblocking(True)
            exchange_blocking(connection.sock)
            connection.sock.setblocking(False)
        self._idle += opened

    def mix(self, seed: int) -> None:
        """Use the connections that there are in another order than that of their making."""
        random.Random(seed).shuffle(self._idle)

    def ports(self) -> frozenset[int]:
        """Of this end of every connection that is open."""
        return frozenset(each.sock.getsockname()[1] for each in (*self._idle, *self._busy))

    def run(self, then: Callable[[], None] = lambda: None) -> Outcomes:
        """Send everything, wait for every answer; `then` is called before the connections are closed."""
        arrivals = self.outcomes.arrivals_s
        exact_timers()
        began = time.perf_counter() + LEAD_S
        self.outcomes.began_s = began
        following, end = 0, arrivals[-1] + PATIENCE_S
        try:
            while following < len(arrivals) or self._busy:
                now = time.perf_counter() - began
                if now > end:
                    break
                while following < len(arrivals) and arrivals[following] <= now and self._may_send():
                    self._send(following, time.perf_counter() - began)
                    following += 1
                waits = following < len(arrivals) and self._may_send()
                pause = arrivals[following] - (time.perf_counter() - began) if waits else 0.1
                for connection in select.select(self._busy, (), (), max(0.0, pause))[0]:
                    self._read(connection, began)
            then()
        finally:
            for connection in (*self._idle, *self._busy):
                connection.sock.close()
        return self.outcomes

    def _may_send(self) -> bool:
        return bool(self._idle) or len(self._busy) < MOST_CONNECTIONS

    def _send(self, request: int, now: float) -> None:
        connection = self._connection()
        connection.request = request
        self.outcomes.sent_s[request] = now
        self._busy.add(connection)
        with contextlib.suppress(OSError):  # a connection that is gone reads as such
            connection.sock.send(self._requests[request])

    def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            try:
                connection.sock.recv(1)  # nothing to read: it is still there
            except BlockingIOError:
                return connection
            except OSError:
                pass
            connection.sock.close()
        return self._opened()

    def _opened(self) -> _Connection:
        sock = socket.create_connection(("127.0.0.1", self._port), CONNECT_S)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.outcomes.connections += 1
        return _Connection(sock)

    def _read(self, connection: _Connection, began: float) -> None:
        try:
            data = connection.sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return
        connection.data = whole = connection.data + data if connection.data else data
        size = answer_size(whole)
        if size is None or len(whole) < size:
            return
        outcomes, request = self.outcomes, connection.request
        outcomes.done_s[request] = time.perf_counter() - began
        outcomes.status[request] = int(whole[9:12])
        self._busy.discard(connection)
        connection.data = b""
        if len(whole) == size and b"\r\nconnection: close\r\n" not in whole.lower():
            self._idle.append(connection)
        else:
            connection.sock.close()

    def _drop(self, connection: _Connection) -> None:
        """The peer has closed: the request stays unanswered."""
        self._busy.discard(connection)
        connection.sock.close()


def drive(target: Target, rate: float, seconds: float, seed: int, heads: Heads = Heads.SAME) -> Outcomes:
    """Small requests at random times.

    `rate`: per second. `seed`: of the times. `heads`: kind of requests, default one that repeats.
    """
    arrivals = poisson(rate, max(1, round(rate * seconds)), seed)
    made = requests(heads, target, len(arrivals))
    return Generator(target.port, made * (len(arrivals) // len(made)), arrivals).run()


@dataclass(slots=True)
class Measured:
    """The results of each round for one target, seconds."""

    target: Target
    p50_s: list[float] = field(default_factory=list)
    p99_s: list[float] = field(default_factory=list)
    failed: int = 0

    def take(self, outcomes: Outcomes) -> None:
        """Keep one round's figures."""
        latencies = outcomes.latencies_s
        self.p50_s.append(percentile(latencies, 0.5))
        self.p99_s.append(percentile(latencies, 0.99))
        self.failed += outcomes.failed


def measure(rate: float, seconds: float, rounds: int, wanted: Sequence[str]) -> list[Measured]:
    """Interleaved rounds; the arrivals of a round are the same for all, those of another round are others."""
    with Rig() as rig:
        measured = [Measured(target) for (target,) in targets(rig, wanted, (Answers.VARYING,))]
        for each in measured:
            drive(each.target, rate, 1.0, SEED, Heads.MIXED)
        for number, each in rotated(measured, rounds):
            each.take(drive(each.target, rate, seconds, SEED + number, Heads.MIXED))
    return measured


def added_s(measured: Sequence[Measured]) -> dict[str, tuple[float, float]]:
    """p50 and p99 less those of `direct` in the same round, medians over the rounds."""
    direct = next(_named(measured, "direct"))
    return {
        each.target.name: (median_difference(each.p50_s, direct.p50_s), median_difference(each.p99_s, direct.p99_s))
        for each in measured
    }


def _named(measured: Sequence[Measured], name: str) -> Iterator[Measured]:
    return (each for each in measured if each.target.name == name)


def table(measured: Sequence[Measured]) -> Table:
    """A row for each; milliseconds."""
    added = added_s(measured)
    rows = [
        (
            each.target.name,
            *(f"{1000 * value:.3f}" for value in (middle(each.p50_s), middle(each.p99_s), *added[each.target.name])),
            f"{each.failed:,}",
        )
        for each in measured
    ]
    return Table(("", "p50 ms", "p99 ms", "added p50 ms", "added p99 ms", "failed"), tuple(rows))


def promises(measured: Sequence[Measured]) -> list[Promise]:
    """The promised limits of added latency: with default settings, and with busy polling if it was measured."""
    promised = []
    polled = any(_named(measured, POLLING))
    for name in (OURS, POLLING) if polled else (OURS,):
        p50_s, p99_s = added_s(measured).get(name, (float("nan"), float("nan")))
        failed = sum(each.failed for each in _named(measured, name))
        promised += [
            Promise(f"{name}: added latency, p50 ms", 1000 * p50_s, 0.15, at_least=False, digits=3),
            Promise(f"{name}: added latency, p99 ms", 1000 * p99_s, 1.0, at_least=False, digits=3),
            Promise(f"{name}: requests that failed", failed, 0, at_least=False, digits=0),
        ]
    return promised


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.openloop")
    parser.add_argument("--rate", type=float, default=RATE, help="requests per second")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", default=",".join(OPEN_LOOP_PEERS), help="names, separated by commas")
    parser.add_argument("--check", action="store_true", help="exit status 1 when a promise is not kept")
    arguments = parser.parse_args()
    wanted = [name for name in OPEN_LOOP_PEERS if name in arguments.only.split(",") or name == "direct"]
    measured = measure(arguments.rate, arguments.seconds, arguments.rounds, wanted)
    print(table(measured).text(), end="\n\n")
    return judged(promises(measured), arguments.check)


if __name__ == "__main__":
    raise SystemExit(main())
