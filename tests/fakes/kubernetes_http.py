"""`tests.fakes.kubernetes` over HTTP, for clients and processes, with scripted faults of the connection."""

import asyncio
import contextlib
import json
import socket
import ssl
import struct
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml

from cluster.kubernetes.client.access import Access
from cluster.kubernetes.client.api import Api, ApiSettings
from cluster.kubernetes.client.api_errors import ApiError
from cluster.kubernetes.client.paths import PODS
from tests.fakes.kubernetes import FakeKubernetes
from tests.fakes.object_rules import Object


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """One request. Header names are in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    at: float

    @property
    def is_watch(self) -> bool:
        return "watch" in self.query


class Stream:
    """Response side of a connection, for scripts."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def head(self, status: int = 200, fields: tuple[str, ...] = ("Transfer-Encoding: chunked",)) -> None:
        """The head of a response, with these lines of header fields."""
        lines = (f"HTTP/1.1 {status} Reason", "Content-Type: application/json", *fields)
        await self.raw("\r\n".join((*lines, "", "")).encode())

    async def send(self, data: bytes) -> None:
        """One chunk."""
        if data:
            await self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self) -> None:
        """The last chunk."""
        await self.raw(b"0\r\n\r\n")

    async def raw(self, data: bytes) -> None:
        """Bytes without framing."""
        self._writer.write(data)
        await self._writer.drain()

    async def whole(self, status: int, body: object, *fields: str) -> None:
        """A complete response; `body` is bytes, or a value for JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        await self.head(status, (f"Content-Length: {len(data)}", *fields))
        await self.raw(data)

    def close(self) -> None:
        """FIN at any place of the response."""
        self._writer.close()

    def reset(self) -> None:
        """RST."""
        linger = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._writer.transport.abort()


Script = Callable[[Stream], Awaitable[None]]


def line(kind: str, found: Object) -> bytes:
    """One event of a watch."""
    return json.dumps({"type": kind, "object": found}).encode() + b"\n"


def status(code: int, reason: str, **more: Any) -> Object:
    """A Status object, as in error responses and ERROR events."""
    made = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "code": code, "reason": reason, "message": reason}
    return made | more


@dataclass(slots=True)
class KubernetesServer:
    """HTTP server of a fake Kubernetes."""

    api: FakeKubernetes = field(default_factory=lambda: FakeKubernetes("ns", controllers=False))
    url: str = ""
    asked: list[ApiRequest] = field(default_factory=list)
    """All requests."""
    plan: deque[Script] = field(default_factory=deque)
    """Scripted responses to the next requests, one each."""
    watch_plan: deque[Script] = field(default_factory=deque)
    """The same for watches only."""
    cuts: Callable[[], tuple[int, str]] | None = None
    """For each watch: number of bytes before its end, kind of end ("end", "close", "reset")."""
    token: str = ""
    """The accepted bearer token; "": any."""
    expires_as_event: bool = True
    """A watch from a lost version gets an ERROR event instead of status 410."""

    @property
    def watches(self) -> list[ApiRequest]:
        return [asked for asked in self.asked if asked.is_watch]

    @property
    def lists(self) -> list[ApiRequest]:
        return [asked for asked in self.asked if asked.method == "GET" and not asked.is_watch]

    # ---- pods in the namespace of the client

    def put(self, name: str, **spec: Any) -> Object:
        """Create or replace a pod with this spec."""
        return self.api.put(PODS, {"metadata": {"name": name}, "spec": spec})

    def remove(self, name: str) -> None:
        """Remove a pod."""
        self.api.take_away(PODS, name)

    @property
    def pods(self) -> dict[tuple[str, str], Object]:
        """(namespace, name) -> pod."""
        return {(each["metadata"]["namespace"], each["metadata"]["name"]): each for each in self.api.all(PODS)}

    # ---- responses

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until its end."""
        stream = Stream(writer)
        try:
            while not writer.is_closing():
                await self._respond(await self._read(reader), stream)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> ApiRequest:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in head[1:-2])}
        data = await reader.readexactly(int(headers.get("content-length", 0)))
        url, now = urlsplit(target), asyncio.get_running_loop().time()
        body = json.loads(data) if data else None
        asked = ApiRequest(method, url.path, dict(parse_qsl(url.query)), headers, body, now)
        self.asked.append(asked)
        return asked

    async def _respond(self, asked: ApiRequest, stream: Stream) -> None:
        if self.token and asked.headers.get("authorization") != f"Bearer {self.token}":
            await stream.whole(401, status(401, "Unauthorized"))
        elif asked.is_watch and self.watch_plan:
            await self.watch_plan.popleft()(stream)
        elif self.plan:
            await self.plan.popleft()(stream)
        else:
            await self._execute(asked, stream)

    async def _execute(self, asked: ApiRequest, stream: Stream) -> None:
        try:
            if asked.is_watch:
                await self._watch(asked, stream)
            else:
                await stream.whole(200, await self._call(asked))
        except ApiError as error:
            await stream.whole(error.status, status(error.status, error.reason, message=error.message))

    async def _call(self, asked: ApiRequest) -> object:
        body, query = asked.body or {}, asked.query
        match asked.method:
            case "GET" if asked.path == "/version":
                return {"gitVersion": await self.api.version()}
            case "GET":
                return await self.api.get(asked.path, query)
            case "POST":
                if asked.path.endswith("/selfsubjectreviews"):
                    raise ApiError("unknown token", 401, "Unauthorized")
                return await self.api.create(asked.path, body)
            case "PUT":
                return await self.api.replace(asked.path, body)
            case "PATCH" if asked.headers["content-type"].startswith("application/apply-patch"):
                return await self.api.apply(asked.path, body, query["fieldManager"], query.get("force") == "true")
            case "PATCH":
                return await self.api.merge(asked.path, body)
        raise ApiError(f"{asked.method} is not supported", 405, "MethodNotAllowed")

    async def _watch(self, asked: ApiRequest, stream: Stream) -> None:
        has_expired = self.api.has_expired(int(asked.query["resourceVersion"]))
        if has_expired and not self.expires_as_event:
            await stream.whole(410, status(410, "Expired"))
            return
        await stream.head()
        if has_expired:
            await stream.send(line("ERROR", status(410, "Expired")))
            await stream.end()
            return
        left_bytes, end = self.cuts() if self.cuts else (1 << 60, "end")
        lines: AsyncGenerator[bytes, None] = self.api.lines(asked.path, asked.query)
        with contextlib.suppress(ApiError):
            async with contextlib.aclosing(lines):
                async for event in lines:
                    await stream.send((event + b"\n")[:left_bytes])
                    left_bytes -= len(event) + 1
                    if left_bytes <= 0:
                        break
        if end == "end":
            await stream.end()
        elif end == "close":
            stream.close()
        else:
            stream.reset()


