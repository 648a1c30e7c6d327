"""One worker takes over from another: what it may use of each replica while the other still uses some of it.

Every slot belongs to one of the two at any time. The one that leaves says what it still uses, which only becomes less
(`cluster.link.Holding`); its successor is shown the rest, and more whenever there is less.

This is how workers are replaced that do not speak of slots with each other. Those that do need none of it: see
`router.supervisor`.
"""

import asyncio
import contextlib
import itertools
import logging
import signal
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from cluster.link import (
    Announce,
    Collect,
    Drained,
    FrameReader,
    HandOver,
    Holding,
    Metrics,
    RemoveReplica,
    ResetAll,
    Retire,
    Retired,
    Serving,
    ToControl,
    ToWorker,
    UpsertReplica,
    Usage,
    WorkerMetrics,
    decode_for_control,
    encode,
)
from router.supervisor import Callbacks, RestartFailed
from serving.endpoint import VersionKey
from serving.replica import Replica, ReplicaState

_log = logging.getLogger("scorefront.supervisor")

ANSWER_S = 1.0
RESTART_DELAYS_S = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
STABLE_S = 10.0
"""A worker that lived this long is restarted at once when it dies."""
START_S = 20.0
"""A worker that does not serve after this long is no successor."""


class Succession:
    """One handing over, as the successor is told of it."""

    def __init__(self) -> None:
        self._holding: Holding | None = None
        self._ended = False
        self._shown: dict[str, Replica] = {}
        self._owed: set[str] = set()

    def show(self, replicas: Iterable[Replica]) -> list[Replica]:
        """What the successor has to be told, given how the replicas are now."""
        told = []
        for replica in replicas:
            rest = self._rest(replica)
            if rest is not None and self._shown.get(replica.id) != rest:
                self._shown[replica.id] = rest
                told.append(rest)
        return told

    def forget(self, replica_id: str) -> None:
        """The replica is gone."""
        self._shown.pop(replica_id, None)
        self._owed.discard(replica_id)

    def reset(self) -> None:
        """The successor has been told to forget every replica."""
        self._shown.clear()

    def update(self, holding: Holding) -> None:
        """The predecessor uses only this any more."""
        self._holding = holding

    def end(self) -> None:
        """The predecessor has ended, in whatever way: it uses nothing."""
        self._ended = True

    def drained(self, replica_id: str) -> list[str]:
        """The successor has nothing in flight on a withdrawn replica: the replicas on which neither has anything."""
        self._owed.add(replica_id)
        return self.settled()

    def settled(self) -> list[str]:
        """Replicas that the successor has drained, and now the predecessor, too; each is told once."""
        settled = [replica_id for replica_id in self._owed if self._ended or self._is_free(replica_id)]
        self._owed.difference_update(settled)
        return settled

    def _is_free(self, replica_id: str) -> bool:
        return self._holding is not None and not self._holding.busy.get(replica_id)

    def _rest(self, replica: Replica) -> Replica | None:
        """What is left of the replica for the successor; None: it must not know of it yet."""
        if self._ended:
            return replica
        holding = self._holding
        if holding is None or replica.key in holding.wanting:
            return None
        if replica.id in holding.retired and replica.state is ReplicaState.READY:
            replica = replace(replica, state=ReplicaState.DRAINING)
        return replace(replica, slots=max(0, replica.slots - holding.busy.get(replica.id, 0)))


@dataclass(slots=True, eq=False)
class _Link:
    """One live worker."""

    index: int
    process: asyncio.subprocess.Process
    writer: asyncio.StreamWriter
    passed_on: socket.socket
    """Where connections come out that this worker gives to its successor."""
    predecessor: "_Link | None" = None
    succession: Succession | None = None
    """Set while it takes over from its predecessor."""
    serving: asyncio.Event = field(default_factory=asyncio.Event)
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once a successor serves in its place."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    holding: Holding | None = None
    """While it is leaving: what it still uses."""
    worker: str = ""
    metrics: WorkerMetrics | None = None
    pending: dict[int, asyncio.Future[ToControl]] = field(default_factory=dict)

    def send(self, message: ToWorker) -> None:
        self.writer.write(encode(message))


