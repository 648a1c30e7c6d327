"""Links of the leader with the router groups of a cluster: they connect, report usage and receive orders.

Routers read endpoints and replicas from the Kubernetes API; only counts and orders use these links. A serving worker
without a link is still expected to report, which prevents scale-downs (missing data may raise, never lower).
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
    Usage,
)
from cluster.owned_tasks import OwnedTasks
from cluster.router_reports import RouterReports
from cluster.trust import ROUTER, Trust, TrustError, names
from cluster.unauthenticated import UnauthenticatedConnections
from controlplane.group_identity import identity_fault
from controlplane.group_link import SILENT_S, GroupLink
from serving.authority import unmapped
from serving.endpoint import VersionKey

_log = logging.getLogger(__name__)

ANSWER_S = 1.0
"""Timeout of answers by groups."""
GREET_S = 5.0
"""Timeout of the TLS handshake and the identification of a connection."""
MAX_UNAUTHENTICATED = 64
"""Most unidentified connections; a further one closes the oldest of the most frequent address."""
MAX_UNAUTHENTICATED_PER_ADDRESS = 8
"""Most unidentified connections of one address; a router has one link."""
MAX_GROUPS = 128
"""Ten routers are many; each has one group, and briefly two during a restart."""
_ACCEPT_PAUSE_S = 0.1
"""Pause after a failed accept, usually for lack of file descriptors."""


@dataclass(frozen=True, slots=True)
class GroupState:
    """Last report of a linked group."""

    pod: str
    """"" if unknown."""
    load: GroupLoad | None
    """Last reported load; None: none yet."""


class _PendingRetirement:
    """A retire order sent to several links: its result is the first non-empty answer, or empty once all answered."""

    def __init__(self, links: Collection[GroupLink]) -> None:
        self._asked = set(links)
        self.answer: asyncio.Future[Sequence[str]] = asyncio.get_running_loop().create_future()

    def answered(self, link: GroupLink, replicas: Sequence[str]) -> None:
        """Record an answer, or the end of a link (no replicas)."""
        self._asked.discard(link)
        if not self.answer.done() and (replicas or not self._asked):
            self.answer.set_result(replicas)


class RouterGroups:
    """Linked router groups during one leadership, from `open` to `close`.

    Implements `controlplane.routers.ReplicaRetirer`.
    """

    def __init__(self, fence: int, trust: Trust) -> None:
        """`fence`: number of the leadership (`cluster.link.Leads`). `trust`: certificates of the links."""
        self._reports: RouterReports
        self._fence = fence
        self._trust = trust
        self._loop = asyncio.get_running_loop()
        self._tasks = OwnedTasks()
        self._links: dict[str, GroupLink] = {}
        self._unauthenticated: UnauthenticatedConnections[asyncio.Task[None]] = UnauthenticatedConnections(
            MAX_UNAUTHENTICATED, MAX_UNAUTHENTICATED_PER_ADDRESS
        )
        self._owners: Mapping[str, str] = {}
        """Worker -> the pod it is recorded for."""
        self._pods: Mapping[str, Collection[str]] = {}
        """Router pod -> its addresses."""
        self._expected: frozenset[str] = frozenset()
        self._workers: int | None = None
        """Last ordered number of workers of each group."""
        self._requests = itertools.count(1)
        self._pending: dict[int, _PendingRetirement] = {}
        self.counters = {"groups_linked": 0, "groups_lost": 0, "groups_refused": 0}

    # ---- life

    def report_to(self, reports: RouterReports) -> None:
        """Send the reports of all groups to `reports`; called once, before `expect` and `open`."""
        self._reports = reports

    def open(self, sock: socket.socket) -> None:
        """Accept links on this bound TCP socket, which `close` closes. Raises TrustError, OSError."""
        self._trust.context(server=True)  # raises for wrong files before the first connection
        sock.setblocking(False)
        sock.listen(MAX_UNAUTHENTICATED)
        self._tasks.spawn(self._accept(sock), "accept router groups")

    async def close(self) -> None:
        """Close every link at once; nothing is reported afterwards."""
        await self._tasks.close()

    def payloads_dropped(self, key: VersionKey) -> int:
        """Collected payloads of a version dropped by all groups, if any was in the last minutes; else 0."""
        return sum(link.load.dropping.get(str(key), 0) for link in self._links.values() if link.load is not None)

    # ---- controlplane.routers.ReplicaRetirer

    async def retire(self, key: VersionKey, count: int) -> Sequence[str]:
        """See `ReplicaRetirer`. The order goes to every group; only the group of the version's owner retires any."""
        links = tuple(self._links.values())
        if not links:
            return ()
        request, pending = next(self._requests), _PendingRetirement(links)
        self._pending[request] = pending
        for link in links:
            link.send(Retire(request, key, count))
        try:
            async with asyncio.timeout(ANSWER_S):
                return await pending.answer
        except TimeoutError:
            # Replicas retired all the same are removed once drained: see `controlplane.replica_scaling`.
            return ()
        finally:
            del self._pending[request]

    # ---- the front end

    def expect(self, owners: Mapping[str, str]) -> None:
        """Set the serving workers of the cluster, worker -> pod, linked or not."""
        self._owners = dict(owners)
        self._cut_impostors()
        self._report_workers()

    def locate(self, pods: Mapping[str, Collection[str]]) -> None:
        """Set the addresses of router pods; a link for one of them from another address is closed."""
        self._pods = dict(pods)
        self._cut_impostors()

    def linked(self) -> Mapping[str, GroupState]:
        """The linked groups, by name."""
        return {name: GroupState(link.pod, link.load) for name, link in self._links.items()}

    def silent(self) -> Collection[str]:
        """Expected workers without a link."""
        return frozenset(self._owners).difference(*(link.workers for link in self._links.values()))

    def resize(self, workers: int) -> None:
        """Order every group, including later ones, to run this number of workers."""
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
                    arrived, (accepted, *_) = await self._loop.sock_accept(sock)
                except OSError as error:
                    _log.error("router groups: accept failed: %s", error)
                    await asyncio.sleep(_ACCEPT_PAUSE_S)
                    continue
                host = unmapped(str(accepted))
                if (victim := self._unauthenticated.to_evict(host)) is not None:
                    self.counters["groups_refused"] += 1
                    self._unauthenticated.discard(victim)
                    victim.cancel()
                task = self._tasks.spawn(self._attend(arrived, host), "attend to a router group")
                self._unauthenticated.add(task, host)
                task.add_done_callback(self._unauthenticated.discard)

    async def _attend(self, sock: socket.socket, host: str) -> None:
        """Serve one connection from accept to close."""
        link, is_stranger, task = None, True, asyncio.current_task()
        assert task is not None
        try:
            async with asyncio.timeout(GREET_S) as greeting:
                link = await self._secured(sock, host)
                link.send(Leads(self._fence))
                async with aclosing(link.messages()) as messages:
                    async for message in messages:
                        self._handle(link, message)
                        if is_stranger:
                            self._unauthenticated.discard(task)
                            is_stranger = False
                            greeting.reschedule(None)
        except (LinkError, TrustError) as error:
            self.counters["groups_refused"] += 1
            _log.warning("router group %s at %s: link closed: %s", link.group if link else "", host, error)
        except TimeoutError:
            reason = "not identified in time" if is_stranger else f"silent for {SILENT_S:g} s"
            _log.warning("router group %s at %s: link closed: %s", link.group if link else "", host, reason)
        except OSError as error:
            _log.info("router group at %s: link ended: %s", host, error)
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
            raise TrustError(f"its certificate is for {', '.join(shown) or 'no name'}, not for {ROUTER}")
        return GroupLink(reader, writer, self._loop.time, host)

    def _leave(self, link: GroupLink) -> None:
        link.cut()
        for pending in self._pending.values():
            pending.answered(link, ())
        if self._links.get(link.group) is link:
            del self._links[link.group]
            self.counters["groups_lost"] += 1
            self._report_workers()

    # ---- messages of groups

    def _handle(self, link: GroupLink, message: FromGroup) -> None:
        """Raises LinkError."""
        match message:
            case GroupIs():
                self._enter(link, message)
            case _ if self._links.get(link.group) is not link:
                raise LinkError("not identified yet, or replaced by a newer link")
            case Usage(report):
                if report.worker in link.workers:
                    self._reports.usage_reported(report)
            case Drained(replica_id):
                self._reports.replica_drained(replica_id)
            case Retired(request, replicas):
                if (pending := self._pending.get(request)) is not None:
                    pending.answered(link, replicas)
            case GroupLoad():
                link.load = message

    def _enter(self, link: GroupLink, identity: GroupIs) -> None:
        for other in self._links.values():
            if other.group != identity.group and not other.workers.isdisjoint(identity.workers):
                raise LinkError(f"it names workers of group {other.group}")
        if fault := identity_fault(identity, link.host, self._pods, self._owners):
            raise LinkError(fault)
        is_new = link.group == ""
        link.identify(identity)
        before = self._links.get(identity.group)
        if is_new:
            if before is None and len(self._links) >= MAX_GROUPS:
                raise LinkError(f"more than {MAX_GROUPS} groups")
            self._links[identity.group] = link
            self.counters["groups_linked"] += 1
            if before is not None:
                before.cut()
            if self._workers is not None:
                link.send(Resize(self._workers))
        elif before is not link:
            raise LinkError("replaced by a newer link")
        self._report_workers()

    def _cut_impostors(self) -> None:
        """Close links with an identity that contradicts newer knowledge."""
        for link in tuple(self._links.values()):
            if fault := identity_fault(link.identity, link.host, self._pods, self._owners):
                self.counters["groups_refused"] += 1
                _log.warning("router group %s at %s: link closed: %s", link.group, link.host, fault)
                link.cut()

    def _report_workers(self) -> None:
        """Report changes of the expected workers."""
        linked = (link.workers for link in self._links.values())
        before, self._expected = self._expected, frozenset(self._owners).union(*linked)
        if self._expected != before:
            self._reports.workers_expected(self._expected)
        for worker in before - self._expected:
            self._reports.worker_ended(worker)