@contextlib.asynccontextmanager
async def kubernetes_server(
    api: FakeKubernetes | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[KubernetesServer]:
    """A server on a port chosen by the system, until the block ends."""
    made = KubernetesServer() if api is None else KubernetesServer(api)
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        with contextlib.suppress(asyncio.CancelledError):  # asyncio's own callback fails for a cancelled task
            await made.serve(reader, writer)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    made.url = f"http{'s' if tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def kubeconfig_of(server: KubernetesServer, folder: Path) -> Path:
    """A kubeconfig in `folder` for clients in other processes."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server.url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": server.api.home}}],
        "current-context": "x",
    }
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(document))
    return file


@dataclass(slots=True)
class Tokens:
    """A source of access with a token chosen by the test; an empty token is not sent."""

    url: str
    token: str = ""
    reads: list[bool] = field(default_factory=list)
    """`anew` of each read."""

    async def read(self, anew: bool) -> Access:
        self.reads.append(anew)
        return Access(self.url, "ns", authorization=f"Bearer {self.token}" if self.token else "")


@contextlib.asynccontextmanager
async def client_of(server: KubernetesServer, token: str = "", **settings: float) -> AsyncIterator[Api]:
    """A client of the server."""
    source = Tokens(server.url, token)
    api = Api(source, await source.read(anew=False), "ns", ApiSettings(**settings))
    try:
        yield api
    finally:
        await api.close()
