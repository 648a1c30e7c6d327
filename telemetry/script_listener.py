"""Loopback port for the data of scripts: `azureml.ai.monitoring` as it is, and the collector of v1.

A script is recognized by the user name that its environment puts into the URL, else by the fields of its request, else
by the environment of its process, else as the only version that collects.
"""

import base64
import binascii
import contextlib
import json
import socket
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from aiohttp import web

from serving import strict_json
from serving.endpoint import PayloadCollection, VersionKey
from telemetry.payload_messages import is_sampled
from telemetry.payload_records import ScriptPayload, is_collection
from telemetry.script_queue import ScriptQueue, ScriptTable
from telemetry.script_tables import ScriptRows, table_place, table_rows

LOG_PATH: Final = "/modeldata/log"
ROWS_PATH: Final = "/modeldata/rows"
MAX_BODY_BYTES: Final = 16 * 1024 * 1024
UNKNOWN: Final = "unknown sender: use AZUREML_MDC_HOST of the replica, or the fields ce-endpoint and ce-version"
_TYPE: Final = "azureml.inference."
_ROWS_FIELDS: Final = frozenset(
    ("model", "modelVersion", "designation", "features", "rows", "correlationId", "requestId")
)


class ScriptPeers(Protocol):
    """Facts on the process at the other end of a connection."""

    def is_trusted(self, client: tuple[str, int], own: tuple[str, int]) -> bool:
        """True if it belongs to this user or root."""

    def version(self, client: tuple[str, int]) -> VersionKey | None:
        """The version whose replica it is; None: unknown."""


class ScriptListener:
    """Handlers of the port."""

    def __init__(
        self,
        queue: ScriptQueue,
        versions: Callable[[], Mapping[VersionKey, PayloadCollection]],
        drop: Callable[[VersionKey], None],
        peers: ScriptPeers,
        unix_now: Callable[[], float],
    ) -> None:
        """Handlers.

        queue: receives the data. versions: those that collect. drop: counts data that finds no room.
        peers: facts on the senders. unix_now: wall clock.
        """
        self._queue = queue
        self._versions = versions
        self._drop = drop
        self._peers = peers
        self._unix_now = unix_now

    async def serve(self, sock: socket.socket) -> web.AppRunner:
        """Serve on a listening socket; clean the runner up at the end."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.add_routes([web.post(LOG_PATH, self._log), web.post(ROWS_PATH, self._rows)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.SockSite(runner, sock).start()
        return runner

    async def _log(self, request: web.Request) -> web.Response:
        """An event of `azureml.ai.monitoring`."""
        key, refusal = self._sender(request)
        if key is None:
            return refusal
        headers = request.headers
        collection = headers.get("ce-type", "").removeprefix(_TYPE)
        if not is_collection(collection):
            return _refused(400, f"ce-type must be {_TYPE}NAME, NAME of letters, digits, '_', '-' and '.'")
        payload = ScriptPayload(
            key=key,
            collection=collection,
            content_type=headers.get("Content-Type", "").partition(";")[0],
            body=await request.read(),
            at=_unix(headers.get("ce-time", ""), self._unix_now()),
            correlation_id=headers.get("ce-x-request-id", "")[:200],
            data_type=headers.get("ce-collect-data-type", "")[:200],
            model_version=headers.get("ce-model-version", "")[:200],
            agent=headers.get("ce-agent", "")[:200],
        )
        return self._put(payload, payload.correlation_id)

    async def _rows(self, request: web.Request) -> web.Response:
        """Rows of `ModelDataCollector`."""
        key, refusal = self._sender(request)
        if key is None:
            return refusal
        try:
            rows = _script_rows(strict_json.parse((await request.read()).decode()), self._unix_now())
        except (ValueError, RecursionError) as error:
            return _refused(400, str(error))
        table = ScriptTable(key, table_place(key, rows), table_rows(key, rows))
        return self._put(table, rows.request_id)

    def _put(self, data: ScriptPayload | ScriptTable, request_id: str) -> web.Response:
        """Hand data over, if its request is in the sample."""
        collection = self._versions().get(data.key)
        if collection is None:
            return _refused(409, f"dataCollection.storageEnabled is not true for {data.key}")
        if request_id and not is_sampled(request_id.encode("utf-8", "replace"), collection.sampling):
            return web.Response(text="not in the sample\n")
        if not self._queue.put(data):
            self._drop(data.key)
            return _refused(503, "dropped: the store does not keep up")
        return web.Response(text="ok\n")

    def _sender(self, request: web.Request) -> tuple[VersionKey | None, web.Response]:
        """The version of the script; else a refusal."""
        transport = request.transport
        client = transport.get_extra_info("peername") if transport is not None else None
        own = transport.get_extra_info("sockname") if transport is not None else None
        if client is None or own is None or not self._peers.is_trusted(client[:2], own[:2]):
            return None, _refused(403, "only replicas of this user may send data")
        versions = self._versions()
        key = _named_in_url(request) or _named_in_fields(request) or self._peers.version(client[:2])
        if key is None and len(versions) == 1:
            key = next(iter(versions))
        if key is None:
            return None, _refused(
                400, "unknown sender: use AZUREML_MDC_HOST of the replica, or ce-endpoint, ce-version"
            )
        if key not in versions:
            return None, _refused(409, f"dataCollection.storageEnabled is not true for {key}")
        return key, web.Response()


def user_of(key: VersionKey) -> str:
    """User name in the URL of a replica's collector: endpoint, a dot, version."""
    return f"{key.endpoint}.{key.version}"


