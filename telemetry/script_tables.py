"""Rows of `ModelDataCollector` in the layout of v1: CSV files by model, designation and day. Pure."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from serving.endpoint import VersionKey
from telemetry.payload_batch import TablePlace

TABLES: Final = "modeldata"
ACCOUNT: Final = "scorefront/scorefront/scorefront"
"""In place of subscription, resource group and workspace."""
COLUMNS: Final = (
    *("$aml_dc_correlation_id", "$aml_dc_scoring_timestamp", "$aml_dc_boundary", "$aml_workspace"),
    *("$aml_service_name", "$aml_model_name", "$aml_model_version", "$aml_request_id"),
)
BOUNDARY_MINUTES: Final = 1440
WORKSPACE: Final = "scorefront"


@dataclass(frozen=True, slots=True)
class ScriptRows:
    """Rows of one call of `collect`."""

    model: str
    model_version: str
    designation: str
    features: Sequence[str]
    rows: Sequence[Sequence[Any]]
    correlation_id: str
    request_id: str
    at: float
    """Unix seconds."""


def table_place(key: VersionKey, rows: ScriptRows) -> TablePlace:
    """The file of rows. `key`: of the version of the script."""
    day = datetime.fromtimestamp(rows.at, UTC)
    folder = "/".join(
        (TABLES, ACCOUNT, key.endpoint, rows.model, rows.model_version, rows.designation, f"{day:%Y/%m/%d}")
    )
    return TablePlace(folder, _csv([[*rows.features, *COLUMNS]]))


def table_rows(key: VersionKey, rows: ScriptRows) -> bytes:
    """The lines of rows. `key`: of the version of the script."""
    time = datetime.fromtimestamp(rows.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    more = [
        *(rows.correlation_id, time, BOUNDARY_MINUTES, WORKSPACE),
        *(key.endpoint, rows.model, rows.model_version, rows.request_id),
    ]
    return _csv([[*row, *more] for row in rows.rows])


def _csv(rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "replace")
