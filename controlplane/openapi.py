"""The REST API as data: every operation there is, and the OpenAPI 3.1 document made from it. Pure.

`controlplane.rest` binds a handler to each operation by its id, so the document cannot list what does not exist.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from controlplane.rights import DECLARE, Right

JSON = "application/json"
MAX_TAIL = 10_000
"""Lines of one replica in one answer."""
MAX_LAST = 1000
"""Decisions in one answer, which is as many as are kept of a version."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path."""

    id: str
    method: str
    path: str
    summary: str
    answers: Mapping[int, str]
    """Status -> schema name, or the media type when the body is not JSON, or '' for no body."""
    body: str = ""
    """Schema name of the request body; '' = none."""
    query: Mapping[str, Mapping[str, Any]] | None = None
    is_open: bool = False
    """Answered without a credential."""
    right: Right | None = None
    """None: the control token only."""
    reads_credential: bool = False
    """Its answer holds keys or tokens, though it changes nothing."""

    @property
    def is_audited(self) -> bool:
        """Each call is a line of the audit log."""
        return self.method not in ("GET", "HEAD") or self.reads_credential


_ENDPOINT = "/api/v1/endpoints/{name}"
_VERSION_QUERY: Final = {"type": "string", "description": "only this version"}

OPERATIONS: Final = (
    Operation("health", "GET", "/healthz", "The process answers", {200: "text/plain"}, is_open=True),
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
        "dashboardStyle",
        "GET",
        "/dashboard.css",
        "Its style",
        {200: "text/css"},
        right=Right(),
    ),
    Operation(
        "dashboardScript",
        "GET",
        "/dashboard.js",
        "Its script",
        {200: "text/javascript"},
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
        "One endpoint and how it fares",
        {200: "View", 404: "Error"},
        right=Right("get"),
    ),
    Operation(
        "putEndpoint",
        "PUT",
        _ENDPOINT,
        "Declare an endpoint, or declare it anew; paths must be absolute",
        {200: "View", 201: "View", 400: "Error"},
        body="ScoringEndpoint",
        right=Right(DECLARE),
    ),
    Operation(
        "deleteEndpoint",
        "DELETE",
        _ENDPOINT,
        "Answer 404 for it, drain and stop its replicas",
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
        "Make every token issued so far invalid; keys stay valid. A new token",
        {200: "Token", 404: "Error", 409: "Error"},
        right=Right("update", "token"),
    ),
    Operation(
        "setTraffic",
        "PATCH",
        f"{_ENDPOINT}/traffic",
        "Change the split; versions not named keep theirs",
        {200: "View", 400: "Error", 404: "Error"},
        body="Traffic",
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
            "follow": {"type": "boolean", "default": False, "description": "go on with new lines for ever"},
        },
        right=Right("get", "log"),
    ),
    Operation(
        "getFrontEndDecisions",
        "GET",
        "/api/v1/front-end/decisions",
        "Decisions on the number of router workers, and of routers; newest last",
        {200: "FrontEndDecisionList", 400: "Error"},
        query={"last": {"type": "integer", "minimum": 1, "maximum": MAX_LAST, "default": 20}},
        right=Right("get", url="/scorefront/front-end/decisions"),
    ),
    Operation(
        "getDecisions",
        "GET",
        f"{_ENDPOINT}/decisions",
        "Scaling decisions: inputs, rule, outcome; newest last",
        {200: "DecisionList", 400: "Error", 404: "Error"},
        query={
            "version": _VERSION_QUERY,
            "last": {"type": "integer", "minimum": 1, "maximum": MAX_LAST, "default": 20},
        },
        right=Right("get"),
    ),
)


