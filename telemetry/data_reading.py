"""Reading of collected data: lines of records, by hour. Blocking."""

import csv
import gzip
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO, Final, cast

import msgspec

from telemetry.payload_files import PayloadStore
from telemetry.payload_records import ROOT
from telemetry.retention import time_of
from telemetry.script_tables import ACCOUNT, TABLES

_RECORDS: Final = re.compile(rf"{ROOT}/[^/]+/(?P<version>[^/]+)/(?P<collection>[^/]+)/.+\.jsonl(?P<gz>\.gz)?")
_ROWS: Final = re.compile(rf"{TABLES}/{ACCOUNT}/[^/]+/[^/]+/[^/]+/(?P<collection>[^/]+)/.+\.csv")


@dataclass(frozen=True, slots=True)
class DataQuery:
    """Selection of collected data of one endpoint. Names are checked by the caller: they become paths."""

    endpoint: str
    version: str | None = None
    """None: all. Rows in the layout of v1 name no version: they are left out where one is asked for."""
    collection: str | None = None
    since: float | None = None
    """Unix seconds; None: from the beginning."""


class _Timed(msgspec.Struct):
    time: str = ""


def read_lines(store: PayloadStore, query: DataQuery) -> Iterator[bytes]:
    """Lines of JSON with their ends: files by hour, then by name. Raises OSError."""
    since = None if query.since is None else datetime.fromtimestamp(query.since, UTC)
    bound = "" if since is None else since.isoformat(timespec="microseconds").replace("+00:00", "Z")
    for name in _files(store, query, since):
        try:
            file = store.open(name)
        except FileNotFoundError:
            continue  # removed by now, for its age
        with file:
            lines = _rows(name, file) if name.endswith(".csv") else _records(name, file)
            for line in lines:
                if not bound or _is_since(line, bound):
                    yield line


def _files(store: PayloadStore, query: DataQuery, since: datetime | None) -> list[str]:
    folder = f"{ROOT}/{query.endpoint}" + (f"/{query.version}" if query.version else "")
    names = store.names(folder)
    if query.version is None:
        names += store.names(f"{TABLES}/{ACCOUNT}/{query.endpoint}")
    found = []
    for name in names:
        match = _RECORDS.fullmatch(name) or _ROWS.fullmatch(name)
        ended = time_of(name)
        if match is None or ended is None or (since is not None and ended <= since):
            continue
        if query.collection in (None, match["collection"]):
            found.append((ended, name))
    return [name for _, name in sorted(found)]


def _records(name: str, file: BinaryIO) -> Iterator[bytes]:
    """Whole lines; the last one may be under construction."""
    stream = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if name.endswith(".gz") else file
    rest = b""
    try:
        while piece := stream.read(1 << 18):
            *lines, rest = (rest + piece).split(b"\n")
            yield from (line + b"\n" for line in lines if line)
    except EOFError:
        return


def _rows(name: str, file: BinaryIO) -> Iterator[bytes]:
    """The rows of a table as objects, with the fields `type` and `time` of records."""
    match = _ROWS.fullmatch(name)
    kind = f"azureml.inference.{match['collection']}" if match is not None else ""
    for row in csv.DictReader(io.TextIOWrapper(file, "utf-8", "replace", newline="")):
        time = _micro(row.get("$aml_dc_scoring_timestamp") or "")
        ids = {"correlationid": row.get("$aml_request_id") or "", "time": time, "type": kind}
        yield json.dumps({**ids, "data": row}).encode() + b"\n"


def _micro(time: str) -> str:
    """A time in milliseconds with the digits of records, so that both compare as text."""
    return re.sub(r"\.(\d{3})Z$", r".\g<1>000Z", time)


def _is_since(line: bytes, bound: str) -> bool:
    try:
        return msgspec.json.decode(line, type=_Timed).time >= bound
    except msgspec.DecodeError:
        return False
