"""The provider for one machine, e.g. a laptop: replicas as child processes of this one."""

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
from cluster.local import check as checking
from cluster.local import limits, machine_resources
from cluster.local import process_guard as guard
from cluster.local.command import RUN_VARIABLE, Host
from cluster.local.fingerprint import fingerprint
from cluster.local.guardian import Guardian
from cluster.local.lifecycle import LifecycleEvent
from cluster.local.local_replica import LocalReplica
from cluster.local.machine import LocalMachine
from cluster.local.probe import Prober
from cluster.local.replica_environments import InterpretersOnly, ReplicaEnvironments
from cluster.local.replica_logs import LogStore
from cluster.local.room import Room, needs_memory
from cluster.local.version_replicas import VersionReplicas
from cluster.lookup import OwnAddresses
from cluster.provider import Problem, ProviderError
from cluster.replica_feed import ReplicaFeed
from cluster.timed_line import TimedLine
from serving.addresses import static_faults
from serving.destinations import Destinations
from serving.endpoint import Endpoint, ReplicaKind, Resources, VersionKey
from serving.faults import Fault
from serving.issuer_hosts import IssuerHosts, issuer_faults

MEMORY_PERIOD_S = 1.0
CLOSE_S = 5.0
KILLED_S = 0.5
"""Longest wait for killed processes to end."""


