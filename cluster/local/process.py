"""One child process: executed in a session of its own, its output read, its end noticed at once, nothing left of it."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable

from cluster.local import guard
from cluster.local.command import REPLICA_VARIABLE, Launch

READ_BYTES = 65536
READ_EVERY_S = 0.02
"""One that writes without end is heard at 3 MB/s and waits for us, as it would for any terminal: its bounded log is
turned over three times a second anyhow. Heard as fast as it could write, it took 70 % of the core of this process."""
LAST_READS = 64
"""Chunks read at most after the end of a process: something that escaped it may hold the pipe open for ever."""


class Child:
    """A running replica process; `pid` is also its process group and session.

    The end is seen through a pidfd, on any event loop, and before the process is reaped: until then its number cannot
    be given to another process, so that killing its group can hit no stranger.
    """

    def __init__(self, launch: Launch, setpriv: str | None, on_output: Callable[[bytes], None]) -> None:
        """Execute; raises OSError. Must be called on the main thread: PDEATHSIG fires when the forking thread ends."""
        # setpriv sets PR_SET_PDEATHSIG and then becomes the replica: no Python runs between fork and exec, where it
        # could deadlock, and the fork stays a cheap vfork. Without it the guard alone sees to orphans.
        belt = (setpriv, "--pdeathsig", "KILL", "--") if setpriv else ()
        self._output, theirs = os.pipe()
        try:
            self._popen = subprocess.Popen(
                [*belt, *launch.argv],
                env=dict(launch.env),
                cwd=launch.cwd,
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=theirs,
                start_new_session=True,
            )
        except BaseException:
            os.close(self._output)
            raise
        finally:
            os.close(theirs)
        self.pid = self._popen.pid
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """The return code, as `subprocess` gives it."""
        self._marker = f"{REPLICA_VARIABLE}={launch.env.get(REPLICA_VARIABLE, '')}\0"
        self._on_output = on_output
        self._listening_soon: asyncio.TimerHandle | None = None
        try:
            self._watch()
        except OSError:  # out of descriptors: a process that cannot be watched must not run
            self.kill()
            self._popen.wait()
            os.close(self._output)
            raise

    def terminate(self) -> None:
        """Ask the whole group to end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the whole group."""
        self._signal(signal.SIGKILL)

    def use_cores(self, cores: tuple[int, ...]) -> None:
        """Run on these cores only; inherited by what it starts from now on, which is everything."""
        # It may have ended, or the cores may have been taken from us: the limit cannot be honoured then.
        with contextlib.suppress(OSError):
            os.sched_setaffinity(self.pid, cores)

    async def bury(self) -> None:
        """After its end: kill what left its group, then let the number go."""
        try:
            await asyncio.to_thread(guard.kill_all, {self.pid}, self._marker)
        finally:
            self._popen.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._popen.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # only zombies are left of the group
                os.killpg(self.pid, number)

    def _watch(self) -> None:
        self._pidfd = os.pidfd_open(self.pid)
        os.set_blocking(self._output, False)
        self._listen()
        asyncio.get_running_loop().add_reader(self._pidfd, self._ended)

    def _listen(self) -> None:
        asyncio.get_running_loop().add_reader(self._output, self._readable)

    def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._output)
        self._read()
        if self._output >= 0:
            self._listening_soon = loop.call_later(READ_EVERY_S, self._listen)

    def _read(self) -> bool:
        """Read once; False when there is nothing (more) to read."""
        if self._output < 0:
            return False
        try:
            data = os.read(self._output, READ_BYTES)
        except BlockingIOError:
            return False
        if data:
            self._on_output(data)
            return True
        self._close_output()
        return False

    def _close_output(self) -> None:
        if self._listening_soon is not None:
            self._listening_soon.cancel()
        if self._output >= 0:
            asyncio.get_running_loop().remove_reader(self._output)
            os.close(self._output)
            self._output = -1

    def _ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        self.kill()
        result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOWAIT)
        os.close(self._pidfd)
        for _ in range(LAST_READS):
            if not self._read():
                break
        self._close_output()
        self.exited.set_result(_returncode(result))


def _returncode(result: os.waitid_result | None) -> int:
    if result is None:
        return 0
    return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
