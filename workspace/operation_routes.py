"""REST of operations and of the origin of versions."""

import contextlib
import json
from typing import Annotated, Final

from aiohttp import web
from msgspec import Meta

from cluster.timed_line import TimedLine
from controlplane import payload
from controlplane.answers import Answer
from controlplane.control_errors import InvalidCall
from controlplane.openapi import Operation
from controlplane.rest_guard import Handler
from controlplane.route_sets import RouteSet
from workspace.deployments.deployment_service import DeploymentService
from workspace.deployments.records import (
    DeploymentOperation,
    OperationError,
    OperationKind,
    OperationState,
    OperationStep,
    Provenance,
    StepRecord,
)

MAX_FROM_LINE = 1_000_000
Time = Annotated[float, Meta(description="unix seconds")]


class OperationErrorAnswer(Answer, frozen=True):
    """Reason of an operation that did not succeed."""

    code: str
    message: str
    step: OperationStep | None
    log_tail: Annotated[list[str], Meta(description="last log lines of the replica that did not get ready")]


class StepAnswer(Answer, frozen=True):
    """One step that has begun."""

    step: OperationStep
    began: Time
    ended: Time | None
    note: Annotated[str, Meta(description="result, e.g. found or built for an environment")]


class OperationAnswer(Answer, frozen=True):
    """A deployment, or another change, from its request to its end."""

    id: str
    kind: OperationKind
    endpoint: str
    version: Annotated[str, Meta(description="empty: the whole endpoint")]
    state: OperationState
    step: Annotated[OperationStep | None, Meta(description="current step, or the one in which it ended")]
    created: Time
    ended: Time | None
    error: OperationErrorAnswer | None
    steps: list[StepAnswer]


class OperationListAnswer(Answer, frozen=True):
    """Operations, newest first."""

    value: list[OperationAnswer]


class UsedModelAnswer(Answer, frozen=True):
    """A model that a version was deployed with."""

    name: str
    version: int


class DeployedFileAnswer(Answer, frozen=True):
    """A file of the source of a version."""

    path: str
    sha256: str
    size_bytes: int


class DeploymentAnswer(Answer, frozen=True):
    """Origin of one declared version."""

    endpoint: str
    version: str
    operation: str
    deployed: Time
    entry_script: str
    source: list[DeployedFileAnswer]
    models: list[UsedModelAnswer]
    environment_key: Annotated[str, Meta(description="empty: the Python of scorefront")]
    environment_name: str
    environment_version: str


class DeploymentListAnswer(Answer, frozen=True):
    """Origins of the versions of an endpoint that were deployed by an operation."""

    value: list[DeploymentAnswer]


_OPERATION: Final = "/api/v1/operations/{id}"
OPERATIONS: Final = (
    Operation(
        "listOperations",
        "GET",
        "/api/v1/operations",
        "Operations, newest first",
        {200: "OperationList", 400: "Error"},
        query={"endpoint": {"type": "string", "description": "only of this endpoint"}},
    ),
    Operation("getOperation", "GET", _OPERATION, "One operation with its steps", {200: "Operation", 404: "Error"}),
    Operation(
        "getOperationLog",
        "GET",
        f"{_OPERATION}/logs",
        "Log of an operation, one JSON object {at, line} a line",
        {200: "application/x-ndjson", 400: "Error", 404: "Error"},
        query={
            "from": {"type": "integer", "minimum": 0, "maximum": MAX_FROM_LINE, "default": 0},
            "follow": {"type": "boolean", "default": False, "description": "continue until the operation ends"},
        },
    ),
    Operation(
        "cancelOperation",
        "POST",
        f"{_OPERATION}/cancel",
        "Cancel an operation; what it has declared is taken back",
        {202: "Operation", 404: "Error", 409: "Error"},
    ),
    Operation(
        "getDeployments",
        "GET",
        "/api/v1/endpoints/{name}/deployments",
        "What each version was deployed from: models, environment, source, operation",
        {200: "DeploymentList", 404: "Error"},
    ),
)
RECORDS: Final = (OperationAnswer, OperationListAnswer, DeploymentAnswer, DeploymentListAnswer)


def operation_routes(service: DeploymentService) -> RouteSet:
    """The operations with their handlers."""
    rest = _OperationRest(service)
    handlers: dict[str, Handler] = {
        "listOperations": rest.listed,
        "getOperation": rest.get,
        "getOperationLog": rest.log,
        "cancelOperation": rest.cancel,
        "getDeployments": rest.deployments,
    }
    return RouteSet(OPERATIONS, handlers, RECORDS)


class _OperationRest:
    def __init__(self, service: DeploymentService) -> None:
        self._service = service

    async def listed(self, request: web.Request) -> web.StreamResponse:
        payload.only(request.query, "endpoint")
        found = self._service.list(request.query.get("endpoint"))
        return web.json_response(OperationListAnswer([operation_answer(each) for each in found]).document())

    async def get(self, request: web.Request) -> web.StreamResponse:
        return _shown(self._service.get(request.match_info["id"]))

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        return _shown(await self._service.cancel(request.match_info["id"]), 202)

    async def deployments(self, request: web.Request) -> web.StreamResponse:
        found = self._service.provenance(request.match_info["name"])
        return web.json_response(DeploymentListAnswer([_deployment(each) for each in found]).document())

    async def log(self, request: web.Request) -> web.StreamResponse:
        payload.only(request.query, "from", "follow")
        operation = request.match_info["id"]
        first = payload.whole_number(request.query, "from", default=0, least=0, most=MAX_FROM_LINE)
        headers = {"Content-Type": "application/x-ndjson"}
        if not payload.yes_no(request.query, "follow"):
            lines = await self._service.log(operation, first)
            return web.Response(body=b"".join(map(_log_line, lines)), headers=headers)
        if first:
            raise InvalidCall("query parameter 'from' must be 0 where follow is true")
        self._service.get(operation)
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        async with contextlib.aclosing(self._service.follow_log(operation)) as followed:
            async for line in followed:
                await response.write(_log_line(line))
        return response


def operation_answer(operation: DeploymentOperation) -> OperationAnswer:
    """An operation as served by REST."""
    return OperationAnswer(
        id=operation.id,
        kind=operation.kind,
        endpoint=operation.endpoint,
        version=operation.version,
        state=operation.state,
        step=operation.step,
        created=operation.created,
        ended=operation.ended,
        error=None if operation.error is None else _error(operation.error),
        steps=[_step(each) for each in operation.steps],
    )


def _error(error: OperationError) -> OperationErrorAnswer:
    return OperationErrorAnswer(error.code, error.message, error.step, list(error.log_tail))


def _step(record: StepRecord) -> StepAnswer:
    return StepAnswer(record.step, record.began, record.ended, record.note)


def _deployment(origin: Provenance) -> DeploymentAnswer:
    return DeploymentAnswer(
        endpoint=origin.endpoint,
        version=origin.version,
        operation=origin.operation,
        deployed=origin.deployed,
        entry_script=origin.entry_script,
        source=[DeployedFileAnswer(each.path, each.sha256, each.size_bytes) for each in origin.source],
        models=[UsedModelAnswer(name, version) for name, version in origin.models],
        environment_key=origin.environment_key,
        environment_name=origin.environment_name,
        environment_version=origin.environment_version,
    )


def _shown(operation: DeploymentOperation, status: int = 200) -> web.Response:
    return web.json_response(operation_answer(operation).document(), status=status)


def _log_line(line: TimedLine) -> bytes:
    return json.dumps({"at": line.at_s, "line": line.text}, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
