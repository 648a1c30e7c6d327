"""Spans and request records as a receiver of OTLP gets them."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from loadtests.otlp_receiver import OtlpReceiver, plain
from telemetry.access_messages import AccessRecord
from telemetry.export_settings import ExportSettingError, export_settings
from telemetry.otel_signals import signals

RECORD = AccessRecord(
    ended=1_800_000_000.5,
    total_s=0.25,
    queue_s=0.05,
    replica_s=0.125,
    request_bytes=5,
    response_bytes=3,
    status=200,
    replica_status=200,
    sampled=True,
    recorded=True,
    http_version="1.1",
    request_id="6f1ba2a4-0000-4000-8000-000000000001",
    trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
    span_id="00f067aa0ba902b8",
    parent_id="00f067aa0ba902b7",
    endpoint="iris",
    version="blue",
    auth="key",
    method="POST",
    path="/api/v1/service/iris/score",
    user_agent="curl/8",
    client_request_id="mine",
    replica="r0",
    code="",
    trace_state="a=1,b=2",
)
REFUSED = replace(
    RECORD,
    status=503,
    replica_status=0,
    version="",
    replica="",
    replica_s=None,
    code="Overloaded",
    client_request_id="",
)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        yield receiver


def export(*records: AccessRecord, environment: dict[str, str], wanted: int = 2) -> None:
    found = signals(export_settings(environment), "pod-1", "1.2.3")
    assert len(found) == wanted
    for signal in found:
        assert signal.export([each for each in records if signal.wants(each)])


def test_a_span_has_its_parent_times_and_attributes(receiver: OtlpReceiver) -> None:
    export(RECORD, environment={"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url})
    (span,) = receiver.spans
    assert (span.trace_id.hex(), span.span_id.hex()) == (RECORD.trace_id, RECORD.span_id)
    assert (span.parent_span_id.hex(), span.trace_state) == (RECORD.parent_id, "a=1,b=2")
    assert (span.name, span.kind) == ("POST /api/v1/service/iris", span.SPAN_KIND_SERVER)
    assert span.end_time_unix_nano == 1_800_000_000_500_000_000
    assert span.end_time_unix_nano - span.start_time_unix_nano == 250_000_000
    assert span.status.code == 0 and receiver.resources[0]["service.name"] == "scorefront"
    assert receiver.resources[0]["service.instance.id"] == "pod-1"
    assert plain(span.attributes) == {
        **{"http.request.method": "POST", "http.route": "/api/v1/service/iris", "url.path": RECORD.path},
        **{"http.response.status_code": 200, "http.request.body.size": 5, "http.response.body.size": 3},
        **{"network.protocol.version": "1.1", "user_agent.original": "curl/8"},
        **{"scorefront.endpoint": "iris", "scorefront.version": "blue", "scorefront.replica": "r0"},
        **{"scorefront.model_code": 200, "scorefront.x_ms_request_id": RECORD.request_id},
        **{"scorefront.x_ms_client_request_id": "mine", "scorefront.auth_type": "key"},
        **{"scorefront.queue_ms": 50.0, "scorefront.replica_ms": 125.0},
    }


def test_a_request_record_has_the_columns_of_the_traffic_log(receiver: OtlpReceiver) -> None:
    export(RECORD, environment={"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url})
    (record,) = receiver.records
    assert (record.trace_id.hex(), record.span_id.hex(), record.flags) == (RECORD.trace_id, RECORD.span_id, 1)
    assert record.body.string_value == "POST /api/v1/service/iris/score 200"
    assert (record.severity_text, record.time_unix_nano) == ("INFO", 1_800_000_000_500_000_000)
    assert plain(record.attributes) == {
        **{"event_name": "scorefront.request", "method": "POST", "path": RECORD.path, "protocol": "HTTP/1.1"},
        **{"endpoint": "iris", "version": "blue", "replica": "r0", "response_code": 200, "model_code": 200},
        **{"request_bytes": 5, "response_bytes": 3, "user_agent": "curl/8", "auth_type": "key"},
        **{"x_ms_request_id": RECORD.request_id, "x_ms_client_request_id": "mine"},
        **{"total_ms": 250.0, "queue_ms": 50.0, "replica_ms": 125.0},
    }


def test_a_failed_request_is_an_error_without_the_columns_that_it_lacks(receiver: OtlpReceiver) -> None:
    export(REFUSED, environment={"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url})
    (span,), (record,) = receiver.spans, receiver.records
    attributes: dict[str, Any] = plain(span.attributes)
    assert span.status.code == span.status.STATUS_CODE_ERROR and attributes["error.type"] == "Overloaded"
    columns = plain(record.attributes)
    assert columns["error_code"] == "Overloaded" and record.severity_text == "ERROR"
    assert columns.keys().isdisjoint({"version", "replica", "model_code", "replica_ms", "x_ms_client_request_id"})


def test_an_odd_method_is_no_part_of_the_name_of_a_span(receiver: OtlpReceiver) -> None:
    export(replace(RECORD, method="BREW", status=405), environment={"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url})
    (span,) = receiver.spans
    assert span.name == "HTTP /api/v1/service/iris" and plain(span.attributes)["http.request.method"] == "_OTHER"


def test_unsampled_requests_have_a_record_and_no_span(receiver: OtlpReceiver) -> None:
    (spans, records) = signals(export_settings({"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}), "pod-1", "1")
    unsampled = replace(RECORD, sampled=False)
    assert not spans.wants(unsampled) and records.wants(unsampled)
    assert spans.wants(RECORD) and not records.wants(replace(RECORD, recorded=False))


def test_name_attributes_and_headers_follow_the_standard_variables(
    receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "front")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test,service.instance.id=mine")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=abc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    export(RECORD, environment={"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url})
    wanted = {"service.name": "front", "deployment.environment": "test", "service.instance.id": "mine"}
    assert wanted.items() <= receiver.resources[0].items()
    assert {headers["x-api-key"] for headers in receiver.headers} == {"abc"} and len(receiver.spans) == 1


def test_a_refusing_receiver_takes_nothing(receiver: OtlpReceiver) -> None:
    (spans, _) = signals(export_settings({"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}), "pod-1", "1")
    receiver.status = 400
    assert not spans.export([RECORD])


def test_a_missing_exporter_is_named_with_those_that_there_are() -> None:
    with pytest.raises(ExportSettingError, match=r"no package offers the exporter nothing .installed: .*console"):
        signals(export_settings({"OTEL_TRACES_EXPORTER": "nothing"}), "pod-1", "1")


def test_azure_monitor_is_loaded_by_its_connection_string(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("azure.monitor.opentelemetry.exporter")
    monkeypatch.setenv("APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL", "true")
    text = "InstrumentationKey=12345678-1234-1234-1234-123456789abc;IngestionEndpoint=http://127.0.0.1:9/"
    monkeypatch.setenv("APPLICATIONINSIGHTS_CONNECTION_STRING", text)
    found = signals(export_settings({"APPLICATIONINSIGHTS_CONNECTION_STRING": text}), "pod-1", "1")
    assert [signal.name for signal in found] == [
        "spans (azure_monitor_opentelemetry_exporter)",
        "request records (azure_monitor_opentelemetry_exporter)",
    ]
    monkeypatch.setenv("APPLICATIONINSIGHTS_CONNECTION_STRING", "nonsense")
    with pytest.raises(ExportSettingError, match="cannot be made"):
        signals(export_settings({"APPLICATIONINSIGHTS_CONNECTION_STRING": "nonsense"}), "pod-1", "1")
