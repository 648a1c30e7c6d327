"""The routing table: maps a path to an endpoint, a version and a path on the replica.

A target is matched byte by byte as sent, without decoding or normalisation: the authorized path is the routed one. Dot
segments, plain or encoded, are refused, because a replica might resolve them.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from router.core.authorization import Tokens, authorize, presented
from router.core.cors import CorsRule
from router.core.foreign_tokens import ForeignTokens
from router.core.header_fields import Field
from router.core.issuer_keys import IssuerKey, IssuerKeySets
from router.core.router_errors import EndpointNotFound, RefusedRequest, VersionNotFound
from router.core.sticky_split import StickySplit
from serving.credentials import KeyDigests, TokenTrust
from serving.endpoint import Auth, Endpoint, RetryRule, VersionKey

PREFIXES = (b"/api/v1/service/", b"/api/v1/endpoint/")
_path = re.compile(rb"/api/v1/(?:service|endpoint)/([^/]+)(?:/versions/([^/]+))?(/.*)?", re.DOTALL)
_UNKNOWN_DIGESTS = (bytes(32), bytes(32))
"""Digests that match no key; as many as an endpoint has, so that a refusal takes the same time."""
_dot_segment = re.compile(rb"(?:^|/)(?:\.|%2[eE]){1,2}(?:/|$|;)")


class VersionRoute:
    """Precomputed routing data of one version."""

    __slots__ = ("host_header", "key", "name", "response_line", "score_path", "web_socket")

    def __init__(self, endpoint: Endpoint, index: int) -> None:
        version = endpoint.versions[index]
        self.key = VersionKey(endpoint.name, version.name)
        self.name = version.name.encode()
        self.score_path = version.replica.score_path.encode()
        self.response_line = b"azureml-model-deployment: %b\r\n" % self.name
        self.host_header = version.replica.host_header.encode()
        """Value of Host for its replicas; empty: that of the client."""
        self.web_socket = version.replica.web_socket


class Route:
    """Precomputed routing data of one endpoint."""

    __slots__ = (
        "_bounds",
        "_choices",
        "auth",
        "cors",
        "issuers",
        "keys",
        "name",
        "retry_before_response",
        "sticky",
        "traced",
        "versions",
    )

    def __init__(self, endpoint: Endpoint, keys: KeyDigests, traces: bool = False) -> None:
        """`traces`: the worker has spans for endpoints with telemetry; default False."""
        self.name = endpoint.name
        self.traced = traces and endpoint.app_insights
        """True if the trace context for replicas is written by the router."""
        self.auth: Auth = endpoint.auth
        self.keys = keys
        self.cors = CorsRule(endpoint.cors) if endpoint.cors is not None else None
        self.issuers = endpoint.token_issuers
        self.retry_before_response = endpoint.retry is RetryRule.BEFORE_RESPONSE
        routes = [VersionRoute(endpoint, index) for index in range(len(endpoint.versions))]
        self.versions = {route.name: route for route in routes}
        drawn = [
            (version.share, route) for version, route in zip(endpoint.versions, routes, strict=True) if version.share
        ]
        self._choices = [route for _, route in drawn]
        self._bounds = list(accumulate(share for share, _ in drawn))[:-1]
        self.sticky: StickySplit | None = None
        """The split by a value of the request; None: by chance."""
        if endpoint.split_by is not None and self._bounds:
            self.sticky = StickySplit(endpoint.name, endpoint.split_by, {route.name: share for share, route in drawn})

    @property
    def split(self) -> bool:
        """True if more than one version has traffic."""
        return bool(self._bounds)

    def choose(self, u: float) -> VersionRoute:
        """Version for an unpinned request; `u` is uniform on [0, 1)."""
        return self._choices[bisect_right(self._bounds, u)] if self._bounds else self._choices[0]

    def assign(self, sticky: StickySplit, fields: Sequence[Field], u: float) -> VersionRoute:
        """Version for an unpinned request, by its value; by chance without one.

        `sticky`: of this route. `fields`: of the request. `u`: uniform on [0, 1).
        """
        value = sticky.value(fields)
        return self.versions[sticky.choose(value)] if value else self.choose(u)

    def pinned(self, name: bytes) -> VersionRoute:
        """Version by name, for a pinned request. Raises VersionNotFound."""
        route = self.versions.get(name)
        if route is None:
            raise VersionNotFound
        return route


@dataclass(frozen=True, slots=True)
class Match:
    """Result of matching a path."""

    route: Route
    prefix: bytes
    """The path without `rest` and without `/score`."""
    rest: bytes | None
    """Path on the replica; None for the version's score path."""
    pinned: bytes | None
    """Version named in the path, or None."""

    @property
    def own_prefixes(self) -> tuple[bytes, ...]:
        """All prefixes of the endpoint."""
        return tuple(prefix + self.route.name.encode() for prefix in PREFIXES)

    def path_on(self, version: VersionRoute) -> bytes:
        """Request path on the replica."""
        return version.score_path if self.rest is None else self.rest


