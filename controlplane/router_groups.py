"""The router groups of a cluster, as its leader sees them: they connect, report, and are given orders.

Routers learn from the Kubernetes API what there is; only counts and orders pass here. A worker that is known to serve
but is not heard is still expected: as long as it is, nothing is scaled down (missing data may raise, never lower).
"""

import asyncio
import itertools
import logging
import socket
from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from cluster.framing import LinkError
from cluster.link import (
    Drained,
    FromGroup,
    GroupIs,
    GroupLoad,
    Leads,
    Resize,
    Retire,
    Retired,
    ToWorker,
    Usage,
    WorkerMetrics,
)
from cluster.owned_tasks import OwnedTasks
from cluster.router_reports import RouterReports
from cluster.strangers import Strangers
from cluster.trust import ROUTER, Trust, TrustError, names
from controlplane.group_claims import claim_fault
from controlplane.group_link import SILENT_S, GroupLink
from serving.endpoint import VersionKey

_log = logging.getLogger(__name__)

ANSWER_S = 1.0
"""How long groups may take to answer."""
GREET_S = 5.0
"""How long a connection may take to agree on TLS and to say who it is."""
MAX_STRANGERS = 64
"""Connections that have not said who they are; for a further one the oldest of the most frequent address is closed."""
MAX_STRANGERS_OF_ONE = 8
"""Of one address: a router has one link."""
MAX_GROUPS = 128
"""Ten routers are many; each has one group, and for a moment two."""
_ACCEPT_PAUSE_S = 0.1
"""After a failure to accept, for want of file descriptors as a rule."""


@dataclass(frozen=True, slots=True)
class GroupState:
    """One group that is linked."""

    pod: str
    """"" where it did not say."""
    load: GroupLoad | None
    """What it told last; None: nothing yet."""


class _Question:
    """Something that was asked of several links: the first answer that is one, or nothing from all of them."""

    def __init__(self, links: Collection[GroupLink]) -> None:
        self._asked = set(links)
        self.answer: asyncio.Future[Sequence[str]] = asyncio.get_running_loop().create_future()

    def heard(self, link: GroupLink, replicas: Sequence[str]) -> None:
        """An answer, or the end of a link."""
        self._asked.discard(link)
        if not self.answer.done() and (replicas or not self._asked):
            self.answer.set_result(replicas)


