"""The processes of one measurement: their cores, readiness and cost; none is left behind."""

import contextlib
import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType

import psutil

from scorefront.process.time_slices import shorten_slices

ROOT = Path(__file__).parents[2]
START_S = 30.0
STOP_S = 5.0
_PR_SET_TIMERSLACK = 29


@dataclass(frozen=True, slots=True)
class Cores:
    """The proxy that is measured has a core of its own; load, backend and everything else share the others."""

    proxy: frozenset[int]
    load: frozenset[int]

    @classmethod
    def divided(cls, available: Iterable[int]) -> "Cores":
        """The last core is the proxy's. With a single core there is nothing to divide."""
        cores = sorted(available)
        return cls(frozenset(cores[-1:]), frozenset(cores[:-1] or cores))


@dataclass(frozen=True, slots=True)
class Target:
    """The target of requests, and its processes, for CPU and memory."""

    name: str
    port: int
    path: str = "/score"
    fields: tuple[tuple[str, str], ...] = ()
    pids: tuple[int, ...] = ()
    tls: bool = False

    def head(self, method: str = "POST", *fields: tuple[str, str]) -> bytes:
        """A request head as a client library writes it, with its empty line."""
        lines = [("Host", f"127.0.0.1:{self.port}"), ("Content-Type", "application/json"), *self.fields, *fields]
        written = "".join(f"{name}: {value}\r\n" for name, value in lines)
        return f"{method} {self.path} HTTP/1.1\r\n{written}\r\n".encode()

    def post(self, body: bytes) -> bytes:
        """A whole POST request."""
        return self.head("POST", ("Content-Length", str(len(body)))) + body


class Rig:
    """A directory, the cores, and everything that was started. Leaving it ends all of that."""

    def __init__(self) -> None:
        self._before = os.sched_getaffinity(0)
        self.cores = Cores.divided(self._before)
        self.stack = contextlib.ExitStack()
        self.directory = Path()

    def __enter__(self) -> "Rig":
        self.directory = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="loadtest-")))
        self.stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, _leave))
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
        self.stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        os.sched_setaffinity(0, self.cores.load)  # children inherit it
        self.stack.callback(os.sched_setaffinity, 0, self._before)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stack.close()

    def start(self, name: str, command: Sequence[str], port: int, proxy: bool = True) -> int:
        """Start a server, on the proxy's core or on the others, and wait until it listens; returns its pid.

        Raises RuntimeError with its output if it does not.
        """
        log = self.directory / f"{name}-{port}.log"
        os.sched_setaffinity(0, self.cores.proxy if proxy else self.cores.load)
        try:
            with log.open("w") as output:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT
                )
        finally:
            os.sched_setaffinity(0, self.cores.load)
        self.stack.callback(_end, process)
        deadline = time.monotonic() + START_S
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} does not listen on port {port}: {log.read_text()[-2000:]}")
            time.sleep(0.02)
        return process.pid

    def start_module(self, name: str, module: str, port: int, *arguments: str, proxy: bool = False) -> int:
        """Start one of our own servers (`python -m module`)."""
        return self.start(name, [sys.executable, "-m", module, *arguments], port, proxy)

    def pin_to_proxy_core(self, pid: int) -> None:
        """Move a process with all of its threads."""
        for thread in psutil.Process(pid).threads():
            os.sched_setaffinity(thread.id, self.cores.proxy)

    def free_ports(self, count: int = 1) -> list[int]:
        """Ports that nobody listens on now, all different."""
        with contextlib.ExitStack() as held:
            sockets = [held.enter_context(socket.socket()) for _ in range(count)]
            for sock in sockets:
                sock.bind(("127.0.0.1", 0))
            return [int(sock.getsockname()[1]) for sock in sockets]


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time that the threads of these processes have used so far (/proc, to the nanosecond)."""
    tasks = [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def resident_bytes(pids: Iterable[int]) -> int:
    """Resident memory of these processes."""
    return sum(_status_bytes(pid, "VmRSS") for pid in pids)


def forget_peak(pids: Iterable[int]) -> None:
    """`peak_resident_bytes` counts from now on (proc(5), clear_refs)."""
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_resident_bytes(pids: Iterable[int]) -> int:
    """The most resident memory that these processes had since `forget_peak`."""
    return sum(_status_bytes(pid, "VmHWM") for pid in pids)


def exact_timers() -> None:
    """Let this thread wake when it asked to: Linux else adds up to 50 µs to every sleep (prctl(2), timer slack).

    On a busy core it would also wait for the slice of another process.
    """
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    shorten_slices()


def first_line_of(*command: str) -> str | None:
    """The first line of a program's version; None if it is not installed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        return None
    return next((line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()), "")


def _status_bytes(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/{pid}/status has no {name}")


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