def _record(required: Mapping[str, Any], optional: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


_TEXT: Final = {"type": "string"}
_WHOLE: Final = {"type": "integer"}
_NUMBER: Final = {"type": "number"}
_YES_NO: Final = {"type": "boolean"}
_UNIX_TIME: Final = {"type": "integer", "description": "unix seconds"}
_PERCENT: Final = {"type": "number", "minimum": 0, "maximum": 100}
_OPTIONAL_NAME: Final = {"type": ["string", "null"], "description": "a version; null = as it is"}


def _listing(schema: str, optional: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return _record({"value": {"type": "array", "items": _reference(schema)}}, optional)


def _reference(schema: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema}"}


_SCHEMAS: Final[Mapping[str, Any]] = {
    "OpenApi": {"type": "object"},
    "Error": _record(
        {
            "error": _record(
                {"code": _TEXT, "message": _TEXT},
                {"faults": {"type": "array", "items": _record({"path": _TEXT, "value": {}, "rule": _TEXT})}},
            )
        }
    ),
    "Readiness": _record(
        {"ready": _YES_NO, "waitingFor": {"type": "array", "items": _TEXT}},
        {"skipped": {"type": "array", "items": _reference("Skipped")}},
    ),
    "VersionStatus": _record(
        {
            "share": {**_NUMBER, "description": "effective fraction of the traffic"},
            **dict.fromkeys(("desired", "ready", "starting", "draining", "failed"), _WHOLE),
            **dict.fromkeys(("busy", "total", "waiting"), _WHOLE),
            "utilization": {**_NUMBER, "description": "busy / total slots of ready replicas"},
            "isDefault": _YES_NO,
            "type": {"enum": ["Control", "Treatment"]},
            "message": {
                **_TEXT,
                "description": "why it is not ready, or why replicas fail, with the last log lines; else empty",
            },
        }
    ),
    "Status": _record(
        {
            "ready": _YES_NO,
            "scoringUri": _TEXT,
            "swaggerUri": _TEXT,
            "auth": {"enum": ["key", "token", "none"]},
            "versions": {"type": "object", "additionalProperties": _reference("VersionStatus")},
        }
    ),
    "View": {"allOf": [_reference("ScoringEndpoint"), _record({"status": _reference("Status")})]},
    "ViewList": _listing("View", {"skipped": {"type": "array", "items": _reference("Skipped")}}),
    "Skipped": _record(
        {"name": _TEXT, "message": {**_TEXT, "description": "what is damaged: the file, the field and the rule"}}
    ),
    "Keys": _record({"primaryKey": _TEXT, "secondaryKey": _TEXT}),
    "KeyChoice": _record({"keyType": {"enum": ["primary", "secondary"]}}),
    "Token": _record(
        {
            "accessToken": _TEXT,
            "tokenType": {"const": "Bearer"},
            "refreshAfter": {**_UNIX_TIME, "description": "unix seconds; fetch the next token after this"},
            "expiryOn": {**_UNIX_TIME, "description": "unix seconds; 12 h after refreshAfter"},
        }
    ),
    "Traffic": _record(
        {"percentiles": {"type": "object", "additionalProperties": _PERCENT}},
        {"default": _OPTIONAL_NAME, "control": _OPTIONAL_NAME},
    ),
    "Decision": _record(
        {
            "at": {**_NUMBER, "description": "unix seconds: when it was made"},
            "actedAt": {"type": ["number", "null"], "description": "unix seconds: when the provider had the order"},
            "version": _TEXT,
            **dict.fromkeys(("previous", "desired", "wanted"), _WHOLE),
            "direction": {"enum": ["up", "down", "hold"]},
            "rule": _TEXT,
            "reason": _TEXT,
            **dict.fromkeys(("demand", "busyMean"), _NUMBER),
            **dict.fromkeys(("busy", "waiting", "totalSlots"), _WHOLE),
        }
    ),
    "DecisionList": _listing("Decision"),
    "FrontEndSize": _record({"workers": {**_WHOLE, "description": "in every router"}, "routers": _WHOLE}),
    "FrontEndDecision": _record(
        {
            "at": {**_NUMBER, "description": "unix seconds: when it was made"},
            **dict.fromkeys(("previous", "desired"), _reference("FrontEndSize")),
            "direction": {"enum": ["up", "down", "hold"]},
            "rule": _TEXT,
            "reason": _TEXT,
        }
    ),
    "FrontEndDecisionList": _listing("FrontEndDecision"),
}


def document(manifest_schema: Mapping[str, Any], version: str) -> dict[str, Any]:
    """The OpenAPI document. `manifest_schema`: JSON Schema of the declared object, with its parts under `$defs`."""
    manifest = dict(_rebased(manifest_schema))
    schemas = {**_SCHEMAS, **manifest.pop("$defs", {}), "ScoringEndpoint": manifest}
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "scorefront", "version": version, "description": "Declare, watch and explain endpoints."},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "controlToken": {"type": "http", "scheme": "bearer", "description": "only where not on loopback"}
            },
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    answers = {
        str(status): {"description": summary_of(status), **_content(kind)} for status, kind in operation.answers.items()
    }
    answers["default"] = {"description": "Any other error", **_content("Error")}
    parameters = [
        {"name": name, "in": "query", "required": False, "schema": schema}
        for name, schema in (operation.query or {}).items()
    ]
    if "{name}" in operation.path:
        parameters.insert(0, {"name": "name", "in": "path", "required": True, "schema": _TEXT})
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "responses": answers,
        "security": [] if operation.is_open else [{}, {"controlToken": []}],
    }
    if parameters:
        described["parameters"] = parameters
    if operation.body:
        described["requestBody"] = {"required": True, **_content(operation.body)}
    return described


def summary_of(status: int) -> str:
    """What a status means here."""
    return {
        200: "Done",
        201: "Made",
        204: "Gone",
        400: "A rule is broken; nothing has changed",
        404: "There is no such endpoint or version",
        409: "It contradicts what is declared",
        503: "Not ready yet",
    }[status]


def _content(kind: str) -> dict[str, Any]:
    if not kind:
        return {}
    if "/" in kind:
        return {"content": {kind: {"schema": _TEXT}}}
    return {"content": {JSON: {"schema": _reference(kind)}}}


def _rebased(schema: Any) -> Any:
    """References into `$defs` become references into the components of the document."""
    if isinstance(schema, Mapping):
        return {
            key: value.replace("#/$defs/", "#/components/schemas/") if key == "$ref" else _rebased(value)
            for key, value in schema.items()
        }
    if isinstance(schema, list):
        return [_rebased(item) for item in schema]
    return schema
