"""Where workers of groups on other machines come in: a port of its own for every worker of this group.

The supervisor opens it and the worker takes it over, so that nobody else can have the port in between.
"""

import socket
from collections.abc import Sequence

from router.peers.address import Tcp

_BACKLOG = 256
ANY_PORT = range(1)


class PeerPortError(OSError):
    """No port is to be had."""


class PeerPorts:
    """On one address of this machine."""

    def __init__(self, host: str, ports: Sequence[int] = ANY_PORT) -> None:
        """`ports`: to choose from, for the sake of a firewall; 0 stands for whichever the system chooses."""
        self._host = host
        self._ports = ports

    def open(self) -> socket.socket:
        """Listening. Raises PeerPortError."""
        refused: OSError | None = None
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        for port in self._ports:
            try:
                return socket.create_server((self._host, port), family=family, backlog=_BACKLOG)
            except OSError as error:
                refused = error
        told = refused.strerror if refused is not None else "there is none to choose from"
        raise PeerPortError(f"no port for peers on {self._host}: {told}") from refused


def address_of(door: socket.socket) -> str:
    """Where peers reach it."""
    host, port = door.getsockname()[:2]
    return str(Tcp(host, port))
