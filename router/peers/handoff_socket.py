"""How client connections pass between workers of one machine: a SOCK_SEQPACKET socket beside the link's socket.

Only the ways are made here; what travels on them is the affair of who gives and who takes.
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
"""After a failure to accept, for want of file descriptors as a rule."""


def connect_handoff(address: str) -> socket.socket | None:
    """A way to give connections to the worker at this address of a member; None where there is none (now).

    Does not block. The worker may end at any time: what is sent then fails as it does on any socket.
    """
    try:
        way = _beside(parse_address(address))
        return connect_unix(way, socket.SOCK_SEQPACKET) if way is not None else None
    except (AddressError, OSError):
        return None


class HandoffListener:
    """Where other workers of the machine connect who want to give connections; from its making to `close`."""

    def __init__(self, address: str, accepted: Callable[[socket.socket], None]) -> None:
        """`address`: of this worker's links, on a Unix socket. `accepted` gets each way, and owns it.

        Raises AddressError, OSError.
        """
        path = _beside(parse_address(address))
        if path is None:
            raise AddressError(f"{address!r}: connections pass between workers of one machine only")
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
            return  # who wanted to come has gone
        except OSError as error:
            _log.error("other workers cannot pass connections to this one: %s", error)
            self._loop.remove_reader(self._sock.fileno())
            self._pause = self._loop.call_later(_ACCEPT_PAUSE_S, self._resume)
            return
        sock.setblocking(False)
        self._accepted(sock)

    def _resume(self) -> None:
        self._loop.add_reader(self._sock.fileno(), self._readable)

    def close(self) -> None:
        """Let nobody in any more; ways that were accepted stay."""
        if self._sock.fileno() < 0:
            return
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        remove_socket_file(self._path)


def _beside(address: Address) -> PurePath | None:
    return address.path.with_name(address.path.name + _SUFFIX) if isinstance(address, Unix) else None
