"""Settings of the builds of environments."""

import math
from collections.abc import Mapping

from router.settings import SettingError
from workspace.builders.venv_builder import BuildLimits

BUILD_TIMEOUT = "SCOREFRONT_BUILD_TIMEOUT_S"
KEPT_GB = "SCOREFRONT_ENVIRONMENTS_GB"
BYTES_PER_GB = 10**9


def build_limits(environment: Mapping[str, str]) -> BuildLimits:
    """The limits that the settings name. Raises SettingError with the variable, the value and the rule."""
    default = BuildLimits()
    return BuildLimits(
        time_s=_positive(environment, BUILD_TIMEOUT, default.time_s, "seconds"),
        kept_bytes=round(BYTES_PER_GB * _positive(environment, KEPT_GB, default.kept_bytes / BYTES_PER_GB, "GB")),
    )


def _positive(environment: Mapping[str, str], name: str, default: float, unit: str) -> float:
    """A number above 0. `name`: of the variable. `default`: without it. `unit`: for the rule."""
    text = environment.get(name, "")
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise SettingError(f"{name}: must be a number of {unit} above 0 (got {text!r})")
    return number
