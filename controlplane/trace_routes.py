"""REST of traces: arrivals and service times of real requests, as `scorefront simulate` reads them."""

from collections.abc import Callable, Sequence
from typing import Final

from aiohttp import web

from autoscaler.simulation.trace import COLUMNS
from controlplane import payload
from controlplane.openapi import Operation
from controlplane.route_sets import RouteSet
from controlplane.routers import TraceSource
from serving.endpoint import VersionKey

LONGEST_S: Final = 3600
OPERATIONS: Final = (
    Operation(
        "getTrace",
        "GET",
        "/api/v1/endpoints/{name}/trace",
        "Arrivals (s), service times (ms) and sizes of the requests of the last hour; no payloads",
        {200: "text/csv", 400: "Error", 404: "Error"},
        query={
            "version": {"type": "string", "description": "only of this version"},
            "since": {
                "type": "integer",
                "minimum": 1,
                "maximum": LONGEST_S,
                "default": LONGEST_S,
                "description": "longest age in seconds",
            },
        },
    ),
)


def trace_routes(keys_of: Callable[[str, str | None], Sequence[VersionKey]], source: TraceSource) -> RouteSet:
    """The operation with its handler.

    keys_of: name of an endpoint, and of a version or None -> keys; raises EndpointNotFound, VersionNotFound.
    source: has the requests.
    """

    async def get(request: web.Request) -> web.StreamResponse:
        payload.only(request.query, "version", "since")
        since_s = payload.whole_number(request.query, "since", default=LONGEST_S, least=1, most=LONGEST_S)
        keys = keys_of(request.match_info["name"], request.query.get("version"))
        found = [one for key in keys for one in await source.trace(key, float(since_s))]
        found.sort(key=lambda one: one[0], reverse=True)
        first_s = found[0][0] if found else 0.0
        rows = [",".join(COLUMNS)]
        rows += (
            f"{first_s - age_s:.6f},{'' if service_s is None else format(service_s * 1000, '.3f')},{size_bytes}"
            for age_s, service_s, size_bytes in found
        )
        return web.Response(text="\n".join([*rows, ""]), content_type="text/csv")

    return RouteSet(OPERATIONS, {"getTrace": get})
