"""Settings of collected payloads, from the environment."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from router.settings import SettingError, number, switch
from telemetry.collector_settings import CollectorSettings
from telemetry.ring import LEAST_BYTES

PREFIX: Final = "SCOREFRONT_PAYLOADS_"
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
