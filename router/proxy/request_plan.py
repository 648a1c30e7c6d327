"""Plan of a request head: route, version, checked credential, rendered head lines. Valid until the table changes.

A plan depends only on the deciding parts of a head and on the table: heads that differ in other values share it.
"""

import math
from collections.abc import Mapping
from typing import Protocol

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
from router.proxy.head_shapes import Shapes
from router.proxy.own_pages import OWN_METHODS, OWN_PATHS
from router.proxy.request_head import RequestHead
from router.proxy.request_observer import AccessRecorder, VersionObserver
from router.proxy.responses import COMMON_LINES, client_id_line
from serving.endpoint import Auth, VersionKey

_AFTER_QUERY, _CHAIN, _ID = b" HTTP/1.1\r\n", b"X-Forwarded-For: ", b"x-ms-request-id: "


class VersionPlan:
    """The part of a plan for one version, the same for all heads that the plan is for."""

    __slots__ = (
        *("_after_chain", "_after_query", "_before_query", "_cors", "_credential", "_host", "_response_lines"),
        *("_traced", "observed", "observer", "queue", "recorder", "retry_before_response", "route", "stats"),
        "web_socket",
    )

    def __init__(
        self,
        plan: "RequestPlan",
        route: VersionRoute,
        head: RequestHead,
        peer: Peer,
        queue: VersionQueue,
        stats: VersionStats,
        observer: VersionObserver | None,
        recorder: AccessRecorder | None,
    ) -> None:
        """`plan`: of the head. `route`: of the version. `head`: one that it is for. `peer`: its sender."""
        match = plan.match
        self.observer = observer
        self.recorder = recorder
        self.observed = observer is not None or recorder is not None
        self.route = route
        self.queue = queue
        self.stats = stats
        self.retry_before_response = match.route.retry_before_response
        self.web_socket = head.web_socket and route.web_socket and not head.has_body
        self._before_query = b"%b %b" % (head.method, match.path_on(route))
        self._host = route.host_header or head.host
        self._credential = match.route.auth is Auth.NONE
        self._traced = match.route.traced
        proto, host, outer_prefix = forwarded(head.fields, head.host, peer)
        self._after_chain = b"".join(
            [
                b"\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\n" % (proto, host),
                b"X-Forwarded-Prefix: %b%b\r\nVia: 1.1 scorefront\r\n" % (outer_prefix, match.prefix),
                b"Connection: Upgrade\r\nUpgrade: websocket\r\n" if self.web_socket else b"",
            ]
        )
        self._after_query = b"%bHost: %b\r\n" % (_AFTER_QUERY, self._host)
        self._cors = b"" if match.route.cors is None else match.route.cors.response_lines(origin_of(head.fields))
        self._response_lines = route.response_line + COMMON_LINES

    def render(self, head: RequestHead, peer: Peer) -> "RenderedHead":
        """The lines of a request. `head`: one of those that the plan is for. `peer`: of its connection."""
        passed, after_query, client_id = head.passed_lines, self._after_query, b""
        if passed is None:
            passed = for_replica(head.fields, head.nominated, self._host, self._credential, self._traced)
            after_query = _AFTER_QUERY
        if head.client_request_id:
            client_id = client_id_line(head.client_request_id)
        chain = peer.chain(head.trail)
        upstream_head = b"".join(
            (self._before_query, head.query, after_query, passed, _CHAIN, chain, self._after_chain, client_id, _ID)
        )
        return RenderedHead(self, upstream_head, b"".join((self._cors, client_id, self._response_lines)))


class RenderedHead:
    """The lines of one request for one version."""

    __slots__ = ("response_lines", "upstream_head", "version")

    def __init__(self, version: VersionPlan, upstream_head: bytes, response_lines: bytes) -> None:
        self.version = version
        self.upstream_head = upstream_head
        """The head for the replica up to the value of x-ms-request-id; the framing of the request follows."""
        self.response_lines = response_lines
        """The common lines of every response, up to the value of x-ms-request-id."""


class KnownHeads(Protocol):
    """The head cache of a worker for requests: `RequestShapes`."""

    def of_peer(self, peer: Peer) -> Shapes[RequestHead]:
        """The shapes for the kind of a peer."""

    def find(self, shapes: Shapes[RequestHead], raw: bytes) -> RequestHead | None:
        """The head `raw`, made from a known one; None if it must be parsed. `shapes`: of the kind of the peer."""

    def learn(self, shapes: Shapes[RequestHead], peer: Peer, head: RequestHead) -> None:
        """Keep a head with its plan. `shapes`: of the kind of the peer. `peer`: of the connection."""


