"""HAProxy with one thread."""

import shutil
from collections.abc import Sequence

from loadtests.peers.rig import Rig, Target, first_line_of

# 9,600 clients and as many connections to replicas are the limit of 20,000 files.
_CONFIGURATION = """\
global
  nbthread 1
  maxconn 9600
defaults
  mode http
  http-reuse always
  timeout connect 5s
  timeout client 75s
  timeout server 75s
  timeout queue 75s
frontend clients
  bind 127.0.0.1:{port}
  default_backend replicas
backend replicas
  balance leastconn
{servers}
"""


def version() -> str | None:
    """The version, or None without HAProxy."""
    return first_line_of(_program(), "-v")


def start(rig: Rig, upstreams: Sequence[int], name: str = "HAProxy", slots: int = 0) -> Target:
    """HAProxy in front of these ports; `slots`: requests that a replica may have in flight, 0 = any number."""
    (port,) = rig.free_ports()
    limit = f" maxconn {slots}" if slots else ""
    servers = "\n".join(f"  server r{number} 127.0.0.1:{each}{limit}" for number, each in enumerate(upstreams))
    configuration = rig.directory / f"haproxy-{port}.cfg"
    configuration.write_text(_CONFIGURATION.format(port=port, servers=servers))
    return Target(name, port, pids=(rig.start("haproxy", [_program(), "-db", "-f", str(configuration)], port),))


def _program() -> str:
    return shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin") or "haproxy"
