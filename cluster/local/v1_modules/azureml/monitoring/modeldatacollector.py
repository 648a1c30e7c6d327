"""`ModelDataCollector` of v1: rows go to the collector of scorefront, which writes them in the layout of v1."""

from __future__ import annotations

import atexit
import base64
import contextlib
import http.client
import json
import os
import queue
import re
import sys
import threading
import uuid
from typing import Any, Dict  # noqa: UP035

ROWS_PATH = "/modeldata/rows"
HOST_MODULE = "scorefront_script_host"
SEND_S = 5.0
AT_EXIT_S = 3.0
WAITING = 1000
"""Calls of `collect` that wait to be sent; more are dropped, with a line."""
_NOTE = (
    "Data collection is not enabled: ModelDataCollector.collect keeps nothing. Requests and responses are kept where"
    " dataCollection.storageEnabled is true."
)
_noted = False
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9_.-]+")


class Correlations(Dict[str, str]):  # noqa: UP006 - for Python 3.8
    """Ids of one call of `collect`, for `add_correlations`."""


class ModelDataCollector:
    """A collector of one kind of data. Without AML_MODEL_DC_STORAGE_ENABLED it keeps nothing."""

    def __init__(
        self,
        model_name: str,
        designation: str = "default",
        feature_names: Any = None,
        collection_name: str | None = None,
        *more: Any,
        **options: Any,
    ) -> None:
        """A collector; the first of a process that keeps nothing prints a line.

        model_name: of the model.
        designation: kind of data, e.g. inputs or predictions.
        feature_names: columns; None: those of the data, else column_0, column_1, …
        collection_name: name of the data of the designations signals and general.
        more, options: further arguments of v1; model_version counts, default that of AZUREML_MODEL_DIR.
        """
        global _noted
        self.model_name = str(model_name)
        self.designation = str(designation)
        self.feature_names = None if feature_names is None else [str(name) for name in feature_names]
        self._folder = (
            str(collection_name) if collection_name and designation in ("signals", "general") else designation
        )
        self._version = _plain(str(options["model_version"])) if options.get("model_version") else ""
        self._enabled = os.environ.get("AML_MODEL_DC_STORAGE_ENABLED", "").lower() == "true"
        if not self._enabled and not _noted:
            print(_NOTE)
            _noted = True

    def collect(self, input_data: Any, user_correlation_id: str = "") -> Correlations | None:
        """Keep rows; returns at once.

        input_data: a DataFrame, an array, a list of rows, or one row.
        user_correlation_id: an id of the caller's; default: one is made.
        Returns the ids for `add_correlations`; None if nothing is kept.
        """
        if not self._enabled:
            return None
        columns, rows = _table(input_data)
        names = self.feature_names if self.feature_names is not None else columns
        width = max((len(row) for row in rows), default=len(names or ()))
        features = list(names or ())[:width]
        features += [f"column_{number}" for number in range(len(features), width)]
        request_id = _request_id()
        correlations = Correlations(
            {"$aml_dc_correlation_id": user_correlation_id or str(uuid.uuid4()), "$aml_request_id": request_id}
        )
        document = {
            "model": _plain(self.model_name),
            "modelVersion": self._version or _model_version(self.model_name),
            "designation": _plain(self._folder),
            "features": features,
            "rows": [[*row, *([None] * (width - len(row)))] for row in rows],
            "correlationId": correlations["$aml_dc_correlation_id"],
            "requestId": request_id,
        }
        _sender().put(json.dumps(document, default=_as_json).encode())
        return correlations

    def add_correlations(self, input_data: Any, correlations: Any) -> Any:
        """The data with the ids of a call of `collect` as further columns; as given without ids.

        input_data: a DataFrame, or a list of rows. correlations: as returned by `collect`.
        """
        if not isinstance(correlations, dict) or not correlations:
            return input_data
        if hasattr(input_data, "assign"):
            return input_data.assign(**correlations)
        if isinstance(input_data, list):
            return [[*_row(row), *correlations.values()] for row in input_data]
        return input_data


