"""Listener for peers: TLS with client certificates on TCP, and a limit on connections without a session."""

import asyncio
import logging
import socket
from collections.abc import Callable

from cluster.owned_tasks import OwnedTasks
from cluster.unauthenticated import UnauthenticatedConnections
from router.log_limit import LogLimit
from router.peers.address import Address, Tcp, Unix
from router.peers.peer_connection import HANDSHAKE_S, PeerConnection
from router.peers.peer_identity import Trust, TrustError
from router.peers.sockets import bound_address, listen, remove_socket_file, set_link_options

MAX_UNAUTHENTICATED = 256
"""Limit of connections without a session; above, the oldest of the most frequent address is closed."""
MAX_UNAUTHENTICATED_PER_ADDRESS = 128
"""The same per remote address: each of up to 64 workers of a group connects once or twice."""
_ACCEPT_PAUSE_S = 0.1
"""Pause after a failed accept, usually for lack of file descriptors."""


class PeerListener:
    """Listening sockets of one worker, from `listen` to `close`."""

    def __init__(self, accepted: Callable[[], PeerConnection], trust: Trust | None, log_limit: LogLimit) -> None:
        """`accepted`: creates the protocol of a connection. `trust`: needed for TCP. `log_limit`: log of the links."""
        self._accepted = accepted
        self._trust = trust
        self._log_limit = log_limit
        self._loop = asyncio.get_running_loop()
        self._listening: dict[socket.socket, Address] = {}
        self._tasks = OwnedTasks()
        self._unauthenticated: UnauthenticatedConnections[asyncio.Task[None]] = UnauthenticatedConnections(
            MAX_UNAUTHENTICATED, MAX_UNAUTHENTICATED_PER_ADDRESS
        )

    def listen(self, address: Address) -> Address:
        """Listen; returns the address with the actual port. Raises AddressError, TrustError, OSError."""
        if isinstance(address, Tcp):
            self._authority(address).context(server=True)  # reports faulty files now
        sock = listen(address)
        return self._take(sock, bound_address(sock, address))

    def listen_on(self, sock: socket.socket) -> Address:
        """Accept peers on a listening TCP socket; returns its address. Raises TrustError."""
        address = Tcp(*sock.getsockname()[:2])
        self._authority(address).context(server=True)
        sock.setblocking(False)
        return self._take(sock, address)

    def _take(self, sock: socket.socket, address: Address) -> Address:
        self._listening[sock] = address
        self._tasks.spawn(self._accept(sock, address), f"accept peers at {address}")
        return address

    def _authority(self, address: Tcp) -> Trust:
        if self._trust is None:
            raise TrustError(f"{address}: links between machines need certificates")
        return self._trust

    async def _accept(self, sock: socket.socket, address: Address) -> None:
        while True:
            try:
                arrived, remote = await self._loop.sock_accept(sock)
            except OSError as error:
                self._log_limit.log(str(address), f"peer listener {address}: accept failed: {error}", logging.ERROR)
                await asyncio.sleep(_ACCEPT_PAUSE_S)
                continue
            host = str(remote[0]) if isinstance(address, Tcp) else ""
            if (victim := self._unauthenticated.to_evict(host)) is not None:
                self._unauthenticated.discard(victim)
                victim.cancel()
            task = self._tasks.spawn(self._greet(arrived, address), "greet a peer")
            self._unauthenticated.add(task, host)
            task.add_done_callback(self._unauthenticated.discard)

    async def _greet(self, sock: socket.socket, address: Address) -> None:
        """Serve a connection until it has a session or has ended."""
        connection, where = self._accepted(), ""
        try:
            sock.setblocking(False)
            if isinstance(address, Tcp):
                where = str(Tcp(*sock.getpeername()[:2]))
                set_link_options(sock)
                await self._loop.connect_accepted_socket(
                    lambda: connection,
                    sock,
                    ssl=self._authority(address).context(server=True),
                    ssl_handshake_timeout=HANDSHAKE_S,
                )
            else:
                await self._loop.connect_accepted_socket(lambda: connection, sock)
        except (OSError, TrustError) as error:
            sock.close()
            why = str(error) or type(error).__name__  # the error of a mere port check has no text
            text = f"peer from {where.rpartition(':')[0] or address}: refused: {why}"
            self._log_limit.log(str(address), text, logging.WARNING)
        except BaseException:
            sock.close()
            raise
        else:
            try:
                await connection.handshake_done.wait()
            except asyncio.CancelledError:
                connection.break_off("replaced by a newer connection before its Hello")
                raise

    async def close(self) -> None:
        """Stop accepting, and cancel connections without a session; the creator of their protocols closes them."""
        await self._tasks.close()
        for sock, address in self._listening.items():
            sock.close()
            if isinstance(address, Unix):
                remove_socket_file(address.path)
        self._listening.clear()