class Planner:
    """Makes the plans of one client connection."""

    def __init__(
        self,
        table: Table,
        dispatcher: Dispatcher,
        stats: WorkerStats,
        peer: Peer,
        observers: Mapping[VersionKey, VersionObserver],
        recorders: Mapping[VersionKey, AccessRecorder],
        heads: KnownHeads,
    ) -> None:
        """`peer`: of the connection. `observers`, `recorders`: live, by version. `heads`: known to the worker."""
        self._table = table
        self._dispatcher = dispatcher
        self._stats = stats
        self._peer = peer
        self._observers = observers
        self._recorders = recorders
        self._heads = heads
        self._shapes = heads.of_peer(peer)

    def known(self, raw: bytes) -> RequestHead | None:
        """A head with its plan, without parsing; None if it must be parsed.

        `raw`: ends with the empty line, within the limits on heads.
        """
        return self._heads.find(self._shapes, raw)

    def plan(self, head: RequestHead, now_unix: float) -> "RequestPlan":
        """Route and authorize a head; sets `head.plan`. An admitted head is known from then on.

        Raises RouterError: 404, 405, 401, 403, 400 (ambiguous pin).
        """
        if head.path in OWN_PATHS:
            raise MethodNotAllowed(OWN_METHODS)
        if head.path == b"*":
            raise MethodNotAllowed
        match = self._table.match(head.path)
        head.plan = plan = RequestPlan(match, self._table.generation)
        route = match.route
        if head.method not in SCORING_METHODS:
            if route.cors is None or head.method != b"OPTIONS":
                raise MethodNotAllowed(SCORING_METHODS if route.cors is None else ALLOWED_METHODS)
            plan.preflight = route.cors.preflight_lines(head.fields)
            return plan
        plan.valid_until = self._authorize(route, head, now_unix)
        pin = _pin(head, match)
        if pin is not None:
            plan.fixed = self.version(plan, route.pinned(pin), head)
        elif not route.split:
            plan.fixed = self.version(plan, route.choose(0.0), head)
        plan.admitted = True
        self._heads.learn(self._shapes, self._peer, head)
        return plan

    def valid_until(self, head: RequestHead, now_unix: float) -> float:
        """Expiry of the credential (unix seconds or inf), checked again. Raises RouterError. `now_unix`: wall clock."""
        return self._authorize(self._table.match(head.path).route, head, now_unix)

    def _authorize(self, route: Route, head: RequestHead, now_unix: float) -> float:
        try:
            return self._table.authorize(route, head.authorization, now_unix)
        except Forbidden as error:
            if self._table.hides_endpoints:
                raise Unauthorized from error  # 403 would reveal that the endpoint exists
            raise

    def version(self, plan: "RequestPlan", route: VersionRoute, head: RequestHead) -> VersionPlan:
        """The part of a plan for one version, made on first use.

        `plan`: of the head. `route`: of the chosen version. `head`: one of those that the plan is for.
        """
        version = plan.versions.get(route.name)
        if version is None:
            observer = self._observers.get(route.key) if self._observers else None
            version = plan.versions[route.name] = VersionPlan(
                plan,
                route,
                head,
                self._peer,
                self._dispatcher.queue(route.key),
                self._stats.version(route.key),
                observer if observer is not None and observer.observes(head) else None,
                self._recorders.get(route.key) if self._recorders else None,
            )
        return version

    def render(self, head: RequestHead, version: VersionPlan) -> RenderedHead:
        """The lines of a head for the version that was chosen; kept for a head that repeats."""
        rendered = head.rendered = version.render(head, self._peer)
        return rendered

    def replica_origin(
        self, plan: "RequestPlan", version: VersionRoute, head: RequestHead, address: bytes
    ) -> ReplicaOrigin:
        """The origin of a replica, for the references in its response.

        `plan`: of the head. `version`: the chosen one. `head`: of the request. `address`: `host:port` of the replica,
        empty if unknown.
        """
        match, (proto, host, outer_prefix) = plan.match, forwarded(head.fields, head.host, self._peer)
        hosts = frozenset({head.host, host, version.host_header or host})
        return ReplicaOrigin(match.prefix, match.own_prefixes, outer_prefix, proto, hosts, address)


class RequestPlan:
    """Plan of one head and of all that differ from it in values that do not decide.

    Valid for one generation of the table and until the credential expires. It refers to no head and no connection.
    """

    __slots__ = ("admitted", "fixed", "generation", "match", "preflight", "valid_until", "versions")

    def __init__(self, match: Match, generation: int) -> None:
        self.versions: dict[bytes, VersionPlan] = {}
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
