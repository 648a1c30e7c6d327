"""REST on a standby: every request is forwarded to the leader unchanged.

Bodies stream both ways. The leader authorizes, so the credential travels with the request; it is sent only to a host
with a certificate of this installation for a control process. The address of the leader comes from the Lease, and the
right to write the Lease must not give access to credentials.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Mapping

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from cluster.kubernetes.client.election import LeaderInfo
from cluster.trust import CONTROL, TrustError
from controlplane.audit import FORWARDED_BY, FORWARDED_FOR
from controlplane.rest_guard import (
    CALLER,
    Handler,
    add_security_headers,
    error_response,
    json_errors,
    origin_form_only,
    remote_of,
)

CONNECT_S = 2.0
RETRY_AFTER_S = 1
"""A new leader is elected within seconds."""
LOOK_S = 0.5
"""Seconds between checks for another leader."""

_HOP_BY_HOP = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"),
        *("te", "trailer", "transfer-encoding", "upgrade"),
    }
)
"""RFC 9110, 7.6.1."""
_NOT_OURS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
"""Fields that the client library would add."""
_CHUNK_BYTES = 65_536

_log = logging.getLogger(__name__)


class LeaderProxy:
    """Forwards REST requests to the leader, from `app` to `close`."""

    def __init__(
        self,
        identity: str,
        leader: Callable[[], LeaderInfo | None],
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        """A proxy without connections.

        identity: of this instance.
        leader: the current leader; None: unknown.
        tls: context that trusts only the authority of the installation; raises TrustError; default None: plain HTTP.
        """
        self._identity = identity
        self._leader = leader
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self._under_way: dict[asyncio.Timeout, LeaderInfo] = {}
        self._complaint = ""
        """Last logged failure; a repetition is not logged."""

    def app(self, own: Mapping[str, Handler]) -> web.Application:
        """The application. `own`: path -> local handler of GET, used on standbys too."""
        app = web.Application(middlewares=[json_errors(), origin_form_only()])
        app.on_response_prepare.append(add_security_headers)
        for path, handler in own.items():
            app.router.add_get(path, handler)
        app.router.add_route("*", "/{rest:.*}", self._forward)
        return app

    def ready(self) -> bool:
        """True if the address of another leader is known."""
        return self._other() is not None

    async def run(self) -> None:
        """Abort requests to former leaders, until cancelled; streamed responses end with the leadership."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_S)
            leader = self._leader()
            for limit in [limit for limit, asked in self._under_way.items() if asked != leader]:
                limit.reschedule(loop.time())

    async def close(self) -> None:
        """Close the connections; the server ends the requests in flight."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _complain(self, leader: LeaderInfo, why: str) -> None:
        complaint = f"leader at {leader.rest}: forwarding failed: {why}"
        if complaint != self._complaint:
            _log.warning("%s", complaint)
        self._complaint = complaint

    def _other(self) -> LeaderInfo | None:
        leader = self._leader()
        return None if leader is None or leader.identity == self._identity or not leader.rest else leader

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        leader = self._other()
        if leader is None:
            return _no_leader("the control plane has no leader at the moment")
        if FORWARDED_BY in request.headers:
            return _no_leader("the leader of the control plane is changing")
        response: web.StreamResponse | None = None
        try:
            async with self._while_leading(leader), self._request(leader, request) as answer:
                request[CALLER] = "" if answer.status in (401, 403) else "known to the leader"
                response = web.StreamResponse(status=answer.status, reason=answer.reason)
                response.headers.extend(_end_to_end(answer.headers))
                await response.prepare(request)
                async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
                    await response.write(chunk)
                await response.write_eof()
                return response
        except TrustError as error:
            self._complain(leader, str(error))
            return _no_leader("the leader of the control plane cannot be verified")
        except (aiohttp.ClientError, TimeoutError) as error:
            if response is None or not response.prepared:
                self._complain(leader, str(error) or "no answer, or another leader")
                return _no_leader(f"the leader of the control plane cannot be reached at {leader.rest}")
            # A truncated response must not look complete.
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("leader: connection lost during the response") from error

    @contextlib.asynccontextmanager
    async def _while_leading(self, leader: LeaderInfo) -> AsyncIterator[None]:
        """Raises TimeoutError when `run` detects another leader."""
        async with asyncio.timeout(None) as limit:
            self._under_way[limit] = leader
            try:
                yield
            finally:
                del self._under_way[limit]

    def _request(
        self, leader: LeaderInfo, request: web.Request
    ) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        headers = _end_to_end(request.headers)
        # Forwarded once: two instances that take each other for the leader would loop.
        headers[FORWARDED_BY] = self._identity
        headers[FORWARDED_FOR] = remote_of(request)
        if self._session is None:
            self._session = aiohttp.ClientSession(
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=_NOT_OURS,
                # No total timeout: followed logs never end.
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
            )
        url = URL(f"{leader.rest}{request.raw_path}", encoded=True)
        if self._tls is not None and url.scheme != "https":
            raise TrustError(f"{leader.rest} is not https")
        return self._session.request(
            request.method,
            url,
            headers=headers,
            data=request.content if request.body_exists else None,
            allow_redirects=False,
            # Required name of the certificate, independent of the host in the Lease.
            ssl=self._tls() if self._tls is not None else True,
            server_hostname=CONTROL if self._tls is not None else None,
        )


def _end_to_end(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """The header without hop-by-hop fields."""
    kept = CIMultiDict(headers.items())
    named = [name for field in kept.getall("Connection", []) for name in field.split(",")]
    for name in [*_HOP_BY_HOP, *map(str.strip, named)]:
        kept.popall(name, None)
    return kept


def _no_leader(reason: str) -> web.Response:
    response = error_response(503, "NoLeader", f"{reason}; try again")
    response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response
