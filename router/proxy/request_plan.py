"""Plan of a request head: route, version, checked credential, rendered head lines. Valid until the table changes.

A plan depends only on the bytes of the head, the client's address and the table: a client that repeats its head pays
for it once.
"""

import math
from collections.abc import Mapping

from router.core.authorization import authorize
from router.core.cors import ALLOWED_METHODS, origin_of
from router.core.dispatcher import Dispatcher, VersionQueue
from router.core.forwarding import Peer, ReplicaOrigin, forwarded
from router.core.header_fields import for_replica
from router.core.router_errors import (
    SCORING_METHODS,
    Forbidden,
    MethodNotAllowed,
    RefusedRequest,
    Unauthorized,
    VersionNotFound,
)
from router.core.table import Match, Route, Table, VersionRoute
from router.metrics import VersionStats, WorkerStats
from router.proxy.own_pages import OWN_METHODS, OWN_PATHS
from router.proxy.request_head import RequestHead
from router.proxy.request_observer import RequestObserver
from router.proxy.responses import COMMON_LINES, client_id_line
from serving.endpoint import Auth, VersionKey


class VersionPlan:
    """The part of a plan for one version."""

    __slots__ = (
        "observer",
        "queue",
        "response_lines",
        "retry_before_response",
        "route",
        "stats",
        "upstream_head",
        "web_socket",
    )

    def __init__(
        self,
        route: VersionRoute,
        endpoint: Route,
        queue: VersionQueue,
        stats: VersionStats,
        upstream_head: bytes,
        response_lines: bytes,
        web_socket: bool,
        observer: RequestObserver | None,
    ) -> None:
        self.observer = observer
        self.route = route
        self.queue = queue
        self.stats = stats
        self.retry_before_response = endpoint.retry_before_response
        self.upstream_head = upstream_head
        """The head for the replica up to the value of x-ms-request-id; the framing of the request follows."""
        self.response_lines = response_lines
        """The common lines of every response, up to the value of x-ms-request-id."""
        self.web_socket = web_socket


