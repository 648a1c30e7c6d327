"""Settings of collected payloads and of telemetry, from the environment."""

import dataclasses
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from router.settings import SettingError, number, switch
from telemetry.collector_settings import CollectorSettings
from telemetry.export_settings import ExportSettingError, ExportSettings, export_settings, no_effect
from telemetry.ring import LEAST_BYTES

PREFIX: Final = "SCOREFRONT_PAYLOADS_"
LIBRARIES_RULE: Final = "opentelemetry-sdk is not installed: pip install 'scorefront[otel]'"
RING_RULE: Final = f"must be a whole number of bytes, at least {LEAST_BYTES} and a multiple of 8"


def payload_settings(environment: Mapping[str, str]) -> CollectorSettings:
    """The defaults, overridden by the environment. Raises SettingError that names the variable and the rule."""
    found: dict[str, Any] = {}
    for name, default in dataclasses.asdict(CollectorSettings()).items():
        read = switch if isinstance(default, bool) else number
        found[name] = read(environment, f"{PREFIX}{name.upper()}", default)
    settings = CollectorSettings(**found)
    if settings.ring_bytes < LEAST_BYTES or settings.ring_bytes % 8:
        raise SettingError(f"{PREFIX}RING_BYTES: {RING_RULE} (got {settings.ring_bytes})")
    if settings.port > 65535:
        raise SettingError(f"{PREFIX}PORT: must be a port from 1 to 65535 (got {settings.port})")
    return settings


def telemetry_settings(environment: Mapping[str, str]) -> ExportSettings:
    """Exporters of telemetry. Raises ExportSettingError, also if the libraries are not installed."""
    settings = export_settings(environment)
    if settings and find_spec("opentelemetry") is None:
        raise ExportSettingError(LIBRARIES_RULE)
    return settings


def telemetry_note(environment: Mapping[str, str]) -> str:
    """The reason why endpoints with telemetry have none; "" if it is exported."""
    try:
        return "" if telemetry_settings(environment) else no_effect()
    except ExportSettingError as error:
        return no_effect(str(error))


def observer_arguments(rings: Path, environment: Mapping[str, str]) -> list[str]:
    """Arguments of router workers for their observers. Raises SettingError. `rings`: folder of the rings."""
    told = [f"--rings-dir={rings}", f"--ring-bytes={payload_settings(environment).ring_bytes}"]
    try:
        telemetry = telemetry_settings(environment)
    except ExportSettingError:
        return told  # the notes of endpoints with telemetry name the fault
    if telemetry.record_exporters:
        told.append("--request-records")
    if (sampler := telemetry.span_sampler) is not None:
        told += [f"--span-share={sampler.share!r}", *(["--follow-parent"] if sampler.follows_parent else [])]
    return told
