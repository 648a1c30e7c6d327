"""Host of an entry script in a replica: module search, quiet logs with the request id, swagger of the public path.

Loaded by `inference_server.py` from its path, under a name of its own: in a replica, `cluster` may be a module of the
model.
"""

from __future__ import annotations

import ast
import importlib.util
import io
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).parent
V1_MODULES = HERE / "v1_modules"
ADVICE = HERE / "script_advice.py"
ROUTES = os.path.join("server", "routes.py")
SERVER_LOGGERS = ("azmlinfsrv", "azmlinfsrv.trace")
REQUEST_ID = "X-MS-REQUEST-ID"
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
"""A line with its end; other characters that end lines in Python do not: progress bars write \\r."""
_NOT_JSON = re.compile(rb"[\[:,\s](NaN|-?Infinity)\s*[,\]}]|^(NaN|-?Infinity)$")


def app() -> Any:
    """The WSGI application of the inference server, with the script of AZUREML_ENTRY_SCRIPT loaded."""
    sys.stdout, sys.stderr = _marked(sys.stdout), _marked(sys.stderr)
    if script := os.environ.get("AZUREML_ENTRY_SCRIPT"):
        sys.path.insert(0, os.path.dirname(os.path.abspath(script)))
    sys.meta_path.append(V1ModuleFinder())
    quiet = ServerLogFilter()
    for name in SERVER_LOGGERS:
        logging.getLogger(name).addFilter(quiet)
    try:
        from azureml_inference_server_http.server.entry import app as served
    except SystemExit as leaving:
        if advice := _advice(leaving.__context__):
            sys.stdout.write(f"{advice}\n")
        raise
    served.after_request(_after_request)
    return served


class V1ModuleFinder(MetaPathFinder):
    """Finder of the modules in V1_MODULES; the last one, so that an installed SDK comes first, module by module."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module of `azureml`; None for others."""
        top, *below = fullname.split(".")
        if top != "azureml":
            return None
        folder = V1_MODULES.joinpath(*([top, *below][:-1]))
        return PathFinder.find_spec(fullname, [str(folder)])


# ---- log lines


_in_progress: dict[int, str] = {}
"""Thread -> id of the request in progress."""


def began(worker: Any, request: Any) -> None:
    """Hook of gunicorn before a request: its id marks the lines from now on."""
    for name, value in request.headers:
        if name == REQUEST_ID and value.isprintable():
            _in_progress[threading.get_ident()] = value
            return


def ended(worker: Any, request: Any, environ: Any, response: Any) -> None:
    """Hook of gunicorn after a response."""
    _in_progress.pop(threading.get_ident(), None)


def request_id() -> str | None:
    """The id of the request of this thread, else of the only request in progress."""
    own = _in_progress.get(threading.get_ident())
    if own is None and len(_in_progress) == 1:
        return next(iter(_in_progress.values()), None)
    return own


class MarkedStream(io.TextIOWrapper):
    """Standard output or error; each line written during a request begins with the id of the request."""

    _at_start = True

    def write(self, text: str) -> int:
        """Write `text`, marked."""
        found = request_id()
        if not text:
            return 0
        lines = text if found is None else self._with(f"[{found}] ", text)
        self._at_start = text.endswith("\n")
        super().write(lines)
        return len(text)

    def _with(self, mark: str, text: str) -> str:
        pieces: list[str] = _LINE.findall(text)
        if not self._at_start:
            return pieces[0] + "".join(mark + piece for piece in pieces[1:])
        return "".join(mark + piece for piece in pieces)


def _marked(stream: Any) -> Any:
    """`stream` with marks; itself if it is not a text stream over bytes."""
    if isinstance(stream, MarkedStream) or not hasattr(stream, "buffer"):
        return stream
    return MarkedStream(
        stream.buffer, encoding=stream.encoding, errors="backslashreplace", line_buffering=True, write_through=True
    )


class ServerLogFilter(logging.Filter):
    """Filter of the inference server's log: without lines per request and false warnings, with advice on errors."""

    def filter(self, record: logging.LogRecord) -> bool:
        """False: the record is dropped."""
        if record.pathname.endswith(ROUTES):
            if record.levelno < logging.ERROR:
                return False
            if advice := _advice(sys.exc_info()[1]):
                record.msg, record.args = f"{record.getMessage()}\n{advice}", ()
        elif record.funcName == "_get_model_ids":
            return False
        elif record.funcName == "check_extra_keys":
            return _has_unknown_keys(record.getMessage())
        return True


def _has_unknown_keys(text: str) -> bool:
    """False if the server complains of its own environment variables only."""
    listed = text.rpartition("Extra keys = ")[2]
    try:
        return any(str(key).upper() not in os.environ for key in ast.literal_eval(listed))
    except (ValueError, SyntaxError):
        return True


def _advice(error: BaseException | None) -> str | None:
    if error is None or not ADVICE.exists():
        return None
    spec = importlib.util.spec_from_file_location("scorefront_script_advice", ADVICE)
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: str | None = module.advice(error, os.environ, os.getcwd(), sys.executable)
    return f"scorefront: {found}" if found else None


# ---- responses


_noted: list[bool] = []


def _after_request(response: Any) -> Any:
    """Adapt swagger.json to the public path; note the first answer that is not JSON."""
    from flask import request

    if request.path == "/swagger.json" and response.status_code == 200:
        own = os.environ.get("SERVICE_PATH_PREFIX", "")
        document = public_swagger(json.loads(response.get_data()), own, request.headers)
        response.set_data(json.dumps(document))
    elif not _noted and response.mimetype == "application/json" and not response.is_streamed:
        data = response.get_data()
        if (b"NaN" in data or b"Infinity" in data) and _NOT_JSON.search(data):
            _noted.append(True)
            sys.stdout.write(
                "scorefront: run() returned NaN or Infinity, which JSON does not have: strict clients refuse the"
                " answer; return None or text instead (said once)\n"
            )
    return response


def public_swagger(document: Any, own_prefix: str, headers: Mapping[str, str]) -> Any:
    """A swagger document with the path and the scheme of the request.

    document: of the server or of the user; one with a base path, host or servers of its own stays as it is.
    own_prefix: the prefix of its paths.
    headers: of the request; X-Forwarded-Prefix and X-Forwarded-Proto count.
    """
    if not isinstance(document, dict) or not isinstance(document.get("paths"), dict):
        return document
    own = f"/{own_prefix.strip('/')}" if own_prefix.strip("/") else ""
    if {"basePath", "host", "servers"} & document.keys() or f"{own}/score" not in document["paths"]:
        return document
    prefix = headers.get("X-Forwarded-Prefix", own).rstrip("/")
    scheme = headers.get("X-Forwarded-Proto", "").lower()
    paths = {
        prefix + path[len(own) :] if path.startswith(own) else path: item for path, item in document["paths"].items()
    }
    schemes = {"schemes": [scheme]} if "schemes" in document and scheme in ("http", "https") else {}
    return {**document, **schemes, "paths": paths}
