"""Ports for links from workers on other machines: one for each worker.

The supervisor opens the port and passes the socket to the worker, so that no other process can take it in between.
"""

import socket
from collections.abc import Sequence

from router.peers.address import Tcp

_BACKLOG = 256
ANY_PORT = range(1)


class PeerPortError(OSError):
    """No free port."""


class PeerPorts:
    """Ports on one address of this machine."""

    def __init__(self, host: str, ports: Sequence[int] = ANY_PORT) -> None:
        """`ports`: the range to choose from, e.g. one that a firewall allows; 0: chosen by the system."""
        self._host = host
        self._ports = ports

    def open(self) -> socket.socket:
        """A listening socket. Raises PeerPortError."""
        refused: OSError | None = None
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        for port in self._ports:
            try:
                return socket.create_server((self._host, port), family=family, backlog=_BACKLOG)
            except OSError as error:
                refused = error
        reason = refused.strerror if refused is not None else "the range is empty"
        raise PeerPortError(f"no port for peers on {self._host}: {reason}") from refused


def address_of(sock: socket.socket) -> str:
    """The address of a listening TCP socket, for peers."""
    host, port = sock.getsockname()[:2]
    return str(Tcp(host, port))
