"""Replicas that work one request at a time, exactly as long as its body says, and write down when.

    python -m loadtests.peers.replicas --ports 9001,9002 --witness FILE

A POST has the body `{"index": 17, "work_s": 0.02}`; a second one that comes meanwhile waits its turn in the replica, as
in a model server with one worker. One line is appended for each: index, replica, when it came, began and ended
(monotonic seconds). One select(2) loop serves all: its timeouts are good to the microsecond, epoll's to a millisecond.
"""

import argparse
import heapq
import itertools
import json
import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests.peers.rig import Rig, exact_timers

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@dataclass(frozen=True, slots=True)
class Job:
    """One request at a replica; monotonic seconds."""

    index: int
    replica: int
    came_s: float
    began_s: float
    ended_s: float

    @property
    def work_s(self) -> float:
        """Its real duration."""
        return self.ended_s - self.began_s


def start(rig: Rig, count: int) -> tuple[list[int], Path]:
    """Start this many in one process; their ports, and the file they write to."""
    ports = rig.free_ports(count)
    witness = rig.directory / f"witness-{ports[0]}"
    listed = ",".join(map(str, ports))
    rig.start_module("replicas", "loadtests.peers.replicas", ports[-1], "--ports", listed, "--witness", str(witness))
    return ports, witness


def read(witness: Path) -> list[Job]:
    """The recorded jobs, in order of their ends."""
    jobs = []
    for line in witness.read_text().splitlines():
        index, replica, *times = line.split(" ")
        jobs.append(Job(int(index), int(replica), *map(float, times)))
    return jobs


def body(index: int, work_s: float) -> bytes:
    """The body of a request."""
    return json.dumps({"index": index, "work_s": work_s}).encode()


class _Connection:
    def __init__(self, sock: socket.socket, replica: "_Replica") -> None:
        self.sock = sock
        self.replica = replica
        self.data = b""

    def fileno(self) -> int:
        return self.sock.fileno()


@dataclass(slots=True)
class _Waiting:
    connection: _Connection
    index: int
    work_s: float
    came_s: float


class _Replica:
    """One server with one worker."""

    def __init__(self, number: int, port: int, loop: "_Loop") -> None:
        self.number = number
        self.sock = socket.create_server(("127.0.0.1", port))
        self._loop = loop
        self._line: deque[_Waiting] = deque()
        self._began_s = 0.0

    def fileno(self) -> int:
        return self.sock.fileno()

    def take(self, connection: _Connection, request: bytes, now: float) -> None:
        """A whole body has come."""
        asked = json.loads(request)
        self._line.append(_Waiting(connection, asked["index"], asked["work_s"], now))
        if len(self._line) == 1:
            self._begin(now)

    def _begin(self, now: float) -> None:
        self._began_s = now
        self._loop.call_at(now + self._line[0].work_s, self)

    def end(self, now: float) -> None:
        """The work of the first in line is done."""
        job = self._line.popleft()
        self._loop.write(job.connection)
        self._loop.note(f"{job.index} {self.number} {job.came_s:.6f} {self._began_s:.6f} {now:.6f}\n")
        if self._line:
            self._begin(now)


class _Loop:
    """Sockets and ends of work."""

    def __init__(self, ports: Sequence[int], witness: Path) -> None:
        self._replicas = [_Replica(number, port, self) for number, port in enumerate(ports)]
        self._connections: set[_Connection] = set()
        self._ends: list[tuple[float, int, _Replica]] = []
        self._order = itertools.count()
        self._witness = witness.open("a", buffering=1)

    def call_at(self, at: float, replica: _Replica) -> None:
        heapq.heappush(self._ends, (at, next(self._order), replica))

    def note(self, line: str) -> None:
        self._witness.write(line)

    def write(self, connection: _Connection) -> None:
        try:
            connection.sock.send(_ANSWER)
        except OSError:
            self._close(connection)

    def run(self) -> None:
        while True:
            now = time.monotonic()
            while self._ends and self._ends[0][0] <= now:
                heapq.heappop(self._ends)[2].end(time.monotonic())
            pause = max(0.0, self._ends[0][0] - time.monotonic()) if self._ends else None
            sockets: list[_Replica | _Connection] = [*self._replicas, *self._connections]
            readable = select.select(sockets, (), (), pause)[0]
            now = time.monotonic()
            for each in readable:
                if isinstance(each, _Replica):
                    self._accept(each)
                elif each in self._connections:
                    self._read(each, now)

    def _accept(self, replica: _Replica) -> None:
        sock, _ = replica.sock.accept()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections.add(_Connection(sock, replica))

    def _read(self, connection: _Connection, now: float) -> None:
        try:
            data = connection.sock.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(connection)
            return
        connection.data += data
        head, end, rest = connection.data.partition(b"\r\n\r\n")
        if not end or (head.startswith(b"POST") and not rest.endswith(b"}")):
            return
        connection.data = b""
        if head.startswith(b"POST"):
            connection.replica.take(connection, rest, now)
        else:
            self.write(connection)  # a health probe: answered beside the work

    def _close(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        connection.sock.close()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ports", required=True)
    parser.add_argument("--witness", type=Path, required=True)
    arguments = parser.parse_args()
    exact_timers()
    _Loop([int(port) for port in arguments.ports.split(",")], arguments.witness).run()


if __name__ == "__main__":
    main()
