"""State of a TCP socket beyond asyncio's transports: acknowledged, unacknowledged and unread bytes (Linux)."""

import contextlib
import fcntl
import os
import select
import socket
import struct
import termios
from collections.abc import Iterator

UNKNOWN = 1 << 62
READ_BYTES = 65_536
_BYTES_ACKED = 120
"""Offset of tcpi_bytes_acked in struct tcp_info (Linux 4.1, include/uapi/linux/tcp.h)."""


def bytes_acknowledged(sock: socket.socket | None) -> int:
    """Bytes acknowledged by the peer's TCP since the connection was opened; UNKNOWN if not available.

    A replica that closed the connection just before the request arrived has sent FIN and acknowledged none of the
    request: it cannot have started it. After any other loss it may have.
    """
    if sock is None:
        return UNKNOWN
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    except OSError:
        return UNKNOWN
    if len(info) < _BYTES_ACKED + 8:
        return UNKNOWN
    (acknowledged,) = struct.unpack_from("=Q", info, _BYTES_ACKED)
    return int(acknowledged) - 1  # the handshake's SYN counts as one


def bytes_in_kernel(fd: int) -> int:
    """Bytes written to the socket and not acknowledged by the peer's TCP; 0 if not available."""
    try:
        return int(struct.unpack("i", fcntl.ioctl(fd, termios.TIOCOUTQ, b"\0\0\0\0"))[0])
    except OSError:
        return 0


def acknowledge_at_once(sock: socket.socket | None) -> None:
    """Send a delayed acknowledgement now (TCP_QUICKACK, for this moment only).

    A peer under Nagle's algorithm keeps the next part of its message until the previous one is acknowledged: 40 ms.
    """
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def unread_data(fd: int) -> Iterator[bytes]:
    """The data that arrived before the connection broke, without waiting; ends at its end, a reset, or nothing."""
    with contextlib.suppress(OSError):
        while data := os.read(fd, READ_BYTES):
            yield data


def is_reset(fd: int) -> bool:
    """True if the peer has reset the connection."""
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))
