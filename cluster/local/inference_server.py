"""gunicorn's settings for a replica with an entry script; read by gunicorn in the child, never imported.

The settings of the inference server's launcher, less those unfit for a replica behind a front end. The address and the
number of workers are on the command line. `script_host` beside it loads the script. On one machine, connections of
other users are closed. In an image `socket_owner` is missing and every connection is accepted: the users there are
those of the pod, among them the sidecar of a service mesh.

gunicorn starts a worker that died in `init()` again without end, unless it exited with its code for a failed start.
Here the server ends like the worker, so that the code or the signal is reported and the restarts have a backoff.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib.util
import json
import logging.config
import mmap
import os
import resource
import signal
import socket
import sys
from collections.abc import Collection, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

from gunicorn.errors import HaltServer

_SOCKET_OWNER = Path(__file__).with_name("socket_owner.py")
_SCRIPT_HOST = Path(__file__).with_name("script_host.py")
HOST_MODULE = "scorefront_script_host"
"""Name of `script_host` in replicas."""


def _loaded(file: Path) -> ModuleType:
    """A module by its path: in a replica, `cluster` may be a module of the model."""
    spec = importlib.util.spec_from_file_location(f"scorefront_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


socket_owner = _loaded(_SOCKET_OWNER) if _SOCKET_OWNER.exists() else None

script_host = _loaded(_SCRIPT_HOST)
sys.modules[HOST_MODULE] = script_host
wsgi_app = f"{HOST_MODULE}:app()"
pre_request = script_host.began
post_request = script_host.ended

os.environ.setdefault("HTTP_X_MS_SERVER_VERSION", f"azmlinfsrv/{version('azureml-inference-server-http')}")

timeout = int(os.environ.get("WORKER_TIMEOUT", "300"))
"""Seconds a worker may be silent; the longest possible scoring timeout."""

preload_app = os.environ.get("WORKER_PRELOAD", "false").lower() == "true"

limit_request_line = 0
"""Off: the front end has its own limits; a lower one here would only change the status."""

control_socket_disable = True
"""Newer gunicorns open a control socket at one path per user, on which replicas would collide; older ones ignore
this."""


def post_fork(server: Any, worker: Any) -> None:
    """Hook of gunicorn in each new worker: on one machine, accept connections of this user and of root only."""
    if socket_owner is None:
        return
    for listener in worker.sockets:
        listener.accept = functools.partial(accept, listener.sock, socket_owner.trusted_uids(), socket_owner)


def accept(listener: socket.socket, uids: Collection[int], owner: ModuleType) -> tuple[socket.socket, Any]:
    """The next connection of one of `uids`, as of `socket.accept`. Raises BlockingIOError after closing another's.

    `owner`: the module `cluster.local.socket_owner`. If the kernel cannot be asked, every connection is accepted.
    """
    client, address = listener.accept()
    with contextlib.suppress(owner.Unanswerable):
        if owner.connection_uid(address, client.getsockname()) not in uids:
            client.close()
            raise BlockingIOError(errno.EAGAIN, "a connection of another user was closed")
    return client, address


# ---- workers that die in init()

DEATHS_OF_A_SERVER = 2
"""Workers in a row that may die in `init()` once the server has served; the first may have been a passing fault."""

_initialized = mmap.mmap(-1, mmap.PAGESIZE)
"""Shared with the workers: 1 at the place of a worker that has completed `init()`."""


class _Deaths:
    """Ends of workers, in the master."""

    def __init__(self) -> None:
        self.by_pid: dict[int, int] = {}
        """Ended workers that gunicorn has not collected: exit code, or minus the signal."""
        self.in_row = 0
        """Workers that died in `init()` since the last that completed it."""
        self.served = False
        """True once a worker has completed `init()`."""


_deaths = _Deaths()


def on_starting(server: Any) -> None:
    """Hook of gunicorn before the first worker: record how workers end, and let one of them halt the server once."""
    collect = server.reap_workers

    def reap_workers() -> None:
        for pid in list(server.WORKERS):
            with contextlib.suppress(OSError):
                if (end := os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                    _deaths.by_pid[pid] = end.si_status if end.si_code == os.CLD_EXITED else -end.si_status
        while True:
            try:
                collect()
                return
            except HaltServer:
                if server.LISTENERS:
                    raise
                # Stopping: gunicorn would leave with a traceback, without the code of the first failure and `on_exit`.

    server.reap_workers = reap_workers


def pre_fork(server: Any, worker: Any) -> None:
    """Hook of gunicorn before the start of a worker."""
    _initialized[_place(worker)] = 0


def post_worker_init(worker: Any) -> None:
    """Hook of gunicorn in a worker that has completed `init()`."""
    _initialized[_place(worker)] = 1


def child_exit(server: Any, worker: Any) -> None:
    """Hook of gunicorn after the end of a worker: end the server if `init()` ends its workers."""
    code = _deaths.by_pid.pop(worker.pid, None)
    others = any(_initialized[_place(other)] for other in server.WORKERS.values())
    _deaths.served = _deaths.served or others or bool(_initialized[_place(worker)])
    _deaths.in_row = 0 if _initialized[_place(worker)] else _deaths.in_row + 1
    # Without listeners the server is stopping.
    if code is not None and server.LISTENERS and ends_server(_deaths.served, _deaths.in_row, others):
        how = f"exit code {code}" if code >= 0 else f"signal {-code}, {signal.strsignal(-code) or 'unknown'}"
        print(f"init() ended its process ({how}), so this replica ends", file=sys.stderr, flush=True)
        end_like(code)


def ends_server(served: bool, deaths_in_row: int, others_serve: bool) -> bool:
    """True if a worker's death in `init()` is the end of the server; `deaths_in_row` 0: it had completed it.

    served: a worker has completed `init()` before.
    deaths_in_row: workers that died in `init()` since.
    others_serve: a worker that serves is left.
    """
    return not others_serve and deaths_in_row >= (DEATHS_OF_A_SERVER if served else 1)


def end_like(code: int) -> None:
    """End this process with an exit code, or by the signal -`code`, without a core dump."""
    if code < 0:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)  # no effect on the first process of a container
    os._exit(code if code >= 0 else 128 - code)


def _place(worker: Any) -> int:
    return int(worker.age) % len(_initialized)


# ---- files beside the script

CONFIG_FILE = "AZUREML_CONFIG_FILE"
ROOT_FILES = ("config.json", "logging.json", "swagger2.json", "swagger3.json")
"""Files that the inference server reads where it finds them, and whose faults it reports without their names."""


def on_exit(server: Any) -> None:
    """Hook of gunicorn at the end of the master: name broken files if no worker has completed `init()`."""
    if _initialized.find(b"\1") < 0:
        for fault in broken_files(os.environ):
            print(f"scorefront: {fault}", file=sys.stderr, flush=True)


def broken_files(environment: Mapping[str, str]) -> Iterator[str]:
    """Each file beside the script that the inference server cannot use, with the reason.

    `environment`: of the server. Changes the configuration of logging.
    """
    folders = [Path(environment.get("AML_APP_ROOT", ""))]
    if script := environment.get("AZUREML_ENTRY_SCRIPT"):
        folders.append(Path(script).absolute().parent)
    for name in ROOT_FILES:
        named = [Path(environment[CONFIG_FILE])] if name == "config.json" and CONFIG_FILE in environment else []
        path = next((path for path in [*named, *(folder / name for folder in folders)] if path.is_file()), None)
        if path is not None and (reason := _fault(path)):
            yield f"{path}: is read by the inference server, which cannot use it: {reason}"


def _fault(path: Path) -> str:
    """The reason why a file cannot be used; '' if it can."""
    try:
        text = path.read_text(encoding="utf-8")
        if not text and path.name == "config.json":  # counts as absent
            return ""
        content = json.loads(text)
        if not isinstance(content, dict):
            return f"must be a JSON object, is a JSON {type(content).__name__}"
        if path.name == "logging.json":
            logging.config.dictConfig(content)
    except (OSError, ValueError, TypeError, AttributeError, ImportError, RecursionError) as error:
        cause = f": {error.__cause__}" if error.__cause__ else ""
        return f"{error}{cause}"
    return ""
