"""Link of a router to the leader of the control plane: reports up, orders down.

The leader is the holder of the Lease. Without a leader or a link the router continues unchanged.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cluster.framing import FrameReader, LinkError
from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.backoff import BackoffSettings
from cluster.kubernetes.client.election import LINK, holder_of, transitions_of, uid_of
from cluster.kubernetes.client.paths import LEASES, path
from cluster.kubernetes.client.reflector import ObjectGone, ObjectPut, ObjectsListed, Reflector, ReflectorSettings
from cluster.link import (
    LOAD_S,
    MAX_GROUP_FRAME_BYTES,
    Drained,
    FromGroup,
    GroupIs,
    GroupLoad,
    Leads,
    Resize,
    Retire,
    Retired,
    Usage,
    decode_for_group,
    encode,
)
from cluster.owned_tasks import OwnedTasks
from cluster.trust import CONTROL, Trust, TrustError, names
from router.peers.address import Tcp, parse_address
from router.peers.sockets import connect_tcp
from scorefront.cluster_names import LEASE
from scorefront.frontend_scaling import ScalableWorkers
from scorefront.router.usage_cache import UsageCache
from serving.clock import Clock
from serving.endpoint import VersionKey
from serving.usage import UsageReport

_log = logging.getLogger("scorefront.uplink")

CONNECT_S = 3.0
PAUSE_S = 0.5
"""Between attempts to reach a leader, at most."""
MAX_UNSENT_BYTES = 8 << 20
"""Unsent bytes at which the link is cut; the next link begins with a full report."""
MAX_DRAINED = 2_000
"""Drained replicas kept for a later leader; further ones are stopped late."""


class ControlledWorkers(ScalableWorkers, Protocol):
    """The workers of this router, as ordered by the leader; implemented by `Supervisor`."""

    @property
    def group(self) -> str:
        """Name of the group; never reused."""

    async def retire(self, key: VersionKey, count: int) -> Sequence[str]:
        """Retire replicas; none if another group owns the version."""


@dataclass(frozen=True, slots=True)
class LeaderAddress:
    """Address of the leader. `fence` counts the leaders of one Lease."""

    address: Tcp
    fence: int
    lease_uid: str = ""


def leader_of(lease: Mapping[str, Any] | None) -> LeaderAddress | None:
    """The holder of the Lease; None without one, or without its address."""
    if lease is None or not holder_of(dict(lease)):
        return None
    text = (lease["metadata"].get("annotations") or {}).get(LINK, "")
    try:
        address = parse_address(text)
    except ValueError:
        return None
    return (
        LeaderAddress(address, transitions_of(dict(lease)), uid_of(dict(lease))) if isinstance(address, Tcp) else None
    )


class Uplink:
    """Implements `cluster.router_reports.RouterReports`, with or without a link; linked while `run` runs."""

    def __init__(
        self,
        api: Api,
        pod: str,
        trust: Trust,
        clock: Clock,
        u: Callable[[], float],
        cores: Callable[[], int],
        resizes: bool,
        dropping: Callable[[], Mapping[VersionKey, int]] = dict,
    ) -> None:
        """`cores`: largest useful number of workers. `resizes`: True if the leader sets their number. `dropping`:
        versions that lose collected payloads."""
        self._pod = pod
        self._trust = trust
        self._clock = clock
        self._u = u
        self._cores = cores
        self._resizes = resizes
        self._dropping = dropping
        self._group: ControlledWorkers | None = None
        self._counts = UsageCache()
        self._workers: tuple[str, ...] = ()
        self._drained: dict[str, None] = {}
        self._leader: LeaderAddress | None = None
        self._fence = 0
        """The highest seen of the Lease with uid `_lease_uid`."""
        self._lease_uid = ""
        self._changed = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self._answering = OwnedTasks()
        settings = ReflectorSettings(backoff=BackoffSettings(last_s=2.0))
        place = path(LEASES, api.home)
        self._reflector = Reflector(api, place, clock, u, field_selector=f"metadata.name={LEASE}", settings=settings)

    # ---- RouterReports

    def usage_reported(self, report: UsageReport) -> None:
        """See `RouterReports`."""
        self._counts.take(report)
        if report.worker in self._workers:
            self._send(Usage(report))

    def replica_drained(self, replica_id: str) -> None:
        """See `RouterReports`."""
        self._drained[replica_id] = None
        while len(self._drained) > MAX_DRAINED:
            del self._drained[next(iter(self._drained))]
        self._send(Drained(replica_id))

    def workers_expected(self, workers: Collection[str]) -> None:
        """See `RouterReports`."""
        new = [worker for worker in workers if worker not in self._workers]
        self._workers = tuple(workers)
        self._send(self._introduction())
        for worker in new:  # its earlier reports could not be attributed
            self._send_whole(worker)

    def worker_ended(self, worker: str) -> None:
        """See `RouterReports`."""
        self._counts.forget(worker)
        if worker in self._workers:
            self._workers = tuple(each for each in self._workers if each != worker)
            self._send(self._introduction())

    def on_replica_gone(self, replica_id: str) -> None:
        """The replica has been removed."""
        self._drained.pop(replica_id, None)

    def keep(self, declared: Collection[VersionKey]) -> None:
        """Forget the usage of removed versions."""
        self._counts.keep(declared)

    @property
    def linked(self) -> bool:
        """True if linked to a leader."""
        return self._writer is not None

    # ---- life

    async def run(self, group: ControlledWorkers) -> None:
        """Run until cancelled."""
        self._group = group
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow(), name="watch who leads")
                tasks.create_task(self._keep_link(group), name="keep a link with the leader")
        finally:
            await self._answering.close()

    async def _follow(self) -> None:
        async for change in self._reflector.changes():
            match change:
                case ObjectsListed(objects):
                    lease = objects[0] if objects else None
                case ObjectPut(lease):
                    pass
                case ObjectGone(_):
                    lease = None
            leader = leader_of(lease)
            if leader != self._leader:
                self._leader = leader
                if leader is not None:
                    if leader.lease_uid != self._lease_uid:
                        # Made anew: its count begins anew.
                        self._lease_uid, self._fence = leader.lease_uid, 0
                    self._fence = max(self._fence, leader.fence)
                self._changed.set()

    async def _keep_link(self, group: ControlledWorkers) -> None:
        told = ""
        while True:
            self._changed.clear()
            leader = self._leader
            if leader is None:
                await self._changed.wait()
                continue
            try:
                await self._talk(leader, group)
                told = ""
            except (OSError, LinkError, TrustError) as error:
                why = str(error) or type(error).__name__
                if why != told:
                    _log.warning("leader at %s: no link: %s", leader.address, why)
                told = why
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PAUSE_S * (0.5 + self._u() / 2)):
                    await self._changed.wait()

    async def _talk(self, leader: LeaderAddress, group: ControlledWorkers) -> None:
        """Serve one link until it breaks or the leader changes. Raises OSError, LinkError, TrustError."""
        reader, writer = await self._connect(leader)
        changed = asyncio.create_task(self._changed.wait(), name="wait for another leader")
        heard = asyncio.create_task(self._listen(reader, writer, group), name="listen to the leader")
        try:
            await asyncio.wait({changed, heard}, return_when=asyncio.FIRST_COMPLETED)
            if heard.done():
                heard.result()
        finally:
            self._writer = None
            writer.transport.abort()
            for task in (changed, heard):
                task.cancel()
            await asyncio.gather(changed, heard, return_exceptions=True)

    async def _connect(self, leader: LeaderAddress) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            async with asyncio.timeout(CONNECT_S):
                sock = await connect_tcp(leader.address)
                context = self._trust.context(server=False)
                reader, writer = await asyncio.open_connection(
                    sock=sock, ssl=context, server_hostname=leader.address.host
                )
        except TimeoutError as error:
            raise LinkError(f"no connection within {CONNECT_S:g} s") from error
        shown = names(writer.get_extra_info("peercert") or {})
        if CONTROL not in shown:
            writer.transport.abort()
            raise TrustError(f"its certificate is for {', '.join(shown) or 'no name'}, not for {CONTROL}")
        return reader, writer

    # ---- up

    def _introduction(self) -> GroupIs:
        assert self._group is not None, "workers are there once the group runs"
        return GroupIs(self._group.group, self._workers, self._pod)

    def _send(self, message: FromGroup) -> None:
        writer = self._writer
        if writer is None or writer.is_closing():
            return
        if writer.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            _log.warning("leader: link cut: it does not read")
            writer.transport.abort()
            return
        writer.write(encode(message))

    def _introduce(self, writer: asyncio.StreamWriter) -> None:
        """Send the full state: the leader may be new."""
        self._writer = writer
        self._send(self._introduction())
        for worker in self._workers:
            self._send_whole(worker)
        for replica_id in self._drained:
            self._send(Drained(replica_id))

    def _send_whole(self, worker: str) -> None:
        if (report := self._counts.whole(worker)) is not None:
            self._send(Usage(report))

    async def _tell_load(self, group: ControlledWorkers) -> None:
        while True:
            fixed = not self._resizes
            dropping = {str(key): count for key, count in self._dropping().items()}
            self._send(GroupLoad(group.wanted, self._cores(), group.is_even(), dict(group.work()), fixed, dropping))
            await self._clock.sleep(LOAD_S)

    # ---- down

    async def _listen(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, group: ControlledWorkers
    ) -> None:
        """Raises OSError, LinkError."""
        frames = FrameReader(decode_for_group, MAX_GROUP_FRAME_BYTES)
        telling: asyncio.Task[None] | None = None
        try:
            while data := await reader.read(1 << 16):
                for message in frames.feed(data):
                    if isinstance(message, Leads):
                        if message.fence < self._fence:
                            raise LinkError(f"it leads no more: {message.fence} was followed by {self._fence}")
                        self._fence = message.fence
                        self._introduce(writer)
                        telling = telling or asyncio.create_task(self._tell_load(group), name="tell the load")
                    else:
                        self._obey(message, group)
            raise LinkError("the leader has closed the link")
        finally:
            if telling is not None:
                telling.cancel()
                await asyncio.gather(telling, return_exceptions=True)

    def _obey(self, message: Retire | Resize, group: ControlledWorkers) -> None:
        match message:
            case Retire(request, key, count):
                self._answering.spawn(self._retire(group, request, key, count), f"withdraw replicas of {key}")
            case Resize(workers) if self._resizes and workers != group.wanted:
                count = max(1, min(workers, self._cores()))
                _log.info("router workers: resizing to %d", count)
                self._answering.spawn(group.resize(count), f"have {count} workers")
            case Resize():
                pass

    async def _retire(self, group: ControlledWorkers, request: int, key: VersionKey, count: int) -> None:
        self._send(Retired(request, tuple(await group.retire(key, count))))
