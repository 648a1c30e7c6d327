"""Command for collected payloads: data."""

import json
import time
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.table import Table

from scorefront.cli import show
from scorefront.cli.arguments import (
    DEFAULT_URL,
    ControlCa,
    ControlUrl,
    EndpointName,
    OneVersion,
    control_plane,
    period_s,
)

SHOWN_DATA = 60
"""Characters of data in a table."""


class DataFormat(StrEnum):
    """Forms of output."""

    JSONL = "jsonl"
    TABLE = "table"


def data(
    name: EndpointName,
    version: OneVersion = None,
    collection: Annotated[
        str | None,
        typer.Option("--collection", metavar="C", help="Only this collection: request, response, or one of scripts."),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="1h", help="Only the last so many seconds (s), m, h or days (d).")
    ] = None,
    output: Annotated[DataFormat, typer.Option("-o", "--output", help="JSON lines, or a table.")] = DataFormat.JSONL,
    control_url: ControlUrl = DEFAULT_URL,
    control_ca: ControlCa = None,
) -> None:
    """Print the collected payloads of an endpoint by hour, one JSON record a line, for pandas.read_json(lines=True).

    Requests and responses are collected where a version declares `dataCollection: {storageEnabled: true}`.

    \b
    Examples:
      scorefront data iris --since 1h
      scorefront data iris --version blue --collection request > requests.jsonl
    """
    start = None if since is None else time.time() - period_s(since)  # noqa: TID251 - a shell
    records = control_plane(control_url, control_ca).data(name, version, collection, start)
    if output is DataFormat.TABLE:
        show.console().print(_table(records))
        return
    for line in records:
        print(line.decode())


def _table(lines: Iterator[bytes]) -> Table:
    table = Table("time", "version", "collection", "request id", "bytes", "data", box=None)
    for line in lines:
        record = json.loads(line)
        table.add_row(
            record.get("time", "")[:23],
            record.get("source", "").rpartition("/")[2],
            record.get("type", "").rpartition(".")[2],
            record.get("xrequestid", record.get("correlationid", "")),
            record.get("contentrange", "").rpartition("/")[2],
            show.shown(_summary(record)),
        )
    return table


def _summary(record: dict[str, Any]) -> str:
    """Beginning of the data, or where it is."""
    if "dataref" in record:
        return str(record["dataref"])
    if "data_base64" in record:
        return "(base64) " + str(record["data_base64"])[:SHOWN_DATA]
    value = record.get("data", "")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_DATA else text[:SHOWN_DATA] + "…"
