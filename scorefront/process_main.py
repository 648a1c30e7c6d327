"""What the processes that run for long have in common: their clock, their first sockets, and how they end."""

import asyncio
import contextlib
import logging
import os
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from router.supervisor.worker_supervisor import listening_socket
from scorefront.process_hardening import keep_memory_private
from scorefront.process_log import RecordFormatter, unblocked

Address = tuple[str, int]


class ProcessClock:
    """The clock of a process; fits every `Clock` that the other packages declare."""

    def now(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


class CannotStart(Exception):
    """What has to be mended first, e.g. an address that is taken, or not ours."""


def main(work: Callable[[], int], refused: tuple[type[Exception], ...], invalid: tuple[type[Exception], ...]) -> int:
    """Run to the end; returns the exit status: that of `work`, 1 for what is `refused`, 2 for what is `invalid`.

    What it prints and logs never blocks it (see `scorefront.process_log`), and its memory is its own
    (`scorefront.process_hardening`).
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


def listening(option: str, address: Address) -> socket.socket:
    """A socket that listens where `option` says. Raises CannotStart."""
    with usable(option, address):
        return listening_socket(*address)


def bound(option: str, address: Address) -> socket.socket:
    """Bound, but not listening: who connects is refused at once. Raises CannotStart."""
    sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
    try:
        with usable(option, address):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
    except CannotStart:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def listening_unix(option: str, path: Path) -> Iterator[socket.socket]:
    """A Unix socket of mode 0600 at `path`, removed at the end; one that nobody listens on is replaced.

    Raises CannotStart where somebody listens, or where something else is at `path`.
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
    """Remove a Unix socket at `path` that nobody listens on. Raises CannotStart, OSError."""
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
        except BlockingIOError:  # its backlog is full, so somebody listens
            pass
    raise CannotStart(f"{option}: somebody listens on unix:{path} already; is another `scorefront up` running?")


@contextlib.contextmanager
def usable(option: str, address: Address) -> Iterator[None]:
    """What the system refuses about this address is told by its option. Raises CannotStart."""
    try:
        yield
    except OSError as error:
        raise CannotStart(f"{option}: cannot listen on {shown(address)}: {error.strerror or error}") from error


@contextlib.contextmanager
def usable_file(path: Path) -> Iterator[None]:
    """What the system refuses about this file is told by its name. Raises CannotStart."""
    try:
        yield
    except OSError as error:
        raise CannotStart(f"cannot write to {path}: {error.strerror or error}") from error


def shown(address: Address) -> str:
    """`host:port`, as in a URL."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
