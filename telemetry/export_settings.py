"""Settings of the export of spans and request records: the standard variables of OpenTelemetry. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from telemetry.trace_context import Sampler

NO_EXPORTER: Final = (
    "no exporter is configured; set OTEL_EXPORTER_OTLP_ENDPOINT or APPLICATIONINSIGHTS_CONNECTION_STRING"
)
OTLP_HTTP: Final = "otlp_proto_http"
AZURE_MONITOR: Final = "azure_monitor_opentelemetry_exporter"
_NAMES: Final = {"azure_monitor": AZURE_MONITOR, "azuremonitor": AZURE_MONITOR}
"""Other spellings of exporters."""
_PROTOCOLS: Final = {"http/protobuf": OTLP_HTTP, "grpc": "otlp_proto_grpc"}
_SAMPLERS: Final = {
    "always_on": (False, 1.0),
    "always_off": (False, 0.0),
    "traceidratio": (False, None),
    "parentbased_always_on": (True, 1.0),
    "parentbased_always_off": (True, 0.0),
    "parentbased_traceidratio": (True, None),
}
"""Name -> the client's decision counts, share of the other traces; None: the argument."""
_url = re.compile(r"https?://[^\s/?#]+\S*", re.IGNORECASE)


class ExportSettingError(ValueError):
    """A variable that cannot be used; the text names it, its value and the rule."""


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """Exporters and limits; nothing is exported without an exporter."""

    span_exporters: tuple[str, ...] = ()
    """Names of entry points of `opentelemetry_traces_exporter`."""
    record_exporters: tuple[str, ...] = ()
    """Names of entry points of `opentelemetry_logs_exporter`."""
    sampler: Sampler = field(default_factory=Sampler)
    delay_s: float = 1.0
    """Longest time for which a record waits for others."""
    queue_records: int = 100_000
    """Records that wait; beyond it they are dropped. Usual ones take 50 MB."""
    batch_records: int = 512
    """Records in one request to a receiver."""
    patience_s: float = 30.0
    """Time for which a batch is sent again while a receiver fails; then it is dropped."""

    def __bool__(self) -> bool:
        """True if anything is exported."""
        return bool(self.span_exporters or self.record_exporters)

    @property
    def span_sampler(self) -> Sampler | None:
        """The sampler; None where no spans are exported."""
        return self.sampler if self.span_exporters else None


def export_settings(environment: Mapping[str, str]) -> ExportSettings:
    """The defaults, overridden by the environment. Raises ExportSettingError."""
    found = {name: value.strip() for name, value in environment.items() if value.strip()}  # empty: as if unset
    if found.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return ExportSettings()
    spans, records = _exporters(found, "TRACES"), _exporters(found, "LOGS")
    if not spans and not records:
        return ExportSettings()
    default = ExportSettings()
    return ExportSettings(
        span_exporters=spans,
        record_exporters=records,
        sampler=_sampler(found),
        delay_s=_number(found, "OTEL_BSP_SCHEDULE_DELAY", int(default.delay_s * 1000)) / 1000,
        queue_records=_number(found, "OTEL_BSP_MAX_QUEUE_SIZE", default.queue_records),
        batch_records=_number(found, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", default.batch_records),
        patience_s=_number(found, "OTEL_BSP_EXPORT_TIMEOUT", int(default.patience_s * 1000)) / 1000,
    )


def no_effect(reason: str = NO_EXPORTER) -> str:
    """Note on an endpoint whose telemetry is not exported."""
    return f"appInsightsEnabled has no effect: {reason}"


def _exporters(found: Mapping[str, str], signal: str) -> tuple[str, ...]:
    """Names of the exporters of a signal, TRACES or LOGS."""
    variable = f"OTEL_{signal}_EXPORTER"
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    given = found.get(variable)
    if given is None:
        wanted = ["otlp"] if any(name in found for name in endpoints) else []
        wanted += [AZURE_MONITOR] if "APPLICATIONINSIGHTS_CONNECTION_STRING" in found else []
    else:
        wanted = [each.strip().lower() for each in given.split(",") if each.strip()]
        if "none" in wanted and len(wanted) > 1:
            raise ExportSettingError(f"{variable}: none must stand alone (got {given})")
        wanted = [] if wanted == ["none"] else wanted
    if "otlp" in wanted:
        for name in endpoints:
            if name in found and not _url.fullmatch(found[name]):
                raise ExportSettingError(f"{name}: must be a URL of http or https (got {_shown(found[name])})")
        wanted[wanted.index("otlp")] = _protocol(found, signal)
    return tuple(dict.fromkeys(_NAMES.get(name, name) for name in wanted))


def _protocol(found: Mapping[str, str], signal: str) -> str:
    for name in (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if name in found:
            if found[name] not in _PROTOCOLS:
                raise ExportSettingError(f"{name}: must be one of {', '.join(_PROTOCOLS)} (got {found[name]})")
            return _PROTOCOLS[found[name]]
    return OTLP_HTTP


def _sampler(found: Mapping[str, str]) -> Sampler:
    name = found.get("OTEL_TRACES_SAMPLER", "parentbased_always_on")
    if name.lower() not in _SAMPLERS:
        raise ExportSettingError(f"OTEL_TRACES_SAMPLER: must be one of {', '.join(_SAMPLERS)} (got {name})")
    follows_parent, share = _SAMPLERS[name.lower()]
    if share is None:
        given = found.get("OTEL_TRACES_SAMPLER_ARG", "1")
        try:
            share = float(given)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            raise ExportSettingError(f"OTEL_TRACES_SAMPLER_ARG: must be a number from 0 to 1 (got {given})")
    return Sampler(follows_parent, share)


def _number(found: Mapping[str, str], name: str, default: int) -> int:
    given = found.get(name, str(default))
    if not given.isascii() or not given.isdigit() or not 0 < int(given) <= 10**9:
        raise ExportSettingError(f"{name}: must be a whole number from 1 to {10**9} (got {given})")
    return int(given)


def _shown(url: str) -> str:
    """A URL without user and password."""
    return re.sub(r"//[^/@]*@", "//", url)
