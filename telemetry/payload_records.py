"""Records of payloads in the form of Azure ML v2: CloudEvents as JSON lines. Pure.

A record has `data` (a JSON value, or text), or `data_base64` (other bytes), or `dataref` (a body beyond the limit, in a
file of its own).
"""

import base64
import functools
import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from serving.endpoint import VersionKey
from telemetry.payload_messages import CapturedBody, CapturedExchange

ROOT: Final = "modelDataCollector"
REQUESTS, RESPONSES = "request", "response"
HOUR_S: Final = 3600
AGENT: Final = "scorefront"
_TEXT: Final = re.compile(
    r"text/|application/(?:[^;]*\+)?(?:xml|yaml)|application/x-www-form-urlencoded", re.IGNORECASE
)
_JSON: Final = re.compile(r"application/(?:[^;]*\+)?json\s*(?:;|$)", re.IGNORECASE)
_COLLECTION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


class PayloadRecord(msgspec.Struct, omit_defaults=True):
    """One line; the names are those of Azure ML v2."""

    specversion: str
    id: str
    source: str
    type: str
    datacontenttype: str
    time: str
    data: Any = msgspec.UNSET
    data_base64: str | msgspec.UnsetType = msgspec.UNSET
    dataref: str | msgspec.UnsetType = msgspec.UNSET
    correlationid: str = ""
    xrequestid: str = ""
    modelversion: str = ""
    collectdatatype: str = ""
    agent: str = ""
    contentrange: str = ""
    method: str = ""
    path: str = ""
    statuscode: int = 0
    """HTTP status of a response; 0 for a request."""


class RecordPlace(NamedTuple):
    """The file of a record, but for the writer's part of its name."""

    key: VersionKey
    collection: str
    hours: int
    """Since 1970."""

    @property
    def folder(self) -> str:
        """Folder in the store."""
        return f"{ROOT}/{self.key.endpoint}/{self.key.version}/{self.collection}/{_hour_folder(self.hours)}"


@dataclass(frozen=True, slots=True)
class ScriptPayload:
    """Data that a script has sent to the listener."""

    key: VersionKey
    collection: str
    content_type: str
    body: bytes
    at: float
    """Unix seconds."""
    correlation_id: str = ""
    data_type: str = ""
    model_version: str = ""
    agent: str = ""


def is_collection(name: str) -> bool:
    """True if `name` can be the name of a collection, and of a folder."""
    return _COLLECTION.fullmatch(name) is not None


def place_of(key: VersionKey, collection: str, at: float) -> RecordPlace:
    """The place of a record. `key`: of the version. `collection`: its kind. `at`: unix seconds."""
    return RecordPlace(key, collection, int(at // HOUR_S))


@functools.lru_cache(64)
def _hour_folder(hours: int) -> str:
    """`hours`: since 1970."""
    return f"{datetime.fromtimestamp(hours * HOUR_S, UTC):%Y/%m/%d/%H}"


def exchange_line(exchange: CapturedExchange, collection: str, reference: str | None) -> bytes:
    """The line of a request or a response.

    exchange: both. collection: REQUESTS or RESPONSES.
    reference: file of its body in the store; None: the body is in the record.
    """
    is_request = collection == REQUESTS
    body = exchange.request if is_request else exchange.response
    at = exchange.began if is_request else exchange.began + exchange.duration_s
    record = PayloadRecord(
        specversion="1.0",
        id=record_id(exchange.request_id, collection),
        source=_source(*exchange.key),
        type=f"azureml.inference.{collection}",
        datacontenttype=body.content_type or "application/octet-stream",
        time=_time(at),
        correlationid=exchange.request_id,
        xrequestid=exchange.request_id,
        modelversion="default",
        collectdatatype="payload",
        agent=AGENT,
        contentrange=content_range(body.size_bytes),
    )
    if is_request:
        record.method, record.path = exchange.method, exchange.path
    else:
        record.statuscode = exchange.status
    _set_data(record, body, reference)
    return msgspec.json.encode(record) + b"\n"


def script_line(payload: ScriptPayload, identity: str, reference: str | None) -> bytes:
    """The line of data from a script.

    payload: the data. identity: id of the record.
    reference: file of its body in the store; None: the body is in the record.
    """
    body = CapturedBody(payload.content_type, payload.body, len(payload.body))
    record = PayloadRecord(
        specversion="1.0",
        id=identity,
        source=_source(*payload.key),
        type=f"azureml.inference.{payload.collection}",
        datacontenttype=payload.content_type or "application/octet-stream",
        time=_time(payload.at),
        correlationid=payload.correlation_id,
        xrequestid=payload.correlation_id,
        modelversion=payload.model_version or "default",
        collectdatatype=payload.data_type,
        agent=payload.agent or AGENT,
        contentrange=content_range(body.size_bytes),
    )
    _set_data(record, body, reference)
    return msgspec.json.encode(record) + b"\n"


def record_id(request_id: str, collection: str) -> str:
    """Id of a record: the same each time, so that a record that was written twice is recognized."""
    digits = hashlib.blake2b(f"{request_id}/{collection}".encode(), digest_size=16).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"


def content_range(size_bytes: int) -> str:
    """The range of a whole body."""
    return f"bytes 0-{size_bytes - 1}/{size_bytes}" if size_bytes else "bytes */0"


def _set_data(record: PayloadRecord, body: CapturedBody, reference: str | None) -> None:
    if reference is not None:
        record.dataref = reference
        return
    data = body.data
    if not data:
        record.data = ""
        return
    may_be_json, may_be_text = _kinds(body.content_type)
    if may_be_json:
        raw = _json_line(data)
        if raw is not None:
            record.data = msgspec.Raw(raw)
            return
    if may_be_text:
        try:
            record.data = data.decode()
        except UnicodeDecodeError:
            pass
        else:
            return
    record.data_base64 = base64.b64encode(data).decode()


@functools.lru_cache(256)
def _kinds(content_type: str) -> tuple[bool, bool]:
    """The two forms that a body may have beside base64: JSON and text."""
    may_be_json = not content_type or _JSON.match(content_type) is not None
    return may_be_json, may_be_json or _TEXT.match(content_type) is not None


def _json_line(data: bytes) -> bytes | None:
    """JSON of one line, as sent if it has no line ends; None: it is not JSON."""
    try:
        data.decode()
        msgspec.json.decode(data, type=msgspec.Raw)  # checks the syntax, and builds nothing
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return msgspec.json.format(data, indent=-1) if b"\n" in data or b"\r" in data else data.strip()


def _source(endpoint: str, version: str) -> str:
    return f"/endpoints/{endpoint}/versions/{version}"


def _time(at: float) -> str:
    seconds, microseconds = divmod(round(at * 1e6), 1_000_000)
    return f"{_time_of_second(seconds)}.{microseconds:06d}Z"


@functools.lru_cache(64)
def _time_of_second(seconds: int) -> str:
    """`seconds`: since 1970."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"
