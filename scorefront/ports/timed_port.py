"""The listening sockets of control and admin ports: aiohttp applications behind limits and clocks.

These processes start replicas and workers, so a stranger must not use up their descriptors: connections are counted
from `accept` on, TLS handshakes included, and each phase of a connection but the answer has a deadline.
"""

import asyncio
import contextlib
import errno
import ipaddress
import logging
import resource
import socket
import ssl
import struct
from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict
from typing import Any

from aiohttp import web

from controlplane.rest_guard import CALLER, SECURITY_HEADERS, SERVER, Handler, bare_error, error_response
from router.settings import number
from scorefront.ports.connection_table import ConnectionTable, PortLimits, PortPhase

PREFIX = "SCOREFRONT_CONTROL_"
DESCRIPTORS_SHARE = 4
"""Connections get at most one of so many descriptors of the process."""
LOOK_S = 1.0
"""Seconds between two checks of the deadlines; an end may be late by as much."""
ACCEPTS_AT_ONCE = 64
"""Connections accepted in one turn of the loop."""
NO_DESCRIPTORS_S = 0.2
"""Pause of accepting when descriptors run out."""
TLS_END_S = 2.0
COMPLAIN_S = 60.0
"""The same refusal is not logged again before."""

_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
REFUSED = (401, 403)
"""Statuses that prove no accepted credential, even if the caller is known."""

_log = logging.getLogger(__name__)


