"""A Kubernetes API server in miniature, over real sockets: lists in pages, watches with history, fails on demand.

One collection of objects, whatever the path. What a test scripts with `plan` is done to the next requests, one each.
"""

import asyncio
import contextlib
import itertools
import json
import socket
import ssl
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from cluster.kubernetes.client.access import Access
from cluster.kubernetes.client.api import Api, ApiSettings

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
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
    """The connection of one request, for what is scripted on it."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def head(self, status: int = 200, fields: tuple[str, ...] = ("Transfer-Encoding: chunked",)) -> None:
        lines = (f"HTTP/1.1 {status} Whatever", "Content-Type: application/json", *fields)
        await self.raw("\r\n".join((*lines, "", "")).encode())

    async def send(self, data: bytes) -> None:
        """One chunk."""
        if data:
            await self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self) -> None:
        """The body ends as it should."""
        await self.raw(b"0\r\n\r\n")

    async def raw(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def whole(self, status: int, body: object, *fields: str) -> None:
        """A whole answer; `body` is JSON unless it is bytes."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        await self.head(status, (f"Content-Length: {len(data)}", *fields))
        await self.raw(data)

    def close(self) -> None:
        """FIN, wherever the answer is."""
        self._writer.close()

    def reset(self) -> None:
        """RST, as from a peer that is gone."""
        linger = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._writer.transport.abort()


Script = Callable[[Stream], Awaitable[None]]


def line(kind: str, found: Object) -> bytes:
    """One event of a watch."""
    return json.dumps({"type": kind, "object": found}).encode() + b"\n"


