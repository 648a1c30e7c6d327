"""What all replicas of this machine share."""

import asyncio
import errno
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from cluster.feed import Feed
from cluster.local.command import Host
from cluster.local.guardian import Guardian
from cluster.local.limits import Cores
from cluster.local.probe import Prober
from cluster.local.replica_logs import LogStore
from cluster.lookup import OwnAddresses
from cluster.owned_tasks import OwnedTasks
from serving.destinations import Destinations

LOOPBACK = "127.0.0.1"
LISTEN_BACKLOG = 2048
"""As gunicorn has it."""


class Ports:
    """Loopback ports that the OS says are free and that none of our replicas has been given."""

    def __init__(self) -> None:
        self._given: set[int] = set()

    def take(self) -> int:
        """A port to listen on. Somebody else may still be quicker: see `is_taken`. Raises OSError."""
        while True:
            with socket.socket() as probe:
                probe.bind((LOOPBACK, 0))
                port = int(probe.getsockname()[1])
            if port not in self._given:
                self._given.add(port)
                return port

    def listen(self) -> socket.socket:
        """A socket that listens on a port, for a replica that inherits it. Raises OSError."""
        while True:
            listener = socket.create_server((LOOPBACK, 0), backlog=LISTEN_BACKLOG)
            port = int(listener.getsockname()[1])
            if port not in self._given:
                self._given.add(port)
                return listener
            listener.close()

    def give_back(self, port: int) -> None:
        """The replica on it is gone."""
        self._given.discard(port)


def is_taken(port: int) -> bool:
    """Does somebody listen on this loopback port?"""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


@dataclass(slots=True)
class Site:
    """The tools of one running provider."""

    host: Host
    clock: Callable[[], float]
    """Seconds, monotonic."""
    new_suffix: Callable[[], str]
    """Makes an id unique for ever."""
    prober: Prober
    guardian: Guardian
    logs: LogStore
    cores: Cores
    feed: Feed
    allowed: Destinations
    """Where static replicas may be."""
    own: OwnAddresses
    """Where none may be: ports of scorefront, and those of replicas that run here."""
    tasks: OwnedTasks = field(default_factory=OwnedTasks)
    lives: OwnedTasks = field(default_factory=OwnedTasks)
    """One task per child process, from its start to the removal of its last trace."""
    ports: Ports = field(default_factory=Ports)
    starting: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a process is started."""
    static_gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(256))
    """Probes of static replicas that may be under way at once."""
    static_replicas: int = 0
