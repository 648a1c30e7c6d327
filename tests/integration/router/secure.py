"""A router worker with TLS, and clients without verification."""

import asyncio
import datetime
import socket
import ssl
from pathlib import Path

from cluster.link import ResetAll
from router.proxy.listeners import Listeners
from router.proxy.tls import CertificatePair, Certificates
from router.settings import RouterSettings
from router.supervisor.listening import listening_socket
from serving.credentials import TokenTrust
from tests.fakes.certificates import Folder, make
from tests.integration.router.clients import Client
from tests.integration.router.rig import Rig, endpoint


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class SecureClient(Client):
    """A connection over TLS."""

    @property
    def shown(self) -> bytes:
        """The certificate that the router presented."""
        certificate: bytes = self.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return certificate


class SecureRig(Rig):
    """Also listens for clients without TLS and redirects them."""

    def __init__(self, folder: Path, settings: RouterSettings | None = None, send_buffer: int | None = None) -> None:
        super().__init__(settings, send_buffer)
        self.files = Folder(folder, make("front.test"))
        self.certificates = Certificates([CertificatePair(self.files.cert, self.files.key)], now())
        self._redirect = listening_socket("127.0.0.1", 0)
        self.redirect_port: int = self._redirect.getsockname()[1]
        self.listeners = Listeners(self.gateway, self.certificates)

    async def start(self) -> None:
        await self.listeners.open(self._listen, self._redirect)
        self._server = self.listeners
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep(), name="sweep the rig")
        self.tell(ResetAll((endpoint(),), (), TokenTrust("https://issuer.test"), ()))

    async def stop(self) -> None:
        try:
            await super().stop()
        finally:
            await self.listeners.end()

    async def connect(self, port: int | None = None, receive_buffer: int | None = None) -> socket.socket:
        """A connection without any bytes sent."""
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port or self.port))
        return sock

    async def client(self, receive_buffer: int | None = None, name: str = "front.test") -> SecureClient:
        sock = await self.connect(receive_buffer=receive_buffer)
        reader, writer = await asyncio.open_connection(
            sock=sock, limit=receive_buffer or 1 << 20, ssl=client_context(), server_hostname=name
        )
        client = SecureClient(reader, writer)
        self._clients.append(client)
        return client

    async def plain_client(self, port: int) -> Client:
        client = await Client.connect(port)
        self._clients.append(client)
        return client


class RawClient:
    """TLS by hand: the test decides about every byte; nothing is answered automatically."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = client_context().wrap_bio(self._incoming, self._outgoing, server_hostname="front.test")

    async def shake(self) -> None:
        """Up to the last flight of the handshake: ready, and not sent."""
        while True:
            try:
                self.tls.do_handshake()
                return
            except ssl.SSLWantReadError:
                await self.flush()
                await self._receive()

    async def flush(self) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, self._outgoing.read())

    async def read(self, size: int) -> bytes:
        """Decrypted bytes; empty at a close_notify. Raises ssl.SSLEOFError if the connection ends without one."""
        while True:
            try:
                return self.tls.read(size)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLWantReadError:
                await self._receive()

    async def rest(self) -> bytes:
        """Everything up to the close_notify."""
        pieces = []
        while data := await self.read(65_536):
            pieces.append(data)
        return b"".join(pieces)

    async def _receive(self) -> None:
        async with asyncio.timeout(3):
            data = await asyncio.get_running_loop().sock_recv(self.sock, 65_536)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
