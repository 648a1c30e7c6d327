"""Replicas as child processes of this one: `cluster.provider.Provider` for a laptop, or for any single machine."""

import asyncio
import fcntl
import hashlib
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from pathlib import Path

from cluster.changes import Change
from cluster.feed import Feed
from cluster.local import check as checking
from cluster.local import limits
from cluster.local import process_guard as guard
from cluster.local.command import RUN_VARIABLE, Host
from cluster.local.guardian import Guardian
from cluster.local.lifecycle import LifecycleEvent
from cluster.local.local_replica import LocalReplica
from cluster.local.machine import Site
from cluster.local.probe import Prober
from cluster.local.replica_logs import LogStore
from cluster.local.version_replicas import VersionReplicas
from cluster.lookup import OwnAddresses
from cluster.provider import ProviderError
from serving.addresses import static_faults
from serving.destinations import Destinations
from serving.endpoint import Endpoint, VersionKey
from serving.faults import Fault

MEMORY_PERIOD_S = 1.0
CLOSE_S = 5.0
KILLED_S = 0.5
"""For what was killed to be gone."""


class LocalProvider:
    """Runs replicas (entryScript, command) on loopback ports and looks after those that run already (static).

    Of the resources an ordinary user can limit two: `cpu_limit` by binding a replica to so many whole cores, and
    `memory_limit_bytes` by killing one that is found above it. `cpu` and `memory_bytes` reserve nothing, and GPUs are
    seen by every replica: for that a cluster is needed.

    What ran before is replaced, never adopted: pipes, exit codes and the right to the port went with the process that
    had started it, and a replica that missed a change of its template could not be told from one that did not. `start`
    kills what a previous run of the same directory may have left, and fails if that run is still alive.
    """

    def __init__(
        self,
        state_dir: Path,
        clock: Callable[[], float] = time.monotonic,
        new_suffix: Callable[[], str] = lambda: secrets.token_hex(4),
        allowed: Destinations | None = None,
        own_ports: Sequence[int] = (),
    ) -> None:
        """`state_dir` holds logs and a lock, and belongs to one provider at a time. `allowed`: where static replicas
        may be, by default on loopback; `own_ports`: no static replica is there.
        """
        self._dir = state_dir
        self._clock = clock
        self._new_suffix = new_suffix
        self._fleets: dict[VersionKey, VersionReplicas] = {}
        self._lock = -1
        self._running: Site | None = None
        self._feed = Feed()
        self._allowed = allowed or Destinations()
        self._own_ports = tuple(own_ports)
        self._logs = LogStore(state_dir / "logs")
        home = hashlib.sha256(os.fsencode(state_dir.resolve())).hexdigest()[:16]
        self._host = Host(
            python=sys.executable,
            environ=dict(os.environ),
            run=f"{home}.{secrets.token_hex(8)}",
            server_settings=str(Path(__file__).resolve().with_name("inference_server.py")),
        )
        self._any_run = f"{RUN_VARIABLE}={home}."

    async def start(self) -> None:
        """Take the directory, clear up after a previous run, be ready. Raises ProviderError."""
        self._lock = _lock(self._dir)
        await asyncio.to_thread(guard.kill_all, (), self._any_run)
        guardian = Guardian(self._host.python, f"{RUN_VARIABLE}={self._host.run}")
        guardian.start()
        self._running = Site(
            host=self._host,
            clock=self._clock,
            new_suffix=self._new_suffix,
            prober=Prober(),
            guardian=guardian,
            logs=self._logs,
            cores=limits.Cores(os.sched_getaffinity(0)),
            feed=self._feed,
            allowed=self._allowed,
            own=OwnAddresses(self._own_ports),
        )
        self._running.tasks.spawn(self._watch_memory(), name="watch memory of replicas")

    async def close(self, deadline_s: float = CLOSE_S) -> None:
        """Stop every replica without a drain: SIGTERM, and SIGKILL for what is left after `deadline_s`."""
        site, self._running = self._running, None
        if site is None:
            return
        for fleet in self._fleets.values():
            fleet.stop()
        await site.lives.ended(deadline_s)
        for fleet in self._fleets.values():
            fleet.kill()
        await site.lives.ended(KILLED_S)
        await site.tasks.close()
        await site.lives.close()
        await site.prober.close()
        await site.guardian.close()
        self._fleets.clear()
        os.close(self._lock)

    # ---- cluster.provider.Provider

    def check(self, endpoint: Endpoint) -> list[Fault]:
        """What of this endpoint cannot run here: kinds that need a cluster, files that do not exist."""
        own = self._running.own if self._running is not None else OwnAddresses(self._own_ports)
        return [*checking.check(endpoint, self._host), *static_faults(endpoint, self._allowed, own)]

    async def apply(self, endpoint: Endpoint, replicas: dict[str, int]) -> None:
        """Make the replicas of `endpoint` match; a version not in `replicas` keeps its number, or gets its minimum."""
        for version in endpoint.versions:
            if version.replica.kind in checking.ELSEWHERE:
                raise ProviderError(
                    f"{endpoint.name}/{version.name}: {version.replica.kind.value} {checking.NEEDS_CLUSTER}"
                )
        self._site()
        names = {version.name for version in endpoint.versions}
        for key, fleet in self._fleets_of(endpoint.name):
            if key.version not in names:
                fleet.undeclare()
        self._logs.drop(endpoint.name, keep=names)
        for version in endpoint.versions:
            fleet = self._fleet(VersionKey(endpoint.name, version.name))
            present = fleet.wanted if fleet.declared else version.autoscale.min_replicas
            fleet.declare(version, replicas.get(version.name, present))

    async def remove(self, endpoint: str) -> None:
        """Drain and stop every replica of the endpoint; with the last of a version go the version's logs."""
        for _, fleet in self._fleets_of(endpoint):
            fleet.undeclare()
        self._logs.drop(endpoint)

    async def scale(self, key: VersionKey, replicas: int, victims: Collection[str] = ()) -> None:
        """Have this many replicas of a version; static ones are what they are. Unknown versions are ignored."""
        if (fleet := self._fleets.get(key)) is not None:
            fleet.scale(replicas, list(victims))

    async def hindrance(self, key: VersionKey, fewer: bool) -> str:
        """Nobody else sets these numbers, and what runs here is known."""
        return ""

    async def drained(self, replica_id: str) -> None:
        """Nothing is in flight on this replica and nothing will be."""
        for fleet in self._fleets.values():
            if (member := fleet.members.get(replica_id)) is not None:
                member.feed(LifecycleEvent.RELEASED)
                return

    def watch(self) -> AsyncIterator[Change]:
        """First a Reset with what is known, then every change, for ever."""
        return self._feed.watch()

    async def logs(self, key: VersionKey, tail: int) -> dict[str, list[str]]:
        """Replica id -> its last `tail` lines; also of the last replicas that are gone, of earlier runs too."""
        return await self._logs.tail(key, tail)

    def follow_logs(self, key: VersionKey) -> AsyncIterator[tuple[str, str]]:
        """(replica id, line) as they are written, from now on, for ever."""
        return self._logs.follow(key)

    # ---- inside

    def _site(self) -> Site:
        if self._running is None:
            raise ProviderError("the local provider is not running: start() it first")
        return self._running

    def _fleet(self, key: VersionKey) -> VersionReplicas:
        for other in [key for key, fleet in self._fleets.items() if fleet.done]:
            del self._fleets[other]
        return self._fleets.setdefault(key, VersionReplicas(self._site(), key))

    def _fleets_of(self, endpoint: str) -> list[tuple[VersionKey, VersionReplicas]]:
        return [(key, fleet) for key, fleet in self._fleets.items() if key.endpoint == endpoint]

    def _limited(self) -> dict[int, LocalReplica]:
        """Subreaper -> replica, of those that run and have a memory limit."""
        return {
            member.subreaper: member
            for fleet in self._fleets.values()
            for member in fleet.members.values()
            if member.version.resources.memory_limit_bytes is not None and member.subreaper is not None
        }

    async def _watch_memory(self) -> None:
        while True:
            await asyncio.sleep(MEMORY_PERIOD_S)
            if not (members := self._limited()):
                continue
            used = await asyncio.to_thread(
                lambda among: limits.memory_by_ancestor(guard.processes(), among), set(members)
            )
            for subreaper, rss_bytes in used.items():
                member = members[subreaper]
                reason = limits.over_memory(rss_bytes, member.version.resources.memory_limit_bytes)
                if reason and member.subreaper == subreaper:
                    member.feed(LifecycleEvent.SICK, reason)


def _lock(directory: Path) -> int:
    """Own the directory until the descriptor is closed or this process ends. Raises ProviderError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / "replicas.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ProviderError(f"cannot use the state directory {directory}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise ProviderError(
            f"another scorefront is running with the state directory {directory};"
            " stop it first, or choose another --state-dir"
        ) from error
    return lock
