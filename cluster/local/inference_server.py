"""gunicorn's settings for a replica that hosts an entry script; read by gunicorn in the child, imported by nobody.

They repeat what the inference server's launcher would set, less what does not fit a replica behind a front end. The
address and the number of workers come on the command line. Connections of other users of the machine are closed.
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
from typing import Any

# By its path: in the process of a replica, `cluster` may be a module of the model's own.
_spec = importlib.util.spec_from_file_location("scorefront_socketowner", Path(__file__).with_name("socketowner.py"))
assert _spec is not None and _spec.loader is not None
socketowner = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(socketowner)

os.environ.setdefault("HTTP_X_MS_SERVER_VERSION", f"azmlinfsrv/{version('azureml-inference-server-http')}")

timeout = int(os.environ.get("WORKER_TIMEOUT", "300"))
"""Seconds a worker may be silent; the longest scoring timeout there is."""

preload_app = os.environ.get("WORKER_PRELOAD", "false").lower() == "true"

limit_request_line = 0
"""The front end has its own limits; a second, lower one here would only answer with another status."""

control_socket_disable = True
"""Newer gunicorns open a control socket at one path per user, which replicas would fight over; older ones skip this."""


def post_fork(server: Any, worker: Any) -> None:
    """Called by gunicorn in each new worker: it takes connections of this user and of root only."""
    for listener in worker.sockets:
        listener.accept = functools.partial(accept, listener.sock, socketowner.trusted_uids())


def accept(listener: socket.socket, uids: Collection[int]) -> tuple[socket.socket, Any]:
    """The next connection of one of `uids`, as in `socket.accept`; raises BlockingIOError after closing another's.

    Where the kernel cannot be asked, every connection is taken.
    """
    client, address = listener.accept()
    with contextlib.suppress(socketowner.Unanswerable):
        if socketowner.connection_uid(address, client.getsockname()) not in uids:
            client.close()
            raise BlockingIOError(errno.EAGAIN, "a connection of another user was closed")
    return client, address
