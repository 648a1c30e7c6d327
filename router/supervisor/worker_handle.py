"""One worker process and the link to it: start, messages, requests with a time limit, end.

The supervisor interprets the messages.
"""

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from cluster.framing import FrameReader
from cluster.link import (
    MAX_FRAME_BYTES,
    Collect,
    FailuresRead,
    Metrics,
    MetricsPart,
    Retired,
    ToControl,
    ToWorker,
    TraceRead,
    VersionMetrics,
    WorkerMetrics,
)
from router.inflight_table import WorkerRow
from router.supervisor_messages import FromSupervisor, FromWorker, decode_for_supervisor, encode

ANSWER_S = 1.0
"""Longest wait for an answer, or for its next part."""
END_S = 5.0
"""Time for a worker that has closed its link to end before it is killed."""


@dataclass(slots=True, eq=False)
class _PendingRequest:
    """A request without its whole answer."""

    answer: asyncio.Future[ToControl | None]
    deadline: asyncio.Timeout
    versions: list[VersionMetrics] = field(default_factory=list)
    """Metrics of the versions in the parts received so far."""


@dataclass(slots=True, eq=False)
class WorkerHandle:
    """A running worker process."""

    name: str
    address: str
    """For workers of this group."""
    process: asyncio.subprocess.Process
    row: WorkerRow
    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter
    _metrics: WorkerMetrics | None = None
    _pending: dict[int, _PendingRequest] = field(default_factory=dict)
    _requests: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def send(self, message: FromSupervisor) -> None:
        """Send a message."""
        self.send_frame(encode(message))

    def send_frame(self, frame: bytes) -> None:
        """Send an encoded message; none to a worker whose end is not yet noticed: uvloop raises then."""
        if not self._writer.is_closing():
            self._writer.write(frame)

    async def ask(self, make: Callable[[int], ToWorker]) -> ToControl | None:
        """The answer to a request that `make` builds for a number; None after ANSWER_S, or if the worker ends."""
        request = next(self._requests)
        future: asyncio.Future[ToControl | None] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(ANSWER_S) as deadline:
                self._pending[request] = _PendingRequest(future, deadline)
                self.send(make(request))
                return await future
        except TimeoutError:
            return None
        finally:
            self._pending.pop(request, None)

    def answered(self, answer: Retired | MetricsPart | Metrics | TraceRead | FailuresRead) -> None:
        """Complete the request, or add a part; a late answer is dropped."""
        pending = self._pending.get(answer.request)
        if pending is None or pending.answer.done() or pending.deadline.expired():
            return
        if isinstance(answer, MetricsPart):
            pending.versions += answer.versions
            pending.deadline.reschedule(asyncio.get_running_loop().time() + ANSWER_S)
            return
        if isinstance(answer, Metrics) and pending.versions:
            whole = msgspec.structs.replace(answer.metrics, versions=(*pending.versions, *answer.metrics.versions))
            answer = Metrics(answer.request, whole)
        pending.answer.set_result(answer)

    async def metrics(self) -> WorkerMetrics | None:
        """Its metrics; the last known ones without an answer, None if there are none."""
        answer = await self.ask(Collect)
        if isinstance(answer, Metrics):
            self._metrics = answer.metrics
        return self._metrics

    async def messages(self) -> AsyncGenerator[FromWorker, None]:
        """Its messages, until it closes the link. Raises LinkError for an invalid one."""
        frames = FrameReader(decode_for_supervisor, MAX_FRAME_BYTES)
        with contextlib.suppress(ConnectionError):
            while data := await self._reader.read(1 << 20):
                for message in frames.feed(data):
                    yield message

    def kill(self) -> None:
        """Kill the process; harmless after its end."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def wait_ended(self) -> None:
        """Wait until the process has ended, for at most END_S."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await self.process.wait()

    def close(self) -> None:
        """Close the link; pending requests get no answer."""
        self._writer.close()
        for pending in self._pending.values():
            if not pending.answer.done():
                pending.answer.set_result(None)


async def start_worker(
    name: str,
    address: str,
    row: WorkerRow,
    command: Sequence[str],
    environment: Mapping[str, str],
    fds: Mapping[str, int],
) -> WorkerHandle:
    """Start a worker process. Raises OSError.

    `name`, `address`: of the worker. `row`: its row of the in-flight table. `command`: argv, to which `--name`,
    `--address` and one `--NAME-fd` for each of `fds` are appended. `environment`: of the process.
    """
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            passed = {**fds, "link": theirs.fileno(), "inflight": row.fd}
            process = await asyncio.create_subprocess_exec(
                *command,
                f"--name={name}",
                f"--address={address}",
                *(f"--{each}-fd={fd}" for each, fd in passed.items()),
                pass_fds=list(passed.values()),
                env=environment,
                start_new_session=True,  # Ctrl-C in a terminal is for the parent, which then drains the workers
                stdin=asyncio.subprocess.DEVNULL,
            )
    except BaseException:
        ours.close()
        raise
    reader, writer = await asyncio.open_connection(sock=ours)
    return WorkerHandle(name, address, process, row, reader, writer)
