"""The router workers of one installation as the system sees them: which there are, whose each client is, and standing
still on purpose.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from router.core.view import owner_of
from serving.endpoint import VersionKey

WORD = "router-worker"
_NAME = "--name="
_HALT_S = 1.0


@dataclass(frozen=True, slots=True)
class Worker:
    """One process; `name` is what its peers know it by."""

    pid: int
    name: str


def named(pid: int, command: Sequence[str]) -> Worker | None:
    """The worker that was started so; None: it is none."""
    if WORD not in command:
        return None
    return Worker(pid, next((word.removeprefix(_NAME) for word in command if word.startswith(_NAME)), ""))


def crew(root: int) -> list[Worker]:
    """The workers below this process, also those that are starting or leaving; the oldest first."""
    found = []
    for process in psutil.Process(root).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it ended while we looked
            worker = named(process.pid, process.cmdline())
            if worker is not None:
                found.append(worker)
    return sorted(found, key=lambda each: each.pid)


def known(pids: Iterable[int]) -> list[Worker]:
    """Those of these processes that are workers."""
    found = (named(pid, psutil.Process(pid).cmdline()) for pid in pids)
    return [worker for worker in found if worker is not None]


def owner(key: VersionKey, workers: Iterable[Worker]) -> Worker:
    """The owner of a version among these workers. Raises LookupError without any."""
    by_name = {each.name: each for each in workers}
    return by_name[owner_of(key, by_name)]


def clients(worker: Worker, port: int) -> frozenset[int]:
    """The ports at the other end of the connections that it has from clients; empty when it has ended."""
    try:
        connections = psutil.Process(worker.pid).net_connections("tcp")
    except psutil.Error:
        return frozenset()
    return frozenset(
        each.raddr.port
        for each in connections
        if each.status == psutil.CONN_ESTABLISHED and each.laddr.port == port and each.raddr
    )


@contextlib.contextmanager
def standing_still(pids: Iterable[int]) -> Iterator[None]:
    """These processes are stopped (SIGSTOP, seen to have had its effect), and go on afterwards."""
    halted = []
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
            halted.append(pid)
            _await_halt(pid)
        yield
    finally:
        for pid in halted:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def alone(pid: int, pids: Iterable[int]) -> Iterator[None]:
    """Stop all of these workers but `pid`, so that new connections become its clients."""
    with standing_still(each for each in pids if each != pid):
        yield


def _await_halt(pid: int) -> None:
    """The signal is on its way for a moment. Raises TimeoutError."""
    deadline = time.monotonic() + _HALT_S
    while not _is_halted(pid):
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} has not stopped")
        time.sleep(0.0005)


def _is_halted(pid: int) -> bool:
    """From the state of every thread, the field after the name in parentheses (proc(5))."""
    threads = Path(f"/proc/{pid}/task").glob("*/stat")
    return all(thread.read_text().rpartition(")")[2].split()[0] in "tTZX" for thread in threads)