def port_limits(environment: Mapping[str, str]) -> PortLimits:
    """The limits of the environment, with connections limited by the file descriptors.

    Raises SettingError that names the variable and the rule.
    """
    told: dict[str, Any] = {
        name: number(environment, f"{PREFIX}{name.upper()}", default) for name, default in asdict(PortLimits()).items()
    }
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    told["max_connections"] = max(1, min(told["max_connections"], descriptors // DESCRIPTORS_SHARE))
    return PortLimits(**told)


def app_runner(app: web.Application, shutdown_s: float, handler_cancellation: bool = False) -> web.AppRunner:
    """The runner of an application that a `TimedPort` answers with.

    `shutdown_s`: seconds that requests under way get at its end. `handler_cancellation`: a handler is cancelled when
    its client disconnects; default False.
    """
    app.middlewares.insert(0, _noting_requests)
    return web.AppRunner(app, access_log=None, shutdown_timeout=shutdown_s, handler_cancellation=handler_cancellation)


class TimedPort:
    """A listening socket with limits; serves from `answer_with` to `close`. The caller owns the socket."""

    def __init__(
        self, sock: socket.socket, limits: PortLimits, tls: Callable[[], ssl.SSLContext] | None = None
    ) -> None:
        """`sock` listens already. `tls`: the context for the next connection; None: plain HTTP."""
        sock.setblocking(False)
        self._sock = sock
        self._limits = limits
        self._tls = tls
        self._runner: web.AppRunner | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.table = ConnectionTable(limits)
        self._connections: dict[int, tuple[TimedConnection, asyncio.Task[None]]] = {}
        self._last_number = 0
        self._looking: asyncio.Task[None] | None = None
        self._again: asyncio.TimerHandle | None = None
        self._complained_s = -COMPLAIN_S

    def answer_with(self, runner: web.AppRunner) -> None:
        """Serve new connections with `runner`, which has been set up."""
        self._runner = runner
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._sock, self._accept)
            self._looking = self._loop.create_task(self._look_at_clocks(), name="clocks of a control port")

    async def close(self) -> None:
        """Accept no more, and cut TLS handshakes. Requests under way belong to their runner's `cleanup`."""
        if self._loop is None or self._looking is None:
            return
        self._loop.remove_reader(self._sock)
        if self._again is not None:
            self._again.cancel()
        self._looking.cancel()
        connecting = [task for _, task in self._connections.values() if not task.done()]
        for task in connecting:
            task.cancel()
        await asyncio.gather(self._looking, *connecting, return_exceptions=True)
        self._loop = None

    def now(self) -> float:
        """Seconds on the loop's clock."""
        assert self._loop is not None
        return self._loop.time()

    def gone(self, number_: int) -> None:
        """A connection is closed; twice is harmless."""
        self.table.gone(number_)
        self._connections.pop(number_, None)

    # ---- accepting

    def _accept(self) -> None:
        for _ in range(ACCEPTS_AT_ONCE):
            try:
                sock, _address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno not in _NO_DESCRIPTORS:
                    continue  # the client has gone meanwhile
                self._complain(f"no connection can be accepted: {error.strerror}")
                if (spare := self.table.spare()) is not None:
                    self._cut(spare)
                self._pause()
                return
            self._attend(sock)

    def _pause(self) -> None:
        assert self._loop is not None
        self._loop.remove_reader(self._sock)
        self._again = self._loop.call_later(NO_DESCRIPTORS_S, self._loop.add_reader, self._sock, self._accept)

    def _attend(self, sock: socket.socket) -> None:
        assert self._loop is not None and self._runner is not None and self._runner.server is not None
        sock.setblocking(False)
        self._last_number += 1
        number_ = self._last_number
        admission = self.table.admit(number_, holder_of(sock), self.now())
        if admission.cut is not None:
            self._cut(admission.cut)
        if not admission.accepted:
            self._complain("a connection is refused: all of the port, or of its address, are at work")
            if self._tls is None:
                with contextlib.suppress(OSError):
                    sock.send(bare_error(503, "TooManyConnections", "too many connections to this port"))
            sock.close()
            return
        connection = TimedConnection(self._runner.server, self, number_, self._loop, self._limits.idle_timeout_s)
        task = self._loop.create_task(self._connect(connection, sock), name="accept a control connection")
        self._connections[number_] = (connection, task)

    async def _connect(self, connection: "TimedConnection", sock: socket.socket) -> None:
        assert self._loop is not None
        told: dict[str, Any] = {}
        try:
            if self._tls is not None:
                told = {"ssl": self._tls(), "ssl_handshake_timeout": self._limits.head_timeout_s}
                told["ssl_shutdown_timeout"] = TLS_END_S
        except Exception as error:  # certificates that cannot be read now
            self._complain(f"a connection is refused: {error}")
            self.gone(connection.number)
            sock.close()
            return
        try:
            await self._loop.connect_accepted_socket(lambda: connection, sock, **told)
        except OSError:  # of TLS, too: not a client of this port
            self.gone(connection.number)
        except BaseException:
            self.gone(connection.number)
            raise

    # ---- ending

    async def _look_at_clocks(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            for number_, phase in self.table.overdue(self.now()):
                connection, task = self._connections[number_]
                if phase is PortPhase.ENDING or not task.done():
                    self._cut(number_)
                else:
                    connection.expire(phase)

    def _cut(self, number_: int) -> None:
        connection, task = self._connections[number_]
        if task.done():
            connection.cut()
        else:
            task.cancel()
        self.gone(number_)

    def _complain(self, what: str) -> None:
        if self.now() >= self._complained_s + COMPLAIN_S:
            self._complained_s = self.now()
            _log.warning("control port %s: %s", self._sock.getsockname(), what)


class TimedConnection(web.RequestHandler):
    """One connection; reports its phases to the table of its port."""

    __slots__ = ("_port", "_request", "number")

    def __init__(
        self, server: web.Server, port: TimedPort, number_: int, loop: asyncio.AbstractEventLoop, idle_timeout_s: float
    ) -> None:
        """`server` answers; `number_` is the connection's in the table of `port`; `idle_timeout_s`: seconds without a
        request."""
        without: Any = None
        super().__init__(
            server, loop=loop, access_log=without, keepalive_timeout=idle_timeout_s, lingering_time=TLS_END_S
        )
        self.number = number_
        self._port = port
        self._request: web.BaseRequest | None = None

    def began(self, request: web.BaseRequest) -> None:
        """A handler has the request."""
        self._request = request
        self._port.table.began(self.number, not request.content.is_eof(), self._port.now())

    def expire(self, phase: PortPhase) -> None:
        """End after a deadline, with 408 if a request is incomplete."""
        if phase is PortPhase.BODY and self._request is not None:
            # Its handler reads the body, and gets this instead of the rest.
            content = self._request.content
            self.close()
            content.set_exception(web.HTTPRequestTimeout())
            content.feed_eof()
        elif self.transport is not None:
            if phase is PortPhase.HEAD:
                self.transport.write(bare_error(408, "RequestTimeout", "the request head did not arrive in time"))
            self.transport.close()

    def cut(self) -> None:
        """End at once."""
        if self.transport is not None:
            self.transport.abort()

    # ---- called by asyncio and aiohttp

    def data_received(self, data: bytes) -> None:
        """Bytes of the client."""
        table, request = self._port.table, self._request
        table.received(self.number, len(data), self._port.now())
        super().data_received(data)
        if request is not None and table.phase(self.number) is PortPhase.BODY and request.content.is_eof():
            table.body_ended(self.number, self._port.now())

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write the answer, or the rest of it."""
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self._request = None
            if self._port.table.phase(self.number) is not None:
                accepted = bool(request.get(CALLER)) and resp.status not in REFUSED
                self._port.table.answered(self.number, accepted, self._port.now())

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The response to invalid HTTP and to failures outside the application.

        `status`: of the answer, default 500; `exc`: what was raised; `message`: of aiohttp.
        """
        if status < 500:
            _log.debug("%s: not HTTP: %r", request.remote, exc)
            response = error_response(status, "BadRequest", "the request is not valid HTTP/1.1")
        else:
            _log.error("%s %s failed", request.method, request.path, exc_info=exc)
            response = error_response(status, "Internal", "internal error; the log of scorefront tells more")
        if request.writer.output_size > 0:
            raise ConnectionResetError("half an answer must not look like a whole one")
        response.headers.update({**SECURITY_HEADERS, "Server": SERVER})
        response.force_close()
        return response

    def connection_lost(self, exc: BaseException | None) -> None:
        """It is closed."""
        self._port.gone(self.number)
        super().connection_lost(exc)


@web.middleware
async def _noting_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    if isinstance(request.protocol, TimedConnection):
        request.protocol.began(request)
    return await handler(request)


def holder_of(sock: socket.socket) -> Hashable | None:
    """Key for the share of a connection: IPv4 address, IPv6 /64 or local user; None on loopback.

    On loopback every user has the same address: the control port tells users apart by itself.
    """
    try:
        if sock.family == socket.AF_UNIX:
            _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            return ("uid", uid)
        address = ipaddress.ip_address(str(sock.getpeername()[0]).partition("%")[0])
    except (OSError, ValueError):
        return "gone"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return None if address.is_loopback else int(address) >> 64
        address = address.ipv4_mapped
    return None if address.is_loopback else address
