"""State shared by all replicas of this machine."""

import asyncio
import errno
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from cluster.local.command import Host
from cluster.local.guardian import Guardian
from cluster.local.limits import Cores
from cluster.local.probe import Prober
from cluster.local.replica_environments import ReplicaEnvironments
from cluster.local.replica_logs import LogStore
from cluster.local.room import MachineMemory, Room
from cluster.lookup import OwnAddresses
from cluster.owned_tasks import OwnedTasks
from cluster.replica_feed import ReplicaFeed
from serving.destinations import Destinations

LOOPBACK = "127.0.0.1"
LISTEN_BACKLOG = 2048
"""gunicorn's value."""


class Ports:
    """Loopback ports that are free according to the OS and not assigned to another replica."""

    def __init__(self) -> None:
        self._given: set[int] = set()

    def acquire(self) -> int:
        """A port to listen on. Another process may still take it first: see `is_taken`. Raises OSError."""
        while True:
            with socket.socket() as probe:
                probe.bind((LOOPBACK, 0))
                port = int(probe.getsockname()[1])
            if port not in self._given:
                self._given.add(port)
                return port

    def listen(self) -> socket.socket:
        """A listening socket on a free port, for a replica to inherit. Raises OSError."""
        while True:
            listener = socket.create_server((LOOPBACK, 0), backlog=LISTEN_BACKLOG)
            port = int(listener.getsockname()[1])
            if port not in self._given:
                self._given.add(port)
                return listener
            listener.close()

    def release(self, port: int) -> None:
        """Release the port of a removed replica."""
        self._given.discard(port)


def is_taken(port: int) -> bool:
    """True if a process listens on this loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


@dataclass(slots=True)
class LocalMachine:
    """Shared objects of a running provider."""

    host: Host
    clock: Callable[[], float]
    """Monotonic seconds."""
    new_suffix: Callable[[], str]
    """Makes an id unique for ever."""
    prober: Prober
    guardian: Guardian
    logs: LogStore
    cores: Cores
    room: Room
    memory: Callable[[], MachineMemory]
    """Reads the memory of this machine."""
    feed: ReplicaFeed
    allowed: Destinations
    """Allowed destinations of static replicas."""
    own: OwnAddresses
    """Forbidden destinations: ports of scorefront, and of replicas that run here."""
    environments: ReplicaEnvironments
    """Interpreters of entry scripts with packages of their own."""
    tasks: OwnedTasks = field(default_factory=OwnedTasks)
    lives: OwnedTasks = field(default_factory=OwnedTasks)
    """One task per child process, from its start to the removal of its last trace."""
    ports: Ports = field(default_factory=Ports)
    starting: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held during the start of a process."""
    static_gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(256))
    """Limits concurrent probes of static replicas."""
    static_replicas: int = 0
