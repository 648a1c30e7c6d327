"""REST of the overview: rows of endpoints in one small answer, a page at a time."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Final, TypeVar

from aiohttp import web
from msgspec import Meta

from controlplane import payload
from controlplane import rest_guard as guard
from controlplane.answers import Answer, Count, SkippedAnswer
from controlplane.control_errors import InvalidCall
from controlplane.endpoint_view import ViewSources
from controlplane.openapi import Operation
from controlplane.overview import EndpointGlance, EndpointHealth, OverviewChoice, OverviewOrder, TrafficSource, glance
from controlplane.registry import SkippedEndpoint
from controlplane.rights import Right
from controlplane.route_sets import RouteSet
from serving.clock import Clock
from serving.endpoint import Auth, Endpoint, VersionKey, VersionType
from serving.replica import ReplicaState
from serving.usage import RecentTraffic

MOST_ROWS: Final = 200
MAX_SEARCH: Final = 100
KEPT_S: Final = 1.5
"""Age up to which rows serve further requests: the cost does not grow with the number of pages that are open."""
AT_ONCE: Final = 50
"""Endpoints between two turns of the event loop."""
OPERATIONS: Final = (
    Operation(
        "getOverview",
        "GET",
        "/api/v1/overview",
        "Health, replicas and traffic of the endpoints, one row each; the dashboard's first request",
        {200: "Overview", 400: "Error"},
        query={
            "name": {"type": "string", "description": "only this endpoint"},
            "search": {"type": "string", "maxLength": MAX_SEARCH, "description": "part of a name or description"},
            "health": {
                "type": "string",
                "description": f"some of {', '.join(EndpointHealth)}, with commas; default all",
            },
            "sort": {"type": "string", "enum": [str(each) for each in OverviewOrder], "default": "health"},
            "offset": {"type": "integer", "minimum": 0, "maximum": 1_000_000, "default": 0},
            "limit": {"type": "integer", "minimum": 1, "maximum": MOST_ROWS, "default": 50},
        },
        right=Right("list"),
    ),
)


class OverviewVersionAnswer(Answer, frozen=True):
    """One version in a row."""

    version: str
    type: VersionType
    is_default: bool
    share: float
    ready: Count
    desired: Count


class OverviewRowAnswer(Answer, frozen=True):
    """One endpoint."""

    name: str
    health: EndpointHealth
    reason: Annotated[str, Meta(description="why it is not healthy; else empty")]
    auth: Auth
    description: str
    ready: Count
    desired: Count
    starting: Count
    failed: Count
    busy: Count
    total: Count
    waiting: Count
    requests_per_second: Annotated[float | None, Meta(description="over the last minute; null: unknown")]
    failure_rate: Annotated[float | None, Meta(description="of the last minute; null without requests")]
    p95_ms: Annotated[float | None, Meta(description="the longest of its versions; null without requests")]
    trend: Annotated[list[float], Meta(description="requests a second over five minutes; empty: unknown")]
    versions: list[OverviewVersionAnswer]


class OverviewAnswer(Answer, frozen=True):
    """A page of rows, and the sums over all endpoints that the caller may list."""

    endpoints: Count
    health: Annotated[dict[str, Count], Meta(description="endpoints by health, whatever was searched for")]
    ready: Count
    desired: Count
    busy: Count
    total: Count
    waiting: Count
    requests_per_second: float | None
    matching: Annotated[int, Meta(description="rows of all pages")]
    offset: Count
    value: list[OverviewRowAnswer]
    skipped: list[SkippedAnswer]


RECORDS: Final = (OverviewAnswer,)
_Word = TypeVar("_Word", EndpointHealth, OverviewOrder)


class NoTraffic:
    """Traffic of an installation that keeps no history."""

    def recent(self, key: VersionKey) -> RecentTraffic | None:
        """Unknown."""
        return None

    def rates(self, key: VersionKey) -> Sequence[float]:
        """Unknown."""
        return ()


class OverviewRows:
    """The rows of all endpoints, made at most every KEPT_S."""

    def __init__(
        self, endpoints: Callable[[], Sequence[Endpoint]], sources: ViewSources, traffic: TrafficSource, clock: Clock
    ) -> None:
        """No rows yet.

        endpoints: the declared ones, by name.
        sources: of their status.
        traffic: of their requests.
        clock: event-loop clock.
        """
        self._endpoints = endpoints
        self._sources = sources
        self._clock = clock
        self.traffic = traffic
        self._rows: list[EndpointGlance] = []
        self._made_s = float("-inf")
        self._making = asyncio.Lock()

    async def rows(self) -> list[EndpointGlance]:
        """The rows, by name."""
        async with self._making:
            if self._clock.now() - self._made_s >= KEPT_S:
                rows = []
                for place, endpoint in enumerate(self._endpoints(), 1):
                    rows.append(glance(endpoint, self._sources, self.traffic.recent))
                    if place % AT_ONCE == 0:
                        await asyncio.sleep(0)  # scaling decisions and reports go first
                self._rows, self._made_s = rows, self._clock.now()
            return self._rows


def overview_routes(rows: OverviewRows, skipped: Callable[[], Mapping[str, SkippedEndpoint]]) -> RouteSet:
    """The operation with its handler.

    rows: of all endpoints.
    skipped: endpoints that are not served.
    """

    async def get(request: web.Request) -> web.StreamResponse:
        payload.only(request.query, "name", "search", "health", "sort", "offset", "limit")
        choice = OverviewChoice(
            name=request.query.get("name", ""),
            search=_search(request.query.get("search", "")),
            health=[
                _word("health", word, EndpointHealth) for word in request.query.get("health", "").split(",") if word
            ],
            order=_word("sort", request.query.get("sort", OverviewOrder.HEALTH), OverviewOrder),
        )
        offset = payload.whole_number(request.query, "offset", default=0, least=0, most=1_000_000)
        limit = payload.whole_number(request.query, "limit", default=50, least=1, most=MOST_ROWS)
        visible = request.get(guard.VISIBLE)
        seen = [row for row in await rows.rows() if visible is None or row.endpoint.name in visible]
        kept_out = [
            SkippedAnswer(name, each.why) for name, each in skipped().items() if visible is None or name in visible
        ]
        return web.json_response(_page(seen, choice, offset, limit, kept_out, rows.traffic).document())

    return RouteSet(OPERATIONS, {"getOverview": get}, RECORDS)


def _page(
    rows: Sequence[EndpointGlance],
    choice: OverviewChoice,
    offset: int,
    limit: int,
    skipped: list[SkippedAnswer],
    traffic: TrafficSource,
) -> OverviewAnswer:
    """One page.

    rows: those that the caller may list, by name.
    choice: of the rows.
    offset: rows before the page.
    limit: most rows of the page.
    skipped: endpoints that are not served.
    traffic: of the requests.
    """
    chosen = choice.of(rows)
    healths = Counter(row.health for row in rows)
    rates = [rate for row in rows if (rate := row.requests_per_s) is not None]
    versions = [version for row in rows for version in row.versions]
    return OverviewAnswer(
        endpoints=len(rows),
        health={health.value: healths[health] for health in EndpointHealth},
        ready=sum(each.counts[ReplicaState.READY] for each in versions),
        desired=sum(each.desired for each in versions),
        busy=sum(each.busy for each in versions),
        total=sum(each.total for each in versions),
        waiting=sum(each.waiting for each in versions),
        requests_per_second=round(sum(rates), 3) if rates else None,
        matching=len(chosen),
        offset=offset,
        value=[_row(row, traffic) for row in chosen[offset : offset + limit]],
        skipped=skipped,
    )


def _row(row: EndpointGlance, traffic: TrafficSource) -> OverviewRowAnswer:
    rate, share, p95_s = row.requests_per_s, row.failure_share, row.p95_s
    columns = [traffic.rates(VersionKey(row.endpoint.name, each.version.name)) for each in row.versions]
    return OverviewRowAnswer(
        name=row.endpoint.name,
        health=row.health,
        reason=row.reason,
        auth=row.endpoint.auth,
        description=row.endpoint.description,
        ready=row.count(ReplicaState.READY),
        desired=sum(each.desired for each in row.versions),
        starting=row.count(ReplicaState.STARTING),
        failed=row.count(ReplicaState.FAILED),
        busy=sum(each.busy for each in row.versions),
        total=sum(each.total for each in row.versions),
        waiting=sum(each.waiting for each in row.versions),
        requests_per_second=None if rate is None else round(rate, 3),
        failure_rate=None if share is None else round(share, 6),
        p95_ms=None if p95_s is None else round(p95_s * 1000, 3),
        trend=[round(sum(rates), 3) for rates in zip(*columns, strict=True)],
        versions=[
            OverviewVersionAnswer(
                version=each.version.name,
                type=each.version.type,
                is_default=each.version.is_default,
                share=each.version.share,
                ready=each.counts[ReplicaState.READY],
                desired=each.desired,
            )
            for each in row.versions
        ],
    )


def _search(text: str) -> str:
    if len(text) > MAX_SEARCH:
        raise InvalidCall(f"query parameter 'search' must have at most {MAX_SEARCH} characters (got {len(text)})")
    return text


def _word(parameter: str, text: str, words: type[_Word]) -> _Word:
    try:
        return words(text)
    except ValueError:
        rule = f"must be one of {', '.join(words)} (got {text[:20]!r})"
        raise InvalidCall(f"query parameter '{parameter}' {rule}") from None
