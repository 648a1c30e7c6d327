"""A replica scripted byte by byte, with a record of its requests and their concurrency."""

import asyncio
import contextlib
import os
import re
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

Field = tuple[bytes, bytes]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
_end_of_head = re.compile(rb"\r?\n\r?\n")


@dataclass(slots=True, eq=False)
class Request:
    """A request at a replica. Field names are in lower case; `body` is without its transfer coding."""

    raw_head: bytes
    connection: int
    fields: list[Field]
    body: bytes = b""
    body_size: int = 0
    raw_body: bytearray = field(default_factory=bytearray)
    complete: bool = False

    @property
    def line(self) -> bytes:
        return self.raw_head.split(b"\n", 1)[0].rstrip(b"\r")

    @property
    def target(self) -> bytes:
        return [*self.line.split(b" "), b""][1]

    def values(self, name: bytes) -> list[bytes]:
        return [value for known, value in self.fields if known == name]

    def value(self, name: bytes) -> bytes:
        """The only value of the field; fails the test when it stands twice or not at all."""
        (value,) = self.values(name)
        return value


class Wire:
    """One connection of a replica, as a script sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number
        self.ended = False

    async def send(self, *pieces: bytes | float) -> None:
        """Send the bytes; a number is a pause in seconds."""
        for piece in pieces:
            if isinstance(piece, bytes):
                self.writer.write(piece)
                await self.writer.drain()
            else:
                await asyncio.sleep(piece)

    def close(self) -> None:
        """End the connection after the sent bytes."""
        self.ended = True
        self.writer.close()

    def reset(self) -> None:
        """Break the connection off."""
        self.ended = True
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def router_left(self) -> None:
        """Returns once the router has closed or broken off the connection."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass

    async def read_head(self, idle_s: float | None) -> Request | None:
        """The next request's head, or None when there is none (in time)."""
        buffer = b""
        try:
            async with asyncio.timeout(idle_s):
                while not _end_of_head.search(buffer):
                    line = await self.reader.readline()
                    if not line.endswith(b"\n"):
                        return None
                    buffer += line
        except (TimeoutError, ConnectionError):
            return None
        fields = []
        for line in buffer.split(b"\n")[1:]:
            name, colon, value = line.rstrip(b"\r").partition(b":")
            if colon:
                fields.append((name.lower(), value.strip(b" \t")))
        return Request(buffer, self.number, fields)

    async def read_body(self, request: Request, kept: int = 1 << 25) -> None:
        """Read the body; the first `kept` bytes of it stay in the record."""
        if request.values(b"transfer-encoding"):
            while size := int((await self._raw_line(request)).split(b";")[0], 16):
                await self._read_exactly(request, size, kept)
                await self._raw_line(request)
            while (await self._raw_line(request)).strip():
                pass
        elif request.values(b"content-length"):
            await self._read_exactly(request, int(request.value(b"content-length")), kept)
        request.complete = True

    async def _raw_line(self, request: Request) -> bytes:
        line = await self.reader.readuntil(b"\n")
        request.raw_body += line
        return line

    async def _read_exactly(self, request: Request, size: int, kept: int) -> None:
        pieces = [request.body]
        while size:
            data = await self.reader.read(min(size, 65536))
            if not data:
                raise asyncio.IncompleteReadError(b"", size)
            size -= len(data)
            request.body_size += len(data)
            if request.body_size <= kept:
                pieces.append(data)
        request.body = b"".join(pieces)


Script = Callable[[Wire, Request], Awaitable[None]]


