"""Client of the Kubernetes API: JSON over HTTP, ApiError for every failure, a time limit for every request.

Paths come from `cluster.kubernetes.client.paths`, objects are plain dicts. The only retry is the one after a 401, with
a renewed token; all others are the caller's.
"""

import asyncio
import copy
import os
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import aiohttp
import msgspec

from cluster.kubernetes.client import access_source, lines
from cluster.kubernetes.client.access import Access, AccessSource, BorrowedCredentials, Credentials
from cluster.kubernetes.client.api_errors import (
    ApiError,
    ApiUnreachable,
    CutShort,
    Garbled,
    Misconfigured,
    NotFound,
    RequestRefused,
    ResourceExpired,
    ResponseLineTooLong,
    WriteConflict,
    error_of,
)
from cluster.token_bucket import TokenBucket

__all__ = [
    "Api",
    "ApiError",
    "ApiSettings",
    "ApiUnreachable",
    "CutShort",
    "Garbled",
    "Misconfigured",
    "NotFound",
    "Object",
    "Query",
    "RequestRefused",
    "ResourceExpired",
    "ResponseLineTooLong",
    "WriteConflict",
]

Object = dict[str, Any]
Query = Mapping[str, str]

NO_QUERY: Query = MappingProxyType({})
FIELD_MANAGER = "scorefront"
JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"  # JSON is YAML


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """Limits of this client."""

    connect_s: float = 5.0
    total_s: float = 10.0
    """From the call to the end of the answer; streams have their own limit."""
    writes_per_s: float = 50.0
    write_burst: float = 100.0
    """So many writes at once; then they wait their turn. Reads and urgent writes are not counted."""
    token_age_s: float = 60.0
    """Tokens are read again when they are older: service account tokens are exchanged within the hour."""


