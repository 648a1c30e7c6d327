"""REST of the history of an endpoint."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from aiohttp import web

from controlplane import payload
from controlplane.control_errors import InvalidCall
from controlplane.openapi import Operation
from controlplane.registry import DeclaredEndpoint
from controlplane.rights import Right
from controlplane.route_sets import RouteSet
from serving.endpoint import Endpoint, VersionKey, VersionType
from telemetry.comparison import ArmTally, compare
from telemetry.history.metric_history import HistorySpan, ScalingMove
from telemetry.history.point_ring import HistoryPoint
from telemetry.history_answers import (
    RECORDS,
    ComparisonAnswer,
    HistoryAnswer,
    VersionHistoryAnswer,
    comparison_answer,
    move_answer,
    point_answer,
)

HistoryPoints = Callable[[VersionKey, HistorySpan], list[HistoryPoint]]
ScalingMoves = Callable[[VersionKey, HistorySpan], list[ScalingMove]]
LATEST_S: Final = 99_999_999_999

_SUMMARY: Final = "Rates, failures, latencies, utilization and replicas over time; control against treatments"
_ANSWERS: Final = {200: "History", 400: "Error", 404: "Error"}
_QUERY: Final[dict[str, dict[str, Any]]] = {
    "span": {"type": "string", "enum": [str(span) for span in HistorySpan], "default": str(HistorySpan.HOUR)},
    "since": {
        "type": "integer",
        "minimum": 0,
        "default": 0,
        "description": "only points after this time (unix seconds): those that a page lacks; comparisons stay whole",
    },
    "version": {"type": "string", "description": "only this version, and comparisons with it"},
}
OPERATIONS: Final = tuple(
    Operation(
        operation_id,
        "GET",
        f"{prefix}/endpoints/{{name}}/history",
        _SUMMARY,
        _ANSWERS,
        query=_QUERY,
        right=Right("get"),
    )
    for operation_id, prefix in (("getHistory", "/api/v1"), ("getHistoryUnversioned", "/api"))
)


def history_routes(
    keys_of: Callable[[str, str | None], Sequence[VersionKey]],
    declared: Callable[[str], DeclaredEndpoint | None],
    points: HistoryPoints,
    moves: ScalingMoves = lambda key, span: [],
) -> RouteSet:
    """The operations with their handlers.

    keys_of: keys of the versions of an endpoint: of one, or of all.
    declared: the endpoint of a name.
    points: of a version, oldest first.
    moves: changes of the number of replicas of a version, oldest first; default: none.
    """

    async def get(request: web.Request) -> web.StreamResponse:
        payload.only(request.query, "span", "version", "since")
        span = _span(request.query.get("span", HistorySpan.HOUR))
        since_s = payload.whole_number(request.query, "since", default=0, least=0, most=LATEST_S)
        name, version = request.match_info["name"], request.query.get("version")
        shown = {key.version for key in keys_of(name, version)}
        found = declared(name)
        versions = found.endpoint.versions if found is not None else ()
        answer = HistoryAnswer(
            endpoint=name,
            span=span.value,
            step_seconds=span.step_s,
            versions=[
                VersionHistoryAnswer(
                    each.name,
                    each.type,
                    [point_answer(point) for point in points(key, span) if point.time_s > since_s],
                    [move_answer(move) for move in moves(key, span)],
                )
                for each in versions
                if each.name in shown
                for key in (VersionKey(name, each.name),)
            ],
            comparisons=_comparisons(found.endpoint, points, span, shown) if found is not None else [],
        )
        return web.json_response(answer.document())

    return RouteSet(OPERATIONS, {operation.id: get for operation in OPERATIONS}, RECORDS)


def _comparisons(
    endpoint: Endpoint, points: HistoryPoints, span: HistorySpan, shown: set[str]
) -> list[ComparisonAnswer]:
    """Each treatment against the control, if there is one.

    endpoint: of the versions.
    points: of a version.
    span: of the comparison.
    shown: comparisons without one of these versions are left out.
    """
    control = next((each.name for each in endpoint.versions if each.type is VersionType.CONTROL), None)
    if control is None:
        return []
    tallies = _tallies(points, VersionKey(endpoint.name, control), span)
    found = []
    for version in endpoint.versions:
        if version.type is VersionType.TREATMENT and shown & {control, version.name}:
            theirs = _tallies(points, VersionKey(endpoint.name, version.name), span)
            pairs = [(tallies[time_s], theirs[time_s]) for time_s in sorted(tallies.keys() & theirs.keys())]
            found.append(comparison_answer(control, version.name, compare(pairs, span.seconds), span))
    return found


def _tallies(points: HistoryPoints, key: VersionKey, span: HistorySpan) -> dict[int, ArmTally]:
    """Counts by the end of the interval."""
    return {point.time_s: _tally(point) for point in points(key, span)}


def _tally(point: HistoryPoint) -> ArmTally:
    mean_s, deviation_s, requests = point.mean_s or 0.0, point.deviation_s or 0.0, point.requests
    squares_s2 = requests * (mean_s * mean_s + deviation_s * deviation_s)
    return ArmTally(requests, min(point.failed, requests), requests * mean_s, squares_s2)


def _span(text: str) -> HistorySpan:
    try:
        return HistorySpan(text)
    except ValueError:
        rule = f"must be one of {', '.join(HistorySpan)} (got {text[:20]!r})"
        raise InvalidCall(f"query parameter 'span' {rule}") from None
