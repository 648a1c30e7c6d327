"""Skeleton of the long-running processes: clock, listening sockets, signals, exit status."""

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from router.supervisor.listening import bound_socket, listening_socket
from router.supervisor.worker_supervisor import RestartFailed, Supervisor
from scorefront.process.process_hardening import keep_memory_private
from scorefront.process.process_log import RecordFormatter, unblocked
from serving.authority import authority

Address = tuple[str, int]
_log = logging.getLogger("scorefront.process")


class ProcessClock:
    """The clock of a process; implements `serving.clock.Clock`."""

    def now(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


def started_at() -> float:
    """Start of this process, unix seconds by the wall clock as it is now."""
    ticks = int(Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[19])
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age_s  # noqa: TID251 - compared with times of the kubelet


class CannotStart(Exception):
    """The process cannot start, e.g. an address is in use."""


def main(work: Callable[[], int], refused: tuple[type[Exception], ...], invalid: tuple[type[Exception], ...]) -> int:
    """Run `work`; the exit status: that of `work`, 1 for an error in `refused`, 2 for one in `invalid`.

    Output never blocks (`scorefront.process.process_log`), memory is private (`scorefront.process.process_hardening`).
    """
    keep_memory_private()
    refused = (CannotStart, *refused)
    with (
        unblocked(sys.stdout) as out,
        unblocked(sys.stderr) as err,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        handler = logging.StreamHandler()
        handler.setFormatter(RecordFormatter("%(asctime)s %(name)s %(levelname)s: %(message)s"))
        logging.basicConfig(level=logging.WARNING, handlers=[handler])
        try:
            return work()
        except refused as error:
            print(f"scorefront: {error}", file=sys.stderr)
            return 1
        except invalid as error:
            print(f"scorefront: {error}", file=sys.stderr)
            return 2


def stop_event() -> asyncio.Event:
    """An event that SIGINT and SIGTERM set; to be called on the event loop."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def first_ended(stop: asyncio.Event, *tasks: asyncio.Task[Any]) -> None:
    """Wait for `stop`, or for the end of one of `tasks`."""
    stopping = asyncio.create_task(stop.wait(), name="wait for a signal")
    try:
        await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def restart_on(asked: asyncio.Event, supervisor: Supervisor) -> None:
    """Restart the router workers whenever `asked` is set; new processes run the installed version."""
    while True:
        await asked.wait()
        asked.clear()
        _log.warning("router workers: restarting")
        try:
            await supervisor.restart()
            _log.warning("router workers: restarted")
        except RestartFailed as error:
            _log.error("%s", error)


def listening(option: str, address: Address) -> socket.socket:
    """A listening socket for the address of `option`. Raises CannotStart."""
    with usable(option, address):
        return listening_socket(*address)


def bound(option: str, address: Address) -> socket.socket:
    """A bound socket that does not listen: connections are refused at once. Raises CannotStart."""
    with usable(option, address):
        return bound_socket(*address)


@contextlib.contextmanager
def listening_unix(option: str, path: Path) -> Iterator[socket.socket]:
    """A Unix socket of mode 0600 at `path`, removed at the end; one without a listener is replaced.

    Raises CannotStart if a process listens on it, or another file is at `path`.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.closing(sock):
        try:
            _remove_stale(option, path)
            before = os.umask(0o177)  # the mode from the first instant on
            try:
                sock.bind(str(path))
            finally:
                os.umask(before)
            made = path.lstat()
            sock.listen(socket.SOMAXCONN)
        except OSError as error:
            raise CannotStart(f"{option}: cannot listen on unix:{path}: {error.strerror or error}") from error
        sock.setblocking(False)
        try:
            yield sock
        finally:
            with contextlib.suppress(OSError):
                if os.path.samestat(path.lstat(), made):
                    path.unlink()


def _remove_stale(option: str, path: Path) -> None:
    """Remove a Unix socket without a listener at `path`. Raises CannotStart, OSError."""
    if not os.path.lexists(path):
        return
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise CannotStart(f"{option}: {path} is no socket; remove it, or choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:  # its backlog is full, so it has a listener
            pass
    raise CannotStart(f"{option}: a process listens on unix:{path} already; is another `scorefront up` running?")


@contextlib.contextmanager
def usable(option: str, address: Address) -> Iterator[None]:
    """Report an OSError for this address with its option. Raises CannotStart."""
    try:
        yield
    except OSError as error:
        taken = "; stop the process that listens there, or choose another address"
        remedy = taken if error.errno == errno.EADDRINUSE else ""
        raise CannotStart(f"{option}: cannot listen on {shown(address)}: {error.strerror or error}{remedy}") from error


@contextlib.contextmanager
def usable_file(path: Path) -> Iterator[None]:
    """Report an OSError for this file with its name. Raises CannotStart."""
    try:
        yield
    except OSError as error:
        raise CannotStart(f"cannot write to {path}: {error.strerror or error}") from error


def shown(address: Address) -> str:
    """`host:port`, as in a URL."""
    return authority(*address)