class Api:
    """One API server, and all connections to it. `home` is this process's own namespace."""

    def __init__(self, source: AccessSource, found: Access, home: str, settings: ApiSettings) -> None:
        """For `connect`; needs a running event loop."""
        self.home = home
        self._settings = settings
        self._credentials: Credentials | BorrowedCredentials = Credentials(
            source, found, time.monotonic(), settings.token_age_s
        )
        self._timeout = aiohttp.ClientTimeout(
            total=settings.total_s, connect=settings.connect_s, sock_connect=settings.connect_s
        )
        self._writes = TokenBucket(settings.writes_per_s, settings.write_burst)
        # limit 0: watches and followed logs hold a connection each, and must not keep a request from having one
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, socket_factory=kept_alive),
            cookie_jar=aiohttp.DummyCookieJar(),
            # identity: compressing long lists costs both sides more CPU than the network of a cluster saves
            headers={"User-Agent": FIELD_MANAGER, "Accept": JSON, "Accept-Encoding": "identity"},
        )

    @classmethod
    async def connect(cls, environment: Mapping[str, str] = os.environ, settings: ApiSettings | None = None) -> "Api":
        """Connect with KUBECONFIG, else the pod's service account, else ~/.kube/config.

        Sends no request. Raises Misconfigured with the missing setting.
        """
        source = access_source.source(environment)
        found = await source.read(anew=False)
        home = environment.get("SCOREFRONT_NAMESPACE") or found.namespace or "default"
        return cls(source, found, home, settings or ApiSettings())

    def with_token(self, token: str) -> "Api":
        """The same API server and connections with the bearer token of a caller; needs no `close`.

        Its requests raise Misconfigured if this process authenticates by other means than a token.
        """
        other = copy.copy(self)
        other._credentials = BorrowedCredentials(self._credentials, token)
        return other

    async def close(self) -> None:
        """Ends every request and stream."""
        await self._session.close()

    # ---- reading

    async def get(self, path: str, query: Query = NO_QUERY) -> Object:
        """An object, or one page of a list."""
        return await self._json("GET", path, query)

    async def text(self, path: str, query: Query = NO_QUERY) -> str:
        """A response that is not JSON: the log of a pod."""
        async with self._answer("GET", path, query) as answer:
            return (await answer.read()).decode(errors="replace")

    async def version(self) -> str:
        """The API server's version, as in "v1.33.1"."""
        return str((await self.get("/version")).get("gitVersion", "unknown"))

    async def lines(
        self,
        path: str,
        query: Query = NO_QUERY,
        silent_s: float = 70.0,
        max_line_bytes: int = lines.MAX_LINE_BYTES,
    ) -> AsyncGenerator[bytes, None]:
        """The complete lines of a streamed response (a watch, a followed log), until it ends.

        `query`: parameters of the request. `silent_s`: seconds without data before the stream fails, default 70.
        `max_line_bytes`: longest line. Close the iterator (`contextlib.aclosing`) to end it early. Raises CutShort for
        an end
        within a line, ResponseLineTooLong, ApiUnreachable after `silent_s` or for a broken connection, and the errors
        of `get`.
        """
        splitter = lines.LineSplitter(max_line_bytes)
        connect_s = self._settings.connect_s
        timeout = aiohttp.ClientTimeout(total=None, connect=connect_s, sock_connect=connect_s, sock_read=silent_s)
        async with self._answer("GET", path, query, timeout=timeout) as answer:
            try:
                async for data in answer.content.iter_any():
                    for line in splitter.feed(data):
                        yield line
                splitter.end()
            except lines.LineCutShort as exc:
                raise CutShort(f"GET {path}: {exc}", exc.rest) from exc
            except lines.LineTooLong as exc:
                raise ResponseLineTooLong(f"GET {path}: {exc}", reason="LineTooLong") from exc

    # ---- writing

    async def create(self, path: str, body: Object, query: Query = NO_QUERY, urgent: bool = False) -> Object:
        """POST to a collection, or to a subresource. Raises WriteConflict if the name is taken."""
        return await self._json("POST", path, query, body, urgent=urgent)

    async def replace(self, path: str, body: Object, urgent: bool = False) -> Object:
        """PUT; the resourceVersion in `body` is the precondition. Raises WriteConflict if the object has changed
        since.
        """
        return await self._json("PUT", path, NO_QUERY, body, urgent=urgent)

    async def merge(self, path: str, body: Object) -> Object:
        """JSON merge patch; a resourceVersion in `body` is a precondition."""
        return await self._json("PATCH", path, NO_QUERY, body, MERGE_PATCH)

    async def apply(self, path: str, body: Object, manager: str = FIELD_MANAGER, force: bool = False) -> Object:
        """Server-side apply. Raises WriteConflict that names the fields another manager has, unless `force`."""
        query = {"fieldManager": manager, "force": "true" if force else "false"}
        return await self._json("PATCH", path, query, body, APPLY_PATCH)

    async def delete(self, path: str, uid: str = "", resource_version: str = "", grace_s: int | None = None) -> None:
        """Delete an object, and its dependents in the background; one that does not exist is no error.

        `uid`, `resource_version`: preconditions, default none. `grace_s`: grace period in seconds, default the object's
        own.
        Raises WriteConflict if a precondition does not hold.
        """
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        if any(preconditions.values()):
            options["preconditions"] = {name: value for name, value in preconditions.items() if value}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        try:
            await self._json("DELETE", path, NO_QUERY, options)
        except NotFound:
            return

    # ---- requests

    async def _json(
        self,
        method: str,
        path: str,
        query: Query,
        body: Object | None = None,
        content_type: str = JSON,
        urgent: bool = False,
    ) -> Object:
        if method != "GET" and not urgent and (wait_s := self._writes.take(time.monotonic())) > 0.0:
            await asyncio.sleep(wait_s)
        async with self._answer(method, path, query, body, content_type) as answer:
            data = await answer.read()
        try:
            found = msgspec.json.decode(data)  # lists of pods are long: half the time of the standard library
        except (msgspec.DecodeError, ValueError) as exc:
            raise Garbled(f"{method} {path}: the answer is not JSON: {data[:80]!r}", reason="NotJson") from exc
        if not isinstance(found, dict):
            raise Garbled(f"{method} {path}: the answer is not an object: {data[:80]!r}", reason="NotJson")
        return found

    @asynccontextmanager
    async def _answer(
        self,
        method: str,
        path: str,
        query: Query,
        body: Object | None = None,
        content_type: str = JSON,
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A 2xx response with its body unread. Every failure until the block ends becomes an ApiError."""
        ask = _Ask(method, path, query, content_type, None if body is None else encode(body), timeout or self._timeout)
        try:
            async with await self._open(ask) as answer:
                yield answer
        except aiohttp.ConnectionTimeoutError as exc:
            raise ApiUnreachable(f"{ask}: no connection in time", reason="ConnectTimeout") from exc
        except TimeoutError as exc:
            raise ApiUnreachable(f"{ask}: no response in time", reason="Timeout") from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise ApiUnreachable(f"{ask}: {described(exc)}", reason=type(exc).__name__) from exc

    async def _open(self, ask: "_Ask") -> aiohttp.ClientResponse:
        used = await self._credentials.now(time.monotonic())
        answer = await self._send(ask, used)
        if answer.status == 401:
            refusal = await error_in(answer, ask)
            renewed = await self._credentials.after_refusal(used, time.monotonic())
            if renewed is None:
                raise refusal
            answer = await self._send(ask, renewed)
        if answer.status >= 300:
            raise await error_in(answer, ask)
        return answer

    async def _send(self, ask: "_Ask", using: Access) -> aiohttp.ClientResponse:
        if self._session.closed:
            raise ApiUnreachable(f"{ask}: this client is closed", reason="Closed")
        headers = {"Authorization": using.authorization} if using.authorization else {}
        if ask.data is not None:
            headers["Content-Type"] = ask.content_type
        return await self._session.request(
            ask.method,
            using.url + ask.path,
            params=ask.query,
            data=ask.data,
            headers=headers,
            timeout=ask.timeout,
            allow_redirects=False,
            ssl=using.tls or True,
            server_hostname=using.server_name,
            proxy=using.proxy,
        )


@dataclass(frozen=True, slots=True)
class _Ask:
    """One request, as often as it is sent."""

    method: str
    path: str
    query: Query
    content_type: str
    data: bytes | None
    timeout: aiohttp.ClientTimeout

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def encode(body: Object) -> bytes:
    """JSON as the API takes it."""
    return msgspec.json.encode(body)


async def error_in(answer: aiohttp.ClientResponse, ask: _Ask) -> ApiError:
    """The error in a response other than 2xx, which is read to its end."""
    async with answer:
        text = (await answer.read()).decode(errors="replace")
    try:
        body = msgspec.json.decode(text)
    except (msgspec.DecodeError, ValueError):
        body = None  # a load balancer's page
    known = body if isinstance(body, dict) else {}
    return error_of(answer.status, answer.reason or "", known, text, answer.headers.get("Retry-After"), str(ask))


def described(error: Exception) -> str:
    """A connection error as text for people."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"the server's certificate is not good: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect to {error.host}:{error.port}: {error.os_error}"
    return str(error) or type(error).__name__


def kept_alive(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket with TCP keepalive: a dead peer is detected within a minute even on a silent watch."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):  # not everywhere
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made
