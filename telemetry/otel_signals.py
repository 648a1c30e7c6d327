"""Access records as spans and log records of OpenTelemetry, for its exporters. The only module that imports it.

Attributes of spans are the semantic conventions of HTTP and `scorefront.*`; request records have the columns of Azure
ML's traffic log. Units are in the names.
"""

from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any, Final

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk import _logs
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from telemetry.access_exports import Signal
from telemetry.access_messages import AccessRecord
from telemetry.export_settings import ExportSettingError, ExportSettings

SPANS: Final = "opentelemetry_traces_exporter"
RECORDS: Final = "opentelemetry_logs_exporter"
SERVICE: Final = "scorefront"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
"""Those that may be part of the name of a span."""
_SAMPLED, _UNSAMPLED = TraceFlags(TraceFlags.SAMPLED), TraceFlags(TraceFlags.DEFAULT)


def signals(settings: ExportSettings, instance: str, version: str) -> list[Signal]:
    """The signals to every receiver. Raises ExportSettingError if an exporter is missing or refuses its variables.

    settings: with the names of exporters. instance: this collector. version: of scorefront.
    """
    resource = _resource(instance)
    scope = InstrumentationScope(SERVICE, version)
    spans = [SpanSignal(name, _exporter(SPANS, name), resource, scope) for name in settings.span_exporters]
    records = [RecordSignal(name, _exporter(RECORDS, name), resource, scope) for name in settings.record_exporters]
    return [*spans, *records]


class SpanSignal:
    """Spans to one receiver; implements `telemetry.access_exports.Signal`."""

    def __init__(self, name: str, exporter: Any, resource: Resource, scope: InstrumentationScope) -> None:
        """`name`: of the exporter. `exporter`: a SpanExporter. `resource`, `scope`: of all spans."""
        self.name = f"spans ({name})"
        self._exporter = exporter
        self._resource = resource
        self._scope = scope

    def wants(self, record: AccessRecord) -> bool:
        """True for sampled ones."""
        return record.sampled

    def export(self, records: Sequence[AccessRecord]) -> bool:
        """Send spans."""
        spans = [self._span(record) for record in records]
        return bool(self._exporter.export(spans).value == 0)

    def _span(self, record: AccessRecord) -> ReadableSpan:
        trace_id, ended = int(record.trace_id, 16), _nanoseconds(record.ended)
        state = TraceState.from_header([record.trace_state]) if record.trace_state else TraceState()
        context = SpanContext(trace_id, int(record.span_id, 16), False, _SAMPLED, state)
        parent = SpanContext(trace_id, int(record.parent_id, 16), True, _SAMPLED, state) if record.parent_id else None
        route = f"/api/v1/service/{record.endpoint}"
        method = record.method if record.method in _METHODS else "HTTP"
        return ReadableSpan(
            name=f"{method} {route}",
            context=context,
            parent=parent,
            resource=self._resource,
            attributes=dict(_span_attributes(record, route)),
            kind=SpanKind.SERVER,
            status=Status(StatusCode.ERROR if record.status >= 500 else StatusCode.UNSET),
            start_time=ended - _nanoseconds(record.total_s),
            end_time=ended,
            instrumentation_scope=self._scope,
        )


class RecordSignal:
    """Request records to one receiver; implements `telemetry.access_exports.Signal`."""

    def __init__(self, name: str, exporter: Any, resource: Resource, scope: InstrumentationScope) -> None:
        """`name`: of the exporter. `exporter`: a LogExporter. `resource`, `scope`: of all records."""
        self.name = f"request records ({name})"
        self._exporter = exporter
        self._resource = resource
        self._scope = scope

    def wants(self, record: AccessRecord) -> bool:
        """True unless request records are off."""
        return record.recorded

    def export(self, records: Sequence[AccessRecord]) -> bool:
        """Send request records."""
        logs = [self._log(record) for record in records]
        return bool(self._exporter.export(logs).value == 0)

    def _log(self, record: AccessRecord) -> Any:
        severity = SeverityNumber.INFO
        if record.status >= 400:
            severity = SeverityNumber.ERROR if record.status >= 500 else SeverityNumber.WARN
        at = _nanoseconds(record.ended)
        facts = {
            "timestamp": at,
            "observed_timestamp": at,
            "trace_id": int(record.trace_id, 16),
            "span_id": int(record.span_id, 16),
            "trace_flags": _SAMPLED if record.sampled else _UNSAMPLED,
            "severity_text": severity.name,
            "severity_number": severity,
            "body": f"{record.method} {record.path} {record.status}",
            "attributes": dict(record_attributes(record)),
        }
        return _made_log(facts, self._resource, self._scope)


