"""The parent process of one replica: a child subreaper (prctl(2)) that leaves no descendant of it alive.

Run as a script with a label, the descriptor of a socket to its parent, that of the specification (see `packed`), and
the cores to run on ("0,2", or "" for all). A descendant that daemonizes, leaves its session and clears its environment
becomes a child of this process when its own parent ends; so killing children until there are none kills all.

From the parent: T ends the process group of the replica with SIGTERM, K kills all. The end of the socket means the end
of the parent and kills all. To the parent, one a line: `started PID`, `failed ERRNO NAME`, `ended CODE` (negative for a
signal), and `left COUNT` for unkillable processes; then the end.

Only the standard library, no first-party import: it starts in milliseconds, in a process of its own for each replica.
"""

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Mapping, Sequence

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
WALL = 0x40000000
"""__WALL of waitpid(2): includes children of clone(2) with another signal than SIGCHLD."""
ROUND_S = 0.005
PATIENCE_S = 3.0
"""Longest time of killing; a process in an uninterruptible sleep, or of another user, outlasts it."""
FATAL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
RESTORED = (signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that Python ignores, and the program of the replica must not."""


def packed(argv: Sequence[str], env: Mapping[str, str], cwd: str | None) -> bytes:
    """The command as bytes for `Specification`, separated by NUL, which texts cannot hold."""
    texts = [cwd or "", str(len(argv)), *argv, *(f"{name}={value}" for name, value in env.items())]
    return b"\0".join(os.fsencode(text) for text in texts)


class Specification:
    """The command: argv, environment, directory ("": the current one)."""

    def __init__(self, data: bytes) -> None:
        self.cwd, count, *texts = (os.fsdecode(part) for part in data.split(b"\0"))
        self.argv = texts[: int(count)]
        self.env = dict(text.split("=", 1) for text in texts[int(count) :])


class Subreaper:
    """One replica: its first process and all descendants."""

    def __init__(self, control: int, specification: Specification) -> None:
        self._control = control
        self._specification = specification
        self._first = 0
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._woken, wakeup = os.pipe()
        for end in (self._woken, wakeup):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, *FATAL):
            signal.signal(number, lambda *_: None)  # a handler, unlike SIG_IGN, is not inherited by the replica
        self._libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def run(self) -> None:
        """Run from the start of the replica to the end of the last descendant."""
        if not self._start():
            return
        while self._first and self._await():
            self._reap()
        left = self._end_all(time.monotonic() + PATIENCE_S)
        if left:
            self._tell(f"left {left}")

    def _start(self) -> bool:
        failure, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._become(theirs)
        os.close(theirs)
        with os.fdopen(failure, "rb") as pipe:
            failed = pipe.read()
        if failed:
            os.waitpid(pid, 0)
            self._tell(f"failed {os.fsdecode(failed)}")
            return False
        self._first = pid
        self._tell(f"started {pid}")
        return True

    def _become(self, failure: int) -> None:
        """In the child: execute the replica, or report the error, and exit."""
        what = self._specification
        blamed = what.cwd
        try:
            os.setsid()
            parent = os.getppid()
            self._libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)
            for number in RESTORED:
                signal.signal(number, signal.SIG_DFL)
            if what.cwd:
                os.chdir(what.cwd)
            blamed = what.argv[0]
            os.execvpe(what.argv[0], what.argv, what.env)
        except OSError as error:
            os.write(failure, f"{error.errno} ".encode() + os.fsencode(blamed))
        finally:
            os._exit(1)

    def _await(self) -> bool:
        """Wait for an event; False if everything is to be killed."""
        ready, _, _ = select.select([self._control, self._woken], [], [])
        if self._woken in ready:
            self._drain()
        if self._control not in ready:
            return True
        try:
            orders = os.read(self._control, 64)
        except OSError:
            orders = b""
        if b"T" in orders:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._first, signal.SIGTERM)
        return bool(orders) and b"K" not in orders

    def _end_all(self, give_up_at: float) -> int:
        """Kill children until there are none; return the number left at `give_up_at`."""
        while time.monotonic() < give_up_at:
            for pid in children():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            if not self._reap():
                return 0
            select.select([self._woken], [], [], ROUND_S)
            self._drain()
        return len(children())

    def _reap(self) -> bool:
        """Collect the status of every ended child; False if there is no child at all."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG | WALL)
                if pid == 0:
                    return True
                if pid == self._first:
                    self._first = 0
                    self._tell(f"ended {os.waitstatus_to_exitcode(status)}")
        return False

    def _tell(self, line: str) -> None:
        with contextlib.suppress(OSError):  # the parent is gone
            os.write(self._control, os.fsencode(line) + b"\n")

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._woken, 4096):
                pass


def children() -> list[int]:
    """Children of this process, which has one thread; from the table of processes on kernels without their list."""
    own = os.getpid()
    try:
        with open(f"/proc/self/task/{own}/children", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _parent(pid) == own]


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def main(control: int, specification: int, cores: str) -> None:
    """Run one replica to its end.

    `control`: descriptor of the socket to the parent. `specification`: descriptor of the command. `cores`: to run on.
    """
    for descriptor in (control, specification):
        os.set_inheritable(descriptor, False)
    with open(specification, "rb") as file:
        file.seek(0)
        what = Specification(file.read())
    if cores:
        with contextlib.suppress(OSError):  # taken from us meanwhile: the limit cannot be honoured
            os.sched_setaffinity(0, [int(core) for core in cores.split(",")])
    reaper = Subreaper(control, what)
    reaper.run()


if __name__ == "__main__":
    main(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
