"""Handle of the guard process: start, list of sessions, restart after its death."""

import asyncio
import contextlib
import logging
import os
import subprocess

from cluster.local import process_guard as guard

logger = logging.getLogger(__name__)
RESTART_S = 0.5


class Guardian:
    """Keeps one guard process alive between `start` and `close`."""

    def __init__(self, python: str, marker: str) -> None:
        self._command = [python, "-I", "-S", guard.__file__, marker]
        self._sessions: set[int] = set()
        self._popen: subprocess.Popen[bytes] | None = None
        self._pipe = -1
        self._pidfd = -1
        self._restart: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start a guard with all current sessions. Raises OSError."""
        theirs, self._pipe = os.pipe()
        try:
            self._popen = subprocess.Popen(
                self._command,
                stdin=theirs,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={},
                start_new_session=True,
            )
        finally:
            os.close(theirs)
        os.set_blocking(self._pipe, False)
        self._pidfd = os.pidfd_open(self._popen.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._died)
        for session in self._sessions:
            self._tell(f"+{session}\n")

    def add_session(self, session: int) -> None:
        """Add the session of a replica."""
        self._sessions.add(session)
        self._tell(f"+{session}\n")

    def remove_session(self, session: int) -> None:
        """Remove a session without processes; its number may be reused by others."""
        self._sessions.discard(session)
        self._tell(f"-{session}\n")

    async def close(self) -> None:
        """Let the guard finish, normally without work, and wait for its end."""
        if self._restart is not None:
            self._restart.cancel()
        popen = self._popen
        if popen is None:
            return
        self._let_go()
        await asyncio.to_thread(popen.wait)

    def _tell(self, line: str) -> None:
        # A dead guard is restarted with all sessions; for a stuck one the marker finds the sessions it missed.
        with contextlib.suppress(OSError):
            os.write(self._pipe, line.encode())

    def _died(self) -> None:
        logger.warning("the guard against orphan processes has ended; starting another")
        popen = self._popen
        self._let_go()
        if popen is not None:
            popen.wait()
        self._restart = asyncio.get_running_loop().call_later(RESTART_S, self.start)

    def _let_go(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        os.close(self._pipe)
        self._popen, self._pipe, self._pidfd = None, -1, -1