def record_attributes(record: AccessRecord) -> Iterator[tuple[str, str | int | float]]:
    """The columns of a request record; those without a value are left out."""
    yield "event_name", "scorefront.request"
    yield "method", record.method
    yield "path", record.path
    yield "protocol", f"HTTP/{record.http_version}"
    yield "endpoint", record.endpoint
    yield "response_code", record.status
    yield "request_bytes", record.request_bytes
    yield "response_bytes", record.response_bytes
    yield "user_agent", record.user_agent
    yield "x_ms_request_id", record.request_id
    yield "total_ms", _milliseconds(record.total_s)
    yield "queue_ms", _milliseconds(record.queue_s)
    yield "auth_type", record.auth
    if record.version:
        yield "version", record.version
    if record.replica:
        yield "replica", record.replica
    if record.code:
        yield "error_code", record.code
    if record.replica_status:
        yield "model_code", record.replica_status
    if record.client_request_id:
        yield "x_ms_client_request_id", record.client_request_id
    if record.replica_s is not None:
        yield "replica_ms", _milliseconds(record.replica_s)


def _span_attributes(record: AccessRecord, route: str) -> Iterator[tuple[str, str | int | float]]:
    """The attributes of a span. `route`: the endpoint's part of the path."""
    yield "http.request.method", record.method if record.method in _METHODS else "_OTHER"
    yield "http.route", route
    yield "url.path", record.path
    yield "http.response.status_code", record.status
    yield "http.request.body.size", record.request_bytes
    yield "http.response.body.size", record.response_bytes
    yield "network.protocol.version", record.http_version
    if record.user_agent:
        yield "user_agent.original", record.user_agent
    if record.status >= 500:
        yield "error.type", record.code or str(record.status)
    for name, value in record_attributes(record):
        if name in _OWN:
            yield f"scorefront.{name}", value


_OWN: Final = frozenset(
    {
        *("endpoint", "version", "replica", "error_code", "model_code", "x_ms_request_id", "x_ms_client_request_id"),
        *("queue_ms", "replica_ms", "auth_type"),
    }
)
"""Columns that spans have as well."""


def _made_log(facts: dict[str, Any], resource: Resource, scope: InstrumentationScope) -> Any:
    """The record of a log in the shape of the installed version: the interface of logs is not stable yet."""
    kinds: Any = _logs
    if hasattr(kinds, "LogData"):
        return kinds.LogData(kinds.LogRecord(**facts, resource=resource), scope)
    make: Any = LogRecord
    span = NonRecordingSpan(
        SpanContext(facts.pop("trace_id"), facts.pop("span_id"), False, facts.pop("trace_flags")),
    )
    made = make(**facts, context=set_span_in_context(span, Context()))
    return kinds.ReadableLogRecord(log_record=made, resource=resource, instrumentation_scope=scope)


def _resource(instance: str) -> Resource:
    """The resource of the standard variables, with a name of the service where they give none."""
    found = Resource.create()
    own: dict[str, str] = {}
    if str(found.attributes.get(SERVICE_NAME, "unknown_service")).startswith("unknown_service"):
        own[SERVICE_NAME] = SERVICE
    if SERVICE_INSTANCE_ID not in found.attributes:
        own[SERVICE_INSTANCE_ID] = instance
    return found.merge(Resource(own)) if own else found


def _exporter(group: str, name: str) -> Any:
    """An exporter by its entry point. Raises ExportSettingError."""
    variable = "OTEL_TRACES_EXPORTER" if group == SPANS else "OTEL_LOGS_EXPORTER"
    found = list(metadata.entry_points(group=group, name=name))
    if not found:
        offered = sorted(each.name for each in metadata.entry_points(group=group))
        raise ExportSettingError(f"{variable}: no package offers the exporter {name} (installed: {', '.join(offered)})")
    try:
        return found[0].load()()
    except Exception as error:
        raise ExportSettingError(f"{variable}: the exporter {name} cannot be made: {error}") from error


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1_000_000_000)


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
