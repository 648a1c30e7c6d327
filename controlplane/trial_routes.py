"""REST of trials: a sample of a request that a model understands, and one scoring request sent for the caller."""

from dataclasses import dataclass
from typing import Annotated, Final, Protocol

import msgspec
from aiohttp import web
from msgspec import Meta

from controlplane import payload
from controlplane.answers import Answer
from controlplane.openapi import Operation
from controlplane.rights import Right
from controlplane.route_sets import RouteSet

MAX_BODY: Final = 1_000_000
"""Characters of a trial's body."""
OPERATIONS: Final = (
    Operation(
        "getSample",
        "GET",
        "/api/v1/endpoints/{name}/sample",
        "Sample of a request body: sample.json beside the source, else from swagger.json of a replica",
        {200: "Sample", 404: "Error"},
        right=Right("get"),
    ),
    Operation(
        "tryEndpoint",
        "POST",
        "/api/v1/endpoints/{name}/try",
        "Send one scoring request with the endpoint's own credential; any response of it is a 200 here",
        {200: "Trial", 400: "Error", 404: "Error", 502: "Error"},
        body="TrialChoice",
        right=Right("get", "keys"),
    ),
)


class TrialChoice(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """A scoring request: its body as text, and the version it is pinned to; None = by the traffic split."""

    body: Annotated[str, Meta(max_length=MAX_BODY)]
    version: str | None = None
    content_type: Annotated[str, Meta(max_length=100, pattern="^[!-~]+/[ -~]+$")] = "application/json"


class SampleAnswer(Answer, frozen=True):
    """Sample of a request body."""

    body: str
    source: Annotated[str, Meta(description="sample.json, swagger.json, or empty: neither was found")]


class TrialAnswer(Answer, frozen=True):
    """The response to a scoring request."""

    status: int
    version: Annotated[str, Meta(description="that answered; empty: none was chosen")]
    request_id: str
    error_code: Annotated[str, Meta(description="x-ms-error-code; empty: the model answered")]
    content_type: str
    duration_ms: float
    size_bytes: Annotated[int, Meta(description="bytes of the body that were read")]
    is_whole: Annotated[bool, Meta(description="false: the body is longer than what is shown")]
    body: Annotated[str, Meta(description="its text; bytes that are no UTF-8 are replaced")]


RECORDS: Final = (SampleAnswer, TrialAnswer, TrialChoice)


@dataclass(frozen=True, slots=True)
class TrialRequest:
    """A checked scoring request."""

    endpoint: str
    version: str | None
    content_type: str
    body: bytes


class EndpointTrials(Protocol):
    """Samples and trials of endpoints."""

    async def sample(self, name: str) -> SampleAnswer:
        """Sample for an endpoint. Raises NoSuchEndpoint."""

    async def send(self, request: TrialRequest) -> TrialAnswer:
        """Send one request. Raises NoSuchEndpoint, NoSuchVersion, RoutersUnreachable."""


def trial_routes(trials: EndpointTrials) -> RouteSet:
    """The operations with their handlers."""

    async def sample(request: web.Request) -> web.StreamResponse:
        payload.only(request.query)
        return web.json_response((await trials.sample(request.match_info["name"])).document())

    async def send(request: web.Request) -> web.StreamResponse:
        choice = payload.read(await request.read(), TrialChoice)
        checked = TrialRequest(request.match_info["name"], choice.version, choice.content_type, choice.body.encode())
        return web.json_response((await trials.send(checked)).document())

    return RouteSet(OPERATIONS, {"getSample": sample, "tryEndpoint": send}, RECORDS)
