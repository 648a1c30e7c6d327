"""Hand-off of client connections between workers of one machine: SOCK_SEQPACKET sockets beside the link sockets.

This module only connects them; sender and receiver define the messages.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from pathlib import PurePath

from router.peers.address import Address, AddressError, Unix, parse_address
from router.peers.sockets import connect_unix, listen, remove_socket_file

_log = logging.getLogger("scorefront.router")

_SUFFIX = ".handoff"
_ACCEPT_PAUSE_S = 0.1
"""Pause after a failed accept, usually for lack of file descriptors."""


def connect_handoff(address: str) -> socket.socket | None:
    """A socket for hand-offs to the worker at a member's address; None if it cannot be reached.

    Does not block. The worker may end at any time; a send fails then as on any socket.
    """
    try:
        path = _beside(parse_address(address))
        return connect_unix(path, socket.SOCK_SEQPACKET) if path is not None else None
    except (AddressError, OSError):
        return None


class HandoffListener:
    """Listener for hand-offs from other workers of the machine, open until `close`."""

    def __init__(self, address: str, accepted: Callable[[socket.socket], None]) -> None:
        """`address`: Unix address of this worker's links. `accepted`: called with each connected socket, which it owns.

        Raises AddressError, OSError.
        """
        path = _beside(parse_address(address))
        if path is None:
            raise AddressError(f"{address!r}: hand-off works between workers of one machine only")
        self._path = path
        self._accepted = accepted
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._sock = listen(Unix(path), socket.SOCK_SEQPACKET)
        self._loop.add_reader(self._sock.fileno(), self._readable)

    def _readable(self) -> None:
        try:
            sock, _ = self._sock.accept()
        except BlockingIOError:
            return  # the other end has gone
        except OSError as error:
            _log.error("hand-off socket: accept failed: %s", error)
            self._loop.remove_reader(self._sock.fileno())
            self._pause = self._loop.call_later(_ACCEPT_PAUSE_S, self._resume)
            return
        sock.setblocking(False)
        self._accepted(sock)

    def _resume(self) -> None:
        self._loop.add_reader(self._sock.fileno(), self._readable)

    def close(self) -> None:
        """Stop listening; accepted sockets stay open."""
        if self._sock.fileno() < 0:
            return
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        remove_socket_file(self._path)


def _beside(address: Address) -> PurePath | None:
    return address.path.with_name(address.path.name + _SUFFIX) if isinstance(address, Unix) else None
