"""Paths, bodies and errors that the routes of the Azure ML v1 protocol share."""

import functools
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from controlplane.openapi import Operation
from controlplane.payload import from_json
from controlplane.rest_guard import ERROR_CODE, Handler
from workspace.azureml.azure_errors import AzureError, translated

SCOPE = (
    "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.MachineLearningServices"
    "/workspaces/{workspace}"
)
"""Path of a workspace; its names are not checked, since there is one."""
MODEL_MANAGEMENT = f"/modelmanagement/v1.0{SCOPE}"
ARTIFACTS = f"/artifact/v2.0{SCOPE}/artifacts"
_SAFE_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]+")

Now = Callable[[], float]
"""Wall clock, unix seconds."""


def route(
    id: str, method: str, path: str, summary: str, subject: str = "endpoint", reads_credential: bool = False
) -> Operation:
    """An operation of the wire protocol, without a place in the OpenAPI document.

    id: unique. method, path: of the request. summary: for people.
    subject: kind of the object named in the path, for the audit log; default: endpoint.
    reads_credential: True if the answer holds keys or tokens.
    """
    return Operation(
        f"azureml{id}",
        method,
        path,
        summary,
        {200: "application/json"},
        reads_credential=reads_credential,
        subject=subject,
        is_described=False,
    )


def speaking_azure(handler: Handler) -> Handler:
    """The handler with its refusals in Azure's shape."""

    @functools.wraps(handler)
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Exception as error:
            found = translated(error)
            if found is None:
                raise
            request[ERROR_CODE] = found.code
            return web.json_response(found.document, status=found.status)

    return answer


async def body_of(request: web.Request) -> Any:
    """The decoded JSON body; None for an empty one. Raises InvalidCall."""
    data = await request.read()
    return from_json(data) if data.strip() else None


async def mapping_of(request: web.Request) -> dict[str, Any]:
    """The decoded JSON body, a mapping. Raises InvalidCall, AzureError."""
    content = await body_of(request)
    if not isinstance(content, dict):
        raise AzureError(400, "BadRequest", "the body must be a JSON object")
    return content


def base_url(request: web.Request) -> str:
    """The address of the control port as the client wrote it."""
    host = request.headers.get("Host", "")
    if not _SAFE_HOST.fullmatch(host):
        raise AzureError(400, "BadRequest", "the Host header must be a name or address with a port")
    return f"{request.scheme}://{host}"


def scope_of(request: web.Request) -> str:
    """The path of the workspace, as in the request."""
    return SCOPE.format(**{name: request.match_info[name] for name in ("subscription", "group", "workspace")})


def accepted(request: web.Request, operation: str, body: Any = None) -> web.Response:
    """202 with the address of an operation. `operation`: its id. `body`: JSON; default: none."""
    place = f"{base_url(request)}/modelmanagement/v1.0{scope_of(request)}/operations/{operation}"
    return web.json_response(body, status=202, headers={"Operation-Location": place})


def at(now: Now) -> str:
    """The time now, ISO 8601."""
    return datetime.fromtimestamp(now(), UTC).isoformat(timespec="milliseconds")