class Planner:
    """Makes the plans of one client connection."""

    def __init__(
        self,
        table: Table,
        dispatcher: Dispatcher,
        stats: WorkerStats,
        peer: Peer,
        observers: Mapping[VersionKey, RequestObserver] | None = None,
    ) -> None:
        """`peer`: of the connection. `observers`: live, by version; default none."""
        self._table = table
        self._dispatcher = dispatcher
        self._stats = stats
        self._peer = peer
        self._observers: Mapping[VersionKey, RequestObserver] = {} if observers is None else observers

    def plan(self, head: RequestHead, now_unix: float) -> "RequestPlan":
        """Route and authorize a head; sets `head.plan`. Raises RouterError: 404, 405, 401, 403, 400 (ambiguous pin)."""
        if head.path in OWN_PATHS:
            raise MethodNotAllowed(OWN_METHODS)
        if head.path == b"*":
            raise MethodNotAllowed
        match = self._table.match(head.path)
        head.plan = plan = RequestPlan(self, match, self._table.generation)
        route = match.route
        if head.method not in SCORING_METHODS:
            if route.cors is None or head.method != b"OPTIONS":
                raise MethodNotAllowed(SCORING_METHODS if route.cors is None else ALLOWED_METHODS)
            plan.preflight = route.cors.preflight_lines(head.fields)
            return plan
        plan.valid_until = self._authorize(route, head, now_unix)
        pin = _pin(head, match)
        if pin is not None:
            plan.fixed = plan.version(route.pinned(pin), head)
        elif not route.split:
            plan.fixed = plan.version(route.choose(0.0), head)
        plan.admitted = True
        return plan

    def valid_until(self, head: RequestHead, now_unix: float) -> float:
        """Expiry of the credential (unix seconds or inf), checked again. Raises RouterError. `now_unix`: wall clock."""
        return self._authorize(self._table.match(head.path).route, head, now_unix)

    def _authorize(self, route: Route, head: RequestHead, now_unix: float) -> float:
        try:
            return authorize(route.auth, route.keys, head.authorization, self._table.tokens, now_unix)
        except Forbidden as error:
            if self._table.hides_endpoints:
                raise Unauthorized from error  # 403 would reveal that the endpoint exists
            raise

    def is_current(self, generation: int) -> bool:
        """True if the table has not changed since this generation."""
        return generation == self._table.generation

    def version_plan(self, plan: "RequestPlan", version: VersionRoute, head: RequestHead) -> VersionPlan:
        """Make the part of a plan for one version.

        `plan`: of the head. `version`: the chosen one. `head`: its bytes are rendered for the replica.
        """
        web_socket = head.web_socket and version.web_socket and not head.has_body
        route = plan.match.route
        host = version.host_header or head.host
        lines = for_replica(head.fields, head.nominated, host, credential=route.auth is Auth.NONE)
        chain, proto, host, outer_prefix = forwarded(head.fields, head.host, self._peer)
        cors = b"" if route.cors is None else route.cors.response_lines(origin_of(head.fields))
        client_id = client_id_line(head.client_request_id) if head.client_request_id else b""
        upstream_head = b"".join(
            [
                b"%b %b%b HTTP/1.1\r\n" % (head.method, plan.match.path_on(version), head.query),
                lines,
                b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\n" % (chain, proto, host),
                b"X-Forwarded-Prefix: %b%b\r\nVia: 1.1 scorefront\r\n" % (outer_prefix, plan.match.prefix),
                b"Connection: Upgrade\r\nUpgrade: websocket\r\n" if web_socket else b"",
                client_id,
                b"x-ms-request-id: ",
            ]
        )
        return VersionPlan(
            version,
            route,
            self._dispatcher.queue(version.key),
            self._stats.version(version.key),
            upstream_head,
            cors + client_id + version.response_line + COMMON_LINES,
            web_socket,
            self._observers.get(version.key) if self._observers else None,
        )

    def replica_origin(
        self, plan: "RequestPlan", version: VersionRoute, head: RequestHead, address: bytes
    ) -> ReplicaOrigin:
        """The origin of a replica, for the references in its response.

        `plan`: of the head. `version`: the chosen one. `head`: of the request. `address`: `host:port` of the replica,
        empty if unknown.
        """
        match, (_, proto, host, outer_prefix) = plan.match, forwarded(head.fields, head.host, self._peer)
        hosts = frozenset({head.host, host, version.host_header or host})
        return ReplicaOrigin(match.prefix, match.own_prefixes, outer_prefix, proto, hosts, address)


class RequestPlan:
    """Plan of one head, valid for one generation of the table and until the credential expires.

    It does not refer back to its head: that cycle would be work for the garbage collector, once per head.
    """

    __slots__ = ("_planner", "_versions", "admitted", "fixed", "generation", "match", "preflight", "valid_until")

    def __init__(self, planner: Planner, match: Match, generation: int) -> None:
        self._planner = planner
        self._versions: dict[bytes, VersionPlan] = {}
        self.match = match
        self.generation = generation
        self.admitted = False
        """False if the request was refused."""
        self.preflight = b""
        """Lines of the response to OPTIONS of an endpoint that declares `cors`; "" for other requests."""
        self.valid_until = -math.inf
        """Expiry of the credential in unix seconds."""
        self.fixed: VersionPlan | None = None
        """The only possible version; None if each request is decided by a draw."""

    def version(self, route: VersionRoute, head: RequestHead) -> VersionPlan:
        """The part for a version, made on first use. `head`: the head of this plan."""
        version = self._versions.get(route.name)
        if version is None:
            version = self._versions[route.name] = self._planner.version_plan(self, route, head)
        return version

    def varied(self, head: RequestHead) -> "RequestPlan | None":
        """The plan of a head that differs only in pass-through values; None if this plan is outdated or refused."""
        if not self.admitted or not self._planner.is_current(self.generation):
            return None
        plan = RequestPlan(self._planner, self.match, self.generation)
        plan.admitted, plan.valid_until = self.admitted, self.valid_until
        if self.fixed is not None:
            plan.fixed = plan.version(self.fixed.route, head)
        return plan


def _pin(head: RequestHead, match: Match) -> bytes | None:
    """The version that a pinned request names, in its path or in a field."""
    named = head.pin if match.pinned is None else head.pin | {match.pinned}
    if len(named) > 1:
        raise RefusedRequest("azureml-model-deployment and the path name more than one version")
    for name in named:
        if name not in match.route.versions:
            raise VersionNotFound
        return name
    return None