def _named_in_url(request: web.Request) -> VersionKey | None:
    kind, _, value = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        user = base64.b64decode(value, validate=True).decode().partition(":")[0]
    except (binascii.Error, ValueError):
        return None
    endpoint, _, version = user.partition(".")
    return VersionKey(endpoint, version) if version else None


def _named_in_fields(request: web.Request) -> VersionKey | None:
    endpoint = request.headers.get("ce-endpoint", "")
    version = request.headers.get("ce-version", "") or request.headers.get("ce-deployment", "")
    return VersionKey(endpoint, version) if endpoint and version else None


def _script_rows(document: Any, now: float) -> ScriptRows:
    """Raises ValueError. `now`: unix seconds."""
    if not isinstance(document, dict) or document.keys() != _ROWS_FIELDS:
        raise ValueError(f"the body must be an object of {', '.join(sorted(_ROWS_FIELDS))}")
    for name in ("model", "modelVersion", "designation"):
        if not is_collection(str(document[name])):
            raise ValueError(f"{name} must be letters, digits, '_', '-' and '.' (got {str(document[name])[:80]!r})")
    features, rows = document["features"], document["rows"]
    if not isinstance(features, list) or not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise ValueError("features must be a list, and rows a list of lists")
    if any(len(row) != len(features) for row in rows):
        raise ValueError(f"each of the rows must have {len(features)} values, one for each of features")
    return ScriptRows(
        model=str(document["model"]),
        model_version=str(document["modelVersion"]),
        designation=str(document["designation"]),
        features=[str(each) for each in features],
        rows=[
            [each if isinstance(each, str | int | float | None) else json.dumps(each) for each in row] for row in rows
        ],
        correlation_id=str(document["correlationId"])[:200],
        request_id=str(document["requestId"])[:200],
        at=now,
    )


def _cell(value: Any) -> str | int | float | None:
    return value if isinstance(value, str | int | float | None) else json.dumps(value)


def _unix(text: str, now: float) -> float:
    """Unix seconds of a field; `now` if it has none, or a time of more than a day ago or ahead."""
    with contextlib.suppress(ValueError):
        if abs(float(text) - now) < 86_400:
            return float(text)
    return now


def _refused(status: int, reason: str) -> web.Response:
    return web.Response(status=status, text=f"{reason}\n")
