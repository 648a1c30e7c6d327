"""REST of recent failures: the last failed requests of an endpoint with their reasons, without payloads."""

from collections.abc import Callable, Sequence
from typing import Annotated, Final

from aiohttp import web
from msgspec import Meta

from cluster.link import FailedRequest
from controlplane import payload
from controlplane.answers import Answer
from controlplane.openapi import Operation
from controlplane.rights import Right
from controlplane.route_sets import RouteSet
from controlplane.routers import FailureSource
from serving.endpoint import VersionKey

MOST_FAILURES: Final = 200
OPERATIONS: Final = (
    Operation(
        "getFailures",
        "GET",
        "/api/v1/endpoints/{name}/failures",
        "The last failed requests with id, status, code and reason; newest first, no payloads",
        {200: "FailureList", 400: "Error", 404: "Error"},
        query={
            "version": {"type": "string", "description": "only of this version"},
            "last": {"type": "integer", "minimum": 1, "maximum": MOST_FAILURES, "default": 50},
        },
        right=Right("get"),
    ),
)
REASONS: Final = {
    "BadRequest": "the request is not valid",
    "Unauthorized": "no valid key or token",
    "Forbidden": "a token of another endpoint",
    "EndpointNotFound": "no endpoint at this path",
    "VersionNotFound": "no version of this name",
    "MethodNotAllowed": "the path does not have this method",
    "RequestTimeout": "the request did not arrive in time",
    "PayloadTooLarge": "the body is over the limit",
    "UriTooLong": "the request target is over the limit",
    "HeadersTooLarge": "the header fields are over the limit",
    "NotImplemented": "a transfer coding other than chunked",
    "ReplicaFailed": "the replica closed the connection before it had answered, or sent an invalid response",
    "Overloaded": "no slot became free within maxQueueWaitMs",
    "NoReadyReplicas": "no replica was ready",
    "ScoringTimeout": "the replica did not answer within scoringTimeoutMs",
    "ModelError": "the code of the model failed (status 500); its log says more",
    "ClientGone": "the client closed the connection before it was answered",
    "Internal": "the router failed",
}
"""Reason by error code of the router."""


class FailureAnswer(Answer, frozen=True):
    """One failed request."""

    at: Annotated[float, Meta(description="unix seconds: its end")]
    request_id: Annotated[str, Meta(description="x-ms-request-id of the response")]
    client_request_id: str
    method: str
    path: Annotated[str, Meta(description="without its query")]
    version: Annotated[str, Meta(description="empty: refused before a version was chosen")]
    replica: str
    status: Annotated[int, Meta(description="499: the client has gone")]
    code: Annotated[str, Meta(description="x-ms-error-code; empty: the model answered with the status")]
    reason: str
    duration_ms: float
    queue_wait_ms: float


class FailureListAnswer(Answer, frozen=True):
    """Failed requests, newest first."""

    value: list[FailureAnswer]


RECORDS: Final = (FailureListAnswer,)


def failure_routes(keys_of: Callable[[str, str | None], Sequence[VersionKey]], source: FailureSource) -> RouteSet:
    """The operation with its handler.

    keys_of: name of an endpoint, and of a version or None -> keys; raises EndpointNotFound, VersionNotFound.
    source: of the requests.
    """

    async def get(request: web.Request) -> web.StreamResponse:
        payload.only(request.query, "version", "last")
        last = payload.whole_number(request.query, "last", default=50, least=1, most=MOST_FAILURES)
        name, version = request.match_info["name"], request.query.get("version")
        keys_of(name, version)
        found = await source.failures(name, MOST_FAILURES if version else last)
        chosen = [each for each in found if version in (None, each.version)][:last]
        return web.json_response(FailureListAnswer([failure_answer(each) for each in chosen]).document())

    return RouteSet(OPERATIONS, {"getFailures": get}, RECORDS)


def failure_answer(failed: FailedRequest) -> FailureAnswer:
    """The record of one failed request."""
    return FailureAnswer(
        at=failed.at,
        request_id=failed.request_id,
        client_request_id=failed.client_request_id,
        method=failed.method,
        path=failed.path,
        version=failed.version,
        replica=failed.replica,
        status=failed.status,
        code=failed.code,
        reason=reason_of(failed),
        duration_ms=round(failed.seconds * 1000, 3),
        queue_wait_ms=round(failed.waited_s * 1000, 3),
    )


def reason_of(failed: FailedRequest) -> str:
    """Reason of a failed request as text for people."""
    if not failed.code:
        return f"the model answered with status {failed.status}"
    reason = REASONS.get(failed.code, f"the router answered {failed.code}")
    return f"{reason}: {failed.rule}" if failed.rule else reason
