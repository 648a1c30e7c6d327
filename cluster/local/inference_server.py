"""gunicorn's settings for a replica with an entry script; read by gunicorn in the child, never imported.

The settings of the inference server's launcher, less those unfit for a replica behind a front end. The address and the
number of workers are on the command line. On one machine, connections of other users are closed. In an image this file
is alone and accepts every connection: the users there are those of the pod, among them the sidecar of a service mesh.
"""

import contextlib
import errno
import functools
import importlib.util
import os
import socket
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

_SOCKET_OWNER = Path(__file__).with_name("socket_owner.py")


def _loaded(file: Path) -> ModuleType:
    """A module by its path: in a replica, `cluster` may be a module of the model."""
    spec = importlib.util.spec_from_file_location(f"scorefront_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


socket_owner = _loaded(_SOCKET_OWNER) if _SOCKET_OWNER.exists() else None

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