def status(code: int, reason: str, **more: Any) -> Object:
    """A Status object, as errors and ERROR events have it."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "code": code,
        "reason": reason,
        "message": reason,
    } | more


@dataclass(slots=True)
class ApiServer:
    """Objects by (namespace, name), and all that happened to them. Versions are numbers here; clients may not know."""

    url: str = ""
    objects: dict[tuple[str, str], Object] = field(default_factory=dict)
    history: list[tuple[int, str, Object]] = field(default_factory=list)
    """(version, type, object)."""
    oldest: int = 0
    """Watches from an older version are answered 410."""
    asked: list[Asked] = field(default_factory=list)
    plan: deque[Script] = field(default_factory=deque)
    """Done to the next requests instead of an answer."""
    watch_plan: deque[Script] = field(default_factory=deque)
    """The same, for watches only."""
    cuts: Callable[[], tuple[int, str]] | None = None
    """For each watch: after how many bytes it ends, and how ("end", "close", "reset")."""
    token: str = ""
    """The one that is let in; "" lets everybody in."""
    gone_as_event: bool = True
    version: int = 0
    _rests: dict[str, tuple[int, list[Object]]] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _uids: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    # ---- what a test does to the objects

    def put(self, name: str, namespace: str = "ns", **spec: Any) -> Object:
        known = self.objects.get((namespace, name))
        uid = known["metadata"]["uid"] if known else f"uid-{next(self._uids)}"
        self.version += 1
        metadata = {"namespace": namespace, "name": name, "uid": uid, "resourceVersion": str(self.version)}
        found = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        self.objects[namespace, name] = found
        self._happened("MODIFIED" if known else "ADDED", found)
        return found

    def remove(self, name: str, namespace: str = "ns") -> None:
        known = self.objects.pop((namespace, name))
        self.version += 1
        metadata = {**known["metadata"], "resourceVersion": str(self.version)}
        self._happened("DELETED", {**known, "metadata": metadata})

    def bookmark(self) -> None:
        """Tell watchers the newest version."""
        self.version += 1
        self._happened("BOOKMARK", {"kind": "Pod", "metadata": {"resourceVersion": str(self.version)}})

    def forget(self) -> None:
        """Compaction: nothing older than now can be watched from."""
        self.oldest = self.version

    def _happened(self, kind: str, found: Object) -> None:
        self.history.append((self.version, kind, found))
        self._changed.set()
        self._changed = asyncio.Event()

    @property
    def watches(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.is_watch]

    @property
    def lists(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.method == "GET" and not asked.is_watch]

    # ---- how it answers

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = Stream(writer)
        try:
            while not writer.is_closing():
                await self._serve(await self._read(reader), stream)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Asked:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in head[1:-2])}
        data = await reader.readexactly(int(headers.get("content-length", 0)))
        url = urlsplit(target)
        now = asyncio.get_running_loop().time()
        asked = Asked(method, url.path, dict(parse_qsl(url.query)), headers, json.loads(data) if data else None, now)
        self.asked.append(asked)
        return asked

    async def _serve(self, asked: Asked, stream: Stream) -> None:
        if self.token and asked.headers.get("authorization") != f"Bearer {self.token}":
            await stream.whole(401, status(401, "Unauthorized"))
        elif asked.is_watch and self.watch_plan:
            await self.watch_plan.popleft()(stream)
        elif self.plan:
            await self.plan.popleft()(stream)
        elif asked.is_watch:
            await self._watch(asked, stream)
        else:
            await stream.whole(200, self._page(asked.query))

    def _page(self, query: dict[str, str]) -> Object:
        """One page of one moment: what comes after it is kept for whoever continues."""
        version, items = self._rests.pop(query.get("continue", ""), (self.version, self._items()))
        limit = int(query.get("limit", 0)) or len(items)
        metadata: Object = {"resourceVersion": str(version)}
        if items[limit:]:
            metadata["continue"] = f"{version}:{len(items)}"
            self._rests[metadata["continue"]] = (version, items[limit:])
        return {"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": items[:limit]}

    def _items(self) -> list[Object]:
        """As the real one has them: what stands on the list is left out of its items."""
        everything = (self.objects[key] for key in sorted(self.objects))
        return [{name: found[name] for name in found if name not in ("apiVersion", "kind")} for found in everything]

    async def _watch(self, asked: Asked, stream: Stream) -> None:
        since = int(asked.query["resourceVersion"])
        gone = status(410, "Expired")
        if since < self.oldest and not self.gone_as_event:
            await stream.whole(410, gone)
            return
        await stream.head()
        if since < self.oldest:
            await stream.send(line("ERROR", gone))
            await stream.end()
            return
        left, how = self.cuts() if self.cuts else (1 << 60, "end")
        async for data in self._events(since):
            await stream.send(data[:left])
            left -= len(data)
            if left <= 0:
                break
        if how == "end":
            await stream.end()
        elif how == "close":
            stream.close()
        else:
            stream.reset()

    async def _events(self, since: int) -> AsyncIterator[bytes]:
        """Events after a version, some in one piece, for ever."""
        place = next((at for at, event in enumerate(self.history) if event[0] > since), len(self.history))
        while True:
            changed = self._changed
            while place < len(self.history):
                batch = self.history[place : place + 20]
                place += len(batch)
                yield b"".join(line(kind, found) for _, kind, found in batch)
            await changed.wait()


@contextlib.asynccontextmanager
async def api_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[ApiServer]:
    """On a port the system chose, until the block ends."""
    made = ApiServer()
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        with contextlib.suppress(asyncio.CancelledError):  # asyncio's own callback cannot take a cancelled task
            await made.connected(reader, writer)

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


@dataclass(slots=True)
class Tokens:
    """A source of access whose token is what a test says; an empty one cannot be read."""

    url: str
    token: str = ""
    reads: list[bool] = field(default_factory=list)
    """`anew` of each."""

    async def read(self, anew: bool) -> Access:
        self.reads.append(anew)
        return Access(self.url, "ns", authorization=f"Bearer {self.token}" if self.token else "")


@contextlib.asynccontextmanager
async def client_of(server: ApiServer, token: str = "", **settings: float) -> AsyncIterator[Api]:
    """An Api that talks to it."""
    source = Tokens(server.url, token)
    api = Api(source, await source.read(anew=False), "ns", ApiSettings(**settings))
    try:
        yield api
    finally:
        await api.close()
