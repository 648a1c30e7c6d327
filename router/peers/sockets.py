"""Sockets between workers: where one listens, and how one is reached. Blocking in nothing but a look at the disk."""

import asyncio
import os
import socket
import stat
from pathlib import PurePath

from router.peers.address import Address, AddressError, Tcp, Unix

_BACKLOG = 256
_KEEPALIVE_S = 2
_UNANSWERED_MS = 5_000
"""TCP gives up what was not acknowledged for so long. The usual quarter of an hour would leave a link that was cut dead
long after it healed, since pauses between retransmissions double."""


def listen(address: Address, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """A listening socket, non-blocking. Raises AddressError, OSError."""
    if isinstance(address, Unix):
        return _listen_unix(address.path, kind)
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.create_server((address.host, address.port), family=family, backlog=_BACKLOG)
    sock.setblocking(False)
    return sock


def _listen_unix(path: PurePath, kind: socket.SocketKind) -> socket.socket:
    status = os.stat(path.parent)
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise AddressError(f"unix:{path}: the directory must be open to nobody but this user: who enters is a peer")
    sock = socket.socket(socket.AF_UNIX, kind)
    try:
        sock.setblocking(False)
        remove_socket_file(path)  # of a predecessor that was killed
        sock.bind(str(path))
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def bound_address(sock: socket.socket, address: Address) -> Address:
    """Where a socket that was asked to listen at `address` does: the system chooses a port for 0."""
    return Tcp(address.host, sock.getsockname()[1]) if isinstance(address, Tcp) else address


def remove_socket_file(path: PurePath) -> None:
    """Take away a socket file, if it is there."""
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
    except FileNotFoundError:
        return


def connect_unix(path: PurePath, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """A socket that is connected, non-blocking. Raises OSError, at once, where nobody listens or too many wait."""
    sock = socket.socket(socket.AF_UNIX, kind)
    try:
        sock.setblocking(False)
        # asyncio would take EAGAIN, which means that the backlog is full, for "in progress": here it never is.
        sock.connect(str(path))
    except BaseException:
        sock.close()
        raise
    return sock


async def connect_tcp(address: Tcp) -> socket.socket:
    """A socket that is connected, non-blocking. Raises OSError."""
    loop = asyncio.get_running_loop()
    family, kind, protocol, _, where = (await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM))[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        set_link_options(sock)
        await loop.sock_connect(sock, where)
    except BaseException:
        sock.close()
        raise
    return sock


def set_link_options(sock: socket.socket) -> None:
    """A TCP socket of a link: nothing waits to be sent with more, and a link that was cut ends soon."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNANSWERED_MS)