class LocalProvider:
    """Runs replicas (entryScript, command) on loopback ports and probes static ones.

    An ordinary user can limit two resources: `cpu_limit` by binding a replica to whole cores, and `memory_limit_bytes`
    by killing a replica above it. `memory_bytes` above its default and `gpu` are reserved: a replica starts only if
    there is room for it (`room`). `cpu` reserves nothing.

    Replicas of an earlier run are replaced, never adopted: pipes, exit codes and the claim to the port ended with their
    parent, and a replica that missed a change of its template would look like any other. `start` kills leftovers of an
    earlier run with the same directory, and fails if that run is alive.
    """

    def __init__(
        self,
        state_dir: Path,
        clock: Callable[[], float] = time.monotonic,
        new_suffix: Callable[[], str] = lambda: secrets.token_hex(4),
        allowed: Destinations | None = None,
        issuers: IssuerHosts | None = None,
        own_ports: Sequence[int] = (),
        gpus: Sequence[str] = (),
        script_port: Callable[[], int] = lambda: 0,
        environments: ReplicaEnvironments | None = None,
    ) -> None:
        """`state_dir`: for logs and a lock, of one provider at a time. `clock`: monotonic seconds. `new_suffix`:
        makes ids unique. `allowed`: destinations of static replicas, by default loopback. `own_ports`: ports of
        scorefront, never those of static replicas. `issuers`: hosts of token issuers, by default all. `gpus`: for
        replicas, as in CUDA_VISIBLE_DEVICES. `script_port`: for collected data of scripts; 0: none. `environments`: of
        entry scripts, by default interpreters only."""
        self._dir = state_dir
        self._clock = clock
        self._new_suffix = new_suffix
        self._versions: dict[VersionKey, VersionReplicas] = {}
        self._files: dict[VersionKey, str] = {}
        """Fingerprints of the files of declared versions, as last read."""
        self._lock = -1
        self._running: LocalMachine | None = None
        self._feed = ReplicaFeed()
        self._allowed = allowed or Destinations()
        self._issuers = issuers or IssuerHosts()
        self._own_ports = tuple(own_ports)
        self._gpus = tuple(gpus)
        self._environments = environments or InterpretersOnly()
        self._logs = LogStore(state_dir / "logs")
        home = hashlib.sha256(os.fsencode(state_dir.resolve())).hexdigest()[:16]
        self._host = Host(
            python=sys.executable,
            environ=dict(os.environ),
            run=f"{home}.{secrets.token_hex(8)}",
            server_settings=str(Path(__file__).resolve().with_name("inference_server.py")),
            script_port=script_port,
        )
        self._any_run = f"{RUN_VARIABLE}={home}."

    async def start(self) -> None:
        """Lock the directory, kill leftovers of an earlier run, be ready. Raises ProviderError."""
        self._lock = _lock(self._dir)
        await asyncio.to_thread(guard.kill_all, (), self._any_run)
        guardian = Guardian(self._host.python, f"{RUN_VARIABLE}={self._host.run}")
        guardian.start()
        self._running = LocalMachine(
            host=self._host,
            clock=self._clock,
            new_suffix=self._new_suffix,
            prober=Prober(),
            guardian=guardian,
            logs=self._logs,
            cores=limits.Cores(os.sched_getaffinity(0)),
            room=Room(self._gpus),
            memory=machine_resources.memory,
            feed=self._feed,
            allowed=self._allowed,
            own=OwnAddresses(self._own_ports),
            environments=self._environments,
        )
        self._running.tasks.spawn(self._watch_memory(), name="watch memory of replicas")

    async def close(self, deadline_s: float = CLOSE_S) -> None:
        """Stop all replicas without draining: SIGTERM, then SIGKILL after `deadline_s`."""
        machine, self._running = self._running, None
        if machine is None:
            return
        for version_replicas in self._versions.values():
            version_replicas.stop()
        await machine.lives.ended(deadline_s)
        for version_replicas in self._versions.values():
            version_replicas.kill()
        await machine.lives.ended(KILLED_S)
        await machine.tasks.close()
        await machine.lives.close()
        await machine.prober.close()
        await machine.guardian.close()
        self._versions.clear()
        os.close(self._lock)

    # ---- cluster.provider.Provider

    def check(self, endpoint: Endpoint) -> list[Fault]:
        """The faults of this endpoint here: kinds that need a cluster, missing files, refused addresses."""
        own = self._running.own if self._running is not None else OwnAddresses(self._own_ports)
        faults = [*checking.check(endpoint, self._host, self._environments), *issuer_faults(endpoint, self._issuers)]
        return [*faults, *static_faults(endpoint, self._allowed, own)]

    def notes(self, endpoint: Endpoint) -> list[str]:
        """Declared fields that have no effect here, one line for each version that has such."""
        return checking.notes(endpoint)

    def problems(self, key: VersionKey) -> dict[Problem, str]:
        """None: on one machine all are states of replicas."""
        return {}

    def template_of(self, key: VersionKey) -> str:
        """Digest of the declared replica template of a version, as in the records of its replicas; "": not declared."""
        version_replicas = self._versions.get(key)
        return version_replicas.template_digest() if version_replicas is not None else ""

    def interpreters(self) -> frozenset[str]:
        """Interpreters of entry scripts with an environment of their own: of replicas, and as declared."""
        found = {
            python
            for version_replicas in self._versions.values()
            for replica in version_replicas.replicas.values()
            for python in (replica.interpreter, replica.version.replica.environment)
        }
        return frozenset(python for python in found if python is not None)

    async def refresh(self, endpoint: Endpoint) -> frozenset[str]:
        """Read the files of all versions; the names of running versions whose files have changed."""
        found = await self._read(endpoint, [version.name for version in endpoint.versions])
        changed = {
            key.version
            for key, files in found.items()
            if key in self._versions and self._files.get(key, files) != files
        }
        self._files |= found
        return frozenset(changed)

    async def restart(self, endpoint: Endpoint, versions: Collection[str]) -> None:
        """Replace the replicas of these versions one after the other, with the files as they are now."""
        self._files |= await self._read(endpoint, versions)
        for name in versions:
            if (version_replicas := self._versions.get(key := VersionKey(endpoint.name, name))) is not None:
                version_replicas.restart(self._files[key])

    async def _read(self, endpoint: Endpoint, versions: Collection[str]) -> dict[VersionKey, str]:
        """The fingerprints of the files of these versions; static ones have none."""
        read = [
            version
            for version in endpoint.versions
            if version.name in versions and version.replica.kind is not ReplicaKind.STATIC
        ]
        return {
            VersionKey(endpoint.name, version.name): await asyncio.to_thread(fingerprint, version, self._dir)
            for version in read
        }

    async def apply(self, endpoint: Endpoint, replicas: dict[str, int]) -> None:
        """Make the replicas of `endpoint` match; versions not in `replicas` keep their number, new ones get their
        minimum."""
        for version in endpoint.versions:
            if version.replica.kind in checking.ELSEWHERE:
                raise ProviderError(
                    f"{endpoint.name}/{version.name}: {version.replica.kind.value} {checking.NEEDS_CLUSTER}"
                )
        self._machine()
        names = {version.name for version in endpoint.versions}
        unread = [name for name in names if VersionKey(endpoint.name, name) not in self._files]
        self._files |= await self._read(endpoint, unread)
        for key, version_replicas in self._versions_of(endpoint.name):
            if key.version not in names:
                version_replicas.undeclare()
                self._files.pop(key, None)
        self._logs.drop(endpoint.name, keep=names)
        for version in endpoint.versions:
            version_replicas = self._replicas_of(VersionKey(endpoint.name, version.name))
            present = version_replicas.wanted if version_replicas.declared else version.autoscale.min_replicas
            key = VersionKey(endpoint.name, version.name)
            version_replicas.declare(version, replicas.get(version.name, present), self._files.get(key, ""))

    async def remove(self, endpoint: str) -> None:
        """Drain and stop all replicas of the endpoint; logs of a version are removed with its last replica."""
        for key, version_replicas in self._versions_of(endpoint):
            version_replicas.undeclare()
            self._files.pop(key, None)
        self._logs.drop(endpoint)

    async def scale(self, key: VersionKey, replicas: int, victims: Collection[str] = ()) -> None:
        """Set the number of replicas of a version; no effect on static ones. Unknown versions are ignored."""
        if (version_replicas := self._versions.get(key)) is not None:
            version_replicas.scale(replicas, list(victims))

    async def hindrance(self, key: VersionKey, fewer: bool) -> str:
        """Always "": nothing else changes the number here, and all replicas are known."""
        return ""

    async def drained(self, replica_id: str) -> None:
        """Stop a drained replica."""
        for version_replicas in self._versions.values():
            if (replica := version_replicas.replicas.get(replica_id)) is not None:
                replica.handle(LifecycleEvent.DRAINED)
                return

    def watch(self) -> AsyncIterator[Change]:
        """Yield a Reset with the known replicas, then every change, without end."""
        return self._feed.watch()

    async def logs(self, key: VersionKey, tail: int) -> dict[str, list[TimedLine]]:
        """Replica id -> its last `tail` lines; includes the last removed replicas, also of earlier runs."""
        return await self._logs.tail(key, tail)

    def follow_logs(self, key: VersionKey) -> AsyncIterator[tuple[str, TimedLine]]:
        """Yield (replica id, line) as written, from now on, without end."""
        return self._logs.follow(key)

    # ---- internal

    def _machine(self) -> LocalMachine:
        if self._running is None:
            raise ProviderError("the local provider is not running: start() it first")
        return self._running

    def _replicas_of(self, key: VersionKey) -> VersionReplicas:
        for other in [key for key, version_replicas in self._versions.items() if version_replicas.done]:
            del self._versions[other]
        return self._versions.setdefault(key, VersionReplicas(self._machine(), key))

    def _versions_of(self, endpoint: str) -> list[tuple[VersionKey, VersionReplicas]]:
        return [(key, version_replicas) for key, version_replicas in self._versions.items() if key.endpoint == endpoint]

    def _measured(self) -> dict[int, LocalReplica]:
        """Subreaper -> replica, for running replicas that limit or reserve memory."""
        return {
            replica.subreaper: replica
            for version_replicas in self._versions.values()
            for replica in version_replicas.replicas.values()
            if replica.subreaper is not None and _is_measured(replica.version.resources)
        }

    async def _watch_memory(self) -> None:
        while True:
            await asyncio.sleep(MEMORY_PERIOD_S)
            if not (measured := self._measured()):
                continue
            most = {pid: _most_bytes(replica.version.resources) for pid, replica in measured.items()}
            used = await asyncio.to_thread(
                lambda most: limits.memory_by_ancestor(guard.processes(), most, guard.pss_bytes), most
            )
            self._machine().room.used_bytes = {measured[pid].id: used_bytes for pid, used_bytes in used.items()}
            for subreaper, used_bytes in used.items():
                replica = measured[subreaper]
                reason = limits.over_memory(used_bytes, replica.version.resources.memory_limit_bytes)
                if reason and replica.subreaper == subreaper:
                    replica.handle(LifecycleEvent.UNHEALTHY, reason)


def _is_measured(resources: Resources) -> bool:
    return resources.memory_limit_bytes is not None or needs_memory(resources)


def _most_bytes(resources: Resources) -> int:
    return sys.maxsize if resources.memory_limit_bytes is None else resources.memory_limit_bytes


def _lock(directory: Path) -> int:
    """Lock the directory until the descriptor is closed or this process ends. Raises ProviderError."""
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
