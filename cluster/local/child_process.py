"""A replica process below a subreaper of its own: start, output, end, and removal of all its descendants."""

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
from collections.abc import Callable

from cluster.local import process_guard as guard
from cluster.local import subreaper
from cluster.local.command import REPLICA_VARIABLE, Launch

logger = logging.getLogger(__name__)

READ_BYTES = 65536
READ_EVERY_S = 0.02
"""Pause between reads: throttles a process that writes without end to 3 MB/s, as a terminal would; its bounded log
is overwritten three times a second even so. Unthrottled reading took 70 % of the core of this process."""
LAST_READS = 64
"""Most chunks read after the end of a process: an escaped descendant may hold the pipe open for ever."""
KILLED = -9
BURY_S = subreaper.PATIENCE_S + 1.0


class ChildProcess:
    """A running replica process; `subreaper` is the ancestor of the process and all its descendants.

    The subreaper reports start and end, and exits once no descendant is left, which closes the socket.
    """

    def __init__(
        self,
        launch: Launch,
        python: str,
        on_output: Callable[[bytes], None],
        on_start: Callable[[int], None] = lambda session: None,
        cores: tuple[int, ...] = (),
        listener: socket.socket | None = None,
    ) -> None:
        """Start the subreaper. Raises OSError.

        `launch`: the command. `python`: interpreter for the subreaper. `on_output`: called with output of the replica.
        `on_start`: called with its session (and pid) once it runs. `cores`: to run on; empty: all. `listener`: a socket
        that the replica inherits under the same number.
        """
        self.session: int | None = None
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """The return code, as of `subprocess`; an OSError if the command could not be executed."""
        self._marker = f"{REPLICA_VARIABLE}={launch.env.get(REPLICA_VARIABLE, '')}\0"
        self._on_output = on_output
        self._on_start = on_start
        self._listening_soon: asyncio.TimerHandle | None = None
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lost = False
        """The subreaper did not report a complete end: it was killed, or gave up."""
        self._heard = b""
        with contextlib.ExitStack() as undo, contextlib.ExitStack() as ours:
            self._output, theirs = os.pipe()
            undo.callback(os.close, self._output)
            ours.callback(os.close, theirs)
            self._control, far_end = socket.socketpair()
            undo.enter_context(self._control)
            ours.enter_context(far_end)
            specification = os.memfd_create("specification")
            ours.callback(os.close, specification)
            with open(specification, "wb", closefd=False) as file:
                file.write(subreaper.packed(launch.argv, launch.env, launch.cwd))
            inherited = [far_end.fileno(), specification, *([listener.fileno()] if listener is not None else [])]
            label = launch.env.get(REPLICA_VARIABLE, "")
            numbers = [str(far_end.fileno()), str(specification), ",".join(map(str, cores))]
            self._popen = subprocess.Popen(
                [python, "-I", "-S", subreaper.__file__, label, *numbers],
                env={},
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=theirs,
                start_new_session=True,
                pass_fds=inherited,
            )
            undo.pop_all()
        self.subreaper = self._popen.pid
        for descriptor in (self._output, self._control.fileno()):
            os.set_blocking(descriptor, False)
        self._listen()
        asyncio.get_running_loop().add_reader(self._control.fileno(), self._reported)

    def terminate(self) -> None:
        """Send SIGTERM to the process group."""
        self._order(b"T")

    def kill(self) -> None:
        """Kill the process and all its descendants."""
        self._order(b"K")

    async def wait_reaped(self) -> None:
        """Wait, after the end of the process, until no descendant is left."""
        try:
            async with asyncio.timeout(BURY_S):
                await asyncio.shield(self._gone)
        except TimeoutError:  # stopped, maybe by the replica itself
            self._popen.kill()
            await asyncio.shield(self._gone)
        if self._lost:
            sessions = {self.session} if self.session is not None else set()
            await asyncio.to_thread(guard.kill_all, sessions, self._marker)

    def _order(self, letter: bytes) -> None:
        if not self._gone.done():
            with contextlib.suppress(OSError):  # it is about to end
                self._control.send(letter)

    def _reported(self) -> None:
        try:
            data = self._control.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            word, _, rest = os.fsdecode(line).partition(" ")
            self._take(word, rest)
        if not data:
            self._end()

    def _take(self, word: str, rest: str) -> None:
        match word:
            case "started":
                self.session = int(rest)
                self._on_start(self.session)
            case "failed":
                number, _, name = rest.partition(" ")
                self._exit(OSError(int(number), os.strerror(int(number)), name))
            case "ended":
                self._exit(int(rest))
            case "left":
                self._lost = True
                logger.error("%s descendants of %s could not be killed", rest, self._marker.rstrip("\0"))

    def _exit(self, outcome: int | OSError) -> None:
        if self.exited.done():
            return
        self._read_last()
        if isinstance(outcome, OSError):
            self.exited.set_exception(outcome)
        else:
            self.exited.set_result(outcome)

    def _end(self) -> None:
        """The end of the subreaper: it holds its end of the socket until then."""
        asyncio.get_running_loop().remove_reader(self._control.fileno())
        self._control.close()
        self._popen.wait()
        if not self.exited.done():
            self._lost = True
            self._exit(KILLED)
        self._gone.set_result(None)

    # ---- output

    def _listen(self) -> None:
        asyncio.get_running_loop().add_reader(self._output, self._readable)

    def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._output)
        self._read()
        if self._output >= 0:
            self._listening_soon = loop.call_later(READ_EVERY_S, self._listen)

    def _read(self) -> bool:
        """Read once; False if nothing is available."""
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

    def _read_last(self) -> None:
        for _ in range(LAST_READS):
            if not self._read():
                break
        self._close_output()

    def _close_output(self) -> None:
        if self._listening_soon is not None:
            self._listening_soon.cancel()
        if self._output >= 0:
            asyncio.get_running_loop().remove_reader(self._output)
            os.close(self._output)
            self._output = -1
