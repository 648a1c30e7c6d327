"""Starts router workers, keeps them alive, and passes on what they and the control plane say to each other.

The listening socket is made here and shared: a worker that dies is replaced while new connections wait in its backlog.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from cluster.link import (
    Collect,
    Drained,
    FrameReader,
    Metrics,
    ResetAll,
    Retire,
    Retired,
    Serving,
    ToControl,
    ToWorker,
    Usage,
    WorkerMetrics,
    decode_for_control,
    encode,
)
from serving.endpoint import VersionKey
from serving.usage import UsageReport

_log = logging.getLogger("scorefront.supervisor")

ANSWER_S = 1.0
RESTART_DELAYS_S = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
STABLE_S = 10.0
"""A worker that lived this long is restarted at once when it dies."""


@dataclass(slots=True)
class Callbacks:
    """What the supervisor tells its owner."""

    snapshot: Callable[[], ResetAll]
    on_usage: Callable[[UsageReport], None]
    on_drained: Callable[[str], None]
    on_workers: Callable[[Collection[str]], None]
    """The workers that are alive now."""
    on_worker_gone: Callable[[str], None]


@dataclass(slots=True)
class _Link:
    """One live worker."""

    process: asyncio.subprocess.Process
    writer: asyncio.StreamWriter
    serving: asyncio.Event = field(default_factory=asyncio.Event)
    worker: str = ""
    metrics: WorkerMetrics | None = None
    pending: dict[int, asyncio.Future[ToControl]] = field(default_factory=dict)


class Supervisor:
    """A group of workers on one listening socket; satisfies `controlplane.routers.Routers`."""

    def __init__(
        self,
        listen: socket.socket,
        count: int,
        command: Sequence[str],
        environment: dict[str, str],
        callbacks: Callbacks,
    ) -> None:
        """`command`: argv of a worker, to which its name and the two file descriptors are appended."""
        self._listen = listen
        self._count = count
        self._command = list(command)
        self._environment = environment
        self._callbacks = callbacks
        self._links: dict[int, _Link] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._requests = itertools.count(1)
        self._closing = False
        self._serving = asyncio.Event()

    async def start(self) -> None:
        """Start the workers; returns when every one serves."""
        for index in range(self._count):
            task = asyncio.create_task(self._keep(index), name=f"keep router worker {index}")
            self._tasks.append(task)
        await self._serving.wait()

    async def close(self, deadline_s: float) -> None:
        """Drain and stop the workers; kill what is left after `deadline_s`."""
        self._closing = True
        processes = [link.process for link in self._links.values()]
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(deadline_s):
                await asyncio.gather(*(process.wait() for process in processes))
        except TimeoutError:
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ---- Routers

    def publish(self, message: ToWorker) -> None:
        """Tell every worker."""
        frame = encode(message)
        for link in self._links.values():
            link.writer.write(frame)

    async def retire(self, key: VersionKey, count: int) -> Sequence[str]:
        """Ask the owner of the version's slots to withdraw replicas."""
        for link in list(self._links.values()):
            answer = await self._ask(link, lambda request: Retire(request, key, count))
            if isinstance(answer, Retired):
                return answer.replicas
        return ()

    async def collect(self) -> Sequence[WorkerMetrics]:
        """The counts of every worker that is alive; the last known ones of a worker that does not answer in time."""
        return [metrics for metrics in await asyncio.gather(*map(self._counts, list(self._links.values()))) if metrics]

    async def _counts(self, link: _Link) -> WorkerMetrics | None:
        answer = await self._ask(link, Collect)
        if isinstance(answer, Metrics):
            link.metrics = answer.metrics
        return link.metrics

    async def _ask(self, link: _Link, make: Callable[[int], ToWorker]) -> ToControl | None:
        request = next(self._requests)
        future: asyncio.Future[ToControl] = asyncio.get_running_loop().create_future()
        link.pending[request] = future
        link.writer.write(encode(make(request)))
        try:
            async with asyncio.timeout(ANSWER_S):
                return await future
        except TimeoutError:
            return None
        finally:
            link.pending.pop(request, None)

    # ---- one worker

    async def _keep(self, index: int) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while not self._closing:
            began = loop.time()
            status = await self._run(index)
            if self._closing:
                return
            failures = 0 if loop.time() - began >= STABLE_S else failures + 1
            delay = RESTART_DELAYS_S[min(failures, len(RESTART_DELAYS_S) - 1)]
            _log.warning("router worker %d ended with status %s; started again in %.1f s", index, status, delay)
            await asyncio.sleep(delay)

    async def _run(self, index: int) -> int:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                f"--name=w{index}",
                f"--listen-fd={self._listen.fileno()}",
                f"--link-fd={theirs.fileno()}",
                pass_fds=(self._listen.fileno(), theirs.fileno()),
                env=self._environment,
                start_new_session=True,  # Ctrl-C in a terminal is for the parent, which then drains the workers
                stdin=asyncio.subprocess.DEVNULL,
            )
        try:
            reader, writer = await asyncio.open_connection(sock=ours)
            link = self._links[index] = _Link(process, writer)
            writer.write(encode(self._callbacks.snapshot()))
            await self._listen_to(link, reader)
            return await process.wait()
        finally:
            link_gone = self._links.pop(index, None)
            if link_gone is not None:
                link_gone.writer.close()
                if link_gone.worker:
                    self._callbacks.on_worker_gone(link_gone.worker)
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

    async def _listen_to(self, link: _Link, reader: asyncio.StreamReader) -> None:
        frames = FrameReader()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 20):
                for body in frames.feed(data):
                    self._take(link, decode_for_control(body))

    def _take(self, link: _Link, message: ToControl) -> None:
        match message:
            case Serving():
                link.serving.set()
                if len(self._links) == self._count and all(each.serving.is_set() for each in self._links.values()):
                    self._serving.set()
            case Usage(report):
                if not link.worker:
                    link.worker = report.worker
                    self._callbacks.on_workers([each.worker for each in self._links.values() if each.worker])
                self._callbacks.on_usage(report)
            case Drained(replica_id):
                self._callbacks.on_drained(replica_id)
            case Retired(request, _) | Metrics(request, _):
                future = link.pending.get(request)
                if future is not None and not future.done():
                    future.set_result(message)


def worker_command() -> list[str]:
    """How this installation starts a worker."""
    return [sys.executable, "-m", "scorefront.worker", "router-worker"]


def listening_socket(host: str, port: int) -> socket.socket:
    """A bound socket for workers to share. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        # Listening from here on: a client that comes before the first worker waits instead of being refused.
        sock.listen(4096)
    except OSError:
        sock.close()
        raise
    os.set_inheritable(sock.fileno(), True)
    return sock