class _Sender:
    """A thread that posts to the collector; scoring never waits for it."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[bytes] = queue.Queue(WAITING)
        self._noted = False
        self.process = os.getpid()
        threading.Thread(target=self._run, name="send collected data", daemon=True).start()
        atexit.register(self._finish)

    def put(self, body: bytes) -> None:
        try:
            self._waiting.put_nowait(body)
        except queue.Full:
            self._note("the collector does not keep up")

    def _run(self) -> None:
        while True:
            body = self._waiting.get()
            try:
                self._send(body)
            except (OSError, http.client.HTTPException) as error:
                self._note(str(error))
            finally:
                self._waiting.task_done()

    def _send(self, body: bytes) -> None:
        user, _, host = os.environ.get("AZUREML_MDC_HOST", "127.0.0.1").rpartition("@")
        headers = {"Content-Type": "application/json"}
        if user:
            headers["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
        with contextlib.closing(
            http.client.HTTPConnection(host, int(os.environ.get("AZUREML_MDC_PORT", "50011")), timeout=SEND_S)
        ) as connection:
            connection.request("POST", ROWS_PATH, body, headers)
            response = connection.getresponse()
            text = response.read(1000).decode(errors="replace").strip()
            if response.status >= 300:
                self._note(f"{response.status} {text}")

    def _finish(self) -> None:
        """Wait for what is being sent, for a while."""
        done = threading.Thread(target=self._waiting.join, daemon=True)
        done.start()
        done.join(AT_EXIT_S)

    def _note(self, reason: str) -> None:
        if not self._noted:
            self._noted = True
            print(f"ModelDataCollector: data is dropped: {reason} (said once)", file=sys.stderr)


_senders: list[_Sender] = []
_making = threading.Lock()


def _sender() -> _Sender:
    """The sender of this process: a thread does not survive a fork."""
    with _making:
        if not _senders or _senders[0].process != os.getpid():
            _senders[:] = [_Sender()]
        return _senders[0]


def _table(data: Any) -> tuple[list[str] | None, list[list[Any]]]:
    """Column names, if the data has them, and rows."""
    if hasattr(data, "columns") and hasattr(data, "itertuples"):
        return [str(name) for name in data.columns], [list(row) for row in data.itertuples(index=False, name=None)]
    if hasattr(data, "tolist"):
        data = data.tolist()
    if isinstance(data, dict):
        return [str(name) for name in data], [list(data.values())]
    if not isinstance(data, (list, tuple)):
        return None, [[data]]
    if any(isinstance(row, (list, tuple)) or hasattr(row, "tolist") for row in data):
        return None, [_row(row) for row in data]
    return None, [list(data)]


def _row(row: Any) -> list[Any]:
    if hasattr(row, "tolist"):
        row = row.tolist()
    return list(row) if isinstance(row, (list, tuple)) else [row]


def _as_json(value: Any) -> Any:
    """Numbers of numpy, and text of everything else."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else str(value)


def _request_id() -> str:
    host = sys.modules.get(HOST_MODULE)
    return (host.request_id() if host is not None else None) or ""


def _model_version(name: str) -> str:
    """Version of a model in the layout `azureml-models/NAME/VERSION`, else 1."""
    parts = os.environ.get("AZUREML_MODEL_DIR", "").strip("/").split("/")
    if name in parts[:-1]:
        return _plain(parts[parts.index(name) + 1])
    folder = os.path.join(os.environ.get("AZUREML_MODEL_DIR", ""), name)
    try:
        versions = [entry for entry in os.listdir(folder) if entry.isdigit()]
    except OSError:
        versions = []
    return max(versions, key=int, default="1")


def _plain(name: str) -> str:
    """A name of a folder."""
    return _NOT_PLAIN.sub("-", name).strip("-.")[:100] or "unnamed"
