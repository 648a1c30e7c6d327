"""The operations of the REST API and their OpenAPI 3.1 document. Pure.

`controlplane.rest` binds a handler to each operation by its id, and the schemas are generated from the served records
(`controlplane.answers`), so the document cannot differ from the API.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from controlplane import payload
from controlplane.answers import ANSWERS
from controlplane.rights import DECLARE, Right

JSON = "application/json"
BINARY = "application/octet-stream"
MAX_TAIL = 10_000
"""Most log lines of one replica in one response."""
OUTCOME_HEADER: Final = "x-scorefront-outcome"
"""Field of the response to a declaration: created, changed or unchanged."""
MAX_LAST = 1000
"""Most decisions in one response; as many as are kept of a version."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path."""

    id: str
    method: str
    path: str
    summary: str
    answers: Mapping[int, str]
    """Status -> schema name, media type of a body that is not JSON, or '' for no body."""
    body: str = ""
    """Schema name of the request body; '' = none."""
    query: Mapping[str, Mapping[str, Any]] | None = None
    headers: Mapping[str, Any] | None = None
    """Header objects of a response without an error."""
    is_open: bool = False
    """True: no credential needed."""
    right: Right | None = None
    """None: the control token only."""
    reads_credential: bool = False
    """True: the response contains keys or tokens, although the operation changes nothing."""
    subject: str = "endpoint"
    """Kind of the object that the path parameter `name` names, for the audit log."""
    is_described: bool = True
    """False: not part of the OpenAPI document, as the wire protocol of others."""

    @property
    def is_audited(self) -> bool:
        """True if each call is logged in the audit log."""
        return self.method not in ("GET", "HEAD") or self.reads_credential


_ENDPOINT = "/api/v1/endpoints/{name}"
_VERSION_QUERY: Final = {"type": "string", "description": "only this version"}