class SuccessionSupervisor:
    """A group of workers that know nothing of each other; satisfies `controlplane.routers.Routers`."""

    def __init__(
        self,
        listen: socket.socket,
        count: int,
        command: Sequence[str],
        environment: dict[str, str],
        callbacks: Callbacks,
        redirect: socket.socket | None = None,
    ) -> None:
        """`command`: argv of a worker, to which its name and the file descriptors are appended.

        `redirect`: a second socket, for clients without TLS that are sent to the first.
        """
        self._listen = listen
        self._redirect = redirect
        self._count = count
        self._command = list(command)
        self._environment = environment
        self._callbacks = callbacks
        self._links: dict[int, _Link] = {}
        """The workers in charge."""
        self._beside: list[_Link] = []
        """Successors that do not serve yet, and workers that are leaving."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._requests = itertools.count(1)
        self._closing = False
        self._serving = asyncio.Event()
        self._restarting = asyncio.Lock()

    async def start(self) -> None:
        """Start the workers; returns when every one serves."""
        for index in range(self._count):
            self._spawn(index)
        await self._serving.wait()

    async def restart(self) -> None:
        """Replace every worker by a new process, without a lost request; returns when the old ones have ended.

        The new worker starts while the old one serves. Once it accepts connections, the old one gives it those that are
        idle, and slot by slot what it does not use any more; requests in flight end where they began, so this takes as
        long as the longest of them. A connection with TLS cannot be given: an idle one is closed. What is installed is
        what the new process runs. Raises RestartFailed.
        """
        async with self._restarting:
            for old in list(self._links.values()):
                await self._replace(old)

    async def close(self, deadline_s: float) -> None:
        """Drain and stop the workers; kill what is left after `deadline_s`."""
        self._closing = True
        processes = [link.process for link in self._everybody()]
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
        """Tell every worker. One that is leaving has a use for replicas only: requests may wait there for one."""
        frame = encode(message)
        for link in self._everybody():
            if link.succession is not None:
                self._tell_successor(link, link.succession, message)
            elif not link.leaving.is_set() or isinstance(message, UpsertReplica | RemoveReplica):
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
        links = [link for link in self._everybody() if link.predecessor is None or link.serving.is_set()]
        return [metrics for metrics in await asyncio.gather(*map(self._counts, links)) if metrics]

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

    def _everybody(self) -> list[_Link]:
        return [*self._links.values(), *self._beside]

    def _spawn(self, index: int, predecessor: _Link | None = None) -> asyncio.Task[None]:
        task = asyncio.create_task(self._keep(index, predecessor), name=f"keep router worker {index}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _keep(self, index: int, predecessor: _Link | None) -> None:
        """Run a worker, and another one when it dies, until it has been replaced or could not replace another."""
        loop = asyncio.get_running_loop()
        failures = 0
        while not self._closing:
            began = loop.time()
            if predecessor is not None and predecessor.gone.is_set():
                predecessor = None
            status, again = await self._run(index, predecessor)
            if self._closing or not again:
                return
            failures = 0 if loop.time() - began >= STABLE_S else failures + 1
            delay = RESTART_DELAYS_S[min(failures, len(RESTART_DELAYS_S) - 1)]
            _log.warning("router worker %d ended with status %s; started again in %.1f s", index, status, delay)
            await asyncio.sleep(delay)

    async def _run(self, index: int, predecessor: _Link | None) -> tuple[int, bool]:
        """One worker, from its start to its end: its exit status, and whether another one has to follow it."""
        ours, theirs = socket.socketpair()
        passed_on, giving = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fds = {"listen": self._listen, "link": theirs, "give": giving}
        if self._redirect is not None:
            fds["redirect"] = self._redirect
        if predecessor is not None:
            fds["take"] = predecessor.passed_on
        with theirs, giving:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                f"--name=w{index}",
                *(f"--{name}-fd={sock.fileno()}" for name, sock in fds.items()),
                pass_fds=[sock.fileno() for sock in fds.values()],
                env=self._environment,
                start_new_session=True,  # Ctrl-C in a terminal is for the parent, which then drains the workers
                stdin=asyncio.subprocess.DEVNULL,
            )
        link = None
        again = True
        try:
            reader, writer = await asyncio.open_connection(sock=ours)
            link = _Link(index, process, writer, passed_on, predecessor)
            self._join(link)
            await self._listen_to(link, reader)
            status = await process.wait()
        finally:
            passed_on.close()
            if link is not None:
                again = self._left(link)
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        return status, again

    def _join(self, link: _Link) -> None:
        everything = self._callbacks.snapshot()
        predecessor = link.predecessor
        if predecessor is None:
            self._links[link.index] = link
            link.send(everything)
            return
        self._beside.append(link)
        link.succession = Succession()
        link.send(msgspec.structs.replace(everything, replicas=()))
        if predecessor.holding is not None:
            self._show_rest(link, link.succession, predecessor.holding)

    def _left(self, link: _Link) -> bool:
        """The worker has ended; returns whether another one has to be started."""
        link.gone.set()
        link.writer.close()
        in_charge = self._links.get(link.index) is link
        if in_charge:
            del self._links[link.index]
        else:
            self._beside.remove(link)
        if link.worker:
            self._callbacks.on_worker_gone(link.worker)
        successors = [each for each in self._everybody() if each.predecessor is link]
        for successor in successors:
            if in_charge:
                self._take_charge(successor)
            self._inherit(successor)
        return in_charge and not successors

    # ---- one worker takes over from another

    async def _replace(self, old: _Link) -> None:
        old.send(Announce(True))
        keeper = self._spawn(old.index, old)
        leaving = asyncio.create_task(old.leaving.wait(), name="wait for the successor")
        await asyncio.wait({keeper, leaving}, timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if not old.leaving.is_set():
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            old.send(Announce(False))
            raise RestartFailed(f"router worker {old.index}: the new process did not serve; the old one goes on")
        await old.gone.wait()

    def _take_charge(self, link: _Link) -> None:
        """The successor is the worker that counts; its predecessor, if it is still there, hands over."""
        predecessor = link.predecessor
        assert predecessor is not None
        self._beside.remove(link)
        self._links[link.index] = link
        if not predecessor.gone.is_set() and not predecessor.leaving.is_set():
            self._beside.append(predecessor)
            predecessor.send(HandOver())
        predecessor.leaving.set()

    def _inherit(self, link: _Link) -> None:
        """The predecessor has ended: everything is the successor's."""
        succession = link.succession
        assert succession is not None
        succession.end()
        link.predecessor = link.succession = None
        self._show(link, succession)

    def _show_rest(self, link: _Link, succession: Succession, holding: Holding) -> None:
        succession.update(holding)
        self._show(link, succession)

    def _show(self, link: _Link, succession: Succession) -> None:
        for replica in succession.show(self._callbacks.snapshot().replicas):
            link.send(UpsertReplica(replica))
        for replica_id in succession.settled():
            self._callbacks.on_drained(replica_id)

    def _tell_successor(self, link: _Link, succession: Succession, message: ToWorker) -> None:
        replicas: tuple[Replica, ...] = ()
        match message:
            case UpsertReplica(replica):
                replicas = (replica,)
            case ResetAll():
                replicas = message.replicas
                succession.reset()
                link.send(msgspec.structs.replace(message, replicas=()))
            case RemoveReplica(replica_id):
                succession.forget(replica_id)
                link.send(message)
            case _:
                link.send(message)
        for replica in succession.show(replicas):
            link.send(UpsertReplica(replica))

    # ---- what workers say

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
                if link.predecessor is not None:
                    self._take_charge(link)
                if len(self._links) == self._count and all(each.serving.is_set() for each in self._links.values()):
                    self._serving.set()
            case Usage(report):
                if not link.worker:
                    link.worker = report.worker
                    self._callbacks.on_workers([each.worker for each in self._everybody() if each.worker])
                self._callbacks.on_usage(report)
            case Drained(replica_id):
                if link.leaving.is_set():
                    return  # its `Holding` says so, too, and its successor may still be using the replica
                for settled in link.succession.drained(replica_id) if link.succession else [replica_id]:
                    self._callbacks.on_drained(settled)
            case Holding():
                link.holding = message
                for each in self._everybody():
                    if each.predecessor is link and each.succession is not None:
                        self._show_rest(each, each.succession, message)
            case Retired(request, _) | Metrics(request, _):
                future = link.pending.get(request)
                if future is not None and not future.done():
                    future.set_result(message)
