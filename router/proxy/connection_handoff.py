"""A client's connection passes from one worker to another: the descriptor, and what was read but has not been served.

The client notices nothing: bytes that it sends meanwhile wait in the system. TLS cannot pass: its state is a process's.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Iterable

from cluster.owned_tasks import OwnedTasks

MAX_BYTES = 131_072
"""What may have been read of a request that passes on: a head, and a body that has not been sent to a replica."""
_STRANGER, _KNOWN = b"-", b"+"
"""Before what was read: whether a request has been admitted. A message without a byte would be the end."""


class HandoffSender:
    """The side of the worker that gives."""

    def __init__(self, sock: socket.socket) -> None:
        """`sock`: connected, SOCK_SEQPACKET."""
        self._sock = sock
        self._sock.setblocking(False)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MAX_BYTES)

    def may_take(self, transport: asyncio.Transport) -> bool:
        """Whether the connection can pass at all, now or later."""
        return transport.get_extra_info("ssl_object") is None

    def give(self, transport: asyncio.Transport, read: bytes | bytearray, known: bool) -> bool:
        """Pass on the connection. False, and nothing has changed, where it cannot pass (now).

        `read`: of the connection, and not served. `known`: a request on it has been admitted.
        """
        if transport.is_closing() or transport.get_write_buffer_size() or len(read) > MAX_BYTES:
            return False
        if not self.may_take(transport):
            return False
        try:
            socket.send_fds(
                self._sock, [(_KNOWN if known else _STRANGER) + read], [transport.get_extra_info("socket").fileno()]
            )
        except OSError:
            return False  # the other side is slow, or gone
        transport.abort()  # closes this process's descriptor; the connection lives on in the other's
        return True

    def close(self) -> None:
        """Give nothing more."""
        self._sock.close()


class ConnectionHandoff:
    """Where connections of this worker go that shall not stay."""

    __slots__ = ("_givers", "_left", "wanted")

    def __init__(self) -> None:
        self._givers: deque[HandoffSender] = deque()
        self._left = 0.0
        self.wanted = False
        """Whether a connection that is idle shall go."""

    def order(self, givers: Iterable[HandoffSender], count: float) -> None:
        """Pass so many connections to these in turn, as they become idle; takes the place of the order before."""
        self._givers = deque(givers)
        self._left = count
        self.wanted = bool(self._givers) and count > 0

    def may_take(self, transport: asyncio.Transport) -> bool:
        """Whether the connection can pass, now or later."""
        return self.wanted and self._givers[0].may_take(transport)

    def give(self, transport: asyncio.Transport, read: bytes | bytearray, known: bool) -> bool:
        """As `HandoffSender.give`, to the next of the order that takes it."""
        if not self.wanted:
            return False
        for _ in range(len(self._givers)):
            giver = self._givers[0]
            self._givers.rotate(-1)
            if giver.give(transport, read, known):
                self._left -= 1
                self.wanted = self._left > 0
                return True
        return False


class HandoffReceiver:
    """The side of the worker that takes."""

    def __init__(
        self,
        sock: socket.socket,
        protocol: Callable[[bytes, bool], asyncio.Protocol],
        ended: Callable[["HandoffReceiver"], None] = lambda taker: None,
    ) -> None:
        """`protocol`: makes the protocol of a connection, by the bytes that have been read of it already, and whether a
        request on it has been admitted.

        `ended`: called when the giver gives nothing more.
        """
        self._ended = ended
        self._sock = sock
        self._sock.setblocking(False)
        self._protocol = protocol
        self._adopting = OwnedTasks()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._readable)

    def _readable(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self._sock, 1 + MAX_BYTES, 1)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        if not data:
            self._stop_reading()
            self._ended(self)
        for fd in fds:
            self._adopting.spawn(
                self._adopt(socket.socket(fileno=fd), data[1:], data[:1] == _KNOWN), "adopt a connection"
            )

    async def _adopt(self, sock: socket.socket, read: bytes, known: bool) -> None:
        sock.setblocking(False)
        try:
            await self._loop.connect_accepted_socket(lambda: self._protocol(read, known), sock)
        except OSError:
            sock.close()  # the client has left meanwhile

    def _stop_reading(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()

    async def close(self) -> None:
        """Take nothing more."""
        self._stop_reading()
        await self._adopting.close()