_LAST_QUERY: Final = {"type": "integer", "minimum": 1, "maximum": MAX_LAST, "default": 20}
OPERATIONS: Final = (
    Operation("health", "GET", "/healthz", "Liveness of the process", {200: "text/plain"}, is_open=True),
    Operation(
        "readiness",
        "GET",
        "/readyz",
        "Every endpoint has its minimum of ready replicas",
        {200: "Readiness", 503: "Readiness"},
        is_open=True,
    ),
    Operation(
        "metrics",
        "GET",
        "/metrics",
        "Prometheus text of all workers and the autoscaler",
        {200: "text/plain"},
        right=Right("get", url="/metrics"),
    ),
    Operation(
        "openapi",
        "GET",
        "/openapi.json",
        "This document",
        {200: "OpenApi"},
        right=Right(),
    ),
    Operation(
        "dashboard",
        "GET",
        "/",
        "The dashboard",
        {200: "text/html"},
        right=Right(),
    ),
    Operation(
        "dashboardFile",
        "GET",
        "/dashboard/{file}",
        "A stylesheet or script of the dashboard",
        {200: "text/javascript", 404: "Error"},
        right=Right(),
    ),
    Operation(
        "listEndpoints",
        "GET",
        "/api/v1/endpoints",
        "All endpoints, by name",
        {200: "ViewList"},
        right=Right("list"),
    ),
    Operation(
        "getEndpoint",
        "GET",
        _ENDPOINT,
        "One endpoint with its status",
        {200: "View", 404: "Error"},
        right=Right("get"),
    ),
    Operation(
        "putEndpoint",
        "PUT",
        _ENDPOINT,
        "Declare or replace an endpoint; paths must be absolute",
        {200: "View", 201: "View", 400: "Error"},
        body="ScoringEndpoint",
        headers={
            OUTCOME_HEADER: {
                "description": "effect of the declaration",
                "schema": {"enum": ["created", "changed", "unchanged"]},
            }
        },
        right=Right(DECLARE),
    ),
    Operation(
        "deleteEndpoint",
        "DELETE",
        _ENDPOINT,
        "Delete an endpoint: respond 404 at once, then drain and stop its replicas",
        {204: "", 404: "Error"},
        right=Right("delete"),
    ),
    Operation(
        "getKeys",
        "GET",
        f"{_ENDPOINT}/keys",
        "Both keys",
        {200: "Keys", 404: "Error"},
        reads_credential=True,
        right=Right("get", "keys"),
    ),
    Operation(
        "regenerateKey",
        "POST",
        f"{_ENDPOINT}/keys/regenerate",
        "Replace one key; the other stays valid",
        {200: "Keys", 400: "Error", 404: "Error"},
        body="KeyChoice",
        right=Right("update", "keys"),
    ),
    Operation(
        "issueToken",
        "POST",
        f"{_ENDPOINT}/token",
        "A token for an endpoint with token auth",
        {200: "Token", 404: "Error", 409: "Error"},
        right=Right("create", "token"),
    ),
    Operation(
        "revokeTokens",
        "POST",
        f"{_ENDPOINT}/token/revoke",
        "Invalidate every issued token and issue a new one; keys stay valid",
        {200: "Token", 404: "Error", 409: "Error"},
        right=Right("update", "token"),
    ),
    Operation(
        "setTraffic",
        "PATCH",
        f"{_ENDPOINT}/traffic",
        "Change the traffic split; other versions keep their share",
        {200: "View", 400: "Error", 404: "Error"},
        body="TrafficChange",
        right=Right("update"),
    ),
    Operation(
        "restartEndpoint",
        "POST",
        f"{_ENDPOINT}/restart",
        "Replace the replicas one after the other without losing a request; edited files take effect",
        {200: "View", 400: "Error", 404: "Error", 409: "Error"},
        body="RestartChoice",
        right=Right("update"),
    ),
    Operation(
        "getLogs",
        "GET",
        f"{_ENDPOINT}/logs",
        "Log lines of the replicas, one JSON object {version, replica, line} a line",
        {200: "application/x-ndjson", 400: "Error", 404: "Error"},
        query={
            "version": _VERSION_QUERY,
            "tail": {"type": "integer", "minimum": 0, "maximum": MAX_TAIL, "default": 100},
            "follow": {"type": "boolean", "default": False, "description": "continue with new lines without end"},
        },
        right=Right("get", "log"),
    ),
    Operation(
        "getFrontEndDecisions",
        "GET",
        "/api/v1/front-end/decisions",
        "Decisions of front end scaling; newest last",
        {200: "FrontEndDecisionList", 400: "Error"},
        query={"last": _LAST_QUERY},
        right=Right("get", url="/scorefront/front-end/decisions"),
    ),
    Operation(
        "getDecisions",
        "GET",
        f"{_ENDPOINT}/decisions",
        "Scaling decisions with inputs, rule and outcome; newest last",
        {200: "DecisionList", 400: "Error", 404: "Error"},
        query={"version": _VERSION_QUERY, "last": _LAST_QUERY},
        right=Right("get"),
    ),
    Operation(
        "getWhatIf",
        "GET",
        f"{_ENDPOINT}/decisions/what-if",
        "The inputs of the last hour's decisions, replayed through a changed policy",
        {200: "WhatIf", 400: "Error", 404: "Error"},
        query={
            "version": _VERSION_QUERY,
            "policy": {"type": "string", "description": "changes: target=50,min=2", "maxLength": 200},
        },
        right=Right("get"),
    ),
)


_TEXT: Final = {"type": "string"}


def _reference(schema: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema}"}


def _object(**properties: Any) -> dict[str, Any]:
    """Schema of an object; properties with a name that ends in `_` are optional."""
    required = [name for name in properties if not name.endswith("_")]
    fields = {name.rstrip("_"): schema for name, schema in properties.items()}
    return {"type": "object", "required": required, "properties": fields}


