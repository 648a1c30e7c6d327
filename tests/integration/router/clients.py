"""A client that sends exactly the bytes it is given, and reads answers without being lenient."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import TracebackType

SCORE = "/api/v1/service/iris/score"
PATIENCE_S = 10.0


class BrokenOff(Exception):
    """The connection ended inside an answer; the text is the received part."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Field names are in lower case."""

    status: int
    reason: str
    fields: list[tuple[str, str]]
    body: bytes
    interim: list[int] = field(default_factory=list)

    def values(self, name: str) -> list[str]:
        return [value for known, value in self.fields if known == name]

    def value(self, name: str) -> str:
        """The only value of the field; fails the test when it stands twice or not at all."""
        (value,) = self.values(name)
        return value

    @property
    def code(self) -> str:
        return self.value("x-ms-error-code")


def request(
    body: bytes | None = b"{}", path: str = SCORE, method: str = "POST", fields: tuple[str, ...] = (), minor: int = 1
) -> bytes:
    """The bytes of one request; `body` None: without a length."""
    length = () if body is None else (f"Content-Length: {len(body)}",)
    lines = "".join(f"{line}\r\n" for line in ("Host: front", *fields, *length))
    return f"{method} {path} HTTP/1.{minor}\r\n{lines}\r\n".encode("latin-1") + (body or b"")


def get(path: str = SCORE, fields: tuple[str, ...] = ()) -> bytes:
    return request(None, path, "GET", fields)


class Client:
    """One connection to the router."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int, receive_buffer: int | None = None, host: str = "127.0.0.1") -> "Client":
        """`receive_buffer`: bytes that the system may take in before the test reads; small for a slow reader."""
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(sock, (host, port))
        return cls(*await asyncio.open_connection(sock=sock, limit=receive_buffer or 1 << 20))

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """Go away without a word."""
        self.writer.transport.abort()

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def ask(self, data: bytes) -> Answer:
        """Send one request and read its answer."""
        self.writer.write(data)
        return await self.answer()

    async def answer(self) -> Answer:
        """The next answer. Raises BrokenOff."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self._answer()
        except asyncio.IncompleteReadError as error:
            raise BrokenOff(error.partial[-200:].decode("latin-1")) from error
        except ConnectionError as error:
            raise BrokenOff(str(error)) from error

    async def head(self) -> tuple[int, str, list[tuple[str, str]]]:
        """Status, reason and fields of the next head."""
        async with asyncio.timeout(PATIENCE_S):
            raw = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *lines = raw[:-4].split("\r\n")
        version, status, reason = line.split(" ", 2)
        assert version == "HTTP/1.1"
        pairs = (each.split(":", 1) for each in lines)
        return int(status), reason, [(name.lower(), value.strip()) for name, value in pairs]

    async def _answer(self) -> Answer:
        interim = []
        status, reason, fields = await self.head()
        while 100 <= status < 200 and status != 101:
            interim.append(status)
            status, reason, fields = await self.head()
        named = dict(fields)
        if named.get("transfer-encoding") == "chunked":
            assert "content-length" not in named
            body = b"".join([piece async for piece in self.chunks()])
        elif "content-length" in named:
            body = await self.reader.readexactly(int(named["content-length"]))
        elif status in (204, 304, 101):
            body = b""
        else:
            assert named.get("connection") == "close", "an answer without a length must say that the connection ends"
            body = await self.reader.read()
        return Answer(status, reason, fields, body, interim)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The chunks of a body as they come."""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            data = await self.reader.readexactly(size + 2)
            assert data.endswith(b"\r\n")
            yield data[:-2]
        assert await self.reader.readexactly(2) == b"\r\n"

    async def end(self) -> bytes:
        """All bytes until the router closes the connection. Raises BrokenOff for a reset."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self.reader.read()
        except ConnectionError as error:
            raise BrokenOff(str(error)) from error
