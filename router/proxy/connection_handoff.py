"""Hand-off of client connections between workers of one machine: file descriptor and unread bytes (SCM_RIGHTS).

Transparent to the client: bytes that it sends meanwhile stay in the socket buffer. TLS connections cannot be handed
off: their state belongs to the process.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Iterable

from cluster.owned_tasks import OwnedTasks

MAX_BYTES = 131_072
"""Largest number of unread bytes that is handed off with a connection."""
_UNAUTHORIZED, _AUTHORIZED = b"-", b"+"
"""First byte of a message, before the unread bytes. An empty message would be the end of the stream."""


class HandoffSender:
    """Sending end of a hand-off channel to one other worker."""

    def __init__(self, sock: socket.socket) -> None:
        """`sock`: connected, SOCK_SEQPACKET."""
        self._sock = sock
        self._sock.setblocking(False)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MAX_BYTES)

    def can_pass(self, transport: asyncio.Transport) -> bool:
        """True if connections of this kind can be handed off: without TLS."""
        return transport.get_extra_info("ssl_object") is None

    def send(self, transport: asyncio.Transport, unread: bytes | bytearray, authorized: bool) -> bool:
        """Hand off a connection; False, without effect, if that is not possible now.

        `transport`: of the connection. `unread`: bytes received and not yet served. `authorized`: an endpoint has
        admitted a request on it.
        """
        if transport.is_closing() or transport.get_write_buffer_size() or len(unread) > MAX_BYTES:
            return False
        if not self.can_pass(transport):
            return False
        try:
            socket.send_fds(
                self._sock,
                [(_AUTHORIZED if authorized else _UNAUTHORIZED) + unread],
                [transport.get_extra_info("socket").fileno()],
            )
        except OSError:
            return False  # the receiver is slow or gone
        transport.abort()  # closes this process's descriptor; the receiver has its own
        return True

    def close(self) -> None:
        """Close the channel."""
        self._sock.close()


class ConnectionHandoff:
    """Client connections to be passed to other workers, round-robin."""

    __slots__ = ("_left", "_senders", "active", "passed")

    def __init__(self) -> None:
        self._senders: deque[HandoffSender] = deque()
        self._left = 0.0
        self.active = False
        """True while idle connections are to be handed off."""
        self.passed = 0
        """Connections handed off since the start."""

    def start(self, senders: Iterable[HandoffSender], count: float) -> None:
        """Hand off `count` connections to these workers in turn, as they become idle; replaces the previous order."""
        self._senders = deque(senders)
        self._left = count
        self.active = bool(self._senders) and count > 0

    def can_pass(self, transport: asyncio.Transport) -> bool:
        """True if a hand-off is active and the connection is of a kind that can be passed."""
        return self.active and self._senders[0].can_pass(transport)

    def send(self, transport: asyncio.Transport, unread: bytes | bytearray, authorized: bool) -> bool:
        """`HandoffSender.send` to the next worker that accepts it."""
        if not self.active:
            return False
        for _ in range(len(self._senders)):
            sender = self._senders[0]
            self._senders.rotate(-1)
            if sender.send(transport, unread, authorized):
                self._left -= 1
                self.passed += 1
                self.active = self._left > 0
                return True
        return False


class HandoffReceiver:
    """Receiving end of a hand-off channel."""

    def __init__(
        self,
        sock: socket.socket,
        protocol: Callable[[bytes, bool], asyncio.Protocol],
        ended: Callable[["HandoffReceiver"], None] = lambda receiver: None,
    ) -> None:
        """`sock`: connected, SOCK_SEQPACKET. `protocol`: makes the protocol of a connection from its unread bytes and
        its authorized flag. `ended`: called when the sender has closed the channel.
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
                self._adopt(socket.socket(fileno=fd), data[1:], data[:1] == _AUTHORIZED), "adopt a connection"
            )

    async def _adopt(self, sock: socket.socket, unread: bytes, authorized: bool) -> None:
        sock.setblocking(False)
        try:
            await self._loop.connect_accepted_socket(lambda: self._protocol(unread, authorized), sock)
        except OSError:
            sock.close()  # the client has disconnected

    def _stop_reading(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()

    async def close(self) -> None:
        """Close the channel and cancel adoptions in progress."""
        self._stop_reading()
        await self._adopting.close()