def _schemas(more: Iterable[type]) -> dict[str, Any]:
    """Schemas of the served records and request bodies. `more`: those of other packages."""
    records = (*ANSWERS, payload.KeyChoice, payload.TrafficChange, payload.RestartChoice, *more)
    _, components = msgspec.json.schema_components(records, ref_template="#/$defs/{name}")
    skipped = {"type": "array", "items": _reference("Skipped")}
    views = {"type": "array", "items": _reference("View")}
    return {
        "OpenApi": {"type": "object"},
        "ViewList": _object(value=views, skipped_=skipped),
        **{name.removesuffix("Answer"): _renamed(schema) for name, schema in components.items()},
    }


def _view(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Schema of a View: the fields of a manifest, and `status`.

    Not `allOf`: the manifest forbids other fields, and a status is one.
    """
    fields = {**manifest["properties"], "status": _reference("Status")}
    return {**manifest, "description": "An endpoint with its status.", "properties": fields, "required": list(fields)}


def _renamed(schema: Any) -> Any:
    """References to records without the suffix `Answer`, as references to the components of the document."""
    if isinstance(schema, Mapping):
        return {
            key: f"#/components/schemas/{value.removeprefix('#/$defs/').removesuffix('Answer')}"
            if key == "$ref"
            else _renamed(value)
            for key, value in schema.items()
            if not (key == "title" and isinstance(value, str))
        }
    if isinstance(schema, list):
        return [_renamed(item) for item in schema]
    return schema


def document(
    manifest_schema: Mapping[str, Any],
    version: str,
    operations: Iterable[Operation] = OPERATIONS,
    records: Iterable[type] = (),
) -> dict[str, Any]:
    """The OpenAPI document.

    manifest_schema: JSON Schema of the manifest, with its parts under `$defs`.
    version: of the API.
    operations: all of them, those without a description left out; default: those of this package.
    records: bodies and responses of operations of other packages; default: none.
    """
    manifest = dict(_renamed(manifest_schema))
    parts = manifest.pop("$defs", {})
    schemas = {**_schemas(records), **parts, "ScoringEndpoint": manifest, "View": _view(manifest)}
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        if not operation.is_described:
            continue
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "scorefront", "version": version, "description": "Declare, monitor and explain endpoints."},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "controlToken": {"type": "http", "scheme": "bearer", "description": "not needed on loopback"}
            },
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    answers = {
        str(status): {
            "description": summary_of(status),
            **({"headers": operation.headers} if operation.headers and status < 400 else {}),
            **_content(kind),
        }
        for status, kind in operation.answers.items()
    }
    answers["default"] = {"description": "Any other error", **_content("Error")}
    parameters = [
        {"name": name, "in": "query", "required": False, "schema": schema}
        for name, schema in (operation.query or {}).items()
    ]
    in_path = [{"name": name, "in": "path", "required": True, "schema": _TEXT} for name in path_parameters(operation)]
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "responses": answers,
        "security": [] if operation.is_open else [{}, {"controlToken": []}],
    }
    if parameters := in_path + parameters:
        described["parameters"] = parameters
    if operation.body:
        described["requestBody"] = {"required": True, **_content(operation.body)}
    return described


def path_parameters(operation: Operation) -> list[str]:
    """Names of the parameters in the path of an operation, in order."""
    return re.findall(r"{(\w+)}", operation.path)


def summary_of(status: int) -> str:
    """Meaning of a status."""
    return {
        200: "Success",
        201: "Created",
        202: "Accepted",
        204: "Deleted",
        400: "Invalid request; nothing was changed",
        404: "No such object",
        409: "Conflict with the declared state",
        413: "The body is too large",
        502: "No router answers",
        501: "Not in this kind of installation",
        503: "Not ready yet",
        507: "The disk has no room",
    }[status]


def _content(kind: str) -> dict[str, Any]:
    if not kind:
        return {}
    if "/" in kind:
        schema = {"type": "string", "format": "binary"} if kind == BINARY else _TEXT
        return {"content": {kind: {"schema": schema}}}
    return {"content": {JSON: {"schema": _reference(kind)}}}