class RouterGroups:
    """From `open` to `close`, under one leader; satisfies `controlplane.routers.Routers`."""

    def __init__(self, fence: int, trust: Trust) -> None:
        """`fence`: counts the leaders (`cluster.link.Leads`)."""
        self._reports: RouterReports
        self._fence = fence
        self._trust = trust
        self._loop = asyncio.get_running_loop()
        self._tasks = OwnedTasks()
        self._links: dict[str, GroupLink] = {}
        self._strangers: Strangers[asyncio.Task[None]] = Strangers(MAX_STRANGERS, MAX_STRANGERS_OF_ONE)
        self._owners: Mapping[str, str] = {}
        """Worker -> the pod that it is recorded for."""
        self._pods: Mapping[str, Collection[str]] = {}
        """Router pod -> its addresses."""
        self._expected: frozenset[str] = frozenset()
        self._workers: int | None = None
        """How many workers each group was last told to have."""
        self._requests = itertools.count(1)
        self._questions: dict[int, _Question] = {}
        self.counters = {"groups_linked": 0, "groups_lost": 0, "groups_refused": 0}

    # ---- life

    def report_to(self, reports: RouterReports) -> None:
        """Send the reports of all groups to `reports`; called once, before `expect` and `open`."""
        self._reports = reports

    def open(self, sock: socket.socket) -> None:
        """Take links on this bound TCP socket, which is closed by `close`. Raises TrustError, OSError."""
        self._trust.context(server=True)  # what is wrong with the files is told now
        sock.setblocking(False)
        sock.listen(MAX_STRANGERS)
        self._tasks.spawn(self._accept(sock), "accept router groups")

    async def close(self) -> None:
        """Part from every group, at once; nothing is told any more."""
        await self._tasks.close()

    # ---- Routers

    def publish(self, message: ToWorker) -> None:
        """Nothing to do: routers read the truth where this control plane has written it."""

    async def retire(self, key: VersionKey, count: int) -> Sequence[str]:
        """See `Routers`. Every group is asked; only the one whose worker owns the version's slots withdraws any."""
        links = tuple(self._links.values())
        if not links:
            return ()
        request, question = next(self._requests), _Question(links)
        self._questions[request] = question
        for link in links:
            link.send(Retire(request, key, count))
        try:
            async with asyncio.timeout(ANSWER_S):
                return await question.answer
        except TimeoutError:
            # What was withdrawn all the same is given up once it is drained: see `controlplane.scaler`.
            return ()
        finally:
            del self._questions[request]

    async def collect(self) -> Sequence[WorkerMetrics]:
        """What became of links. Each router tells of its workers itself: told here, too, they would count twice."""
        return (WorkerMetrics("control", (), 0, 0, 0.0, dict(self.counters)),)

    # ---- the front end

    def expect(self, owners: Mapping[str, str]) -> None:
        """These workers, of these pods, serve as far as the cluster knows, whether their groups are linked or not."""
        self._owners = dict(owners)
        self._cut_impostors()
        self._tell_workers()

    def locate(self, pods: Mapping[str, Collection[str]]) -> None:
        """These routers are at these addresses; a link from elsewhere that speaks for one of them is cut off."""
        self._pods = dict(pods)
        self._cut_impostors()

    def linked(self) -> Mapping[str, GroupState]:
        """Every group that is linked."""
        return {name: GroupState(link.pod, link.load) for name, link in self._links.items()}

    def silent(self) -> Collection[str]:
        """Workers that should report and have no link."""
        return frozenset(self._owners).difference(*(link.workers for link in self._links.values()))

    def resize(self, workers: int) -> None:
        """Tell every group, those too that are linked later, to have so many workers."""
        if workers == self._workers:
            return
        self._workers = workers
        for link in tuple(self._links.values()):
            link.send(Resize(workers))

    # ---- links

    async def _accept(self, sock: socket.socket) -> None:
        with sock:
            while True:
                try:
                    arrived, (host, *_) = await self._loop.sock_accept(sock)
                except OSError as error:
                    _log.error("router groups cannot connect: %s", error)
                    await asyncio.sleep(_ACCEPT_PAUSE_S)
                    continue
                if (victim := self._strangers.victim(str(host))) is not None:
                    self.counters["groups_refused"] += 1
                    self._strangers.discard(victim)
                    victim.cancel()
                task = self._tasks.spawn(self._attend(arrived, str(host)), "attend to a router group")
                self._strangers.add(task, str(host))
                task.add_done_callback(self._strangers.discard)

    async def _attend(self, sock: socket.socket, host: str) -> None:
        """One connection, from its coming to its end."""
        link, is_stranger, task = None, True, asyncio.current_task()
        assert task is not None
        try:
            async with asyncio.timeout(GREET_S) as greeting:
                link = await self._secured(sock, host)
                link.send(Leads(self._fence))
                async with aclosing(link.messages()) as messages:
                    async for message in messages:
                        self._take(link, message)
                        if is_stranger:
                            self._strangers.discard(task)
                            is_stranger = False
                            greeting.reschedule(None)
        except (LinkError, TrustError) as error:
            self.counters["groups_refused"] += 1
            _log.warning("router group %s at %s is cut off: %s", link.group if link else "", host, error)
        except TimeoutError:
            told = f"nothing was heard of it for {SILENT_S:g} s" if not is_stranger else "it did not say who it is"
            _log.warning("router group %s at %s is cut off: %s", link.group if link else "", host, told)
        except OSError as error:
            _log.info("the link with a router group at %s ended: %s", host, error)
        finally:
            if link is not None:
                self._leave(link)
            else:
                sock.close()

    async def _secured(self, sock: socket.socket, host: str) -> GroupLink:
        """Raises TrustError, OSError."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await self._loop.connect_accepted_socket(
            lambda: protocol, sock, ssl=self._trust.context(server=True), ssl_handshake_timeout=GREET_S
        )
        writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
        shown = names(transport.get_extra_info("peercert") or {})
        if ROUTER not in shown:
            transport.abort()
            raise TrustError(f"its certificate is for {', '.join(shown) or 'nobody'}, not for {ROUTER}")
        return GroupLink(reader, writer, self._loop.time, host)

    def _leave(self, link: GroupLink) -> None:
        link.cut()
        for question in self._questions.values():
            question.heard(link, ())
        if self._links.get(link.group) is link:
            del self._links[link.group]
            self.counters["groups_lost"] += 1
            self._tell_workers()

    # ---- what groups say

    def _take(self, link: GroupLink, message: FromGroup) -> None:
        """Raises LinkError."""
        match message:
            case GroupIs():
                self._enter(link, message)
            case _ if self._links.get(link.group) is not link:
                raise LinkError("it did not say first who it is, or has made a newer link")
            case Usage(report):
                if report.worker in link.workers:
                    self._reports.usage_reported(report)
            case Drained(replica_id):
                self._reports.replica_drained(replica_id)
            case Retired(request, replicas):
                if (question := self._questions.get(request)) is not None:
                    question.heard(link, replicas)
            case GroupLoad():
                link.load = message

    def _enter(self, link: GroupLink, said: GroupIs) -> None:
        for other in self._links.values():
            if other.group != said.group and not other.workers.isdisjoint(said.workers):
                raise LinkError(f"it claims workers of group {other.group}")
        if fault := claim_fault(said, link.host, self._pods, self._owners):
            raise LinkError(fault)
        is_new = link.group == ""
        link.identify(said)
        before = self._links.get(said.group)
        if is_new:
            if before is None and len(self._links) >= MAX_GROUPS:
                raise LinkError(f"there are {MAX_GROUPS} groups already")
            self._links[said.group] = link
            self.counters["groups_linked"] += 1
            if before is not None:
                before.cut()
            if self._workers is not None:
                link.send(Resize(self._workers))
        elif before is not link:
            raise LinkError("it has made a newer link")
        self._tell_workers()

    def _cut_impostors(self) -> None:
        """Links whose greeting is contradicted by what has become known since."""
        for link in tuple(self._links.values()):
            if fault := claim_fault(link.claims, link.host, self._pods, self._owners):
                self.counters["groups_refused"] += 1
                _log.warning("router group %s at %s is cut off: %s", link.group, link.host, fault)
                link.cut()

    def _tell_workers(self) -> None:
        """Who is expected, and who is not any more."""
        linked = (link.workers for link in self._links.values())
        before, self._expected = self._expected, frozenset(self._owners).union(*linked)
        if self._expected != before:
            self._reports.workers_expected(self._expected)
        for worker in before - self._expected:
            self._reports.worker_ended(worker)
