"""Start of worker processes on shared sockets."""

import contextlib
import socket
from collections.abc import Mapping, Sequence

from router.inflight_table import WorkerRow
from router.supervisor.peer_ports import PeerPorts, address_of
from router.supervisor.worker_handle import WorkerHandle, start_worker


class WorkerSpawner:
    """Starts the workers of one supervisor."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        listen: socket.socket,
        redirect: socket.socket | None = None,
        peer_ports: PeerPorts | None = None,
    ) -> None:
        """`command`: argv of a worker, to which name, address and file descriptors are appended.

        `environment`: of the worker. `listen`: the shared listening socket. `redirect`: the socket for plain HTTP
        clients that are redirected; default none. `peer_ports`: ports for workers on other machines; default none.
        """
        self.command = list(command)
        self.environment = dict(environment)
        self._listen = listen
        self._redirect = redirect
        self._peer_ports = peer_ports

    def stop_listening(self) -> None:
        """Close the sockets of the parent: once the workers have closed theirs, connections are refused."""
        self._listen.close()
        if self._redirect is not None:
            self._redirect.close()

    async def spawn(self, name: str, address: str, row: WorkerRow) -> tuple[WorkerHandle, str]:
        """Start a worker: (its handle, its address for workers on other machines). Raises OSError.

        `name`: the member name. `address`: for workers of this group. `row`: its row of the in-flight table.
        """
        fds = {"listen": self._listen.fileno()}
        if self._redirect is not None:
            fds["redirect"] = self._redirect.fileno()
        public = address
        with contextlib.ExitStack() as stack:
            if self._peer_ports is not None:
                peers = stack.enter_context(self._peer_ports.open())
                fds["peers"] = peers.fileno()
                public = address_of(peers)
            handle = await start_worker(name, address, row, self.command, self.environment, fds)
        return handle, public