class Table:
    """Routes of all endpoints. `generation` rises with each change and invalidates results derived from the table."""

    def __init__(self, hide_endpoints: bool = False) -> None:
        """`hide_endpoints`: route unknown endpoints to one that refuses every credential, default False."""
        self.generation = 1
        self.traces = False
        """True if requests to endpoints with telemetry get a span of the router; set before the first endpoint."""
        self._unknown = Route(Endpoint("", Auth.KEY, ()), KeyDigests("", _UNKNOWN_DIGESTS)) if hide_endpoints else None
        self.tokens = Tokens(TokenTrust(""))
        self.issuer_keys = IssuerKeySets()
        self._foreign = ForeignTokens(self.issuer_keys)
        self._endpoints: dict[str, Endpoint] = {}
        self._keys: dict[str, KeyDigests] = {}
        self._routes: dict[bytes, Route] = {}

    @property
    def hides_endpoints(self) -> bool:
        """True if responses do not reveal the existence of endpoints."""
        return self._unknown is not None

    def upsert(self, endpoint: Endpoint) -> None:
        """Add or replace an endpoint."""
        before = self._endpoints.get(endpoint.name)
        self._endpoints[endpoint.name] = endpoint
        self._rebuild(endpoint.name)
        if endpoint.token_issuers or (before is not None and before.token_issuers):
            self._declare_issuers()

    def remove(self, name: str) -> None:
        """Remove an endpoint and its keys."""
        removed = self._endpoints.pop(name, None)
        self._keys.pop(name, None)
        self._routes.pop(name.encode(), None)
        self.generation += 1
        if removed is not None and removed.token_issuers:
            self._declare_issuers()

    def set_keys(self, keys: KeyDigests) -> None:
        """Replace the keys and the incarnation of one endpoint."""
        self._keys[keys.endpoint] = keys
        if keys.endpoint in self._endpoints:
            self._rebuild(keys.endpoint)

    def set_trust(self, trust: TokenTrust) -> None:
        """Replace the token issuer. Raises ValueError on a weak key."""
        self.tokens = Tokens(trust)
        self.generation += 1

    def set_issuer_keys(self, source: str, keys: tuple[IssuerKey, ...], now: float) -> bool:
        """Replace the keys of foreign issuers; True if they have changed. `source`: of the keys. `now`: monotonic
        seconds."""
        changed = self.issuer_keys.fetched(source, keys, now)
        if changed:
            self._foreign.forget()
            self.generation += 1
        return changed

    def authorize(self, route: Route, authorization: tuple[bytes, ...], now_unix: float) -> float:
        """End of the authorization of a request in unix seconds, inf for keys. Raises Unauthorized or Forbidden.

        `route`: of its endpoint. `authorization`: values of its Authorization fields. `now_unix`: unix seconds.
        """
        if route.issuers:
            token = presented(authorization)
            issuer = self._foreign.issuer(token, route.issuers)
            if issuer is not None:
                return self._foreign.authorize(token, issuer, now_unix)
        return authorize(route.auth, route.keys, authorization, self.tokens, now_unix)

    def endpoint(self, name: str) -> Endpoint | None:
        """The declared endpoint, or None."""
        return self._endpoints.get(name)

    def names(self) -> list[str]:
        """Names of all endpoints."""
        return list(self._endpoints)

    def match(self, path: bytes) -> Match:
        """Route for a path without query. Raises EndpointNotFound, or RefusedRequest for dot segments."""
        found = _path.fullmatch(path)
        route = self._routes.get(found[1], self._unknown) if found else None
        if found is None or route is None:
            raise EndpointNotFound
        pinned, rest = found[2], found[3]
        if rest is None:
            raise EndpointNotFound
        if _dot_segment.search(rest):
            raise RefusedRequest("the path has dot segments")
        return Match(route, path[: found.start(3)], None if rest == b"/score" else rest, pinned)

    def cors(self, path: bytes) -> CorsRule | None:
        """The rule for other origins at a path without query; None without one."""
        route = self._named(path)
        return route.cors if route is not None else None

    def named(self, path: bytes) -> str:
        """The endpoint that a path without query names; "" for an unknown one."""
        route = self._named(path)
        return route.name if route is not None else ""

    def _named(self, path: bytes) -> Route | None:
        found = _path.fullmatch(path)
        return self._routes.get(found[1]) if found else None

    def _declare_issuers(self) -> None:
        self.issuer_keys.declare(
            {each.source for endpoint in self._endpoints.values() for each in endpoint.token_issuers}
        )

    def _rebuild(self, name: str) -> None:
        keys = self._keys.get(name) or KeyDigests(name, ())
        self._routes[name.encode()] = Route(self._endpoints[name], keys, self.traces)
        self.generation += 1
