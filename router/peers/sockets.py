"""Sockets between workers: listening and connecting. Blocks only for file system checks."""

import asyncio
import os
import socket
import stat
from pathlib import PurePath

from router.peers.address import Address, AddressError, Tcp, Unix

_BACKLOG = 256
_KEEPALIVE_S = 2
_UNANSWERED_MS = 5_000
"""TCP_USER_TIMEOUT. With the usual 15 minutes a link would stay dead long after a partition has healed, because pauses
between retransmissions double."""


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
        raise AddressError(
            f"unix:{path}: the directory must be private to this user: every process with access is a peer"
        )
    sock = socket.socket(socket.AF_UNIX, kind)
    try:
        sock.setblocking(False)
        remove_socket_file(path)  # left by a killed predecessor
        sock.bind(str(path))
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def bound_address(sock: socket.socket, address: Address) -> Address:
    """Actual address of a socket bound to `address`: the system replaces port 0."""
    return Tcp(address.host, sock.getsockname()[1]) if isinstance(address, Tcp) else address


def remove_socket_file(path: PurePath) -> None:
    """Remove a socket file if present."""
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
    except FileNotFoundError:
        return


def connect_unix(path: PurePath, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """A connected non-blocking socket. Raises OSError at once if there is no listener or its backlog is full."""
    sock = socket.socket(socket.AF_UNIX, kind)
    try:
        sock.setblocking(False)
        # asyncio would read EAGAIN (backlog full) as "in progress".
        sock.connect(str(path))
    except BaseException:
        sock.close()
        raise
    return sock


async def connect_tcp(address: Tcp) -> socket.socket:
    """A connected non-blocking socket. Raises OSError."""
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
    """Set TCP options of a link: no delay, and a short time to detect a broken link."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNANSWERED_MS)
