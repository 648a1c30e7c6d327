"""Fetches the public keys of foreign token issuers in the background, in threads of the worker.

urllib, because a worker has no other use for an HTTP client library: none of it is loaded before an endpoint declares
`tokenIssuers`.
"""

import asyncio
import contextlib
import logging
import math
import re
import socket
import time
from collections.abc import Callable

from router.core.issuer_keys import IssuerKey, read_key_set
from router.core.table import Table
from serving import strict_json
from serving.endpoint import KEYS_URL_PATTERN, OPENID_CONFIGURATION
from serving.issuer_hosts import IssuerHosts, host_of

_log = logging.getLogger("scorefront.router")

FETCH_S = 5.0
"""Time for one document."""
MAX_DOCUMENT_BYTES = 1_000_000
_CHUNK_BYTES = 65_536


class IssuerFetcher:
    """Keeps the key sets of a routing table fresh. The last good keys stay while an issuer cannot be reached."""

    def __init__(
        self,
        table: Table,
        now: Callable[[], float],
        on_change: Callable[[], None],
        hosts: IssuerHosts,
        fetch: Callable[[str, IssuerHosts], tuple[IssuerKey, ...]] | None = None,
    ) -> None:
        """`table`: with the issuers. `now`: monotonic seconds. `on_change`: called when keys have changed.
        `hosts`: the allowed ones.
        `fetch`: source, hosts -> its keys, blocking; raises OSError or ValueError; default over HTTP."""
        self._table = table
        self._now = now
        self._on_change = on_change
        self._hosts = hosts
        self._fetch = fetch or fetch_keys
        self._failing: set[str] = set()

    async def run(self) -> None:
        """Fetch whatever is due, without end."""
        keys, due = self._table.issuer_keys, asyncio.Event()
        keys.on_due = due.set
        while True:
            due.clear()
            await asyncio.gather(*map(self._refresh, keys.due(self._now())))
            pause_s = keys.next_due() - self._now()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if pause_s == math.inf else max(0.0, pause_s)):
                    await due.wait()

    async def _refresh(self, source: str) -> None:
        try:
            found = await asyncio.to_thread(self._fetch, source, self._hosts)
        except (OSError, ValueError) as error:
            self._table.issuer_keys.failed(source, self._now())
            if source not in self._failing:
                self._failing.add(source)
                kept = len(self._table.issuer_keys.keys(source))
                _log.error("token issuer: keys of %s not fetched: %s; %d earlier keys stay valid", source, error, kept)
            return
        if source in self._failing:
            self._failing.remove(source)
            _log.warning("token issuer: keys of %s fetched again", source)
        if self._table.set_issuer_keys(source, found, self._now()):
            self._on_change()


def fetch_keys(source: str, hosts: IssuerHosts) -> tuple[IssuerKey, ...]:
    """The keys at a source: a JWK set, or the OpenID configuration that names one. Blocks.

    `hosts`: the allowed ones. Raises OSError, or ValueError for a document that is not what it should be.
    """
    text = fetch_document(source, hosts)
    if not source.endswith(OPENID_CONFIGURATION):
        return read_key_set(text)
    configuration = strict_json.parse(text)
    if not isinstance(configuration, dict):
        raise ValueError("the OpenID configuration is not a JSON object")
    issuer, uri = configuration.get("issuer"), configuration.get("jwks_uri")
    if not isinstance(issuer, str) or issuer.rstrip("/") != source.removesuffix(OPENID_CONFIGURATION):
        raise ValueError(f"the OpenID configuration is of another issuer: {issuer!r}")
    if not isinstance(uri, str) or not re.match(KEYS_URL_PATTERN, uri):
        raise ValueError(
            "jwks_uri of the OpenID configuration must begin with https://, or http:// and a loopback host"
        )
    return read_key_set(fetch_document(uri, hosts))


def fetch_document(url: str, hosts: IssuerHosts) -> str:
    """The body of a 200 answer to GET, at most MAX_DOCUMENT_BYTES in FETCH_S; redirects are not followed. Blocks.

    `hosts`: the allowed ones, by name and by resolved address. Raises OSError, or ValueError for a body that is not
    UTF-8.
    """
    import http.client
    import urllib.request

    if refusal := hosts.refusal(url):
        raise OSError(f"{url}: {refusal}")
    wanted = host_of(url)

    class NoRedirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *args: object, **named: object) -> None:
            return None

    class Checked(http.client.HTTPConnection):
        def connect(self) -> None:
            name = self.host
            if name.rstrip(".").lower() != wanted:
                super().connect()  # a proxy that the environment names
                return
            error: OSError | None = None
            try:
                for address in permitted_addresses(name, self.port, hosts):
                    self.host = address
                    try:
                        super().connect()
                    except OSError as failure:
                        error = failure
                    else:
                        return
            finally:
                self.host = name  # the name in the certificate
            raise error or OSError(f"{name} has no address")

    # Its own connect() calls that of Checked for the TCP connection.
    class CheckedTls(http.client.HTTPSConnection, Checked): ...

    class Http(urllib.request.HTTPHandler):
        def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Checked, request)

    class Https(urllib.request.HTTPSHandler):
        def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(CheckedTls, request)

    deadline = time.monotonic() + FETCH_S
    request = urllib.request.Request(url, headers={"Accept": "application/json", "User-Agent": "scorefront"})
    body = b""
    try:
        with urllib.request.build_opener(NoRedirects, Http, Https).open(request, timeout=FETCH_S) as answer:
            while piece := answer.read1(_CHUNK_BYTES):
                body += piece
                if len(body) > MAX_DOCUMENT_BYTES or time.monotonic() > deadline:
                    raise OSError(f"more than {MAX_DOCUMENT_BYTES} bytes or {FETCH_S:g} s")
    except http.client.HTTPException as error:
        raise OSError(f"not HTTP: {error!r}") from error
    return body.decode()


def permitted_addresses(name: str, port: int, hosts: IssuerHosts) -> list[str]:
    """The addresses of a host. Raises OSError if one of them is never allowed. Blocks.

    `name`: host name or address. `port`: TCP port. `hosts`: has the rules.
    """
    found = dict.fromkeys(str(each[4][0]) for each in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM))
    for address in found:
        if refusal := hosts.address_refusal(address):
            raise OSError(f"{name}: {refusal}")
    return list(found)
