"""nginx as a proxy with one worker, and nginx as the backend of every measurement."""

import shutil
from collections.abc import Sequence

from loadtests.peers.rig import Rig, Target, first_line_of

ANSWER = '{"result": [0, 2]}'

# One process in the foreground.
_CONFIGURATION = """\
daemon off; master_process off; worker_processes 1; pid {directory}/nginx.pid; error_log stderr crit;
events {{ worker_connections 19000; }}
http {{
  access_log off; server_tokens off; default_type application/json; client_max_body_size 0;
  keepalive_requests 1000000000; keepalive_timeout 75s;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  {http}
}}
"""
_PROXY = """\
upstream replicas {{ {servers} keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://replicas; proxy_http_version 1.1; proxy_set_header Connection ""; {bodies}
    }}
  }}"""
# By default a body is collected on disk before it is passed on; and with buffers of 8 KB it costs many system calls.
_STREAMING = (
    "proxy_request_buffering off; proxy_max_temp_file_size 0; client_body_buffer_size 256k; "
    "proxy_buffer_size 64k; proxy_buffers 8 64k; proxy_busy_buffers_size 128k;"
)
# /varying: ids, times and lengths of the answers differ, as those of model servers do. /answers: no two answer heads
# are alike, as those of azureml-inference-server-http. /chunked: a filter that may change the body leaves nginx no
# length to tell. /close: the connection ends with the answer.
_BACKEND = """\
split_clients $request_id $more {{ {more} }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ return 200 '{answer}'; }}
    location = /varying {{
      add_header x-request-id $request_id; add_header ETag '"$connection-$connection_requests"';
      add_header x-exec-ms $connection_requests.$msec; return 200 '{{"result": [0, 2$more]}}';
    }}
    location = /answers {{ add_header x-ms-run-id $request_id; return 200 '{answer}'; }}
    location = /chunked {{ sub_filter_types *; sub_filter never never; return 200 '{answer}'; }}
    location = /close {{ keepalive_timeout 0; return 200 '{answer}'; }}
  }}"""


def version() -> str | None:
    """The version, or None without nginx."""
    line = first_line_of(_program(), "-v")
    return line and line.removeprefix("nginx version: ")


def start(rig: Rig, upstreams: Sequence[int], name: str = "nginx", streaming: bool = False) -> Target:
    """nginx in front of these ports; `streaming`: set up for large bodies."""
    (port,) = rig.free_ports()
    servers = " ".join(f"server 127.0.0.1:{upstream};" for upstream in upstreams)
    http = _PROXY.format(port=port, servers=servers, bodies=_STREAMING if streaming else "")
    return Target(name, port, pids=(_run(rig, "nginx", port, http, True),))


def start_backend(rig: Rig) -> Target:
    """A backend that answers at once: `/score`, and paths that answer in other ways."""
    (port,) = rig.free_ports()
    more = " ".join(f"10% '{', 1' * number}';" for number in range(9)) + " * ', 1, 1, 1';"
    http = _BACKEND.format(port=port, answer=ANSWER, more=more)
    return Target("direct", port, pids=(_run(rig, "backend", port, http, False),))


def _program() -> str:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin") or "nginx"


def _run(rig: Rig, name: str, port: int, http: str, proxy: bool) -> int:
    directory = rig.directory / f"{name}-{port}"
    directory.mkdir()
    configuration = directory / "nginx.conf"
    configuration.write_text(_CONFIGURATION.format(directory=directory, http=http))
    command = [_program(), "-e", "stderr", "-p", str(directory), "-c", str(configuration)]
    return rig.start(name, command, port, proxy)
