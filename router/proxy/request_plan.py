"""What a request head leads to, worked out once per head and kept with it until the table changes.

Route, credential and the head lines for the replica depend on nothing but the head's bytes, the client's address and
the table; so a client that repeats its head pays for them once.
"""

import math

from router.core.authorization import authorize
from router.core.dispatcher import Dispatcher, VersionQueue
from router.core.header_fields import for_replica
from router.core.ids import kept_client_id
from router.core.router_errors import Forbidden, MethodNotAllowed, RefusedRequest, Unauthorized, VersionNotFound
from router.core.table import Match, Route, Table, VersionRoute
from router.metrics import VersionStats, WorkerStats
from router.proxy.head import RequestHead


class VersionPlan:
    """One version that the request may go to."""

    __slots__ = ("queue", "response_lines", "retry_before_response", "route", "stats", "upstream_head", "web_socket")

    def __init__(
        self,
        route: VersionRoute,
        endpoint: Route,
        queue: VersionQueue,
        stats: VersionStats,
        upstream_head: bytes,
        response_lines: bytes,
        web_socket: bool,
    ) -> None:
        self.route = route
        self.queue = queue
        self.stats = stats
        self.retry_before_response = endpoint.retry_before_response
        self.upstream_head = upstream_head
        """The head for the replica, up to the value of x-ms-request-id; that and the framing are each request's own."""
        self.response_lines = response_lines
        """Lines that every answer carries, ending with the name of x-ms-request-id."""
        self.web_socket = web_socket


class Planner:
    """Makes plans for the heads of one client connection."""

    def __init__(self, table: Table, dispatcher: Dispatcher, stats: WorkerStats, client: bytes, proto: bytes) -> None:
        self._table = table
        self._dispatcher = dispatcher
        self._stats = stats
        self._client = client
        self._proto = proto

    def plan(self, head: RequestHead, now_unix: float) -> "RequestPlan":
        """Where the request goes. Raises RouterError: 404, 405, 401, 403, or 400 for a pin that contradicts itself."""
        match = self._table.match(head.path)
        head.plan = plan = RequestPlan(self, match, self._table.generation)
        if head.method not in (b"GET", b"POST"):
            raise MethodNotAllowed
        route = match.route
        plan.valid_until = self._authorize(route, head, now_unix)
        pin = _pin(head, match)
        if pin is not None:
            plan.fixed = plan.version(route.pinned(pin), head)
        elif not route.split:
            plan.fixed = plan.version(route.choose(0.0), head)
        plan.admitted = True
        return plan

    def valid_until(self, head: RequestHead, now_unix: float) -> float:
        """Until when (unix seconds, maybe inf) the head's credential opens its endpoint. Raises RouterError."""
        return self._authorize(self._table.match(head.path).route, head, now_unix)

    def _authorize(self, route: Route, head: RequestHead, now_unix: float) -> float:
        try:
            return authorize(route.auth, route.keys, head.authorization, self._table.tokens, now_unix)
        except Forbidden as error:
            if self._table.hides_endpoints:
                raise Unauthorized from error  # 403 would tell that the endpoint exists
            raise

    def is_current(self, generation: int) -> bool:
        """Whether the table is still what it was."""
        return generation == self._table.generation

    def version_plan(self, plan: "RequestPlan", version: VersionRoute, head: RequestHead) -> VersionPlan:
        """The part of a head's plan that belongs to one version."""
        web_socket = head.web_socket and version.web_socket and not head.has_body
        lines = for_replica(head.fields, head.nominated, head.host, self._proto, self._client)
        kept = kept_client_id(head.client_request_id)
        client_id = b"x-ms-client-request-id: %b\r\n" % kept if kept else b""
        upstream_head = b"".join(
            [
                b"%b %b%b HTTP/1.1\r\n" % (head.method, plan.match.path_on(version), head.query),
                lines,
                b"Connection: Upgrade\r\nUpgrade: websocket\r\n" if web_socket else b"",
                client_id,
                b"x-ms-request-id: ",
            ]
        )
        return VersionPlan(
            version,
            plan.match.route,
            self._dispatcher.queue(version.key),
            self._stats.version(version.key),
            upstream_head,
            client_id + version.response_line + b"x-ms-request-id: ",
            web_socket,
        )


class RequestPlan:
    """Where one head leads, as long as the table's generation is `generation` and the credential is valid.

    It belongs to its head and does not refer back to it: a cycle would be left to the garbage collector, once per head.
    """

    __slots__ = ("_planner", "_versions", "admitted", "fixed", "generation", "match", "valid_until")

    def __init__(self, planner: Planner, match: Match, generation: int) -> None:
        self._planner = planner
        self._versions: dict[bytes, VersionPlan] = {}
        self.match = match
        self.generation = generation
        self.admitted = False
        """False while (and when) the request was refused on the way."""
        self.valid_until = -math.inf
        """Unix seconds."""
        self.fixed: VersionPlan | None = None
        """The only version it can go to, or None: a draw decides for each request."""

    def version(self, route: VersionRoute, head: RequestHead) -> VersionPlan:
        """The part for this version, made on first use. `head` is the one whose plan this is."""
        version = self._versions.get(route.name)
        if version is None:
            version = self._versions[route.name] = self._planner.version_plan(self, route, head)
        return version

    def varied(self, head: RequestHead) -> "RequestPlan | None":
        """The plan of a head that differs in values that are only passed on (`RequestHead.varied`).

        None: this one is of another table, or refused.
        """
        if not self.admitted or not self._planner.is_current(self.generation):
            return None
        plan = RequestPlan(self._planner, self.match, self.generation)
        plan.admitted, plan.valid_until = self.admitted, self.valid_until
        if self.fixed is not None:
            plan.fixed = plan.version(self.fixed.route, head)
        return plan


def _pin(head: RequestHead, match: Match) -> bytes | None:
    """The version that the request names, in its path or in a field."""
    named = set(head.pin) | ({match.pinned} if match.pinned is not None else set())
    if len(named) > 1 or len(head.pin) > 1:
        raise RefusedRequest("The request names more than one version.")
    for name in named:
        if name not in match.route.versions:
            raise VersionNotFound
        return name
    return None