class Replica:
    """Listens on a port the system chose. `most_at_once` is the witness: the most requests that ever overlapped."""

    def __init__(
        self,
        script: Script,
        reads_body: bool = True,
        idle_s: Callable[[], float] | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        """`idle_s`: idle timeout of the next connection; None: unlimited."""
        self.script = script
        self.seen: list[Request] = []
        """Requests, without health requests."""
        self.health: Script = answers()
        """What health requests are answered."""
        self.health_requests = 0
        self.connections = 0
        self.at_once = 0
        self.most_at_once = 0
        self.left_by_router = 0
        """Connections that the router ended or broke off."""
        self.host = host
        self.port = 0
        self._reads_body = reads_body
        self._idle_s = idle_s
        self._server: asyncio.Server | None = None
        self._wires: dict[asyncio.Task[None], Wire] = {}

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, self.host, self.port, limit=1 << 20, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    @property
    def open_connections(self) -> int:
        return len(self._wires)

    def refuse(self) -> None:
        """Stop listening; open connections stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def hang_up(self) -> None:
        """Close every connection now, like a server at its idle timeout."""
        for wire in self._wires.values():
            wire.ended = True
            with contextlib.suppress(OSError), own_socket(wire.writer.transport) as sock:
                sock.shutdown(socket.SHUT_RDWR)
            wire.writer.close()

    def kill(self) -> None:
        """As kill -9: the listener and every connection are gone."""
        self.refuse()
        for wire in self._wires.values():
            wire.ended = True
            wire.writer.transport.abort()

    async def stop(self) -> None:
        self.kill()
        for task in list(self._wires):
            task.cancel()
        await asyncio.gather(*self._wires, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        wire = Wire(reader, writer, self.connections)
        task = asyncio.get_running_loop().create_task(self._serve(wire), name=f"replica connection {wire.number}")
        self._wires[task] = wire
        task.add_done_callback(self._wires.pop)

    async def _serve(self, wire: Wire) -> None:
        try:
            while not wire.ended:
                request = await wire.read_head(self._idle_s() if self._idle_s else None)
                if request is None:
                    return
                if request.values(b"user-agent") == [b"scorefront-probe"]:
                    self.health_requests += 1
                    self.connections -= 1
                    await self.health(wire, request)
                    return
                self.seen.append(request)
                await self._answer(wire, request)
        except (ConnectionError, asyncio.IncompleteReadError, ValueError):
            self.left_by_router += 1
        finally:
            wire.writer.close()

    async def _answer(self, wire: Wire, request: Request) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self._reads_body:
                await wire.read_body(request)
            await self.script(wire, request)
        finally:
            self.at_once -= 1


def own_socket(transport: asyncio.BaseTransport) -> socket.socket:
    """A second descriptor of a transport's socket, for calls missing in transports; to be closed."""
    return socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))


@contextlib.contextmanager
def deaf() -> Iterator[int]:
    """A port that neither accepts nor refuses connections."""
    with socket.socket() as listener, contextlib.ExitStack() as fillers:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):  # a connection beyond a full backlog gets no answer
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


# ---- scripts


def answer_bytes(body: bytes = b"hello", status: str = "200 OK", fields: tuple[str, ...] = ()) -> bytes:
    lines = "".join(f"{line}\r\n" for line in (*fields, f"Content-Length: {len(body)}"))
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode("latin-1") + body


def answers(body: bytes = b"hello", status: str = "200 OK", fields: tuple[str, ...] = (), after_s: float = 0) -> Script:
    """The same answer to everything, after a while."""
    whole = answer_bytes(body, status, fields)

    async def script(wire: Wire, request: Request) -> None:
        if after_s:
            await asyncio.sleep(after_s)
        await wire.send(whole)

    return script


def plays(*pieces: bytes | float, close: bool = False) -> Script:
    """Exactly these bytes; a number is a pause in seconds."""

    async def script(wire: Wire, request: Request) -> None:
        await wire.send(*pieces)
        if close:
            wire.close()

    return script


async def echo(wire: Wire, request: Request) -> None:
    """The request's body is the answer's."""
    await wire.send(answer_bytes(request.body))


async def echo_and_close(wire: Wire, request: Request) -> None:
    """As azureml-inference-server-http does: every answer ends its connection."""
    await wire.send(answer_bytes(request.body, fields=("Connection: close",)))
    wire.close()


async def silent(wire: Wire, request: Request) -> None:
    """Never answers."""
    await wire.router_left()
    raise ConnectionAbortedError


def when(event: asyncio.Event, body: bytes = b"hello") -> Script:
    """Answers once the test says so."""

    async def script(wire: Wire, request: Request) -> None:
        await event.wait()
        await wire.send(answer_bytes(body))

    return script
