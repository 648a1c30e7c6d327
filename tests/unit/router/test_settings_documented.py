"""docs/settings.md: every setting with its unit and default, and no others."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from autoscaler.frontend_settings import FrontEndSettings
from cluster.local.machine_resources import GPUS
from router.settings import RouterSettings
from scorefront import payload_settings
from scorefront.frontend_scaling import MACHINE_FIELDS, PREFIX, PURPOSE
from scorefront.ports import timed_port as ports
from scorefront.ports.connection_table import PortLimits
from scorefront.up.banner import SHOW_KEYS
from scorefront.up.build_limits import BUILD_TIMEOUT, KEPT_GB
from serving.destinations import SETTING as STATIC_CIDRS
from serving.issuer_hosts import SETTING as ISSUER_HOSTS
from telemetry.collector_settings import CollectorSettings

PAGE = (Path(__file__).parents[3] / "docs" / "settings.md").read_text()
LISTS = {field.name for field in dataclasses.fields(RouterSettings) if isinstance(field.default, tuple)}
"""Settings that are described in the text."""
FIELDS = {field.name: field for field in dataclasses.fields(RouterSettings) if field.name not in LISTS} | {
    f"frontend_{field.name}": field for field in dataclasses.fields(FrontEndSettings) if field.name in MACHINE_FIELDS
}
FIELDS |= {f"control_{field.name}": field for field in dataclasses.fields(PortLimits)}
FIELDS |= {f"payloads_{field.name}": field for field in dataclasses.fields(CollectorSettings)}
UNITS = {"_bytes": "bytes", "_s": "seconds", "max_fields": "fields", "_connections": "connections"}
UNITS |= {"max_attempts": "attempts", "_cpu": "share", "hide_endpoints": "switch"}
UNITS |= {"short_slices": "switch"}
UNITS |= {"_compress": "switch", "_days": "days", "_port": "port"}

_row = re.compile(r"^\| `(\w+)` \| ([0-9.]+|true|false) \| (\w+) \| `(\w+)` \| (.+) \|$", re.MULTILINE)
ROWS = {name: (default, unit, variable, text) for name, default, unit, variable, text in _row.findall(PAGE)}


def unit_of(name: str) -> str:
    return next(unit for ending, unit in UNITS.items() if name.endswith(ending))


def test_page_and_settings_name_the_same() -> None:
    assert ROWS.keys() == FIELDS.keys()
    assert len(_row.findall(PAGE)) == len(FIELDS)
    assert len(re.findall(r"^\| `", PAGE, re.MULTILINE)) == len(FIELDS), "a row that this test cannot read"


@pytest.mark.parametrize("name", FIELDS)
def test_a_row_has_default_unit_variable_and_effect(name: str) -> None:
    default, unit, variable, text = ROWS[name]
    assert json.loads(default) == FIELDS[name].default
    assert unit == unit_of(name)
    assert variable == f"SCOREFRONT_{name.upper()}"
    assert len(text) > 30


def test_every_documented_variable_is_a_setting() -> None:
    told = set(re.findall(r"SCOREFRONT_(\w+)", PAGE))
    assert told == {name.upper() for name in FIELDS.keys() | LISTS} | {
        name.removeprefix("SCOREFRONT_")
        for name in (PURPOSE, STATIC_CIDRS, ISSUER_HOSTS, SHOW_KEYS, GPUS, BUILD_TIMEOUT, KEPT_GB)
    }
    assert f"SCOREFRONT_{'frontend_'.upper()}" == PREFIX
    assert f"SCOREFRONT_{'control_'.upper()}" == ports.PREFIX
    assert f"SCOREFRONT_{'payloads_'.upper()}" == payload_settings.PREFIX


@pytest.mark.parametrize("name", re.findall(r"`([a-z_]+_s|[a-z_]+_bytes)`", PAGE))
def test_settings_named_in_the_text_exist(name: str) -> None:
    assert name in FIELDS
