"""REST on an instance that does not lead: every request is passed on to the leader, as it is.

Bodies stream both ways. The leader authorizes: the credential travels with the request, so it is sent to no host
before that has shown a certificate of this installation with the name of a control process. The Lease says where the
leader is, and who may write the Lease must not get a credential by it.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from typing import NamedTuple

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from cluster.trust import CONTROL, TrustError
from controlplane.audit import FORWARDED_BY, FORWARDED_FOR
from controlplane.rest_guard import CALLER, Handler, add_security_headers, error_response, json_errors, origin_form_only

CONNECT_S = 2.0
RETRY_AFTER_S = 1
"""A new leader is there within seconds."""
LOOK_S = 0.5
"""How often it is looked whether there is another leader."""

_HOP_BY_HOP = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"),
        *("te", "trailer", "transfer-encoding", "upgrade"),
    }
)
"""RFC 9110, 7.6.1."""
_NOT_OURS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
"""What the client library would add where the client did not."""
_CHUNK_BYTES = 65_536

_log = logging.getLogger(__name__)


class LeaderEndpoint(NamedTuple):
    """Who leads, as far as is known."""

    identity: str
    rest: str
    """`https://host:port`, or `http://host:port` where links have no TLS."""


class LeaderProxy:
    """From `app` to `close`."""

    def __init__(
        self,
        identity: str,
        leader: Callable[[], LeaderEndpoint | None],
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        """A forwarder without connections.

        identity: of this instance.
        leader: the leader now; None: not known.
        tls: the context that trusts the installation's authority only, may raise TrustError; default None: plain HTTP.
        """
        self._identity = identity
        self._leader = leader
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self._under_way: dict[asyncio.Timeout, LeaderEndpoint] = {}
        self._complaint = ""
        """What was logged last: the same is not logged for every request."""

    def app(self, own: Mapping[str, Handler]) -> web.Application:
        """The application. `own`: path -> who answers a GET of it here, whoever leads."""
        app = web.Application(middlewares=[json_errors(), origin_form_only()])
        app.on_response_prepare.append(add_security_headers)
        for path, handler in own.items():
            app.router.add_get(path, handler)
        app.router.add_route("*", "/{rest:.*}", self._pass_on)
        return app

    def ready(self) -> bool:
        """Whether there is somebody to pass requests on to."""
        return self._other() is not None

    async def run(self) -> None:
        """Part from leaders that are none any more, for ever: what streams from them ends with them."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_S)
            leader = self._leader()
            for limit in [limit for limit, asked in self._under_way.items() if asked != leader]:
                limit.reschedule(loop.time())

    async def close(self) -> None:
        """Let go of connections; requests under way are ended by whoever serves them."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _complain(self, leader: LeaderEndpoint, why: str) -> None:
        complaint = f"the leader is not reached at {leader.rest}: {why}"
        if complaint != self._complaint:
            _log.warning("%s", complaint)
        self._complaint = complaint

    def _other(self) -> LeaderEndpoint | None:
        leader = self._leader()
        return None if leader is None or leader.identity == self._identity or not leader.rest else leader

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        leader = self._other()
        if leader is None:
            return _nobody("no instance of the control plane leads at the moment")
        if FORWARDED_BY in request.headers:
            return _nobody("the leader of the control plane is changing")
        response: web.StreamResponse | None = None
        try:
            async with self._as_long_as_it_leads(leader), self._asked(leader, request) as answer:
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
            return _nobody("the leader of the control plane cannot be verified")
        except (aiohttp.ClientError, TimeoutError) as error:
            if response is None or not response.prepared:
                self._complain(leader, str(error) or "it leads no more, or does not answer")
                return _nobody(f"the leader of the control plane is not reached at {leader.rest}")
            # Half an answer must not look like a whole one.
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("the leader ended before its answer did") from error

    @contextlib.asynccontextmanager
    async def _as_long_as_it_leads(self, leader: LeaderEndpoint) -> AsyncIterator[None]:
        """Raises TimeoutError when `run` sees that another leads."""
        async with asyncio.timeout(None) as limit:
            self._under_way[limit] = leader
            try:
                yield
            finally:
                del self._under_way[limit]

    def _asked(
        self, leader: LeaderEndpoint, request: web.Request
    ) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        headers = _end_to_end(request.headers)
        # Passed on once: two instances that take each other for the leader would pass it to and fro for ever.
        headers[FORWARDED_BY] = self._identity
        headers[FORWARDED_FOR] = request.remote or ""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=_NOT_OURS,
                # No limit on the whole: followed logs never end.
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
            # The name that the certificate must have, whatever host the Lease names.
            ssl=self._tls() if self._tls is not None else True,
            server_hostname=CONTROL if self._tls is not None else None,
        )


def _end_to_end(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """Without the fields that concern one connection only."""
    kept = CIMultiDict(headers.items())
    named = [name for field in kept.getall("Connection", []) for name in field.split(",")]
    for name in [*_HOP_BY_HOP, *map(str.strip, named)]:
        kept.popall(name, None)
    return kept


def _nobody(why: str) -> web.Response:
    response = error_response(503, "NoLeader", f"{why}; try again")
    response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response
