"""Exporters, sampler and limits from the standard variables of OpenTelemetry."""

from pathlib import Path

import pytest

from scorefront.payload_settings import observer_arguments, telemetry_note
from telemetry.export_settings import ExportSettingError, ExportSettings, export_settings
from telemetry.trace_context import Sampler

HTTP = "otlp_proto_http"
AZURE = "azure_monitor_opentelemetry_exporter"
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    ("environment", "spans", "records"),
    [
        ({}, (), ()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, (), ()),
        (ENDPOINT, (HTTP,), (HTTP,)),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://a/v1/traces"}, (HTTP,), ()),
        ({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "https://a/v1/logs"}, (), (HTTP,)),
        (ENDPOINT | {"OTEL_LOGS_EXPORTER": "none"}, (HTTP,), ()),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "None"}, (), ()),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "TRUE"}, (), ()),
        ({"OTEL_TRACES_EXPORTER": "otlp, console", "OTEL_LOGS_EXPORTER": "otlp"}, (HTTP, "console"), (HTTP,)),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ("otlp_proto_grpc",) * 1, ("otlp_proto_grpc",)),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "grpc"}, (HTTP,), ("otlp_proto_grpc",)),
        ({"APPLICATIONINSIGHTS_CONNECTION_STRING": "InstrumentationKey=x"}, (AZURE,), (AZURE,)),
        (ENDPOINT | {"APPLICATIONINSIGHTS_CONNECTION_STRING": "x"}, (HTTP, AZURE), (HTTP, AZURE)),
    ],
)
def test_exporters_follow_the_standard_variables(
    environment: dict[str, str], spans: tuple[str, ...], records: tuple[str, ...]
) -> None:
    found = export_settings(environment)
    assert (found.span_exporters, found.record_exporters) == (spans, records)
    assert bool(found) == bool(spans or records)


@pytest.mark.parametrize(
    ("name", "argument", "sampler"),
    [
        ("always_on", "", Sampler(False, 1.0)),
        ("ALWAYS_OFF", "0.5", Sampler(False, 0.0)),
        ("traceidratio", "0.25", Sampler(False, 0.25)),
        ("parentbased_traceidratio", "", Sampler(True, 1.0)),
        ("parentbased_always_off", "", Sampler(True, 0.0)),
        ("", "0.5", Sampler(True, 1.0)),
    ],
)
def test_the_sampler_follows_the_standard_variables(name: str, argument: str, sampler: Sampler) -> None:
    environment = ENDPOINT | {"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": argument}
    assert export_settings(environment).span_sampler == sampler
    assert export_settings(environment | {"OTEL_TRACES_EXPORTER": "none"}).span_sampler is None


@pytest.mark.parametrize(
    ("variable", "value", "rule"),
    [
        ("OTEL_TRACES_SAMPLER", "sometimes", "must be one of always_on,"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "must be one of http/protobuf, grpc"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "must be a URL of http or https"),
        ("OTEL_TRACES_EXPORTER", "none,otlp", "none must stand alone"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "must be a whole number from 1"),
        ("OTEL_BSP_SCHEDULE_DELAY", "1.5", "must be a whole number from 1"),
    ],
)
def test_a_wrong_variable_is_refused_with_its_value_and_rule(variable: str, value: str, rule: str) -> None:
    environment = ENDPOINT | {variable: value}
    with pytest.raises(ExportSettingError, match=f"^{variable}: {rule}") as refused:
        export_settings(environment)
    assert f"(got {value})" in str(refused.value)
    assert telemetry_note(environment) == f"appInsightsEnabled has no effect: {refused.value}"
    assert observer_arguments(Path("/rings"), environment)[2:] == [], "workers observe nothing then"


@pytest.mark.parametrize("share", ["2", "-0.1", "half", "nan"])
def test_a_share_that_is_none_is_refused(share: str) -> None:
    environment = ENDPOINT | {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": share}
    with pytest.raises(ExportSettingError, match=r"^OTEL_TRACES_SAMPLER_ARG: must be a number from 0 to 1"):
        export_settings(environment)


def test_a_password_in_a_url_is_not_shown() -> None:
    with pytest.raises(ExportSettingError) as refused:
        export_settings({"OTEL_EXPORTER_OTLP_ENDPOINT": "ftp://user:secret@host"})
    assert "secret" not in str(refused.value)


def test_limits_are_those_of_the_batch_processor() -> None:
    names = ("SCHEDULE_DELAY", "MAX_QUEUE_SIZE", "MAX_EXPORT_BATCH_SIZE", "EXPORT_TIMEOUT")
    found = export_settings(ENDPOINT | {f"OTEL_BSP_{name}": str(250 + n) for n, name in enumerate(names)})
    assert (found.delay_s, found.queue_records, found.batch_records, found.patience_s) == (0.25, 251, 252, 0.253)
    assert export_settings(ENDPOINT).queue_records == ExportSettings().queue_records


def test_the_note_is_about_endpoints_without_an_exporter() -> None:
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in telemetry_note({})
    assert telemetry_note(ENDPOINT) == ""


def test_workers_are_told_the_signals_and_the_sampler() -> None:
    assert observer_arguments(Path("/rings"), ENDPOINT)[2:] == [
        "--request-records",
        "--span-share=1.0",
        "--follow-parent",
    ]
    ratio = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1", "OTEL_LOGS_EXPORTER": "none"}
    assert observer_arguments(Path("/rings"), ENDPOINT | ratio)[2:] == ["--span-share=0.1"]
