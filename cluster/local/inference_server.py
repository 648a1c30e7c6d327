"""gunicorn's settings for a replica that hosts an entry script; read by gunicorn in the child, imported by nobody.

They repeat what the inference server's launcher would set, less what does not fit a replica behind a front end. The
address and the number of workers come on the command line.
"""

import os
from importlib.metadata import version

os.environ.setdefault("HTTP_X_MS_SERVER_VERSION", f"azmlinfsrv/{version('azureml-inference-server-http')}")

timeout = int(os.environ.get("WORKER_TIMEOUT", "300"))
"""Seconds a worker may be silent; the longest scoring timeout there is."""

preload_app = os.environ.get("WORKER_PRELOAD", "false").lower() == "true"

limit_request_line = 0
"""The front end has its own limits; a second, lower one here would only answer with another status."""

control_socket_disable = True
"""Newer gunicorns open a control socket at one path per user, which replicas would fight over; older ones skip this."""
